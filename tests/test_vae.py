import copy
import io
import math

import pytest
import torch
from monte_carlo import Z_MAX, z_score
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from em2vae import VAE, fit, iwae_bound, load_digits
from em2vae.data import binarize

BATCH, LATENT, PIXELS = 4, 3, 6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def vae():
    """A small model in double precision, far enough from its start that no term is near zero."""
    model = VAE(latent_dim=LATENT, hidden_dims=(8, 5), data_dim=PIXELS, seed=3).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 2.5
    return model


@pytest.fixture
def x():
    return torch.bernoulli(torch.full((BATCH, PIXELS), 0.5, dtype=torch.double), generator=seeded())


def set_posterior(model, mu, sigma):
    """Make q(z|x) = N(mu, diag sigma^2) whatever x."""
    with torch.no_grad():
        model.encoder.heads.weight.zero_()
        model.encoder.heads.bias.copy_(torch.cat([mu, 2 * sigma.log()]))


MU = torch.tensor([0.5, -1.0, 0.0], dtype=torch.double)
SIGMA = torch.tensor([0.3, 2.0, 1.0], dtype=torch.double)


def test_networks_mirror_each_other():
    model = VAE(latent_dim=2, hidden_dims=(8, 5), data_dim=12, activation=nn.Tanh)
    widths = [[m.in_features, m.out_features] for m in model.modules() if isinstance(m, nn.Linear)]
    assert widths == [[12, 8], [8, 5], [5, 4], [2, 5], [5, 8], [8, 12]]
    assert [type(layer) for layer in model.decoder.body] == [nn.Linear, nn.Tanh] * 2


def test_encode_returns_the_mean_and_the_standard_deviation(vae, x):
    set_posterior(vae, MU, SIGMA)
    q_z = vae.encode(x)
    assert isinstance(q_z, Normal)
    assert q_z.batch_shape == (BATCH, LATENT)
    torch.testing.assert_close(q_z.mean, MU.expand(BATCH, -1))
    torch.testing.assert_close(q_z.stddev, SIGMA.expand(BATCH, -1))


@pytest.mark.parametrize("shape", [(), (5,), (2, 5)])
def test_decode_keeps_leading_dimensions(vae, shape):
    z = torch.randn(*shape, LATENT, generator=seeded(), dtype=torch.double)
    p_x = vae.decode(z)
    assert isinstance(p_x, Bernoulli)
    assert p_x.batch_shape == (*shape, PIXELS)
    one_by_one = [vae.decode(row).mean for row in z.reshape(-1, LATENT)]
    torch.testing.assert_close(p_x.mean.reshape(-1, PIXELS), torch.stack(one_by_one))


def test_draws_of_z_follow_q(vae, x):
    set_posterior(vae, MU, SIGMA)
    z = vae.rsample(vae.encode(x), 20_000)
    assert z.shape == (20_000, BATCH, LATENT)
    assert z_score(z, MU) < Z_MAX
    assert z_score((z - MU) ** 2, SIGMA**2) < Z_MAX
    first, second = (z[:, 0] - MU) / SIGMA, (z[:, 1] - MU) / SIGMA
    assert z_score(first * second, 0.0) < Z_MAX  # images do not share their noise
    assert z_score(first * first.roll(1, dims=-1), 0.0) < Z_MAX  # nor do dimensions


def test_log_likelihood_is_the_bernoulli_formula_at_the_drawn_z(vae, x):
    z = vae.rsample(vae.encode(x), 7, seeded(5))
    p = vae.decode(z).mean
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum(-1).mean(0)
    log_likelihood = vae.elbo(x, n_samples=7, generator=seeded(5)).log_likelihood
    torch.testing.assert_close(log_likelihood, expected)


@pytest.mark.parametrize("n_samples", [1, 10])
def test_log_likelihood_averages_over_q(vae, x, n_samples):
    q_z = Independent(vae.encode(x[:1]), 1)
    torch.manual_seed(1)  # the reference draws come from torch.distributions
    draws = Bernoulli(logits=vae.decoder(q_z.sample((40_000,))).logits).log_prob(x[0]).sum(-1)
    with torch.no_grad():
        terms = vae.elbo(x[:1].expand(4_000, -1), n_samples=n_samples, generator=seeded(2))
    difference = terms.log_likelihood.mean() - draws.mean()
    error = (terms.log_likelihood.var() / 4_000 + draws.var() / 40_000).sqrt()
    assert abs(difference / error) < Z_MAX
    # The variance of an average falls as 1/S; a variance of 4,000 draws is good to a few percent.
    ratio = terms.log_likelihood.var() * n_samples / draws.var()
    assert 0.8 < ratio < 1.25


def test_kl_equals_torch_distributions_and_its_formula(vae, x):
    q_z = vae.encode(x)
    mu, sigma = q_z.mean, q_z.stddev
    kl = vae.elbo(x).kl
    prior = Normal(torch.zeros_like(mu), torch.ones_like(sigma))
    torch.testing.assert_close(kl, kl_divergence(q_z, prior).sum(-1))
    by_hand = 0.5 * (mu**2 + sigma**2 - 1 - 2 * sigma.log()).sum(-1)
    torch.testing.assert_close(kl, by_hand)
    assert kl.min() > 0.01


def test_kl_is_the_mean_log_ratio_of_q_and_prior(vae, x):
    q_z = vae.encode(x)
    z = vae.rsample(q_z, 20_000)
    ratio = (q_z.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1)
    assert z_score(ratio, vae.elbo(x).kl) < Z_MAX


def test_kl_is_zero_at_the_prior(vae, x):
    set_posterior(vae, torch.zeros_like(MU), torch.ones_like(SIGMA))
    assert vae.elbo(x).kl.abs().max() < 1e-12


EXTREME = [-200.0, -104.0, -100.0, -60.0, 0.0, 40.0, 88.0]


@pytest.mark.parametrize("log_var", EXTREME)
def test_an_extreme_log_variance_keeps_its_kl_and_a_finite_gradient(log_var):
    """The variance underflows in float32 at -104; its logarithm would be infinite there."""
    model = VAE(latent_dim=2, hidden_dims=(4,), data_dim=PIXELS)
    with torch.no_grad():
        model.encoder.heads.weight.zero_()
        model.encoder.heads.bias.copy_(torch.tensor([1.0, -2.0, log_var, log_var]))
    x = torch.ones(3, PIXELS)
    q_z = model.encode(x)
    assert torch.equal(q_z.log_var, torch.full((3, 2), log_var))
    exact = math.exp(log_var) - 1 - log_var + 2.5  # two dimensions, mu^2 of 1 and 4
    terms = model.elbo(x)
    assert terms.kl.tolist() == pytest.approx([exact] * 3, rel=1e-6)
    terms.kl.sum().backward()
    slope = 3 * 0.5 * (math.exp(log_var) - 1)
    expected = [3.0, -6.0, slope, slope]
    assert model.encoder.heads.bias.grad.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("log_var", [-300.0, *EXTREME[:-2]])
@pytest.mark.parametrize("name", ["elbo", "iwae_bound"])
def test_an_extreme_log_variance_keeps_the_bound_and_its_gradient(name, log_var):
    single, double = (
        VAE(latent_dim=2, hidden_dims=(4,), data_dim=PIXELS).to(dtype)
        for dtype in (torch.float, torch.double)
    )
    bounds = []
    for model in (single, double):
        with torch.no_grad():
            model.encoder.heads.bias.copy_(torch.tensor([1.0, -2.0, log_var, log_var]))
        bounds.append(BOUNDS[name](model, torch.ones(3, PIXELS).to(model.decoder.head.bias)))
        bounds[-1].backward()
    assert bounds[0].item() == pytest.approx(bounds[1].item(), rel=1e-6)
    for ours, exact in zip(single.parameters(), double.parameters(), strict=True):
        torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_beta_weighs_the_kl_in_the_elbo_alone(vae, x, beta):
    plain, weighted = (vae.elbo(x, beta=b, generator=seeded()) for b in (1.0, beta))
    torch.testing.assert_close(weighted.kl, plain.kl)
    torch.testing.assert_close(weighted.log_likelihood, plain.log_likelihood)
    torch.testing.assert_close(weighted.elbo, plain.log_likelihood - beta * plain.kl)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("n_samples", [1, 5])
def test_each_term_has_one_value_an_image(vae, x, batch, n_samples):
    terms = vae.elbo(x[:batch], n_samples=n_samples)
    assert [term.shape for term in terms] == [(batch,)] * 3


BOUNDS = {
    "elbo": lambda vae, x: vae.elbo(x, n_samples=5, generator=seeded()).elbo.mean(),
    "iwae_bound": lambda vae, x: iwae_bound(vae, x, n_samples=5, generator=seeded()).mean(),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_gradient_equals_finite_differences(vae, x, name):
    BOUNDS[name](vae, x).backward()
    step = 1e-6
    for weight in vae.parameters():
        direction = torch.randn(weight.shape, generator=seeded(7), dtype=torch.double)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight += sign * step * direction
                values.append(BOUNDS[name](vae, x))
                weight -= sign * step * direction
        slope = (values[0] - values[1]) / (2 * step)
        assert slope.abs() > 1e-6
        torch.testing.assert_close((weight.grad * direction).sum(), slope, rtol=1e-5, atol=1e-8)


def test_sure_pixels_keep_a_finite_likelihood_and_its_gradient():
    """Sigmoid followed by a logarithm would give -inf, or a gradient of zero."""
    model = VAE(latent_dim=2, hidden_dims=(4,), data_dim=2)
    with torch.no_grad():
        model.decoder.head.weight.zero_()
        model.decoder.head.bias.copy_(torch.tensor([150.0, -150.0]))
    terms = model.elbo(torch.tensor([[0.0, 1.0]]))
    assert terms.log_likelihood.item() == pytest.approx(-300.0)
    terms.log_likelihood.sum().backward()
    torch.testing.assert_close(model.decoder.head.bias.grad, torch.tensor([-1.0, 1.0]))


def test_sample_decodes_draws_of_the_prior(vae):
    draws = vae.sample(20_000)
    assert draws.shape == (20_000, PIXELS)
    assert not draws.requires_grad
    z = torch.randn(200_000, LATENT, generator=seeded(9), dtype=torch.double)
    with torch.no_grad():
        expected = vae.decode(z).mean
    error = (draws.var(0) / len(draws) + expected.var(0) / len(z)).sqrt()
    assert ((draws.mean(0) - expected.mean(0)) / error).abs().max() < Z_MAX
    assert draws.std(0).min() > 0.01  # means of different z, not one and the same


def test_reconstruct_decodes_the_mean(vae, x):
    torch.testing.assert_close(vae.reconstruct(x), vae.decode(vae.encode(x).mean).mean)
    assert not vae.reconstruct(x).requires_grad


def test_a_seed_fixes_weights_and_noise():
    def outcome(seed):
        model = VAE(latent_dim=2, hidden_dims=(4,), data_dim=PIXELS, seed=seed)
        return torch.cat([*(w.detach().ravel() for w in model.parameters()), *model.sample(3)])

    assert torch.equal(outcome(0), outcome(0))
    assert not torch.equal(outcome(0)[:8], outcome(1)[:8])


def test_noise_moves_on_and_a_generator_repeats_it(vae, x):
    assert not torch.equal(vae.elbo(x).elbo, vae.elbo(x).elbo)
    assert torch.equal(*(vae.elbo(x, generator=seeded(4)).elbo for _ in range(2)))
    assert not torch.equal(vae.sample(2), vae.sample(2))
    assert torch.equal(*(vae.sample(2, generator=seeded(4)) for _ in range(2)))


def through_a_file(model):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = VAE(latent_dim=LATENT, hidden_dims=(8, 5), data_dim=PIXELS, seed=8).double()
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


@pytest.mark.parametrize("copied", [copy.deepcopy, through_a_file])
def test_a_copy_goes_on_with_the_noise(vae, x, copied):
    vae.sample(3)
    other = copied(vae)
    assert torch.equal(other.elbo(x).elbo, vae.elbo(x).elbo)
    assert torch.equal(other.sample(3), vae.sample(3))
    vae.sample(1)
    assert not torch.equal(other.sample(3), vae.sample(3))  # their streams are apart


def test_a_state_without_the_noise_is_refused(vae):
    state = vae.state_dict()
    del state["_extra_state"]
    with pytest.raises(RuntimeError, match="_extra_state"):
        vae.load_state_dict(state)


PUBLIC_CALLS = {
    "VAE": lambda vae, x: VAE(latent_dim=2, hidden_dims=(4,), data_dim=PIXELS).sample(1),
    "encode": lambda vae, x: vae.encode(x).mean,
    "rsample": lambda vae, x: vae.rsample(vae.encode(x), 2),
    "elbo": lambda vae, x: vae.elbo(x).elbo,
    "sample": lambda vae, x: vae.sample(2),
    "reconstruct": lambda vae, x: vae.reconstruct(x),
    "iwae_bound": lambda vae, x: iwae_bound(vae, x, n_samples=3),
    "fit": lambda vae, x: torch.tensor(fit(vae, x, epochs=2, batch_size=2).elbo),
    "load_digits": lambda vae, x: load_digits("test")[0],
    "binarize": lambda vae, x: binarize(x / 2),
}


@pytest.mark.parametrize("name", PUBLIC_CALLS)
def test_the_global_generator_is_neither_used_nor_moved(vae, x, name):
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(PUBLIC_CALLS[name](copy.deepcopy(vae), x))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*results)


BAD_X = {
    "list": ([[0.0] * PIXELS], TypeError, "x must be a floating-point tensor"),
    "integers": (torch.zeros(2, PIXELS, dtype=torch.long), TypeError, "torch.int64"),
    "no batch": (torch.zeros(PIXELS), ValueError, rf"x must have shape \(N, {PIXELS}\)"),
    "an image": (torch.zeros(2, 2, 3), ValueError, rf"shape \(N, {PIXELS}\), got \(2, 2, 3\)"),
    "one pixel": (torch.zeros(2, 1), ValueError, rf"shape \(N, {PIXELS}\), got \(2, 1\)"),
    "no image": (torch.zeros(0, PIXELS), ValueError, "x must hold at least one example"),
    "nan": (torch.full((2, PIXELS), math.nan), ValueError, "x must be finite"),
    "infinity": (torch.full((2, PIXELS), -math.inf), ValueError, "x must be finite"),
    "too large": (torch.full((2, PIXELS), 255.0), ValueError, r"x must lie in \[0, 1\]"),
    "negative": (torch.full((2, PIXELS), -0.5), ValueError, r"x must lie in \[0, 1\]"),
}
TAKES_X = {
    "encode": lambda vae, x: vae.encode(x),
    "elbo": lambda vae, x: vae.elbo(x),
    "reconstruct": lambda vae, x: vae.reconstruct(x),
    "iwae_bound": lambda vae, x: iwae_bound(vae, x, n_samples=2),
    "fit": lambda vae, x: fit(vae, x, epochs=1),
}


@pytest.mark.parametrize("name", TAKES_X)
@pytest.mark.parametrize("fault", BAD_X)
def test_bad_images_are_refused(vae, name, fault):
    x, error, message = BAD_X[fault]
    with pytest.raises(error, match=message):
        TAKES_X[name](vae, x)


def test_one_bad_value_among_many_is_seen(vae, x):
    for value, message in ((math.nan, "finite"), (1.5, "lie in"), (0.5, "binary")):
        spoilt = x.clone()
        spoilt[2, 3] = value
        with pytest.raises(ValueError, match=message):
            vae.elbo(spoilt)


@pytest.mark.parametrize("name", ["elbo", "iwae_bound"])
def test_grey_values_are_refused_by_bounds(vae, name):
    with pytest.raises(ValueError, match=r"x must be binary.*em2vae\.data\.binarize"):
        TAKES_X[name](vae, torch.full((2, PIXELS), 0.5, dtype=torch.double))


def test_elbo_without_its_check_is_the_same(vae, x):
    checked, unchecked = (
        vae.elbo(x, generator=seeded(), validate_args=check) for check in (True, False)
    )
    torch.testing.assert_close(unchecked, checked, rtol=0, atol=0)
    vae.elbo(torch.full_like(x, 0.5), validate_args=False)


@pytest.mark.parametrize("name", ["encode", "reconstruct"])
def test_grey_values_may_be_looked_at(vae, name):
    TAKES_X[name](vae, torch.full((2, PIXELS), 0.5, dtype=torch.double))


@pytest.mark.parametrize(
    ("z", "message"),
    [
        ([0.0] * LATENT, "z must be a tensor .* got list"),
        (torch.tensor(0.0), rf"z must be a tensor of shape \(\.\.\., {LATENT}\), got \(\)"),
        (torch.zeros(2, LATENT + 1), rf"got \(2, {LATENT + 1}\)"),
        (torch.zeros(2, 1), r"got \(2, 1\)"),
        (torch.full((2, LATENT), math.nan), "z must be finite"),
        (torch.full((2, LATENT), math.inf), "z must be finite"),
    ],
)
def test_bad_latent_points_are_refused(vae, z, message):
    with pytest.raises(ValueError, match=message):
        vae.decode(z)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3", None])
@pytest.mark.parametrize("argument", ["latent_dim", "data_dim", "hidden_dims", "n", "n_samples"])
def test_sizes_must_be_whole_and_positive(vae, x, argument, size):
    calls = {
        "latent_dim": lambda: VAE(latent_dim=size),
        "data_dim": lambda: VAE(data_dim=size),
        "hidden_dims": lambda: VAE(hidden_dims=(4, size)),
        "n": lambda: vae.sample(size),
        "n_samples": lambda: vae.elbo(x, n_samples=size),
    }
    with pytest.raises(ValueError, match=rf"{argument}.* must be a whole number of at least 1"):
        calls[argument]()


def test_a_hidden_layer_is_required():
    with pytest.raises(ValueError, match="hidden_dims must be a tuple of layer widths, got"):
        VAE(hidden_dims=())
    with pytest.raises(ValueError, match="got 400"):
        VAE(hidden_dims=400)
