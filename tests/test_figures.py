import sys

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from torch import nn
from torch.distributions import Bernoulli, Normal

from em2vae import VAE
from em2vae.figures import DIGIT_COLORS, image_grid, latent_map, manifold, use_style


@pytest.fixture(autouse=True)
def fresh_style():
    with matplotlib.rc_context():
        yield
    plt.close("all")


def test_image_grid_shows_every_image_in_reading_order():
    images = torch.rand(7, 784, generator=torch.Generator().manual_seed(0))
    picture = image_grid(images, n_cols=3).axes[0].images[0]
    assert picture.get_clim() == (0, 1)  # one grey for all
    tiles = np.asarray(picture.get_array()).reshape(3, 32, 3, 32).swapaxes(1, 2).reshape(9, 32, 32)
    expected = np.zeros((9, 32, 32))  # white around and after the images
    expected[:7, 2:30, 2:30] = images.reshape(7, 28, 28)
    assert np.array_equal(tiles, expected)


def test_image_grid_titles_its_rows():
    ax = image_grid(torch.zeros(4, 784), n_cols=2, row_titles=["original", "copy"]).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["original", "copy"]
    assert ax.get_yticks().tolist() == [15.5, 47.5]  # the middles of the rows


@pytest.mark.parametrize("shape", [(784,), (2, 28, 28), (2, 783), (0, 784)])
def test_image_grid_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"images must have shape \(N, 784\)"):
        image_grid(torch.zeros(shape))


def test_latent_map_draws_every_code_in_the_colour_of_its_digit():
    labels = torch.arange(20) % 10
    codes = torch.stack([labels.float(), torch.arange(20.0)], dim=1)
    _, ax = plt.subplots()
    assert latent_map(codes, labels, ax) is ax.figure
    for digit, points in enumerate(ax.collections):
        assert np.array_equal(points.get_offsets(), codes[labels == digit].numpy())
        assert to_hex(points.get_facecolor()[0]) == DIGIT_COLORS[digit]
    assert len(ax.collections) == 10


def test_latent_map_takes_codes_with_gradients():
    assert latent_map(torch.zeros(3, 2, requires_grad=True), torch.zeros(3)).axes


@pytest.mark.parametrize(("codes", "labels"), [((5, 3), (5,)), ((5,), (5,)), ((5, 2), (4,))])
def test_latent_map_refuses_other_shapes(codes, labels):
    with pytest.raises(ValueError, match=r"codes must be \(N, 2\) with N labels"):
        latent_map(torch.zeros(codes), torch.zeros(labels))


class ShowsItsCode(nn.Module):
    """Left pixels shine with z_1, the others with z_2."""

    def forward(self, z):
        left = torch.arange(784) % 28 < 14
        return Bernoulli(logits=torch.where(left, z[..., :1], z[..., 1:]))


def test_manifold_has_z1_to_the_right_and_z2_upwards_at_equal_steps_of_probability():
    vae = VAE(latent_dim=2, hidden_dims=(1,))
    vae.decoder = ShowsItsCode()
    picture = torch.tensor(np.asarray(manifold(vae, n=4).axes[0].images[0].get_array()))
    quantiles = Normal(0.0, 1.0).cdf(picture.logit())
    steps = torch.tensor([0.125, 0.375, 0.625, 0.875])
    torch.testing.assert_close(quantiles[::28, ::28], steps.expand(4, 4), atol=1e-4, rtol=0)
    downwards = steps.flip(0)[:, None].expand(4, 4)
    torch.testing.assert_close(quantiles[::28, 14::28], downwards, atol=1e-4, rtol=0)


def test_manifold_needs_two_dimensions():
    with pytest.raises(ValueError, match="a manifold needs latent_dim = 2, got 3"):
        manifold(VAE(latent_dim=3, hidden_dims=(1,)))


def test_style_leaves_a_script_its_main_module():
    """Where workers look for the functions that they are sent."""
    main = sys.modules["__main__"]
    use_style()
    assert sys.modules["__main__"] is main


def test_style_is_transparent_and_gives_the_same_svg_twice(tmp_path):
    use_style()
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        fig, ax = plt.subplots()
        ax.plot([0, 1])
        fig.savefig(file, metadata={"Date": None})
    assert files[0].read_bytes() == files[1].read_bytes()
    fig.savefig(tmp_path / "a.png")
    assert plt.imread(tmp_path / "a.png")[0, 0, 3] == 0
