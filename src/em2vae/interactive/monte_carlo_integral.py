"""The Monte Carlo integral of chapter 01: guess z from the prior and average p(x|z)."""

import torch
import traitlets
from torch import Tensor, nn

from em2vae.checks import check_table
from em2vae.interactive.figure import (
    PIXELS,
    InteractiveFigure,
    check_index,
    check_width,
    pack_decoder,
    pack_half,
)
from em2vae.ppca import ProbabilisticPCA

MAX_SAMPLES = 10_000


class MonteCarloIntegral(InteractiveFigure):
    """Draws from the prior, what they make of log p(x), and its exact value.

    The latent axes shown are those along which the pictures vary most: a rotation of z, which
    leaves the prior and every p(x) as they are.

    Args:
        models: probabilistic PCA of 28x28 images, one for each latent dimension on offer.
        x: images (N, 784) of the models' type, of which one is shown at a time.

    Attributes:
        latent_dim: K of the model in use, one of latent_dims.
        n_samples: S, draws in the estimate, 1 to 10,000.
        digit: index of the image whose log p(x) is estimated.
        seed: of the draws; the four seeds before it give the thin curves.
        latent_dims: K of each model.

    Raises:
        TypeError, ValueError: images or models that do not match, or a model with K < 2.
    """

    latent_dim = traitlets.Int().tag(sync=True)
    n_samples = traitlets.Int(1000).tag(sync=True)
    digit = traitlets.Int(0).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    latent_dims = traitlets.List(traitlets.Int()).tag(sync=True)
    _models = traitlets.List(traitlets.Dict()).tag(sync=True)
    _pictures = traitlets.Bytes().tag(sync=True)
    _images = traitlets.Bytes().tag(sync=True)
    _max_samples = traitlets.Int(MAX_SAMPLES).tag(sync=True)

    def __init__(self, models: list[ProbabilisticPCA], x: Tensor, **traits) -> None:
        check_width(x)
        check_table(x, PIXELS)
        shapes = [tuple(model.weight.shape) for model in models]
        if not models or any(D != PIXELS or K < 2 for D, K in shapes):
            raise ValueError(f"models must have weights ({PIXELS}, K) with K >= 2, got {shapes}")
        if len(set(shapes)) < len(shapes):
            raise ValueError(f"models must differ in K, got {[K for _, K in shapes]}")
        packed, pictures = zip(*(pack_model(model, x) for model in models), strict=True)
        self._n_images, latent_dims = len(x), [K for _, K in shapes]
        traits = {"latent_dim": latent_dims[0], **traits}
        super().__init__(
            latent_dims=latent_dims,
            _models=list(packed),
            _pictures=b"".join(pictures),
            _images=pack_half(x),
            **traits,
        )

    @traitlets.validate("latent_dim", "n_samples", "digit")
    def _check(self, proposal) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        if name == "digit":
            return check_index(name, value, self._n_images)
        allowed = self.latent_dims if name == "latent_dim" else range(1, MAX_SAMPLES + 1)
        if value not in allowed:
            raise traitlets.TraitError(f"{name} must lie in {allowed}, got {value}")
        return value


def pack_model(model: ProbabilisticPCA, x: Tensor) -> tuple[dict, bytes]:
    """What the browser needs to know of p(x|z) for images x (N, D), and its pictures.

    With W = U diag(s) V^T and z' = V^T z, again standard normal, the squared distance |x - f(z)|^2
    is |u - s z'|^2 plus a remainder, where u = U^T (x - mean) holds K numbers.

    Returns:
        {"sigma", "scales": s (K,), "codes": u (N, K), "remainders": (N,), "decoder"}, and the
        bytes of the decoder, one linear layer from z' to a picture.
    """
    U, s = axes(model)
    centered = x - model.mean
    codes = centered @ U  # (N, K)
    remainders = (centered - codes @ U.T).square().sum(-1)  # over pixels
    numbers = {"scales": s, "codes": codes, "remainders": remainders}
    packed = {name: value.tolist() for name, value in numbers.items()}
    decoder = nn.Linear(len(s), PIXELS)
    decoder.weight.data, decoder.bias.data = U * s, model.mean
    layers, pictures = pack_decoder(decoder, torch.zeros(1, len(s)), on_paper, dragged=False)
    return {"sigma": model.sigma, **packed, "decoder": layers}, pictures


def axes(model: ProbabilisticPCA) -> tuple[Tensor, Tensor]:
    """U (D, K) and s (K,), the singular vectors and values of the model's weight."""
    U, s, _ = torch.linalg.svd(model.weight, full_matrices=False)
    return U * U.sum(0).sign(), s  # a fixed sign, so that the map does not flip from K to K


def on_paper(ink: Tensor) -> Tensor:
    """What is drawn: blank below 0, black above 1."""
    return ink.clamp(0, 1)
