"""Chapter 16: the bound given a label, and the bound with the label summed out."""

import copy
import itertools
import math

import pytest
import torch
from monte_carlo import Z_MAX, z_score
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence
from torch.nn.functional import one_hot

from em2vae import VAE, fit, iwae_bound
from em2vae.bounds import log_marginal_2d
from em2vae.conditional import ConditionalVAE, SemiSupervisedVAE

BATCH, LATENT, PIXELS, CLASSES = 5, 2, 6, 3
LABELS = torch.tensor([2, 0, 1, 1, 2])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def uneven(model):
    """The model in double precision, far enough from its start that every label matters."""
    with torch.no_grad():
        for weight in model.double().parameters():
            weight *= 2.5
    return model


@pytest.fixture
def cvae():
    return uneven(ConditionalVAE(LATENT, (8, 5), PIXELS, CLASSES, nn.SiLU, seed=3))


@pytest.fixture
def semi(cvae):
    torch.manual_seed(1)
    classifier = nn.Sequential(nn.Linear(PIXELS, 4), nn.Tanh(), nn.Linear(4, CLASSES))
    return SemiSupervisedVAE(cvae, uneven(classifier))


@pytest.fixture
def x():
    return torch.bernoulli(torch.full((BATCH, PIXELS), 0.5, dtype=torch.double), generator=seeded())


def told(label, count=BATCH):
    return torch.full((count,), label)


# The networks


def test_both_networks_have_an_input_more_for_each_class():
    model = ConditionalVAE(2, (8, 5), 12, n_classes=4, activation=nn.Tanh)
    widths = [[m.in_features, m.out_features] for m in model.modules() if isinstance(m, nn.Linear)]
    assert widths == [[16, 8], [8, 5], [5, 4], [6, 5], [5, 8], [8, 12]]


def test_the_defaults_are_those_of_the_vae_and_ten_digits():
    vae, model = VAE(), ConditionalVAE()
    assert model.n_classes == 10
    assert model.encoder.body[0].in_features == vae.encoder.body[0].in_features + 10
    assert model.decoder.body[0].in_features == vae.decoder.body[0].in_features + 10


def by_hand(network, values):
    """Linear layers and SiLU, written out."""
    for layer in network.body[::2]:
        values = values @ layer.weight.T + layer.bias
        values = values * values.sigmoid()
    head = getattr(network, "heads", None) or network.head
    return values @ head.weight.T + head.bias


def test_the_label_enters_as_a_one_among_zeros_beside_the_input(cvae, x):
    ones = torch.eye(CLASSES).double()[LABELS]
    mu, log_var = by_hand(cvae.encoder, torch.cat([x, ones], 1)).chunk(2, -1)
    q_z = cvae.encode(x, LABELS)
    torch.testing.assert_close(q_z.mean, mu)
    torch.testing.assert_close(q_z.log_var, log_var)
    z = torch.randn(BATCH, LATENT, generator=seeded(), dtype=torch.double)
    logits = by_hand(cvae.decoder, torch.cat([z, ones], 1))
    torch.testing.assert_close(cvae.decode(z, LABELS).logits, logits)
    torch.testing.assert_close(cvae.decode(z, LABELS.int()).logits, logits)


def test_decode_takes_a_label_for_each_point_or_for_each_column_of_draws(cvae, x):
    z = cvae.rsample(cvae.encode(x, LABELS), 4)
    p_x = cvae.decode(z, LABELS)
    assert p_x.batch_shape == (4, BATCH, PIXELS)
    torch.testing.assert_close(cvae.decode(z, LABELS.expand(4, -1)).logits, p_x.logits)
    torch.testing.assert_close(cvae.decode(z[2], LABELS).logits, p_x.logits[2])
    one = cvae.decode(z[2, 1], LABELS[1])
    torch.testing.assert_close(one.logits, p_x.logits[2, 1])


# The bound given the label


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_elbo_is_its_formula_at_the_drawn_z(cvae, x, beta):
    q_z = cvae.encode(x, LABELS)
    q_z = Normal(q_z.mean, q_z.stddev)  # of torch.distributions
    z = q_z.mean + q_z.stddev * cvae.noise(q_z.mean, 7, seeded(5))
    p = cvae.decode(z, LABELS).mean
    log_likelihood = (x * p.log() + (1 - x) * (1 - p).log()).sum(-1).mean(0)
    kl = kl_divergence(q_z, Normal(torch.zeros(2).double(), 1.0)).sum(-1)
    terms = cvae.elbo(x, LABELS, n_samples=7, beta=beta, generator=seeded(5))
    torch.testing.assert_close(terms.log_likelihood, log_likelihood)
    torch.testing.assert_close(terms.kl, kl)
    torch.testing.assert_close(terms.elbo, log_likelihood - beta * kl)


def test_for_one_label_the_model_is_a_vae_whose_biases_are_shifted(cvae, x):
    for label in range(CLASSES):
        vae = cvae.given(label)
        q_z, expected = vae.encode(x), cvae.encode(x, told(label))
        torch.testing.assert_close(q_z.mean, expected.mean)
        torch.testing.assert_close(q_z.log_var, expected.log_var)
        ours = cvae.elbo(x, told(label), n_samples=3, generator=seeded())
        torch.testing.assert_close(vae.elbo(x, n_samples=3, generator=seeded()), tuple(ours))


def test_what_is_given_has_weights_of_its_own(cvae, x):
    before = cvae.elbo(x, LABELS, generator=seeded()).elbo
    with torch.no_grad():
        for weight in cvae.given(1).parameters():
            weight.zero_()
    torch.testing.assert_close(cvae.elbo(x, LABELS, generator=seeded()).elbo, before)


@pytest.mark.parametrize("label", range(CLASSES))
def test_probabilities_of_all_images_of_a_label_sum_to_one(cvae, label):
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=PIXELS))).double()
    total = log_marginal_2d(cvae.given(label), every).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-3)


def grid(step=0.05):
    axis = torch.arange(-8, 8, step).double() + step / 2
    return torch.cartesian_prod(axis, axis), 2 * math.log(step)


def log_joint(cvae, x, label, z):
    """log p(x, z | y) of every image and point, (B, G), from torch.distributions."""
    p_x = Bernoulli(logits=cvae.decode(z, told(label, len(z))).logits)
    prior = Normal(torch.zeros(2).double(), 1.0).log_prob(z).sum(-1)
    return p_x.log_prob(x[:, None]).sum(-1) + prior


def posterior_gap(cvae, x, label):
    """KL(q(z|x, y) || p(z|x, y)) of each image by quadrature, and log p(x|y): (B,) each."""
    z, log_cell = grid()
    log_p = log_joint(cvae, x, label, z)
    log_p_x = log_p.logsumexp(-1) + log_cell
    q_z = cvae.encode(x, told(label))
    log_q = Normal(q_z.mean[:, None], q_z.stddev[:, None]).log_prob(z).sum(-1)
    log_posterior = log_p - log_p_x[:, None]
    kl = ((log_q + log_cell).exp() * (log_q - log_posterior)).sum(-1)
    return kl, log_p_x


@torch.no_grad()
def test_bound_and_gap_add_up_to_log_p_of_x_given_y(cvae, x):
    for label in range(CLASSES):
        gap, log_p_x = posterior_gap(cvae, x, label)
        draws = cvae.elbo(x.repeat(4000, 1), told(label, 4000 * BATCH)).elbo
        assert z_score(draws.view(4000, BATCH), log_p_x - gap) < Z_MAX
        exact = log_marginal_2d(cvae.given(label), x)
        torch.testing.assert_close(exact, log_p_x, atol=2e-3, rtol=0)
        assert gap.min() > 1e-3
        assert (iwae_bound(cvae.given(label), x, 2000) > log_p_x - gap).all()


@torch.no_grad()
def test_the_codes_of_one_label_average_to_the_prior(cvae):
    """sum_x p(x|y) p(z|x, y) = p(z): under the model, z says nothing about y (eq. style-free)."""
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=PIXELS))).double()
    z, log_cell = grid(0.5)
    prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
    for label in range(CLASSES):
        log_p = log_joint(cvae, every, label, z)
        log_p_x = log_p.logsumexp(-1, keepdim=True) + log_cell
        log_posterior = log_p - log_p_x
        torch.testing.assert_close((log_p_x + log_posterior).logsumexp(0), prior)


# The bound with the label summed out


def terms_of_label(semi, x, label, eps):
    """log p(x|y, z) and KL(q(z|x, y) || p(z)) for given noise (S, B, K): (B,) each."""
    q_z = semi.cvae.encode(x, told(label))
    p_x = semi.cvae.decode(q_z.mean + q_z.stddev * eps, told(label))
    prior = Normal(torch.zeros(2).double(), 1.0)
    kl = kl_divergence(Normal(q_z.mean, q_z.stddev), prior).sum(-1)
    return Bernoulli(logits=p_x.logits).log_prob(x).sum(-1).mean(0), kl


def test_unlabelled_bound_is_the_sum_over_labels(semi, x):
    eps = semi.cvae.noise(x.new_empty(CLASSES, BATCH, LATENT), 4, seeded(2))
    q_y = semi.classify(x).probs
    expected = [torch.zeros(BATCH).double() for _ in range(3)]
    for label in range(CLASSES):
        q, (log_likelihood, kl) = q_y[:, label], terms_of_label(semi, x, label, eps[:, label])
        label_kl = q.log() - math.log(1 / CLASSES)
        expected[0] += q * (log_likelihood - kl - label_kl)
        expected[1] += q * log_likelihood
        expected[2] += q * (kl + label_kl)
    terms = semi.elbo(x, n_samples=4, generator=seeded(2))
    for ours, by_sum in zip(terms, expected, strict=True):
        torch.testing.assert_close(ours, by_sum)


@pytest.mark.parametrize("labels", [None, LABELS])
def test_beta_weighs_both_divergences(semi, x, labels):
    plain, heavy = (semi.elbo(x, labels, beta=b, generator=seeded()) for b in (1.0, 4.0))
    torch.testing.assert_close(heavy.elbo, plain.log_likelihood - 4 * plain.kl)
    torch.testing.assert_close(heavy.kl, plain.kl)


def test_labelled_bound_adds_the_prior_of_the_label(semi, x):
    ours = semi.elbo(x, LABELS, generator=seeded()).elbo
    conditional = semi.cvae.elbo(x, LABELS, generator=seeded()).elbo
    torch.testing.assert_close(ours, conditional + math.log(1 / CLASSES))


@torch.no_grad()
def test_bounds_and_gaps_add_up_to_log_p(semi, x):
    """Eq. unlabelled-gap, with every divergence by quadrature or enumeration."""
    gaps, log_p = zip(*(posterior_gap(semi.cvae, x, y) for y in range(CLASSES)), strict=True)
    log_joint_y = torch.stack(log_p, 1) - math.log(CLASSES)  # log p(x, y): (B, C)
    log_p_x = log_joint_y.logsumexp(1)
    q_y = semi.classify(x)
    gap = kl_divergence(q_y, Categorical(logits=log_joint_y - log_p_x[:, None]))
    gap += (q_y.probs * torch.stack(gaps, 1)).sum(1)
    draws = semi.elbo(x.repeat(4000, 1)).elbo.view(4000, BATCH)
    assert z_score(draws, log_p_x - gap) < Z_MAX
    assert gap.min() > 1e-2
    labelled = semi.elbo(x, LABELS, n_samples=4000).elbo
    assert (labelled < log_joint_y[range(BATCH), LABELS]).all()
    # What the label is worth (eq. label-worth): at most log C for each image.
    worth = torch.stack(log_p, 1) - log_p_x[:, None]
    posterior = Categorical(logits=log_joint_y).logits
    torch.testing.assert_close(worth, math.log(CLASSES) + posterior)
    assert worth.max() < math.log(CLASSES)


class Fixed(nn.Module):
    """A classifier with given logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x):
        return self.logits


@torch.no_grad()
def test_best_classifier_is_the_softmax_of_the_bounds(semi, x):
    eps = semi.cvae.noise(x.new_empty(CLASSES, BATCH, LATENT), 1, seeded(2))
    pairs = [terms_of_label(semi, x, label, eps[:, label]) for label in range(CLASSES)]
    bounds = torch.stack([log_likelihood - kl for log_likelihood, kl in pairs], 1)

    def bound(logits):
        return SemiSupervisedVAE(semi.cvae, Fixed(logits)).elbo(x, generator=seeded(2)).elbo

    best = bound(bounds)
    torch.testing.assert_close(best, bounds.logsumexp(1) - math.log(CLASSES))
    for direction in torch.eye(CLASSES).double():
        for step in (-0.3, 0.3):
            assert (bound(bounds + step * direction) < best).all()


def test_a_classifier_that_is_sure_gives_the_labelled_bound(semi, x):
    with torch.no_grad():  # a decoder that does not look at z: no noise in the comparison
        semi.cvae.decoder.body[0].weight[:, :LATENT] = 0
    sure = SemiSupervisedVAE(semi.cvae, Fixed(1e4 * one_hot(LABELS, CLASSES).double()))
    torch.testing.assert_close(sure.elbo(x).elbo, semi.elbo(x, LABELS).elbo)
    torch.testing.assert_close(sure.elbo(x).kl, semi.elbo(x, LABELS).kl)


def test_an_even_classifier_pays_nothing_for_its_label(semi, x):
    even = SemiSupervisedVAE(semi.cvae, Fixed(torch.zeros(BATCH, CLASSES).double()))
    kls = [semi.cvae.elbo(x, told(label)).kl for label in range(CLASSES)]
    torch.testing.assert_close(even.elbo(x).kl, torch.stack(kls).mean(0))


# Gradients, noise, training

BOUNDS = {
    "conditional": lambda semi, x: semi.cvae(x, LABELS, n_samples=3, generator=seeded()),
    "labelled": lambda semi, x: semi(x, LABELS, n_samples=3, generator=seeded()),
    "unlabelled": lambda semi, x: semi(x, n_samples=3, generator=seeded()),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_gradient_equals_finite_differences(semi, x, name):
    BOUNDS[name](semi, x).backward()
    weights = [w for w in semi.parameters() if w.grad is not None]
    assert len(weights) == (16 if name == "unlabelled" else 12)
    step = 1e-6
    for weight in weights:
        direction = torch.randn(weight.shape, generator=seeded(7), dtype=torch.double)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight += sign * step * direction
                values.append(BOUNDS[name](semi, x))
                weight -= sign * step * direction
        slope = (values[0] - values[1]) / (2 * step)
        assert slope.abs() > 1e-6
        torch.testing.assert_close((weight.grad * direction).sum(), slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_a_sure_classifier_keeps_a_finite_gradient(semi, x, size):
    classifier = Fixed(size * torch.randn(BATCH, CLASSES, generator=seeded()).double())
    model = SemiSupervisedVAE(semi.cvae, classifier)
    model(x).backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


def test_forward_is_the_mean_bound(semi, x):
    for model, labels in ((semi.cvae, LABELS), (semi, LABELS), (semi, None)):
        expected = model.elbo(x, labels, n_samples=2, generator=seeded()).elbo.mean()
        assert torch.equal(model(x, labels, n_samples=2, generator=seeded()), expected)


def test_sample_decodes_draws_of_the_prior_with_the_label_asked_for(cvae):
    labels = torch.arange(CLASSES).repeat_interleave(8000)
    means = cvae.sample(labels)
    assert means.shape == (len(labels), PIXELS) and not means.requires_grad
    for label in range(CLASSES):
        ours, theirs = means[labels == label], cvae.given(label).sample(40_000)
        error = (ours.var(0) / len(ours) + theirs.var(0) / len(theirs)).sqrt()
        assert ((ours.mean(0) - theirs.mean(0)) / error).abs().max() < Z_MAX
        assert ours.std(0).min() > 0.01
    assert (cvae.sample(told(0)) - cvae.sample(told(1))).abs().max() > 0.01


def test_reconstruct_decodes_the_mean_under_the_label(cvae, x):
    expected = cvae.decode(cvae.encode(x, LABELS).mean, LABELS).mean
    torch.testing.assert_close(cvae.reconstruct(x, LABELS), expected)
    assert not cvae.reconstruct(x, LABELS).requires_grad
    assert not torch.allclose(cvae.reconstruct(x, (LABELS + 1) % CLASSES), expected, atol=1e-2)


def test_a_seed_fixes_weights_and_noise_and_leaves_the_global_generator_alone():
    def outcome(seed):
        model = ConditionalVAE(2, (4,), PIXELS, CLASSES, seed=seed)
        draws = model.sample(LABELS), model.elbo(torch.ones(BATCH, PIXELS), LABELS).elbo
        return torch.cat([values.detach().ravel() for values in (*model.parameters(), *draws)])

    torch.manual_seed(9)
    before = torch.get_rng_state()
    assert torch.equal(outcome(0), outcome(0))
    assert not torch.equal(outcome(0)[:8], outcome(1)[:8])
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_moves_on_and_a_generator_repeats_it(semi, x):
    for labels in (LABELS, None):
        assert not torch.equal(semi.elbo(x, labels).elbo, semi.elbo(x, labels).elbo)
        repeated = (semi.elbo(x, labels, generator=seeded(4)).elbo for _ in range(2))
        assert torch.equal(*repeated)
    other = copy.deepcopy(semi)
    assert torch.equal(other.elbo(x).elbo, semi.elbo(x).elbo)


def test_fit_trains_it_and_the_label_decides_what_is_drawn():
    """Two labels whose images have no pixel in common."""
    labels = torch.arange(200) % 2
    x = (torch.arange(PIXELS) % 2 == labels[:, None]).float()
    model = ConditionalVAE(2, (8,), PIXELS, n_classes=2)
    history = fit(model, x, epochs=60, batch_size=50, learning_rate=0.02, labels=labels)
    assert history.elbo[-1] > -0.2 > history.elbo[0]
    assert history.kl[-1] < 0.1  # the label says it all
    drawn = model.sample(torch.tensor([0, 1, 0]))
    torch.testing.assert_close(drawn, x[[0, 1, 0]], atol=0.1, rtol=0)


def test_fit_trains_the_unlabelled_bound():
    x = torch.rand(60, PIXELS, generator=seeded()).round()
    model = SemiSupervisedVAE(ConditionalVAE(2, (8,), PIXELS, 2), nn.Linear(PIXELS, 2))
    history = fit(model, x, epochs=20, batch_size=20, learning_rate=0.02)
    assert history.elbo[-1] > history.elbo[0] + 0.1


# What is refused

BAD_LABELS = {
    "list": ([0] * BATCH, TypeError, "labels must be an integer tensor, got list"),
    "number": (3, TypeError, "labels must be an integer tensor, got int"),
    "floats": (torch.zeros(BATCH), TypeError, "integer tensor, got torch.float32"),
    "truths": (torch.zeros(BATCH).bool(), TypeError, "integer tensor, got torch.bool"),
    "one for all": (torch.tensor(1), ValueError, rf"shape \({BATCH},\), got \(\)"),
    "one in a row": (torch.tensor([1]), ValueError, rf"shape \({BATCH},\), got \(1,\)"),
    "too few": (LABELS[:-1], ValueError, rf"shape \({BATCH},\), got \({BATCH - 1},\)"),
    "none": (LABELS[:0], ValueError, rf"shape \({BATCH},\), got \(0,\)"),
    "one-hot": (one_hot(LABELS, CLASSES), ValueError, r"shape \(5,\), got \(5, 3\)"),
    "too large": (LABELS + 1, ValueError, r"lie in 0\.\.2, but hold 1\.\.3"),
    "negative": (LABELS - 1, ValueError, r"lie in 0\.\.2, but hold -1\.\.1"),
}
TAKES_LABELS = {
    "encode": lambda semi, x, y: semi.cvae.encode(x, y),
    "decode": lambda semi, x, y: semi.cvae.decode(x[:, :LATENT], y),
    "elbo": lambda semi, x, y: semi.cvae.elbo(x, y),
    "unchecked elbo": lambda semi, x, y: semi.cvae.elbo(x, y, validate_args=False),
    "reconstruct": lambda semi, x, y: semi.cvae.reconstruct(x, y),
    "labelled": lambda semi, x, y: semi.elbo(x, y),
}


@pytest.mark.parametrize("name", TAKES_LABELS)
@pytest.mark.parametrize("fault", BAD_LABELS)
def test_bad_labels_are_refused(semi, x, name, fault):
    labels, error, message = BAD_LABELS[fault]
    with pytest.raises(error, match=message):
        TAKES_LABELS[name](semi, x, labels)


@pytest.mark.parametrize("label", [CLASSES, -1])
def test_unknown_labels_cannot_be_given_nor_sampled(cvae, label):
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
        cvae.given(label)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
        cvae.sample(told(label))
    with pytest.raises(TypeError, match="labels must be an integer tensor"):
        cvae.given(1.0)


def test_labels_of_draws_must_fit_their_columns(cvae):
    z = torch.zeros(4, BATCH, LATENT).double()
    for wrong in (told(0, 4), told(0, 1), told(0)[:, None], told(0).expand(1, -1)):
        with pytest.raises(ValueError, match=r"labels must have shape \(4, 5\)"):
            cvae.decode(z, wrong)


BAD_X = {
    "integers": (torch.zeros(BATCH, PIXELS).long(), TypeError, "x must be a floating-point tensor"),
    "single": (torch.zeros(BATCH, PIXELS), TypeError, "the model's dtype torch.float64"),
    "with labels": (torch.zeros(BATCH, PIXELS + CLASSES), ValueError, r"x must have shape \(N, 6"),
    "too large": (torch.full((BATCH, PIXELS), 2.0).double(), ValueError, r"lie in \[0, 1\]"),
    "not a number": (torch.full((BATCH, PIXELS), math.nan).double(), ValueError, "finite"),
}
TAKES_X = {
    "encode": lambda semi, x: semi.cvae.encode(x, LABELS),
    "elbo": lambda semi, x: semi.cvae.elbo(x, LABELS),
    "reconstruct": lambda semi, x: semi.cvae.reconstruct(x, LABELS),
    "labelled": lambda semi, x: semi.elbo(x, LABELS),
    "unlabelled": lambda semi, x: semi.elbo(x),
    "classify": lambda semi, x: semi.classify(x),
}


@pytest.mark.parametrize("name", TAKES_X)
@pytest.mark.parametrize("fault", BAD_X)
def test_bad_images_are_refused(semi, name, fault):
    x, error, message = BAD_X[fault]
    with pytest.raises(error, match=message):
        TAKES_X[name](semi, x)


@pytest.mark.parametrize("name", ["elbo", "labelled", "unlabelled"])
def test_grey_values_are_refused_by_bounds(semi, x, name):
    with pytest.raises(ValueError, match="x must be binary"):
        TAKES_X[name](semi, x / 2)


def test_bad_points_and_sizes_are_refused(cvae):
    with pytest.raises(ValueError, match=r"z must be a tensor of shape \(\.\.\., 2\)"):
        cvae.decode(torch.zeros(BATCH, LATENT + CLASSES).double(), LABELS)
    with pytest.raises(ValueError, match="z must be finite"):
        cvae.decode(torch.full((BATCH, LATENT), math.nan).double(), LABELS)
    with pytest.raises(TypeError, match="z must have the model's dtype"):
        cvae.decode(torch.zeros(BATCH, LATENT), LABELS)
    for size in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="n_classes must be a whole number of at least 1"):
            ConditionalVAE(n_classes=size)
