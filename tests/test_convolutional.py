"""Convolutions of chapter 17: sizes, taps, shifts, and a VAE made of them."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli, Normal

from em2vae import fit, iwae_bound, load, save
from em2vae.convolutional import ConvVAE, UpConv, conv_size
from em2vae.densities import LogVarNormal
from em2vae.pixels import LIKELIHOODS, DiscretizedLogistic, dequantize

SHAPE, DIM = (3, 4, 8), 96  # no square
GREY = {name for name in LIKELIHOODS if name != "bernoulli"}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(likelihood, n=6, dim=DIM):
    """Data of a likelihood: binary, of 256 levels, or points of their cells."""
    if likelihood == "bernoulli":
        return (torch.rand(n, dim, generator=seeded()) < 0.2).float()
    levels = torch.randint(0, 256, (n, dim), generator=seeded()) / 255
    return levels if likelihood == "logistic" else dequantize(levels)


@pytest.fixture(params=LIKELIHOODS)
def likelihood(request):
    return request.param


@pytest.fixture
def model(likelihood):
    return ConvVAE(latent_dim=3, channels=(4, 6), shape=SHAPE, likelihood=likelihood)


# Sizes


@pytest.mark.parametrize("n", [5, 8, 28, 31])
def test_sizes_are_those_of_torch(n):
    for kernel, stride, padding in itertools.product((1, 2, 3, 4, 5), (1, 2, 3), (0, 1, 2)):
        layer = nn.Conv1d(1, 1, kernel, stride, padding)
        expected = layer(torch.zeros(1, 1, n)).shape[-1]
        assert conv_size(n, kernel, stride, padding) == expected
    assert conv_size(n) == nn.Conv1d(1, 1, 3, 2, 1)(torch.zeros(1, 1, n)).shape[-1]


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((1, 28, 28), (4, 5)), ((3, 8, 8), (2, 3, 4)), ((2, 6, 10), (4,)), ((3, 4, 8), (4, 5))],
)
def test_the_networks_take_pictures_of_any_size_that_can_be_halved(shape, channels):
    vae = ConvVAE(2, channels, shape)
    dim = shape[0] * shape[1] * shape[2]
    assert vae.data_dim == dim
    assert vae.encode(torch.zeros(5, dim)).mean.shape == (5, 2)
    for leading in ((), (4,), (2, 4)):
        p_x = vae.decode(torch.zeros(*leading, 2))
        assert isinstance(p_x, Bernoulli) and p_x.batch_shape == (*leading, dim)


def test_the_decoder_mirrors_the_encoder():
    vae = ConvVAE(2, (4, 5, 6), (1, 32, 24))
    halved = []
    x = torch.zeros(1, 1, 32, 24)
    for layer in vae.encoder.body[:-1]:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            halved.append(tuple(x.shape[1:]))
    assert halved == [(4, 16, 12), (5, 8, 6), (6, 4, 3)]
    doubled, x = [], torch.zeros(1, 6, 4, 3)
    for layer in [*vae.decoder.body, vae.decoder.head]:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            doubled.append(tuple(x.shape[1:]))
    assert doubled == [(5, 8, 6), (4, 16, 12), (1, 32, 24)]
    assert vae.decoder.first == (6, 4, 3)


def test_pictures_are_rows_with_one_colour_after_the_other():
    """Only the pixels under the first convolution's window reach a corner of its map."""
    vae = ConvVAE(2, (4,), SHAPE).double()
    x = torch.rand(1, *SHAPE, generator=seeded(), dtype=torch.double).requires_grad_()
    maps = []
    vae.encoder.body[0].register_forward_hook(lambda layer, args, out: maps.append(out))
    vae.encode(x.flatten(1))
    (slope,) = torch.autograd.grad(maps[0][0, :, 0, 0].sum(), x)
    assert (slope[0, :, :2, :2] != 0).all()
    assert slope[0].count_nonzero() == 3 * 2 * 2  # and the decoder lays them out alike:
    with torch.no_grad():
        vae.decoder.head.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        vae.decoder.head.weight.zero_()
    p_x = vae.decode(torch.zeros(1, 2).double())
    assert p_x.logits.view(SHAPE)[:, 0, 0].tolist() == [1, 2, 3]
    assert p_x.logits.view(SHAPE).std(dim=(1, 2)).max() == 0


# Shifts and taps


def test_a_shifted_picture_has_a_shifted_map():
    """By the stride's product, 4: the map moves by one, away from the border."""
    vae = ConvVAE(2, (4, 6), (1, 32, 32)).double()
    convolutions = vae.encoder.body[:-1]
    x = torch.zeros(1, 1, 32, 32, dtype=torch.double)
    x[..., 8:20, 8:20] = torch.rand(12, 12, generator=seeded(), dtype=torch.double)
    maps = convolutions(x)
    for axis in (-2, -1):
        moved = convolutions(x.roll(4, axis))
        inside = (..., slice(2, -2), slice(2, -2))
        torch.testing.assert_close(moved[inside], maps.roll(1, axis)[inside])
        assert (moved[inside] - maps[inside]).abs().max() > 1e-3


def transposed(kernel, stride, x):
    return F.conv_transpose1d(x.view(1, 1, -1), kernel.view(1, 1, -1), stride=stride).flatten()


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 2), (5, 2), (5, 3), (6, 3), (2, 3)])
def test_taps_of_a_transposed_convolution_by_counting(kernel, stride):
    """Output j gets the taps of its own residue, which are ceil or floor of kernel / stride."""
    n = 8
    counts = transposed(torch.ones(kernel), stride, torch.ones(n)).tolist()
    by_hand = [0] * ((n - 1) * stride + kernel)
    for i, tap in itertools.product(range(n), range(kernel)):
        by_hand[stride * i + tap] += 1
    assert counts == by_hand
    inner = counts[kernel:-kernel]
    assert inner == [len(range((kernel + j) % stride, kernel, stride)) for j in range(len(inner))]
    assert (len(set(inner)) == 1) == (kernel % stride == 0)


def test_kernel_three_with_stride_two_gets_one_tap_and_two_in_turn():
    counts = transposed(torch.ones(3), 2, torch.ones(6))
    assert counts.tolist() == [1, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 1]


def test_a_copied_map_gets_every_tap_everywhere_and_is_a_bound_transposed_convolution():
    """Kernel (a, b, c) after copying: kernel (c, b + c, a + b, a), whose two sums are equal."""
    x = torch.rand(1, 1, 9, generator=seeded(), dtype=torch.double)
    a, b, c = torch.randn(3, generator=seeded(1), dtype=torch.double)
    copied = F.conv1d(
        F.interpolate(x, scale_factor=2), torch.stack([a, b, c])[None, None], padding=1
    )
    bound = torch.stack([c, b + c, a + b, a])
    folded = F.conv_transpose1d(x, bound[None, None], stride=2, padding=1)
    torch.testing.assert_close(copied, folded)
    ones = F.conv1d(torch.ones(1, 1, 12), torch.ones(1, 1, 3), padding=1)
    assert ones.flatten()[1:-1].tolist() == [3] * 10


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (4, 4)])
def test_the_layer_is_copying_and_a_convolution(size):
    layer = UpConv(3, 2).double()
    x = torch.randn(2, 3, *size, generator=seeded(), dtype=torch.double).requires_grad_()
    copies = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    plain = F.conv2d(copies, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), plain)
    inputs = (x, layer.weight, layer.bias)
    ours, theirs = (torch.autograd.grad(y.sin().sum(), inputs) for y in (layer(x), plain))
    torch.testing.assert_close(ours, theirs)


def test_the_decoder_makes_a_constant_of_a_constant():
    """Whatever its weights: no checkerboard can come out of a flat map, but at the border."""
    vae = ConvVAE(2, (4, 6), (1, 32, 32)).double()
    x = torch.randn(1, 6, 1, 1, generator=seeded(), dtype=torch.double).expand(1, 6, 8, 8)
    out = vae.decoder.head(vae.decoder.body(x))[0, 0, 8:-8, 8:-8]
    torch.testing.assert_close(out, out[0, 0].expand(16, 16))
    with_stride = nn.ConvTranspose2d(6, 1, 3, stride=2).double()(x)[0, 0, 4:-4, 4:-4]
    assert with_stride.std() > 1e-2


# The model


def test_elbo_is_the_bound_of_its_own_distributions(model, likelihood):
    x = pictures(likelihood)
    terms = model.elbo(x, n_samples=4, generator=seeded(5))
    z = model.rsample(model.encode(x), 4, seeded(5))
    p_x = model.decode(z)
    kinds = {"bernoulli": Bernoulli, "gaussian": LogVarNormal, "logistic": DiscretizedLogistic}
    assert isinstance(p_x, kinds[likelihood])
    torch.testing.assert_close(terms.log_likelihood, p_x.log_prob(x).sum(-1).mean(0))
    kl = torch.distributions.kl_divergence(model.encode(x), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(terms.kl, kl)
    torch.testing.assert_close(terms.elbo, terms.log_likelihood - terms.kl)
    assert terms.elbo.shape == (6,)


def test_the_importance_weighted_bound_starts_at_the_elbo_and_rises(model, likelihood):
    x = pictures(likelihood).double()
    model = model.double()
    with torch.no_grad():
        one = torch.stack([iwae_bound(model, x, 1, seeded(s)).mean() for s in range(200)])
        elbo = torch.stack([model.elbo(x, generator=seeded(s)).elbo.mean() for s in range(200)])
        error = (one.var() / 200 + elbo.var() / 200).sqrt()
        assert abs(one.mean() - elbo.mean()) < 4 * error
        assert iwae_bound(model, x, 100, seeded()).mean() > one.mean()


def test_it_learns_goes_on_and_survives_the_disk(model, likelihood, tmp_path):
    x = pictures(likelihood, n=40)
    options = {"batch_size": 10, "binarize": "none", "learning_rate": 3e-3}
    again = ConvVAE(latent_dim=3, channels=(4, 6), shape=SHAPE, likelihood=likelihood)
    history = fit(model, x, epochs=20, **options)
    assert history.elbo[-1] > history.elbo[0] + 1
    fit(again, x, epochs=12, **options)
    save(again, tmp_path / "half.npz")
    fresh = ConvVAE(latent_dim=3, channels=(4, 6), shape=SHAPE, likelihood=likelihood, seed=9)
    tail = fit(load(fresh, tmp_path / "half.npz"), x, epochs=8, **options)
    assert tail.elbo == history.elbo[12:]
    other = "gaussian" if likelihood == "logistic" else "logistic"
    stranger = ConvVAE(latent_dim=3, channels=(4, 6), shape=SHAPE, likelihood=other)
    with pytest.raises(ValueError, match="holds another architecture"):
        load(stranger, tmp_path / "half.npz")


def test_samples_and_reconstructions_are_means(model, likelihood):
    x = pictures(likelihood)
    assert model.sample(4).shape == (4, DIM)
    torch.testing.assert_close(model.reconstruct(x), model.decode(model.encode(x).mean).mean)
    with torch.no_grad():
        z = model.noise(torch.zeros(3), 4, seeded(2))
        torch.testing.assert_close(model.sample(4, seeded(2)), model.decode(z).mean)


def test_gradient_of_the_bound_equals_finite_differences(model, likelihood):
    model, x = model.double(), pictures(likelihood).double()

    def bound():
        return model.elbo(x, n_samples=2, generator=seeded()).elbo.mean()

    bound().backward()
    for weight in model.parameters():
        direction = torch.randn(weight.shape, generator=seeded(7), dtype=torch.double)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight += sign * 1e-6 * direction
                values.append(bound().item())
                weight -= sign * 1e-6 * direction
        slope = (weight.grad * direction).sum().item()
        assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-4)


def test_autocast_leaves_the_likelihood_in_single_precision(model, likelihood):
    x = pictures(likelihood)
    exact = model.elbo(x, generator=seeded()).elbo
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = model.elbo(x, generator=seeded())
    assert terms.log_likelihood.dtype == torch.float32
    torch.testing.assert_close(terms.elbo, exact, rtol=0.02, atol=0)


def test_one_seed_one_model_and_the_global_stream_stays():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two, other = (ConvVAE(2, (4,), SHAPE, seed=s) for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    assert not torch.equal(one.decoder.head.weight, other.decoder.head.weight)


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (28, 28)}, r"shape must be \(colours, height, width\), got \(28, 28\)"),
        ({"shape": (1, 0, 28)}, r"shape\[1\] must be a whole number of at least 1, got 0"),
        ({"shape": 28}, "shape must be"),
        ({"channels": ()}, r"channels must be a tuple of numbers of maps, got \(\)"),
        ({"channels": 16}, "channels must be a tuple"),
        ({"channels": (16, 0)}, r"channels\[1\] must be a whole number of at least 1, got 0"),
        ({"channels": (4, 5, 6)}, r"multiples of 8 to be halved 3 times, got \(1, 28, 28\)"),
        ({"shape": (1, 28, 30)}, r"height and width must be multiples of 4 .* got \(1, 28, 30\)"),
        ({"latent_dim": 0}, "latent_dim must be a whole number"),
        ({"likelihood": "normal"}, "likelihood must be one of bernoulli, gaussian, logistic, got"),
    ],
)
def test_bad_sizes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ConvVAE(**options)


@pytest.mark.parametrize("call", ["elbo", "iwae_bound", "fit"])
def test_data_of_another_likelihood_is_refused(call):
    def use(likelihood, x):
        model = ConvVAE(2, (4,), SHAPE, likelihood)
        calls = {
            "elbo": lambda: model.elbo(x),
            "iwae_bound": lambda: iwae_bound(model, x, 2),
            "fit": lambda: fit(model, x, epochs=1, binarize="none"),
        }
        return calls[call]()

    grey, off = pictures("logistic"), pictures("gaussian")
    with pytest.raises(ValueError, match="x must be binary"):
        use("bernoulli", grey)
    with pytest.raises(ValueError, match="x must hold whole grey values divided by 255"):
        use("logistic", off)
    use("gaussian", off)
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\]"):
        use("gaussian", 255 * grey)
    with pytest.raises(ValueError, match=r"x must have shape \(N, 96\)"):
        use("logistic", grey.view(6, *SHAPE))


@pytest.mark.parametrize("likelihood", sorted(GREY))
def test_fit_does_not_binarize_what_is_no_coin(likelihood):
    x = pictures(likelihood)
    for how in ("stochastic", "fixed"):
        with pytest.raises(ValueError, match=f"binarize must be 'none' .* got '{how}'"):
            fit(ConvVAE(2, (4,), SHAPE, likelihood), x, binarize=how)
