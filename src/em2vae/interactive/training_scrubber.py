"""The training scrubber of chapter 11: drag through the epochs of a 2-D VAE."""

from collections.abc import Callable

import torch
import traitlets
from torch import Tensor

from em2vae.figures import DIGIT_COLORS
from em2vae.interactive.figure import (
    InteractiveFigure,
    Numbers,
    check_images,
    check_index,
    check_model,
    pack_decoder,
    pack_half,
    pack_labels,
)
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

    Raises:
        TypeError, ValueError: x is not a binary table of 28x28 images, labels are not their digits,
            no epoch is asked for, or (from the recorder) the model cannot be shown.
    """

    step = traitlets.Int(0).tag(sync=True)
    z = Numbers([0.0, 0.0], 2).tag(sync=True)
    epochs = traitlets.List(traitlets.Int()).tag(sync=True)
    elbo = traitlets.List(traitlets.Float()).tag(sync=True)
    _decoders = traitlets.List(traitlets.Dict()).tag(sync=True)
    _weights = traitlets.Bytes().tag(sync=True)
    _codes = traitlets.Bytes().tag(sync=True)
    _labels = traitlets.Bytes().tag(sync=True)
    _prior = traitlets.Bytes().tag(sync=True)
    _colors = traitlets.List(list(DIGIT_COLORS)).tag(sync=True)

    def __init__(self, x: Tensor, labels: Tensor, epochs: tuple[int, ...]) -> None:
        check_images(x, labels, binary=True)
        if not epochs or not all(isinstance(epoch, int) and epoch >= 0 for epoch in epochs):
            raise ValueError(f"epochs must hold whole numbers from 0 on, got {epochs!r}")
        self._x, self._when = x, set(epochs)
        noise = torch.randn(N_SAMPLES, 2, generator=torch.Generator().manual_seed(0))
        super().__init__(_labels=pack_labels(labels[:N_POINTS]), _prior=pack_half(noise))

    def recorder(self, vae: VAE) -> Callable[[int], None]:
        """A function for `fit(..., on_epoch=...)` that records vae at the chosen epochs."""
        check_model(vae, latent_dim=2)

        @torch.no_grad()
        def record(epoch: int) -> None:
            if epoch not in self._when:
                return
            noise = torch.Generator().manual_seed(0)  # the training's own noise stays as it is
            codes = vae.encode(self._x[:N_POINTS]).mean
            decoder, weights = pack_decoder(vae.decoder, codes)
            if self._decoders and decoder["layers"] != self._decoders[0]["layers"]:
                raise ValueError("the scrubber shows one training, and this model has other layers")
            self._decoders = [*self._decoders, decoder]
            self._weights += weights
            self._codes += pack_half(codes)
            self.elbo = [*self.elbo, vae.elbo(self._x, generator=noise).elbo.mean().item()]
            self.epochs = [*self.epochs, epoch]
            self.step = len(self.epochs) - 1

        return record

    @traitlets.validate("step")
    def _check_step(self, proposal) -> int:
        return check_index("step", proposal["value"], max(1, len(self.epochs)))
