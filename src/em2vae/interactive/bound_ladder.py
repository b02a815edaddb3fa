"""The bound ladder of chapter 14: log weights of one image, and the bound that climbs with k."""

import torch
import traitlets
from torch import Tensor

from em2vae.bounds import log_marginal_2d
from em2vae.interactive.figure import (
    InteractiveFigure,
    Number,
    check_images,
    check_index,
    check_model,
    pack_bits,
    pack_decoder,
    pack_half,
)
from em2vae.vae import VAE

N_DRAWS = 1024


class BoundLadder(InteractiveFigure):
    """Importance weights drawn in the browser, and the bound of eq. iwae beside the exact log p(x).

    The browser draws N_DRAWS values of z from q(z|x), its width multiplied by `width`. The bound
    with k draws is the mean over the N_DRAWS / k groups of k.

    Args:
        vae: a model with two latent dimensions; its decoder travels with the figure.
        x: binary images (N, 784), of which one is shown at a time.

    Attributes:
        n_samples: k, draws inside the logarithm, a power of two up to N_DRAWS.
        width: what the standard deviations of q(z|x) are multiplied with.
        digit: index of the image.
        seed: of the draws.
        log_p: exact log p(x) of each image, (N,), in nats (chapter 09, eq. quadrature).

    Raises:
        TypeError, ValueError: x is not binary (N, 784), or the VAE's latent_dim is not 2.
    """

    n_samples = traitlets.Int(1).tag(sync=True)
    width = Number(1.0, min=0.2, max=3.0).tag(sync=True)
    digit = traitlets.Int(0).tag(sync=True)
    seed = traitlets.Int(0, min=0).tag(sync=True)
    log_p = traitlets.List(traitlets.Float()).tag(sync=True)
    _n_draws = traitlets.Int(N_DRAWS).tag(sync=True)
    _decoder = traitlets.Dict().tag(sync=True)
    _decoder_weights = traitlets.Bytes().tag(sync=True)
    _images = traitlets.Bytes().tag(sync=True)
    _means = traitlets.Bytes().tag(sync=True)
    _sigmas = traitlets.Bytes().tag(sync=True)

    def __init__(self, vae: VAE, x: Tensor, **traits) -> None:
        check_model(vae, latent_dim=2)
        check_images(x, binary=True)
        log_p = log_marginal_2d(vae, x)
        with torch.no_grad():
            q_z = vae.encode(x)
        decoder, decoder_weights = pack_decoder(vae.decoder, q_z.mean, exact=True)
        super().__init__(
            log_p=log_p.tolist(),
            _decoder=decoder,
            _decoder_weights=decoder_weights,
            _images=pack_bits(x),
            _means=pack_half(q_z.mean),
            _sigmas=pack_half(q_z.stddev),
            **traits,
        )

    @traitlets.validate("n_samples")
    def _check_n_samples(self, proposal) -> int:
        allowed = [2**n for n in range(N_DRAWS.bit_length())]
        if proposal["value"] not in allowed:
            raise traitlets.TraitError(
                f"n_samples must be a power of two up to {N_DRAWS}, got {proposal['value']}"
            )
        return proposal["value"]

    @traitlets.validate("digit")
    def _check_digit(self, proposal) -> int:
        return check_index("digit", proposal["value"], len(self.log_p))
