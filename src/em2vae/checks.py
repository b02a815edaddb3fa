"""What the library refuses, in words that name the argument and say what was expected."""

import math

import torch
from torch import Tensor


def check_positive(**sizes: int) -> None:
    """Raise ValueError naming the first argument that is not a whole number of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {size!r}")


def check_finite(**numbers: float) -> None:
    """Raise ValueError naming the first argument that is no finite number of at least 0."""
    for name, number in numbers.items():
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} must be a finite number of at least 0, got {number!r}")


def check_unit(x: Tensor) -> None:
    """Raise if x is not a floating-point tensor, of any shape, with all values in [0, 1]."""
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        raise TypeError(f"x must be a floating-point tensor, got {getattr(x, 'dtype', type(x))}")
    low, high = (e.item() for e in x.aminmax()) if x.numel() else (0, 1)  # NaN if any value is
    if not (low >= 0 and high <= 1):
        raise ValueError("x must lie in [0, 1] and hold no NaN to be binarized")


def check_float(**tensors: Tensor) -> None:
    """Raise TypeError naming the first argument that is no tensor of single or double precision."""
    for name, tensor in tensors.items():
        if not (isinstance(tensor, Tensor) and tensor.dtype in (torch.float32, torch.float64)):
            got = getattr(tensor, "dtype", type(tensor).__name__)
            raise TypeError(f"{name} must be a float32 or float64 tensor, got {got}")


def check_like(x: Tensor, weight: Tensor, name: str = "x", device: bool = True) -> None:
    """Raise TypeError or ValueError unless x has the weights' dtype and stands on their device."""
    if weight.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"the model's weights are {weight.dtype}, in which sums over pixels lose whole nats: "
            "use model.float(), and torch.autocast for speed"
        )
    if x.dtype != weight.dtype:
        use = "float" if weight.dtype == torch.float32 else "double"
        raise TypeError(
            f"{name} must have the model's dtype {weight.dtype}, got {x.dtype}: use {name}.{use}()"
        )
    if device and x.device != weight.device:
        raise ValueError(
            f"{name} must be on the model's device {weight.device}, got {x.device}: "
            f"use {name}.to({str(weight.device)!r})"
        )


def check_shape(x: Tensor, data_dim: int) -> None:
    """Raise if x is not a float tensor (N, data_dim) with N > 0."""
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        raise TypeError(f"x must be a floating-point tensor, got {getattr(x, 'dtype', type(x))}")
    if x.ndim != 2 or x.shape[-1] != data_dim:
        raise ValueError(f"x must have shape (N, {data_dim}), got {tuple(x.shape)}")
    if not len(x):
        raise ValueError(f"x must hold at least one example, got shape {tuple(x.shape)}")


def check_table(x: Tensor, data_dim: int) -> tuple[float, float]:
    """The extremes of x; raise if it is not a finite float tensor (N, data_dim) with N > 0."""
    check_shape(x, data_dim)
    low, high = (extreme.item() for extreme in x.aminmax())  # NaN if any value is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("x must be finite, but it contains NaN or infinity")
    return low, high


def check_data(x: Tensor, data_dim: int, binary: bool = False) -> None:
    """Raise if x is not a float tensor (N, data_dim) in [0, 1], or in {0, 1} if `binary`."""
    check_shape(x, data_dim)
    if binary and torch.addcmul(x, x, x, value=-1).aminmax() == (0, 0):
        return  # only 0 and 1 are their own squares
    low, high = check_table(x, data_dim)
    if low < 0 or high > 1:
        raise ValueError(f"x must lie in [0, 1], but it spans [{low:.3g}, {high:.3g}]")
    if binary:
        raise ValueError(
            "x must be binary (0 or 1) under a Bernoulli likelihood, but it holds grey values: "
            "use em2vae.data.binarize(x), or fit(..., binarize='stochastic')"
        )


def check_latent(z: Tensor, latent_dim: int) -> None:
    """Raise ValueError if z is not a tensor of finite numbers (..., latent_dim)."""
    if not (isinstance(z, Tensor) and z.ndim and z.shape[-1] == latent_dim):
        shape = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise ValueError(f"z must be a tensor of shape (..., {latent_dim}), got {shape}")
    if not bool(torch.isfinite(z).all()):
        raise ValueError("z must be finite, but it contains NaN or infinity")
