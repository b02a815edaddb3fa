"""Probabilistic PCA against oracles that share no formula with it, and the naive estimate."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monte_carlo import Z_MAX, z_score
from scipy.optimize import minimize
from sklearn.decomposition import PCA
from torch.distributions import MultivariateNormal, Normal

from em2vae import ProbabilisticPCA

FLOAT = {"dtype": torch.float64}


def draw_model(latent_dim: int, data_dim: int, sigma: float = 0.5, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(data_dim, latent_dim, generator=generator, **FLOAT)
    return ProbabilisticPCA(weight, torch.randn(data_dim, generator=generator, **FLOAT), sigma)


def draw_data(model: ProbabilisticPCA, n: int, seed: int = 0) -> torch.Tensor:
    """x (n, D) by the generative story."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, model.weight.shape[1], generator=generator, **FLOAT)
    p_x = model.decode(z)
    return p_x.mean + p_x.stddev * torch.randn(p_x.mean.shape, generator=generator, **FLOAT)


def prior_grid(latent_dim: int, n: int = 201, limit: float = 8.0):
    """Points (n^K, K) and the volume of a cell; the trapezoid rule has no ends to care for."""
    axis = torch.linspace(-limit, limit, n, **FLOAT)
    points = torch.cartesian_prod(*[axis] * latent_dim).reshape(-1, latent_dim)
    return points, (axis[1] - axis[0]).item() ** latent_dim


def log_joint(model: ProbabilisticPCA, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """log p(x, z) for x (N, D) and z (M, K): (N, M)."""
    log_p_x_given_z = model.decode(z).log_prob(x[:, None]).sum(-1)  # over pixels
    return log_p_x_given_z + Normal(0.0, 1.0).log_prob(z).sum(-1)  # over latent dimensions


@settings(deadline=None, max_examples=30)
@given(
    latent_dim=st.integers(1, 6),
    data_dim=st.integers(1, 9),
    sigma=st.floats(0.05, 3.0),
    seed=st.integers(0, 10**6),
)
def test_log_likelihood_is_that_of_the_full_normal(latent_dim, data_dim, sigma, seed):
    model = draw_model(latent_dim, data_dim, sigma, seed)
    x = draw_data(model, 5, seed + 1)
    covariance = model.weight @ model.weight.T + sigma**2 * torch.eye(data_dim, **FLOAT)
    expected = MultivariateNormal(model.mean, covariance).log_prob(x)
    assert model.log_likelihood(x).shape == (5,)
    assert torch.allclose(model.log_likelihood(x), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_log_likelihood_is_the_integral_over_the_story(latent_dim):
    model = draw_model(latent_dim, 4)
    x = draw_data(model, 5)
    z, cell = prior_grid(latent_dim)
    integral = log_joint(model, x, z).logsumexp(-1) + math.log(cell)
    assert torch.allclose(model.log_likelihood(x), integral, atol=1e-8)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_posterior_is_bayes_rule_on_a_grid(latent_dim):
    model = draw_model(latent_dim, 4, seed=1)
    x = draw_data(model, 5)
    z, cell = prior_grid(latent_dim)
    weights = log_joint(model, x, z).softmax(-1)  # (N, M), Bayes' rule on the grid
    log_density = model.posterior(x).log_prob(z[:, None]).T  # (N, M)
    assert (log_density.exp() * cell - weights).abs().max() < 1e-8
    means = weights @ z
    posterior = model.posterior(x)
    assert torch.allclose(posterior.mean, means, atol=1e-8)
    centered = z - means[:, None]  # (N, M, K)
    covariances = torch.einsum("nm,nmk,nml->nkl", weights, centered, centered)
    assert torch.allclose(posterior.covariance_matrix, covariances, atol=1e-8)


def test_decode_is_the_story():
    model = draw_model(2, 3, sigma=0.7)
    z = torch.tensor([[1.0, 0.0], [0.0, -2.0]], **FLOAT)
    p_x = model.decode(z)
    assert torch.allclose(p_x.mean[0], model.weight[:, 0] + model.mean)
    assert torch.allclose(p_x.mean[1], -2 * model.weight[:, 1] + model.mean)
    assert p_x.batch_shape == (2, 3)
    assert (p_x.stddev == 0.7).all()


@pytest.fixture(scope="module")
def data():
    x = draw_data(draw_model(2, 6, sigma=0.8, seed=3), 300)
    return x * torch.linspace(0.5, 2.0, 6, **FLOAT)  # noise that differs: the model is not exact


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_fit_agrees_with_scikit_learn(data, latent_dim):
    model = ProbabilisticPCA.fit(data, latent_dim)
    oracle = PCA(latent_dim, svd_solver="full").fit(data.numpy())
    n = len(data)  # scikit-learn divides by n - 1, maximum likelihood by n
    assert model.sigma**2 == pytest.approx(oracle.noise_variance_ * (n - 1) / n, rel=1e-9)
    covariance = model.weight @ model.weight.T + model.sigma**2 * torch.eye(6, **FLOAT)
    expected = torch.from_numpy(oracle.get_covariance()) * (n - 1) / n
    assert torch.allclose(covariance, expected, atol=1e-9)
    assert model.log_likelihood(data).mean().item() == pytest.approx(
        oracle.score(data.numpy()), abs=1e-4
    )


def test_no_optimizer_beats_the_fit(data):
    best = ProbabilisticPCA.fit(data, 2)

    def loss(parameters):
        free = torch.tensor(parameters, requires_grad=True, **FLOAT)
        weight, mean, log_sigma = free[:12].reshape(6, 2), free[12:18], free[18]
        covariance = weight @ weight.T + (2 * log_sigma).exp() * torch.eye(6, **FLOAT)
        value = -MultivariateNormal(mean, covariance).log_prob(data).mean()
        value.backward()
        return value.item(), free.grad.numpy()

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(19, generator=generator, **FLOAT)
    found = minimize(loss, start.numpy(), jac=True, method="BFGS", options={"gtol": 1e-7})
    assert -found.fun == pytest.approx(best.log_likelihood(data).mean().item(), abs=1e-6)
    assert math.exp(found.x[18]) == pytest.approx(best.sigma, rel=1e-3)


def test_fit_recovers_the_model_that_made_the_data():
    truth = draw_model(2, 5, sigma=0.5, seed=5)
    model = ProbabilisticPCA.fit(draw_data(truth, 20_000), 2)
    assert model.sigma == pytest.approx(truth.sigma, rel=0.02)
    assert torch.allclose(model.weight @ model.weight.T, truth.weight @ truth.weight.T, atol=0.2)
    assert torch.allclose(model.mean, truth.mean, atol=0.1)


# Single precision


def rounded(model: ProbabilisticPCA) -> ProbabilisticPCA:
    return ProbabilisticPCA(model.weight.float(), model.mean.float(), model.sigma)


def doubled(model: ProbabilisticPCA) -> ProbabilisticPCA:
    return ProbabilisticPCA(model.weight.double(), model.mean.double(), model.sigma)


def images(sigma: float, apart: float = 1.0):
    """A model of 784 pixels and two latents, `apart` from being one, with data, in float32."""
    model = draw_model(2, 784, sigma)
    model.weight[:, 1] = model.weight[:, 0] + apart * model.weight[:, 1]
    return rounded(model), draw_data(model, 50, seed=1).float()


@pytest.mark.parametrize("apart", [1.0, 1e-3])
@pytest.mark.parametrize("sigma", [1.0, 0.1, 0.01, 1e-3, 1e-4])
def test_log_likelihood_in_single_precision(sigma, apart):
    """What remains is the rounding of W and the mean in the residual, relative to sigma."""
    model, x = images(sigma, apart)
    error = model.log_likelihood(x).double() - doubled(model).log_likelihood(x.double())
    assert error.abs().max().item() < 1e-3 + 1e-5 / sigma


@pytest.mark.parametrize("apart", [1.0, 1e-3])
@pytest.mark.parametrize("sigma", [1.0, 0.1, 0.01, 1e-3, 1e-4])
def test_posterior_in_single_precision(sigma, apart):
    model, x = images(sigma, apart)
    single, double = model.posterior(x), doubled(model).posterior(x.double())
    assert torch.allclose(single.scale_tril.double(), double.scale_tril, rtol=1e-4, atol=0)
    shift = (single.mean.double() - double.mean)[..., None]
    deviations = torch.linalg.solve_triangular(double.scale_tril, shift, upper=False)
    assert deviations.abs().max().item() < 1e-4 + 1e-4 / sigma


@pytest.mark.parametrize("sigma", [0.1, 0.01, 1e-3, 1e-4])
def test_fit_in_single_precision_finds_little_noise(sigma):
    model, _ = images(sigma)
    x = draw_data(doubled(model), 1_000)
    single, double = ProbabilisticPCA.fit(x.float(), 2), ProbabilisticPCA.fit(x, 2)
    assert single.weight.dtype == single.mean.dtype == torch.float32
    assert single.sigma == pytest.approx(double.sigma, rel=1e-3)
    products = [fitted.weight.double() @ fitted.weight.double().T for fitted in (single, double)]
    assert torch.allclose(*products, atol=1e-4)


# The naive estimate of chapter 01


def log_weights(model: ProbabilisticPCA, x: torch.Tensor, shape: tuple, seed: int) -> torch.Tensor:
    """log p(x|z) for one x (D,) and draws of z from the prior, of the given shape."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(*shape, model.weight.shape[1], generator=generator, **FLOAT)
    return model.decode(z).log_prob(x).sum(-1)  # over pixels


@pytest.mark.parametrize("latent_dim", [1, 2, 4])
def test_the_average_over_the_prior_is_unbiased(latent_dim):
    model = draw_model(latent_dim, 3, sigma=1.0, seed=latent_dim)
    x = draw_data(model, 1)
    relative = (log_weights(model, x[0], (100_000,), 0) - model.log_likelihood(x)).exp()
    assert z_score(relative, 1.0) < Z_MAX


def test_its_logarithm_is_biased_as_the_delta_method_says():
    model = draw_model(1, 2, sigma=1.0, seed=1)
    x = draw_data(model, 1)
    exact = model.log_likelihood(x)
    rho = (log_second_moment(model, x) - 2 * exact).expm1().item()  # relative variance of a weight
    n_samples = math.ceil(40 * rho)  # the expansion asks for rho / S well below one
    draws = log_weights(model, x[0], (200_000, n_samples), 0)
    errors = draws.logsumexp(-1) - math.log(n_samples) - exact  # (200_000,)
    assert z_score(errors, 0.0) > 3 * Z_MAX  # the bias is no accident of the draws
    assert errors.mean().item() == pytest.approx(-rho / (2 * n_samples), rel=0.2)


def log_second_moment(model: ProbabilisticPCA, x: torch.Tensor) -> torch.Tensor:
    """log E p(x|z)^2 over the prior: (N,) (chapter 01, eq. mc-second-moment)."""
    halved = ProbabilisticPCA(model.weight, model.mean, model.sigma / math.sqrt(2))
    constant = -len(model.mean) / 2 * math.log(4 * math.pi * model.sigma**2)
    return constant + halved.log_likelihood(x)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_the_second_moment_is_the_integral_of_the_square(latent_dim):
    model = draw_model(latent_dim, 4, seed=2)
    x = draw_data(model, 5)
    z, cell = prior_grid(latent_dim, n=401)
    log_p_z = Normal(0.0, 1.0).log_prob(z).sum(-1)
    squares = 2 * log_joint(model, x, z) - log_p_z  # log p(x|z)^2 p(z)
    integral = squares.logsumexp(-1) + math.log(cell)
    assert torch.allclose(log_second_moment(model, x), integral, atol=1e-8)


@pytest.mark.parametrize("latent_dim", [1, 3, 8])
def test_the_second_moment_grows_at_least_as_the_product(latent_dim):
    model = draw_model(latent_dim, 10, seed=4)
    x = torch.cat([model.mean[None], draw_data(model, 200)])  # the mean itself reaches equality
    excess = log_second_moment(model, x) - 2 * model.log_likelihood(x)
    ratio = torch.linalg.svdvals(model.weight) ** 2 / model.sigma**2  # t_k
    product = ((1 + ratio) / (1 + 2 * ratio).sqrt()).log().sum().item()
    assert excess[0].item() == pytest.approx(product, abs=1e-9)
    assert excess.min().item() > product - 1e-9


# Bad input


def test_bad_parameters_are_refused():
    weight, mean = torch.ones(3, 2), torch.zeros(3)
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(2,\)"):
        ProbabilisticPCA(weight, mean[:2], 1.0)
    with pytest.raises(ValueError, match=r"\(3,\) and \(3,\)"):
        ProbabilisticPCA(weight[:, 0], mean, 1.0)
    for sigma in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="sigma must be positive"):
            ProbabilisticPCA(weight, mean, sigma)


def test_bad_data_are_refused():
    model = draw_model(2, 3)
    x = draw_data(model, 4)
    for method in (model.log_likelihood, model.posterior):
        with pytest.raises(ValueError, match=r"shape \(N, 3\)"):
            method(x[:, :2])
        with pytest.raises(ValueError, match="finite"):
            method(x / 0)
        with pytest.raises(TypeError, match="floating-point"):
            method(x.long())


def test_bad_fits_are_refused():
    x = draw_data(draw_model(2, 4), 50)
    for latent_dim in (0, 1.5, True):
        with pytest.raises(ValueError, match="latent_dim must be a whole number"):
            ProbabilisticPCA.fit(x, latent_dim)
    with pytest.raises(ValueError, match="below D = 4, got 4"):
        ProbabilisticPCA.fit(x, 4)
    with pytest.raises(ValueError, match="finite"):
        ProbabilisticPCA.fit(x * math.nan, 1)
    flat = x[:, :1] * torch.ones(1, 4, **FLOAT)  # varies in one direction only
    for constant in (flat, x[:1], flat.float()):
        with pytest.raises(ValueError, match="more than latent_dim = 1 directions"):
            ProbabilisticPCA.fit(constant, 1)
