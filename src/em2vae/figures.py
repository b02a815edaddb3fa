"""Pictures of digits and latent spaces, in one style that light and dark pages share."""

import sys

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Normal

from em2vae.vae import VAE

# One colour a digit; neighbours differ in lightness too, and every plot also writes the digit.
DIGIT_COLORS = (
    "#4477aa", "#cc6677", "#228833", "#aa7700", "#117799",
    "#aa3377", "#666666", "#882255", "#557722", "#5544aa",
)  # fmt: skip
LINE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def use_style() -> None:
    """Transparent backgrounds, readable text, SVG output: call once at the top of a chapter."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.2),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",  # Jupyter's backend overrides savefig.transparent
            "axes.facecolor": "none",
            "savefig.dpi": 160,
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=LINE_COLORS),
            "lines.linewidth": 2,
            "legend.frameon": False,
            "image.cmap": "gray_r",
            "svg.hashsalt": "em2vae",
        }
    )
    ipython = sys.modules.get("IPython")
    if ipython and ipython.get_ipython():  # without a kernel a shell would take __main__'s place
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})


def image_grid(images: Tensor, n_cols: int = 10, row_titles: list[str] | None = None) -> Figure:
    """Images (N, 784) in rows of n_cols, dark ink on white; an optional title for each row.

    Raises:
        ValueError: images is not (N, 784).
    """
    if images.ndim != 2 or images.shape[-1] != 784 or not len(images):
        raise ValueError(f"images must have shape (N, 784) with N > 0, got {tuple(images.shape)}")
    n_rows = -(-len(images) // n_cols)
    tiles = torch.zeros(n_rows * n_cols, 32, 32)  # with a margin of two white pixels
    tiles[: len(images), 2:30, 2:30] = images.detach().cpu().reshape(-1, 28, 28)
    picture = tiles.reshape(n_rows, n_cols, 32, 32).transpose(1, 2).flatten(0, 1).flatten(1)
    size = min(0.8, 7.5 / n_cols)
    fig, ax = plt.subplots(figsize=(n_cols * size, n_rows * size), facecolor="white")
    ax.imshow(picture.numpy(), vmin=0, vmax=1)
    ax.spines[:].set_visible(False)
    titles = row_titles or []
    ax.set_yticks(32 * torch.arange(len(titles)) + 15.5, titles)
    ax.tick_params(length=0)
    ax.set_xticks([])
    return fig


def latent_map(codes: Tensor, labels: Tensor, ax: Axes | None = None) -> Figure:
    """Codes (N, 2) as their digits, coloured by label (N,)."""
    if codes.ndim != 2 or codes.shape[-1] != 2 or len(codes) != len(labels):
        raise ValueError(
            f"codes must be (N, 2) with N labels, got {tuple(codes.shape)} with {len(labels)}"
        )
    if ax is None:
        _, ax = plt.subplots(figsize=(5.4, 5.4))
    codes = codes.detach().cpu()
    for digit, color in enumerate(DIGIT_COLORS):
        points = codes[labels == digit]
        ax.scatter(*points.T, s=32, marker=f"${digit}$", lw=0.2, color=color, rasterized=True)
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    return ax.figure


@torch.no_grad()
def manifold(vae: VAE, n: int = 20) -> Figure:
    """Decoded means on an n by n grid of a 2-D latent space, at equal steps of prior probability.

    Raises:
        ValueError: the latent space is not two-dimensional.
    """
    if vae.latent_dim != 2:
        raise ValueError(f"a manifold needs latent_dim = 2, got {vae.latent_dim}")
    quantiles = (torch.arange(n) + 0.5) / n
    steps = Normal(0.0, 1.0).icdf(quantiles)
    z = torch.cartesian_prod(steps.flip(0), steps).flip(1)  # rows: z_2 from high to low
    tiles = vae.decode(z).mean.reshape(n, n, 28, 28)
    fig, ax = plt.subplots(figsize=(6.4, 6.4), facecolor="white")
    ax.imshow(tiles.transpose(1, 2).reshape(n * 28, n * 28).cpu().numpy(), vmin=0, vmax=1)
    ticks = torch.arange(0, n, max(1, n // 6))
    at = (ticks + 0.5) * 28
    ax.set_xticks(at, [f"{v:.1f}" for v in steps[ticks]])
    ax.set_yticks(at, [f"{v:.1f}" for v in steps.flip(0)[ticks]])
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    return fig
