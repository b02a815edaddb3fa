"""Chapter 05: coordinate ascent, Gibbs sampling, and latent Dirichlet allocation."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monte_carlo import Z_MAX, z_score
from sklearn.decomposition import LatentDirichletAllocation
from torch.distributions import Categorical, Dirichlet, Multinomial

from em2vae import lda

K, D, ALPHA, DELTA = 2, 3, 0.7, 0.4
SIZES = (K, D, ALPHA, DELTA)
WORDS = torch.tensor([[0, 0, 1], [1, 2, 2]])
EVERY_Z = torch.tensor(list(product(range(K), repeat=WORDS.numel()))).reshape(-1, *WORDS.shape)


@pytest.fixture(scope="module")
def log_joints():
    return torch.stack([lda.log_joint(WORDS, z, *SIZES) for z in EVERY_Z])


def random_start(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = (len(WORDS), K), (K, D)
    return [0.2 + 3 * torch.rand(s, generator=generator, dtype=torch.double) for s in shapes]


# Coordinate ascent and Gibbs sampling on tables, where nothing but eq. cavi is assumed.


def best_factor(log_joint, log_q_other):
    """log q1 for the table log p(x, z1, z2) and a given log q2 (eq. cavi)."""
    return (log_joint @ log_q_other.exp()).log_softmax(0)


def bound(log_joint, log_q1, log_q2):
    log_q = log_q1[:, None] + log_q2
    return (log_q.exp() * (log_joint - log_q)).sum()


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_coordinate_ascent_never_lowers_the_bound(seed):
    generator = torch.Generator().manual_seed(seed)
    log_joint = 3 * torch.randn(4, 5, generator=generator, dtype=torch.double)
    log_q2 = torch.randn(5, generator=generator, dtype=torch.double).log_softmax(0)
    bounds = []
    for _ in range(10):
        log_q1 = best_factor(log_joint, log_q2)
        bounds.append(bound(log_joint, log_q1, log_q2))
        log_q2 = best_factor(log_joint.T, log_q1)
        bounds.append(bound(log_joint, log_q1, log_q2))
    bounds = torch.stack(bounds)
    assert bounds.diff().min() > -1e-10
    assert bounds.max() < log_joint.logsumexp((0, 1))
    other = torch.randn(4, generator=generator, dtype=torch.double).log_softmax(0)
    assert bound(log_joint, other, log_q2) < bounds[-1]  # q1 was the best for this q2


@pytest.mark.parametrize("variances, rho", [((1.0, 1.0), 0.9), ((0.5, 2.0), -0.6)])
def test_on_a_gaussian_the_variances_are_those_of_known_neighbours(variances, rho):
    """Factors of any shape, on a grid: they end as N(mean, 1 / Lambda_jj), below by the formula."""
    mean = torch.tensor([0.5, -0.3]).double()
    std = torch.tensor(variances).double().sqrt()
    covariance = torch.tensor([[1, rho], [rho, 1]]).double() * std[:, None] * std
    precision = covariance.inverse()
    grid = torch.linspace(-9, 9, 601).double()
    z = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1) - mean
    log_p = -0.5 * torch.einsum("abi,ij,abj->ab", z, precision, z)
    log_p -= log_p.logsumexp((0, 1))
    log_q2 = (-((grid - 3) ** 2)).log_softmax(0)
    for _ in range(150):
        log_q1 = best_factor(log_p, log_q2)
        log_q2 = best_factor(log_p.T, log_q1)
    for j, q in enumerate((log_q1.exp(), log_q2.exp())):
        center = (q * grid).sum()
        assert center.item() == pytest.approx(mean[j].item(), abs=1e-6)
        variance = (q * (grid - center) ** 2).sum().item()
        assert variance == pytest.approx(1 / precision[j, j].item(), rel=1e-6)
        assert variance < covariance[j, j]
    lasting = 0.5 * (precision.diagonal().log().sum() - precision.logdet())
    assert -bound(log_p, log_q1, log_q2).item() == pytest.approx(lasting.item(), abs=1e-6)


def test_a_gibbs_step_keeps_the_posterior():
    """eq. gibbs-invariant: one step as a matrix over all states of (z1, z2)."""
    p = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)).double()
    p /= p.sum()
    first = torch.zeros(4, 3, 4, 3).double()  # from (z1, z2) to (z1', z2)
    for start, end, kept in product(range(4), range(4), range(3)):
        first[start, kept, end, kept] = p[end, kept] / p[:, kept].sum()
    other = torch.full((4, 3), 1 / 12).double()
    torch.testing.assert_close(torch.einsum("ab,abcd->cd", p, first), p)
    assert not torch.allclose(torch.einsum("ab,abcd->cd", other, first), other)


def test_shared_parameters_turn_the_evidence_into_a_sum_over_all_assignments():
    """eq. mean-field-evidence for three coin tosses, two coins, each with a uniform bias."""
    x, weights = torch.tensor([1.0, 1.0, 0.0]).double(), torch.tensor([0.3, 0.7]).double()
    mu = (torch.arange(2000).double() + 0.5) / 2000  # midpoints
    p = mu[:, None] ** x * (1 - mu[:, None]) ** (1 - x)  # (M, 3)
    mixed = weights[0] * p[:, None] + weights[1] * p[None]  # (M, M, 3), both coins
    integral = mixed.prod(-1).mean().item()
    total = 0.0
    for z in product(range(2), repeat=3):
        heads = [sum(x[n].item() for n in range(3) if z[n] == k) for k in range(2)]
        tosses = [z.count(k) for k in range(2)]
        total += math.prod(
            weights[k].item() ** tosses[k]
            * math.gamma(1 + heads[k])
            * math.gamma(1 + tosses[k] - heads[k])
            / math.gamma(2 + tosses[k])
            for k in range(2)
        )
    assert integral == pytest.approx(total, rel=1e-5)


# What is random in the model, against its own definition.


def test_collapsed_joint_is_the_average_over_the_priors():
    """eq. lda-joint, averaged over pi and mu drawn from their priors, is eq. lda-collapsed."""
    torch.manual_seed(0)
    pi = Dirichlet(torch.full((K,), ALPHA).double()).sample((400_000, len(WORDS)))
    mu = Dirichlet(torch.full((D,), DELTA).double()).sample((400_000, K))
    for z in EVERY_Z[[0, 13, 37]]:
        by_topic = pi.gather(2, z.expand(len(pi), -1, -1))  # pi_iz of each word
        at_word = mu[:, z, WORDS]
        expected = lda.log_joint(WORDS, z, *SIZES).exp()
        assert z_score((by_topic * at_word).prod(-1).prod(-1), expected) < Z_MAX


def test_every_assignment_of_every_corpus_has_total_probability_one():
    corpora = torch.tensor(list(product(range(D), repeat=4))).reshape(-1, 2, 2)
    topics = torch.tensor(list(product(range(K), repeat=4))).reshape(-1, 2, 2)
    total = sum(lda.log_joint(x, z, *SIZES).exp() for x in corpora for z in topics)
    assert total.item() == pytest.approx(1, abs=1e-12)


def test_counts_are_those_of_a_loop():
    torch.manual_seed(0)
    words, z = torch.randint(5, (4, 7)), torch.randint(3, (4, 7))
    by_document, by_topic = torch.zeros(4, 3), torch.zeros(3, 5)
    by_word = torch.zeros(4, 5)
    for i in range(4):
        for word, topic in zip(words[i], z[i], strict=True):
            by_document[i, topic] += 1
            by_topic[topic, word] += 1
            by_word[i, word] += 1
    assert torch.equal(lda.count_words(words, 5), by_word.double())
    ours = lda.topic_counts(words, z, 3, 5)
    assert torch.equal(ours[0], by_document.long())
    assert torch.equal(ours[1], by_topic.long())


@pytest.mark.parametrize("concentration", [[0.4, 2.0, 1.1], [0.1, 0.1]])
def test_mean_of_log_under_a_dirichlet(concentration):
    torch.manual_seed(0)
    a = torch.tensor(concentration).double()
    assert z_score(Dirichlet(a).sample((200_000,)).log(), lda.dirichlet_log_mean(a)) < Z_MAX


# Mean field.


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31))
def test_mean_field_never_lowers_the_bound_and_stays_below_the_evidence(log_joints, seed):
    counts, (gamma, zeta) = lda.count_words(WORDS, D), random_start(seed)
    bounds = []
    for _ in range(15):
        bounds.append(lda.mean_field_bound(counts, gamma, zeta, ALPHA, DELTA))
        gamma, zeta = lda.mean_field_step(counts, gamma, zeta, ALPHA, DELTA)
    bounds = torch.stack(bounds)
    assert bounds.diff().min() > -1e-10
    assert bounds.max() < log_joints.logsumexp(0)


def test_bound_is_the_definition_of_the_bound():
    """E_q[log p(x, z, pi, mu) - log q], averaged over draws from q."""
    torch.manual_seed(0)
    counts, (gamma, zeta) = lda.count_words(WORDS, D), random_start(1)
    q_pi, q_mu = Dirichlet(gamma), Dirichlet(zeta)
    q_z = Categorical(logits=lda.topic_logits(gamma, zeta)[[[0], [1]], WORDS])
    pi, mu, z = (q.sample((200_000,)) for q in (q_pi, q_mu, q_z))
    log_p = Dirichlet(torch.full_like(gamma, ALPHA)).log_prob(pi).sum(-1)
    log_p += Dirichlet(torch.full_like(zeta, DELTA)).log_prob(mu).sum(-1)
    log_p += pi.gather(2, z).log().sum((1, 2))
    log_p += mu[torch.arange(len(z))[:, None, None], z, WORDS].log().sum((1, 2))
    log_q = q_pi.log_prob(pi).sum(-1) + q_mu.log_prob(mu).sum(-1) + q_z.log_prob(z).sum((1, 2))
    assert z_score(log_p - log_q, lda.mean_field_bound(counts, gamma, zeta, ALPHA, DELTA)) < Z_MAX


@pytest.mark.parametrize("which", [0, 1])
def test_the_step_reaches_a_maximum_in_gamma_and_in_zeta(which):
    """At a fixed point the bound's gradient vanishes, and moving away lowers it."""
    counts, parameters = lda.count_words(WORDS, D), random_start(2)
    for _ in range(5000):
        parameters = lda.mean_field_step(counts, *parameters, ALPHA, DELTA)
    parameters[which].requires_grad_()
    bound = lda.mean_field_bound(counts, *parameters, ALPHA, DELTA)
    [gradient] = torch.autograd.grad(bound, parameters[which])
    assert gradient.abs().max() < 1e-6
    for factor in (0.9, 1.1):
        moved = [p.detach() * (factor if n == which else 1) for n, p in enumerate(parameters)]
        assert lda.mean_field_bound(counts, *moved, ALPHA, DELTA) < bound - 1e-4


def test_mean_field_ends_where_scikit_learn_ends():
    torch.manual_seed(0)
    topics = torch.tensor([[0.45, 0.45, 0.05, 0.05], [0.05, 0.05, 0.45, 0.45]])
    pi = Dirichlet(torch.tensor([0.5, 0.5])).sample((40,))
    counts = Multinomial(30, pi @ topics).sample().double()
    oracle = LatentDirichletAllocation(
        2, doc_topic_prior=0.5, topic_word_prior=0.3, learning_method="batch",
        max_iter=500, max_doc_update_iter=1000, mean_change_tol=1e-9, random_state=0,
    ).fit(counts.numpy())  # fmt: skip
    gamma, zeta = torch.full((40, 2), 15.5).double(), torch.from_numpy(oracle.components_) + 5
    for _ in range(3000):
        gamma, zeta = lda.mean_field_step(counts, gamma, zeta, 0.5, 0.3)
    torch.testing.assert_close(zeta, torch.from_numpy(oracle.components_), rtol=1e-3, atol=1e-3)


# Collapsed Gibbs sampling.


def test_gibbs_conditional_is_the_enumerated_one(log_joints):
    """For each word and each state of all others, from the counts that the chain would hold."""
    for z, place in product(EVERY_Z[::5], range(WORDS.numel())):
        row, column = divmod(place, WORDS.shape[1])
        flips = z.repeat(K, 1, 1)
        flips[:, row, column] = torch.arange(K)
        exact = torch.stack([lda.log_joint(WORDS, flip, *SIZES) for flip in flips]).softmax(0)
        by_document, by_topic = lda.topic_counts(WORDS, z, K, D)
        own = torch.nn.functional.one_hot(z[row, column], K)
        weights = torch.tensor(
            lda.gibbs_weights(
                (by_document[row] - own + ALPHA).tolist(),
                (by_topic[:, WORDS[row, column]] - own + DELTA).tolist(),
                (by_topic.sum(-1) - own + D * DELTA).tolist(),
            )
        ).double()
        torch.testing.assert_close(weights / weights.sum(), exact, rtol=1e-6, atol=1e-6)


def test_chain_visits_each_assignment_as_often_as_it_should(log_joints):
    """Independent chains, so that the counts of their last states are a fair sample."""
    posterior = log_joints.softmax(0)
    codes = K ** torch.arange(WORDS.numel() - 1, -1, -1)
    visits = torch.zeros(3000, len(EVERY_Z))
    for seed in range(3000):
        chain = lda.CollapsedGibbs(WORDS, *SIZES, seed=seed)
        for _ in range(12):
            chain.sweep()
        visits[seed, (chain.z.flatten() * codes).sum()] = 1
    assert visits.sum() == 3000
    likely = posterior > 0.01
    assert z_score(visits[:, likely], posterior[likely]) < Z_MAX


def test_chain_keeps_its_counts_in_step_with_its_topics():
    torch.manual_seed(0)
    words = torch.randint(6, (5, 8))
    chain = lda.CollapsedGibbs(words, 3, 6, 0.3, 0.2, seed=1)
    before = chain.z
    for _ in range(5):
        chain.sweep()
    assert not torch.equal(chain.z, before)
    _, by_topic = lda.topic_counts(words, chain.z, 3, 6)
    expected = (by_topic + 0.2) / (by_topic.sum(-1, keepdim=True) + 6 * 0.2)
    torch.testing.assert_close(chain.topics(), expected.double(), rtol=1e-6, atol=1e-9)


def test_own_seed_repeats_the_chain_and_leaves_the_global_generators_alone():
    state = torch.get_rng_state()
    runs = [lda.CollapsedGibbs(WORDS, *SIZES, seed=seed) for seed in (0, 0, 1)]
    for run in runs:
        for _ in range(20):
            run.sweep()
    history = [run.topics() for run in runs]
    assert torch.equal(history[0], history[1])
    assert not torch.equal(history[0], history[2])
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "words, message",
    [
        (torch.tensor([[0, 3]]), r"words must lie in 0..2"),
        (torch.tensor([[-1, 0]]), r"words must lie in 0..2"),
        (torch.tensor([[0.0, 1.0]]), r"words must be int64 \(N, L\), got torch.float32 \(1, 2\)"),
        (torch.tensor([0, 1]), r"words must be int64 \(N, L\), got torch.int64 \(2,\)"),
        (torch.zeros(0, 3, dtype=torch.int64), r"words must be int64"),
    ],
)
def test_words_must_be_a_table_of_word_numbers(words, message):
    with pytest.raises(ValueError, match=message):
        lda.count_words(words, D)
    with pytest.raises(ValueError, match=message):
        lda.CollapsedGibbs(words, *SIZES)


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="n_topics must be a whole number"):
        lda.CollapsedGibbs(WORDS, 0, D, ALPHA, DELTA)
    with pytest.raises(ValueError, match="vocabulary must be a whole number"):
        lda.count_words(WORDS, 0)
