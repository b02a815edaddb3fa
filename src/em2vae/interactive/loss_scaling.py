"""The scaling lab of chapter 13: reductions and constants in, the implied beta out."""

import torch
import traitlets
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from em2vae.data import binarize
from em2vae.interactive.figure import (
    InteractiveFigure,
    check_images,
    check_model,
    pack_decoder,
    pack_half,
)
from em2vae.vae import VAE

ERRORS = ("cross-entropy", "squared error")
REDUCTIONS = ("sum", "mean")
SIZES = {"n_pixels": (784, 3072, 12288), "n_latents": (2, 8, 20, 128), "batch_size": (32, 100, 128)}
WEIGHTS = (0.00025, 0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 10.0, 100.0)
N_IMAGES = 8


def implied_beta(
    error: str = "cross-entropy",
    pixels: str = "sum",
    images: str = "mean",
    latents: str = "sum",
    kl_images: str = "mean",
    weight: float = 1.0,
    n_pixels: int = 784,
    n_latents: int = 20,
    batch_size: int = 128,
) -> float:
    """The beta of a loss that reduces its two terms as told (chapter 13, eq. implied-beta).

    Args:
        error: "cross-entropy", or "squared error" without a factor of one half; for the latter
            the result is beta at unit variance, and also the variance at which beta is 1.
        pixels, images: "sum" or "mean" of the error over pixels and over the batch.
        latents, kl_images: the same of the KL over latent dimensions and over the batch.
        weight: what the KL is multiplied with.
        n_pixels, n_latents, batch_size: D, K and B.

    Raises:
        ValueError: an unknown error or reduction.
    """
    reductions = {"pixels": pixels, "images": images, "latents": latents, "kl_images": kl_images}
    for name, reduction in reductions.items():
        if reduction not in REDUCTIONS:
            raise ValueError(f"{name} must be 'sum' or 'mean', got {reduction!r}")
    if error not in ERRORS:
        raise ValueError(f"error must be one of {ERRORS}, got {error!r}")
    divisors = {"pixels": n_pixels, "images": batch_size, "latents": n_latents}
    divisors["kl_images"] = batch_size
    n = {name: divisors[name] if reductions[name] == "mean" else 1 for name in reductions}
    half = 0.5 if error == "squared error" else 1.0
    return half * weight * n["pixels"] * n["images"] / (n["latents"] * n["kl_images"])


class LossScaling(InteractiveFigure):
    """Choose reductions and constants of a VAE's loss; see beta, and models trained near it.

    Args:
        bernoulli: models with cross-entropy on binary images, keyed by the beta of their training.
        gaussian: models with squared error on grey images, keyed by the variance.
        x: images (N, 784) in [0, 1]; rates and distortions are measured on them, and the first
            eight are shown. All models must have the same number of latent dimensions.

    Attributes:
        error, pixels, images, latents, kl_images, weight, n_pixels, n_latents, batch_size: the
            loss, as in `implied_beta`.
        seed: which draws of the prior are decoded.

    Raises:
        TypeError, ValueError: no models, models or images that do not fit together, fewer than
            eight images.
        traitlets.TraitError: a value that is not among the choices.
    """

    error = traitlets.Enum(ERRORS, ERRORS[0]).tag(sync=True)
    pixels = traitlets.Enum(REDUCTIONS, "mean").tag(sync=True)
    images = traitlets.Enum(REDUCTIONS, "mean").tag(sync=True)
    latents = traitlets.Enum(REDUCTIONS, "sum").tag(sync=True)
    kl_images = traitlets.Enum(REDUCTIONS, "mean").tag(sync=True)
    weight = traitlets.Enum(WEIGHTS, 1.0).tag(sync=True)
    n_pixels = traitlets.Enum(SIZES["n_pixels"], 784).tag(sync=True)
    n_latents = traitlets.Enum(SIZES["n_latents"], 8).tag(sync=True)
    batch_size = traitlets.Enum(SIZES["batch_size"], 128).tag(sync=True)
    seed = traitlets.CInt(0, min=0).tag(sync=True)
    _choices = traitlets.Dict({name: list(of) for name, of in SIZES.items()}).tag(sync=True)
    _weights_offered = traitlets.List(list(WEIGHTS)).tag(sync=True)
    _models = traitlets.List(traitlets.Dict()).tag(sync=True)
    _parameters = traitlets.Bytes().tag(sync=True)
    _codes = traitlets.Bytes().tag(sync=True)
    _originals = traitlets.Bytes().tag(sync=True)

    def __init__(self, bernoulli: dict[float, VAE], gaussian: dict[float, VAE], x: Tensor) -> None:
        check_family(bernoulli, gaussian)
        check_images(x)
        if len(x) < N_IMAGES:
            raise ValueError(f"x must hold at least {N_IMAGES} images, got {len(x)}")
        models, parameters, codes = [], b"", b""
        for error, trained, seen in zip(
            ERRORS, (bernoulli, gaussian), (binarize(x), x), strict=True
        ):
            for beta, vae in trained.items():
                with torch.no_grad():
                    seen_codes = vae.encode(seen).mean
                decoder, packed = pack_decoder(vae.decoder, seen_codes, dragged=False)
                start, parameters = len(parameters), parameters + packed
                numbers = rate_and_distortion(vae, seen, error)
                models.append(
                    {"error": error, "beta": beta, "decoder": decoder, "start": start, **numbers}
                )
                codes += pack_half(seen_codes[:N_IMAGES])
        originals = torch.cat([binarize(x)[:N_IMAGES], x[:N_IMAGES]])
        super().__init__(
            _models=models,
            _parameters=parameters,
            _codes=codes,
            _originals=(255 * originals).round().to(torch.uint8).numpy().tobytes(),
        )

    @property
    def beta(self) -> float:
        """The beta that the chosen loss implies (chapter 13, eq. implied-beta)."""
        names = ("error", "pixels", "images", "latents", "kl_images", "weight", *SIZES)
        return implied_beta(**{name: getattr(self, name) for name in names})


def check_family(bernoulli: dict[float, VAE], gaussian: dict[float, VAE]) -> None:
    """Raise unless both hold models, keyed by a positive number, with one number of latents."""
    for name, models in (("bernoulli", bernoulli), ("gaussian", gaussian)):
        if not models or not all(0 < beta < float("inf") for beta in models):
            raise ValueError(
                f"{name} must hold models keyed by positive numbers, got {list(models)}"
            )
        for vae in models.values():
            check_model(vae)
    sizes = sorted({vae.latent_dim for m in (bernoulli, gaussian) for vae in m.values()})
    if len(sizes) > 1:
        raise ValueError(f"all models must have the same latent_dim, got {sizes}")


@torch.no_grad()
def rate_and_distortion(vae: VAE, x: Tensor, error: str) -> dict[str, float]:
    """Mean KL and mean error of images x (N, D), in nats; squared errors at unit variance.

    The error is an average over one fixed draw of z an image, and without the constants that no
    parameter changes: half the squared error (chapter 13, eq. rate-distortion).
    """
    q_z = vae.encode(x)
    rate = kl_divergence(q_z, Normal(0.0, 1.0)).sum(-1).mean()  # over latent dimensions, images
    p_x = vae.decoder(vae.rsample(q_z, 1, torch.Generator().manual_seed(0))[0])
    loss = -p_x.log_prob(x) if error == "cross-entropy" else 0.5 * (x - p_x.mean) ** 2
    distortion = loss.sum(-1).mean()  # over pixels, images
    return {"rate": rate.item(), "distortion": distortion.item()}
