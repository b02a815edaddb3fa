"""EM for mixtures, against scikit-learn, torch.distributions, scipy and brute force."""

from itertools import pairwise

import pytest
import scipy.optimize
import scipy.stats
import sklearn.mixture
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
)

from em2vae import BernoulliMixture, GaussianMixture

problems = given(
    seed=st.integers(0, 2**31), size=st.tuples(*map(st.integers, (5, 1, 1), (60, 4, 6)))
)
limited = settings(max_examples=40, deadline=None, derandomize=True)


def gaussian_problem(seed, size, dtype=torch.double):
    """Data of a few random clouds, and a random model with unequal weights."""
    n, data_dim, n_components = size
    g = torch.Generator().manual_seed(seed)
    centres = 4 * torch.randn(3, data_dim, generator=g).to(dtype)
    x = centres[torch.arange(n) % 3] + torch.randn(n, data_dim, generator=g).to(dtype)
    factors = torch.randn(n_components, data_dim, data_dim, generator=g).to(dtype)
    covariances = factors @ factors.mT + 0.5 * torch.eye(data_dim).to(dtype)
    means = 3 * torch.randn(n_components, data_dim, generator=g).to(dtype)
    weights = torch.rand(n_components, generator=g).to(dtype) + 0.1
    return x, GaussianMixture(weights / weights.sum(), means, covariances)


def bernoulli_problem(seed, size, dtype=torch.double):
    n, data_dim, n_components = size
    g = torch.Generator().manual_seed(seed)
    x = torch.bernoulli(torch.rand(data_dim, generator=g).expand(n, -1), generator=g).to(dtype)
    means = 0.1 + 0.8 * torch.rand(n_components, data_dim, generator=g).to(dtype)
    weights = torch.rand(n_components, generator=g).to(dtype) + 0.1
    return x, BernoulliMixture(weights / weights.sum(), means)


def reference(model):
    """The same mixture as torch.distributions has it."""
    if isinstance(model, GaussianMixture):
        components = MultivariateNormal(model.means, model.covariances)
    else:
        components = Independent(Bernoulli(model.means), 1)
    return MixtureSameFamily(Categorical(model.weights), components)


def random_responsibilities(seed, model, x):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(len(x), len(model.weights), generator=g).to(x).add(1e-3).softmax(-1)


KINDS = pytest.mark.parametrize("problem", [gaussian_problem, bernoulli_problem])


@KINDS
@problems
@limited
def test_em_never_goes_down(problem, seed, size):
    x, model = problem(seed, size)
    history = model.fit(x, n_steps=15, tolerance=-1.0)
    assert len(history) == 16
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(history))
    assert history[-1] == pytest.approx(model.log_likelihood(x).mean().item(), abs=1e-9)


@KINDS
@problems
@limited
def test_the_bound_touches_after_an_e_step_and_only_then(problem, seed, size):
    x, model = problem(seed, size)
    exact = model.log_likelihood(x)
    responsibilities = model.e_step(x)
    assert (model.elbo(x, responsibilities) - exact).abs().max() < 1e-6
    assert (responsibilities.sum(-1) - 1).abs().max() < 1e-12
    other = random_responsibilities(seed, model, x)
    components = reference(model).component_distribution
    log_joint = model.weights.log() + components.log_prob(x[:, None])
    gap = (other * (other.log() - log_joint.log_softmax(-1))).sum(-1)  # the KL to the posterior
    assert (exact - model.elbo(x, other) - gap).abs().max() < 1e-6


@KINDS
@problems
@limited
def test_the_chain_of_one_step(problem, seed, size):
    # l(old) = L(q, old) <= L(q, new) <= l(new)
    x, model = problem(seed, size)
    before = model.log_likelihood(x).mean()
    q = model.e_step(x)
    model.m_step(x, q)
    lifted, after = model.elbo(x, q).mean(), model.log_likelihood(x).mean()
    assert before - 1e-9 <= lifted <= after + 1e-9


@KINDS
@problems
@limited
def test_log_likelihood_is_that_of_torch(problem, seed, size):
    x, model = problem(seed, size)
    assert torch.allclose(model.log_likelihood(x), reference(model).log_prob(x), atol=1e-9)


@KINDS
def test_the_e_step_is_bayes_rule(problem):
    x, model = problem(3, (9, 2, 3))
    joint = model.weights * reference(model).component_distribution.log_prob(x[:, None]).exp()
    assert torch.allclose(model.e_step(x), joint / joint.sum(-1, keepdim=True))


@KINDS
def test_after_an_e_step_bound_and_likelihood_have_one_gradient(problem):
    x, model = problem(5, (30, 2, 3))
    q = model.e_step(x)
    model.means.requires_grad_()
    [of_bound] = torch.autograd.grad(model.elbo(x, q).mean(), model.means)
    [of_likelihood] = torch.autograd.grad(model.log_likelihood(x).mean(), model.means)
    assert of_bound.abs().max() > 1e-3
    assert torch.allclose(of_bound, of_likelihood, atol=1e-12)


@pytest.mark.filterwarnings("ignore", category=ConvergenceWarning)
@pytest.mark.parametrize("size", [(200, 2, 3), (300, 4, 2), (80, 1, 2)])
def test_gaussian_em_is_scikit_learns(size):
    x, model = gaussian_problem(1, size)
    start = {
        "weights_init": model.weights.numpy().copy(),
        "means_init": model.means.numpy().copy(),
        "precisions_init": torch.linalg.inv(model.covariances).numpy(),
    }
    oracle = sklearn.mixture.GaussianMixture(
        size[2], max_iter=25, tol=0, reg_covar=0, init_params="random", random_state=0, **start
    ).fit(x.numpy())
    model.fit(x, n_steps=25, tolerance=-1.0)
    assert oracle.n_iter_ == 25
    for ours, theirs in (
        (model.weights, oracle.weights_),
        (model.means, oracle.means_),
        (model.covariances, oracle.covariances_),
        (model.log_likelihood(x), oracle.score_samples(x.numpy())),
        (model.e_step(x), oracle.predict_proba(x.numpy())),
    ):
        assert (ours - torch.from_numpy(theirs)).abs().max() < 1e-4


def numerical_maximum(objective, n_parameters, seed=0):
    """The largest value that scipy finds from a few random starts, by quasi-Newton steps."""

    def loss(values):
        t = torch.tensor(values, requires_grad=True)
        value = -objective(t)
        value.backward()
        return value.item(), t.grad.numpy()

    g = torch.Generator().manual_seed(seed)
    starts = torch.randn(3, n_parameters, generator=g).double().numpy()
    return -min(scipy.optimize.minimize(loss, start, jac=True).fun for start in starts)


@pytest.mark.parametrize("min_mean", [1e-3, 0.2])
def test_bernoulli_m_step_is_what_an_optimizer_finds(min_mean):
    x, model = bernoulli_problem(2, (40, 5, 3))
    x[:, 0] = 0  # the floor binds
    model = BernoulliMixture(model.weights, model.means.clamp(min_mean, 1 - min_mean), min_mean)
    q = model.e_step(x)
    shape = model.means.shape

    def bound(t):
        weights = t[: shape[0]].softmax(-1)
        means = min_mean + (1 - 2 * min_mean) * t[shape[0] :].reshape(shape).sigmoid()
        return BernoulliMixture(weights, means, min_mean).elbo(x, q).mean()

    model.m_step(x, q)
    best = numerical_maximum(bound, shape[0] * (1 + shape[1]))
    assert -1e-7 < model.elbo(x, q).mean().item() - best < 1e-4  # the search stops a little early
    assert model.means.min() == pytest.approx(min_mean)


@pytest.mark.parametrize("min_variance", [1e-6, 1.5])
def test_gaussian_m_step_is_what_an_optimizer_finds(min_variance):
    # Any covariance above the floor is R diag(v) R' with a rotation R and v >= min_variance.
    x, model = gaussian_problem(4, (40, 2, 2))
    x = x * torch.tensor([1.0, 0.4]).double()
    wide = model.covariances + min_variance * torch.eye(2).double()
    model = GaussianMixture(model.weights, model.means, wide, min_variance)
    q = model.e_step(x)

    def bound(t):
        variances = min_variance + t[6:10].reshape(2, 2).exp()
        cos, sin = t[10:].cos(), t[10:].sin()
        turn = torch.stack([cos, -sin, sin, cos], -1).reshape(2, 2, 2)
        covariances = turn * variances[:, None] @ turn.mT
        weights, means = t[:2].softmax(-1), t[2:6].reshape(2, 2)
        components = MultivariateNormal(means, covariances, validate_args=False)
        log_joint = weights.log() + components.log_prob(x[:, None])
        return (q * log_joint + torch.special.entr(q)).sum(-1).mean()

    model.m_step(x, q)
    best = numerical_maximum(bound, 12)
    assert -1e-7 < model.elbo(x, q).mean().item() - best < 1e-4  # the search stops a little early
    lowest = torch.linalg.eigvalsh(model.covariances).min()
    assert lowest >= min_variance * (1 - 1e-9)
    assert min_variance < 1 or lowest == pytest.approx(min_variance)  # the floor binds


@problems
@limited
def test_em_under_a_high_floor_never_goes_down(seed, size):
    x, model = gaussian_problem(seed, size)
    wide = model.covariances + 2 * torch.eye(size[1]).double()
    model = GaussianMixture(model.weights, model.means, wide, min_variance=2.0)
    history = model.fit(x, n_steps=15, tolerance=-1.0)
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(history))


# Where EM goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_a_shrinking_component_stops_at_the_floor(dtype):
    x, model = gaussian_problem(0, (50, 2, 2), dtype)
    means = torch.stack([x[0], x.mean(0)])
    covariances = torch.stack([1e-6 * torch.eye(2), 20 * torch.eye(2)]).to(dtype)
    model = GaussianMixture(model.weights, means, covariances, min_variance=1e-6)
    history = model.fit(x, n_steps=50)
    assert torch.tensor(history).isfinite().all()
    variances = torch.linalg.eigvalsh(model.covariances)
    assert variances.min() == pytest.approx(1e-6, rel=1e-3)


def test_data_on_a_line_and_equal_examples_give_no_nan():
    line = torch.linspace(-100, 100, 40)[:, None].expand(-1, 3).contiguous()
    same = torch.ones(40, 3)
    for x in (line, same):
        means = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
        model = GaussianMixture(torch.ones(3) / 3, means, torch.eye(3).expand(3, 3, 3))
        assert torch.tensor(model.fit(x, n_steps=30)).isfinite().all()
        assert model.covariances.isfinite().all() and model.means.isfinite().all()


@KINDS
@pytest.mark.parametrize("count", [0.0, 1e-320])
def test_an_empty_component_stays_where_it_is(problem, count):
    x, model = problem(1, (30, 2, 3))
    mean = model.means[2].clone()
    q = torch.tensor([0.25, 0.75, count], dtype=torch.double).expand(30, 3).contiguous()
    model.m_step(x, q)
    assert torch.equal(model.means[2], mean)
    assert model.weights[2] < 1e-300
    assert torch.tensor(model.fit(x, n_steps=10)).isfinite().all()
    assert torch.allclose(model.means[2], mean) and model.weights[2] < 1e-300


def test_far_examples_have_responsibilities():
    _, model = gaussian_problem(1, (5, 2, 3))
    far = torch.tensor([[1e6, -1e6]]).double()
    assert model.log_likelihood(far).isfinite()
    assert model.e_step(far).sum() == pytest.approx(1)


def test_equal_components_never_separate():
    x, model = gaussian_problem(1, (60, 2, 3))
    means = x.mean(0).expand(3, 2).clone()
    model = GaussianMixture(model.weights, means, x.T.cov(correction=0).expand(3, 2, 2))
    assert model.fit(x, n_steps=10, tolerance=-1.0) == pytest.approx(
        [scipy.stats.multivariate_normal(means[0], model.covariances[0]).logpdf(x).mean()] * 11
    )
    assert (model.means - x.mean(0)).abs().max() < 1e-9


@KINDS
def test_fit_repeats_itself_and_stops(problem):
    runs = []
    for _ in range(2):
        x, model = problem(7, (50, 3, 3))
        state = torch.get_rng_state()
        runs.append(model.fit(x, n_steps=500, tolerance=1e-5))
        assert torch.equal(torch.get_rng_state(), state)
    assert runs[0] == runs[1]
    assert 1 < len(runs[0]) < 501
    assert runs[0][-1] - runs[0][-2] < 1e-5 <= runs[0][-2] - runs[0][-3]


# What is refused ---------------------------------------------------------------------------------

HALF, EYE = torch.tensor([0.5, 0.5]), torch.eye(2).expand(2, 2, 2)
ZERO = torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((HALF, torch.zeros(3, 2), EYE), "weights and means must be"),
        ((torch.tensor([0.5, 0.6]), ZERO, EYE), "weights must be probabilities"),
        ((torch.tensor([1.5, -0.5]), ZERO, EYE), "weights must be probabilities"),
        ((torch.tensor([0.5, float("nan")]), ZERO, EYE), "weights must be probabilities"),
        ((HALF, ZERO + float("nan"), EYE), "means must be finite"),
        ((HALF, ZERO.double(), EYE), "means must be finite and of the weights' dtype"),
        ((HALF, ZERO, torch.eye(2)), r"covariances must be \(2, 2, 2\)"),
        ((HALF, ZERO, EYE + torch.tensor([[0, 0.1], [0, 0]])), "covariances must be symmetric"),
        ((HALF, ZERO, EYE.double()), "of the means' dtype"),
        ((HALF, ZERO, -EYE), "no variance below"),
        ((HALF, ZERO, 1e-8 * EYE), "no variance below"),
        ((HALF, ZERO, EYE, 0.0), "min_variance must be positive"),
    ],
)
def test_a_wrong_gaussian_mixture_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(*arguments)


@pytest.mark.parametrize(
    ("means", "min_mean", "message"),
    [(0.0, 1e-3, "means must lie in"), (float("nan"), 1e-3, "means must be finite"),
     (0.5, 0.5, "min_mean must lie"), (0.5, 0.0, "min_mean must lie")],
)  # fmt: skip
def test_a_wrong_bernoulli_mixture_is_refused(means, min_mean, message):
    with pytest.raises(ValueError, match=message):
        BernoulliMixture(HALF, ZERO + means, min_mean)


@KINDS
def test_wrong_data_are_refused(problem):
    x, model = problem(0, (6, 2, 2))
    q = model.e_step(x)
    for method in (model.log_likelihood, model.e_step, lambda x: model.m_step(x, q), model.fit):
        with pytest.raises(ValueError, match=r"x must have shape \(N, 2\)"):
            method(x[:, :1])
        with pytest.raises(ValueError, match="NaN"):
            method(x * float("nan"))
        with pytest.raises(TypeError, match=r"dtype torch\.float64, got torch\.float32"):
            method(x.float())
    with pytest.raises(ValueError, match="n_steps must be a whole number"):
        model.fit(x, n_steps=0)


def test_grey_values_are_refused():
    x, model = bernoulli_problem(0, (6, 2, 2))
    for method in (model.log_likelihood, lambda x: model.m_step(x, torch.ones(6, 2) / 2)):
        with pytest.raises(ValueError, match="binary"):
            method(x / 2)


@KINDS
def test_wrong_responsibilities_are_refused(problem):
    x, model = problem(0, (6, 2, 2))
    q = model.e_step(x)
    for method in (model.elbo, model.m_step):
        for wrong in (q[:, :1], q[:-1], torch.ones(6, 1).double()):
            with pytest.raises(ValueError, match=r"responsibilities must be \(6, 2\)"):
                method(x, wrong)
        for wrong in (2 * q, q - 1, q * float("nan")):
            with pytest.raises(ValueError, match="non-negative and sum to one"):
                method(x, wrong)
