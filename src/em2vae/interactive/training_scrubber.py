"""The training scrubber of chapter 11: drag through the epochs of a 2-D VAE."""

from collections.abc import Callable

import torch
import traitlets
from torch import Tensor

from em2vae.figures import DIGIT_COLORS
from em2vae.interactive.figure import InteractiveFigure, pack_half, pack_network
from em2vae.vae import VAE

N_POINTS = 500  # codes on the map
N_SAMPLES = 20  # pictures decoded from fixed draws of the prior


class TrainingScrubber(InteractiveFigure):
    """Decoder weights, codes and test ELBO of a 2-D VAE at chosen epochs of its training.

    Args:
        x: binary test images (N, 784); the first 500 appear on the map.
        labels: their digits, (N,).
        epochs: when to look.

    Attributes:
        step: index into `epochs` of the moment shown.
        z: the latent point (2,) whose picture is shown large.
        epochs, elbo: the moments recorded, and the test ELBO there, in nats.
    """

    step = traitlets.Int(0).tag(sync=True)
    z = traitlets.List(traitlets.CFloat(), [0.0, 0.0], minlen=2, maxlen=2).tag(sync=True)
    epochs = traitlets.List(traitlets.Int()).tag(sync=True)
    elbo = traitlets.List(traitlets.Float()).tag(sync=True)
    _decoders = traitlets.List(traitlets.Dict()).tag(sync=True)
    _weights = traitlets.Bytes().tag(sync=True)
    _codes = traitlets.Bytes().tag(sync=True)
    _labels = traitlets.Bytes().tag(sync=True)
    _prior = traitlets.Bytes().tag(sync=True)
    _colors = traitlets.List(list(DIGIT_COLORS)).tag(sync=True)

    def __init__(self, x: Tensor, labels: Tensor, epochs: tuple[int, ...]) -> None:
        if len(x) != len(labels):
            raise ValueError(f"x and labels must match, got {len(x)} and {len(labels)}")
        self._x, self._when = x, set(epochs)
        noise = torch.randn(N_SAMPLES, 2, generator=torch.Generator().manual_seed(0))
        super().__init__(
            _labels=labels[:N_POINTS].to(torch.uint8).numpy().tobytes(), _prior=pack_half(noise)
        )

    def recorder(self, vae: VAE) -> Callable[[int], None]:
        """A function for `fit(..., on_epoch=...)` that records vae at the chosen epochs."""
        if vae.latent_dim != 2:
            raise ValueError(f"the scrubber draws latent_dim = 2, got {vae.latent_dim}")

        @torch.no_grad()
        def record(epoch: int) -> None:
            if epoch not in self._when:
                return
            noise = torch.Generator().manual_seed(0)  # the training's own noise stays as it is
            decoder, weights = pack_network(vae.decoder)
            self._decoders = [*self._decoders, decoder]
            self._weights += weights
            self._codes += pack_half(vae.encode(self._x[:N_POINTS]).mean)
            self.elbo = [*self.elbo, vae.elbo(self._x, generator=noise).elbo.mean().item()]
            self.epochs = [*self.epochs, epoch]
            self.step = len(self.epochs) - 1

        return record
