"""What the library makes of each number format, of other devices and of wrapped models."""

import math
import socket

import pytest
import torch
from torch import nn
from torch.distributions import Normal, OneHotCategorical

from em2vae import (
    VAE,
    BernoulliMixture,
    GaussianMixture,
    ProbabilisticPCA,
    fit,
    iwae_bound,
    load,
    save,
)
from em2vae.bounds import log_marginal_2d
from em2vae.data import binarize
from em2vae.gradients import gumbel_softmax, pathwise, score_function, straight_through
from em2vae.lda import CollapsedGibbs, count_words, log_joint, mean_field_bound, mean_field_step
from em2vae.vae import active_units

PIXELS = 8
IMAGES = torch.tensor([[(i >> bit) & 1 for bit in range(PIXELS)] for i in range(10)])
FORMATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def vae():
    return VAE(latent_dim=2, hidden_dims=(6,), data_dim=PIXELS)


def seeded():
    return torch.Generator().manual_seed(0)


TAKES = {  # of a VAE and images
    "encode": lambda model, x: model.encode(x).mean,
    "decode": lambda model, x: model.decode(x[:, :2]).mean,
    "elbo": lambda model, x: model.elbo(x, generator=seeded()).elbo,
    "forward": lambda model, x: model(x, generator=seeded()),
    "reconstruct": lambda model, x: model.reconstruct(x),
    "iwae_bound": lambda model, x: iwae_bound(model, x, 3, seeded()),
    "log_marginal_2d": lambda model, x: log_marginal_2d(model, x[:1]),
    "active_units": lambda model, x: active_units(model, x).to(x),
    "fit": lambda model, x: torch.tensor(fit(model, x, epochs=2).elbo).to(x),
}


@pytest.mark.parametrize("name", TAKES)
def test_double_precision_agrees_with_single(name):
    single, double = (
        TAKES[name](vae().to(dtype), IMAGES.to(dtype)) for dtype in (torch.float, torch.double)
    )
    assert double.dtype == torch.double
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TAKES)
@pytest.mark.parametrize("x_dtype", FORMATS)
@pytest.mark.parametrize("dtype", FORMATS)
def test_a_format_that_does_not_fit_is_named(name, dtype, x_dtype):
    if dtype in (torch.float16, torch.bfloat16):
        message = rf"weights are {dtype}, .*: use model\.float\(\), and torch\.autocast for speed"
    elif dtype == x_dtype:
        return
    else:
        use = "float" if dtype == torch.float else "double"
        message = rf"[xz] must have the model's dtype {dtype}, got {x_dtype}: use [xz]\.{use}\(\)"
    model = vae().to(dtype)
    with pytest.raises(TypeError, match=message):
        TAKES[name](model, IMAGES.to(x_dtype))


@pytest.mark.parametrize("name", [name for name in TAKES if name != "fit"])
def test_another_device_is_named(name):
    """The device "meta" has no numbers, and is there on every machine."""
    model = vae().to("meta")
    with pytest.raises(
        ValueError, match=r"must be on the model's device meta, got cpu: use [xz]\.to"
    ):
        TAKES[name](model, IMAGES.float())


@pytest.mark.parametrize("dtype", FORMATS)
def test_binarize_draws_with_the_right_probability_in_every_format(dtype):
    levels = torch.tensor([0.0, 1 / 512, 0.25, 0.5, 1 - 1 / 256, 1.0], dtype=dtype)  # exact in all
    x = levels.repeat(100_000, 1)
    drawn = binarize(x)
    assert drawn.dtype == dtype
    assert bool(((drawn == 0) | (drawn == 1)).all())
    assert torch.equal(drawn.float(), binarize(x.float()))
    means, p = drawn.double().mean(0), levels.double()
    assert ((means - p).abs() <= 5 * (p * (1 - p) / len(x)).sqrt()).all()


@pytest.mark.parametrize("x", [IMAGES, IMAGES.bool(), [[0.0, 1.0]], IMAGES.to(torch.complex64)])
def test_binarize_wants_real_numbers(x):
    with pytest.raises(TypeError, match="x must be a floating-point tensor, got"):
        binarize(x)


def test_forward_is_the_mean_bound():
    model, x = vae(), IMAGES.float()
    bound = model(x, n_samples=3, beta=2.0, generator=seeded())
    assert torch.equal(bound, model.elbo(x, 3, beta=2.0, generator=seeded()).elbo.mean())
    with pytest.raises(ValueError, match="binary"):
        model(x / 2)


class Wrapper(nn.Module):
    """What training frameworks do: keep the model as a part, and call it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)


@pytest.fixture
def process_group():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def parallel(model):
    return nn.parallel.DistributedDataParallel(model)


def compiled(model):
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize("wrap", [Wrapper, parallel, compiled])
@pytest.mark.usefixtures("process_group")
def test_wrapped_models_compute_the_same_bound_and_gradient(wrap):
    plain, inner = vae(), vae()
    wrapped = wrap(inner)
    bounds = [model(IMAGES.float()) for model in (plain, wrapped)]
    assert torch.equal(*bounds)
    for bound in bounds:
        bound.backward()
    for ours, theirs in zip(plain.parameters(), inner.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_fit_trains_a_compiled_model_and_goes_on_with_the_plain_one():
    plain, inner = vae(), vae()
    x = IMAGES.float()
    fit(plain, x, epochs=3, binarize="none")
    fit(compiled(inner), x, epochs=2, binarize="none")
    fit(inner, x, epochs=1, binarize="none")
    for ours, theirs in zip(plain.parameters(), inner.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_compiled_model_is_saved_as_the_plain_one(tmp_path):
    inner, other = vae(), vae()
    fit(compiled(inner), IMAGES.float(), epochs=1, binarize="none")
    save(compiled(inner), tmp_path / "vae.npz")
    for loaded in (load(vae(), tmp_path / "vae.npz"), load(compiled(other), tmp_path / "vae.npz")):
        assert torch.equal(loaded.decoder.head.weight, inner.decoder.head.weight)
        assert loaded.training_state.epochs == 1


def test_autocast_works_on_single_precision_weights():
    model, x = vae(), IMAGES.float()
    with torch.autocast("cpu", torch.bfloat16):
        for name in ("forward", "iwae_bound"):
            mixed, single = TAKES[name](model, x), TAKES[name](vae(), x)
            assert mixed.dtype == torch.float32
            torch.testing.assert_close(mixed, single, rtol=0.05, atol=0.05)
        history = fit(model, x, epochs=3, binarize="none")
    assert all(map(math.isfinite, history.elbo))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


# The other models

HALF = torch.tensor([0.5, 0.5])
MEANS = torch.tensor([[0.2, 0.6, 0.4], [0.7, 0.3, 0.5]])
X = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
Q = torch.full((4, 2), 0.5)
WEIGHT = torch.tensor([[1.0, 0.0], [0.5, 1.0], [-0.3, 0.2]])
WORDS = torch.tensor([[0, 1, 1], [2, 1, 0]])
COUNTS, GAMMA, ZETA = count_words(WORDS, 3).float(), 1 + Q[:2], 1 + MEANS


def gaussian(dtype):
    return GaussianMixture(
        HALF.to(dtype), MEANS.to(dtype), torch.eye(3, dtype=dtype).repeat(2, 1, 1)
    )


def bernoulli(dtype):
    return BernoulliMixture(HALF.to(dtype), MEANS.to(dtype))


def ppca(dtype):
    return ProbabilisticPCA(WEIGHT.to(dtype), MEANS[0].to(dtype), 0.5)


def normal(mu):
    return Normal(mu, 1.0)


def categorical(logits):
    return OneHotCategorical(logits=logits[None])


def squares(z):
    return z.square().sum(-1)


def corners(z):
    return z[..., 0].square().sum(-1)


def means_after_a_step(model, x, responsibilities):
    model.m_step(x, responsibilities)
    return model.means


SHARES = torch.tensor([[0.1, 0.9], [0.6, 0.4], [0.5, 0.5], [0.8, 0.2]])
OTHERS = {  # of the model's format and that of the data
    "gaussian log p": lambda dtype, x: gaussian(dtype).log_likelihood(X.to(x)),
    "gaussian elbo": lambda dtype, x: gaussian(dtype).elbo(X.to(dtype), Q.to(x)),
    "gaussian m-step": lambda dtype, x: means_after_a_step(
        gaussian(dtype), X.to(dtype), SHARES.to(x)
    ),
    "bernoulli fit": lambda dtype, x: torch.tensor(
        bernoulli(dtype).fit(X.to(x), 3, tolerance=-1.0), dtype=dtype
    ),
    "bernoulli elbo": lambda dtype, x: bernoulli(dtype).elbo(X.to(dtype), Q.to(x)),
    "bernoulli m-step": lambda dtype, x: means_after_a_step(
        bernoulli(dtype), X.to(dtype), SHARES.to(x)
    ),
    "ppca log_likelihood": lambda dtype, x: ppca(dtype).log_likelihood(X.to(x)),
    "ppca posterior": lambda dtype, x: ppca(dtype).posterior(X.to(x)).mean,
    "ppca decode": lambda dtype, x: ppca(dtype).decode(Q.to(x)).mean,
    "ppca mean": lambda dtype, x: ProbabilisticPCA(WEIGHT.to(dtype), MEANS[0].to(x), 1.0).mean,
    "lda step": lambda dtype, x: mean_field_step(
        COUNTS.to(x), GAMMA.to(dtype), ZETA.to(dtype), 1, 1
    )[0],
    "lda bound": lambda dtype, x: mean_field_bound(
        COUNTS.to(x), GAMMA.to(dtype), ZETA.to(dtype), 1, 1
    ),
    "lda zeta": lambda dtype, x: mean_field_bound(
        COUNTS.to(dtype), GAMMA.to(dtype), ZETA.to(x), 1, 1
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_agree_in_single_and_double_precision(name):
    single, double = (OTHERS[name](dtype, dtype) for dtype in (torch.float, torch.double))
    assert (single.dtype, double.dtype) == (torch.float, torch.double)
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("x_dtype", FORMATS)
@pytest.mark.parametrize("dtype", FORMATS)
def test_other_models_name_what_does_not_fit(name, dtype, x_dtype):
    half = {torch.float16, torch.bfloat16}
    if dtype == x_dtype and dtype not in half:
        return
    message = "must be a float32 or float64 tensor|must have the model's dtype .*: use"
    with pytest.raises(TypeError, match=message):
        OTHERS[name](dtype, x_dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_fit_of_probabilistic_pca_wants_precision(dtype):
    with pytest.raises(TypeError, match=rf"x must be a float32 or float64 tensor, got {dtype}"):
        ProbabilisticPCA.fit(X.to(dtype), 1)


@pytest.mark.parametrize("make", [gaussian, bernoulli])
def test_responsibilities_on_another_device_are_named(make):
    with pytest.raises(
        ValueError, match="responsibilities must be on the model's device cpu, got m"
    ):
        make(torch.float).elbo(X, Q.to("meta"))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("estimator", [score_function, pathwise, gumbel_softmax, straight_through])
def test_gradients_come_in_the_format_of_the_parameters(estimator, dtype):
    categories = estimator in (gumbel_softmax, straight_through)
    f, family = (corners, categorical) if categories else (squares, normal)
    parameters = torch.tensor([0.5, -0.25, 0.25])
    estimate = estimator(f, family, parameters.to(dtype), n_samples=20_000)
    assert estimate.dtype == dtype
    reference = estimator(f, family, parameters.double(), n_samples=20_000)
    assert (estimate.double() - reference).abs().max().item() < 0.2


def test_tables_of_words_and_topics_are_checked():
    z = torch.zeros_like(WORDS)
    for bad in (z.float(), z[:1], z.tolist()):
        with pytest.raises(ValueError, match=r"z must be int64 \(2, 3\), a topic for each word"):
            log_joint(WORDS, bad, 2, 3, 0.1, 0.1)
    for bad in (z + 2, z - 1):
        with pytest.raises(ValueError, match=r"z must lie in 0\.\.1"):
            log_joint(WORDS, bad, 2, 3, 0.1, 0.1)
    with pytest.raises(TypeError, match="words must be an int64 tensor"):
        count_words([[0, 1]], 3)
    for priors in ((0.0, 1.0), (1.0, -1.0), (math.inf, 1.0), (1.0, math.nan)):
        with pytest.raises(ValueError, match="alpha and delta must be positive and finite"):
            CollapsedGibbs(WORDS, 2, 3, *priors)
        with pytest.raises(ValueError, match="alpha and delta must be positive and finite"):
            mean_field_step(COUNTS, GAMMA, ZETA, *priors)


def test_parameters_of_mean_field_are_checked():
    for bad in (
        (COUNTS, GAMMA[:1], ZETA),
        (COUNTS, GAMMA, ZETA[:1]),
        (COUNTS[:, :2], GAMMA, ZETA),
        (COUNTS[0], GAMMA, ZETA),
    ):
        with pytest.raises(ValueError, match=r"must be \(N, D\), \(N, K\), \(K, D\), got"):
            mean_field_bound(*bad, 1, 1)
    for bad in ((COUNTS, -GAMMA, ZETA), (COUNTS, GAMMA, 0 * ZETA), (-COUNTS, GAMMA, ZETA)):
        with pytest.raises(
            ValueError, match="gamma and zeta must be positive, and counts not negat"
        ):
            mean_field_step(*bad, 1, 1)
