"""Latent Dirichlet allocation, by mean field and by collapsed Gibbs sampling (chapter 05).

N documents of L words each, D different words, K topics. Document i has topic proportions
pi_i ~ Dirichlet(alpha), topic k has word probabilities mu_k ~ Dirichlet(delta), each word has a
topic z (eq. lda-story).
"""

import math
import random
from bisect import bisect
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from em2vae.checks import check_float, check_like, check_positive


def count_words(words: Tensor, vocabulary: int) -> Tensor:
    """How often each document uses each word.

    Args:
        words: word numbers in 0, ..., D - 1, (N, L), int64.
        vocabulary: D, the number of different words.

    Returns:
        Counts (N, D), float64.

    Raises:
        ValueError: words is no such table.
    """
    check_positive(vocabulary=vocabulary)
    if not isinstance(words, Tensor):
        raise TypeError(f"words must be an int64 tensor (N, L), got {type(words).__name__}")
    if words.ndim != 2 or words.dtype != torch.int64 or not words.numel():
        raise ValueError(f"words must be int64 (N, L), got {words.dtype} {tuple(words.shape)}")
    if words.min() < 0 or words.max() >= vocabulary:
        raise ValueError(f"words must lie in 0..{vocabulary - 1}")
    return F.one_hot(words, vocabulary).sum(1).double()


# Mean field: q(pi_i) = Dirichlet(gamma_i), q(mu_k) = Dirichlet(zeta_k), and r for every word.


def dirichlet_log_mean(concentration: Tensor) -> Tensor:
    """E[log pi] under Dirichlet(concentration), (..., K): (..., K) (eq. dirichlet-log-mean)."""
    return concentration.digamma() - concentration.sum(-1, keepdim=True).digamma()


def topic_logits(gamma: Tensor, zeta: Tensor) -> Tensor:
    """E_q[log pi_ik + log mu_kd] for gamma (N, K) and zeta (K, D): (N, D, K), in nats."""
    return dirichlet_log_mean(gamma)[:, None] + dirichlet_log_mean(zeta).T


def mean_field_step(
    counts: Tensor, gamma: Tensor, zeta: Tensor, alpha: float, delta: float
) -> tuple[Tensor, Tensor]:
    """One sweep of coordinate ascent: q(z), then q(pi) and q(mu) (chapter 05, eq. lda-cavi).

    Args:
        counts: how often each document uses each word, (N, D).
        gamma: Dirichlet parameters of the documents' q(pi_i), (N, K).
        zeta: Dirichlet parameters of the topics' q(mu_k), (K, D).
        alpha, delta: the symmetric priors of pi and mu.

    Returns:
        The new gamma (N, K) and zeta (K, D).

    Raises:
        TypeError, ValueError: dtypes, devices or shapes that do not match, or numbers that are not
            positive.
    """
    _check_mean_field(counts, gamma, zeta, alpha, delta)
    r = topic_logits(gamma, zeta).softmax(-1)  # (N, D, K)
    expected = counts[..., None] * r  # words d of document i that topic k should have written
    return alpha + expected.sum(1), delta + expected.sum(0).T  # over words, over documents


def mean_field_bound(
    counts: Tensor, gamma: Tensor, zeta: Tensor, alpha: float, delta: float
) -> Tensor:
    """The bound on log p(x) with q(z) at its best for gamma and zeta: a scalar, in nats.

    Chapter 05, eq. lda-bound. Arguments as for `mean_field_step`.
    """
    _check_mean_field(counts, gamma, zeta, alpha, delta)
    words = (counts * topic_logits(gamma, zeta).logsumexp(-1)).sum()  # over documents and words
    documents = kl_divergence(Dirichlet(gamma), Dirichlet(torch.full_like(gamma, alpha)))
    topics = kl_divergence(Dirichlet(zeta), Dirichlet(torch.full_like(zeta, delta)))
    return words - documents.sum() - topics.sum()


def _check_mean_field(counts, gamma, zeta, alpha, delta) -> None:
    _check_priors(alpha, delta)
    check_float(counts=counts, gamma=gamma, zeta=zeta)
    check_like(counts, gamma, "counts")
    check_like(zeta, gamma, "zeta")
    shapes = [tuple(tensor.shape) for tensor in (counts, gamma, zeta)]
    fit = counts.ndim == gamma.ndim == zeta.ndim == 2 and gamma.shape[1] == len(zeta)
    if not fit or counts.shape != (len(gamma), zeta.shape[1]):
        raise ValueError(f"counts, gamma, zeta must be (N, D), (N, K), (K, D), got {shapes}")
    if not (gamma.min() > 0 and zeta.min() > 0 and counts.min() >= 0):
        raise ValueError("gamma and zeta must be positive, and counts not negative")


def _check_priors(alpha: float, delta: float) -> None:
    if not (0 < alpha < math.inf and 0 < delta < math.inf):
        raise ValueError(f"alpha and delta must be positive and finite, got {alpha} and {delta}")


# Collapsed Gibbs sampling: pi and mu are integrated out, only the topics z remain.


def topic_counts(words: Tensor, z: Tensor, n_topics: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Words of each document in each topic (N, K), and of each topic at each word (K, D).

    Args:
        words: word numbers, (N, L).
        z: the topic of each word, in 0, ..., K - 1, (N, L).
        n_topics, vocabulary: K and D.

    Raises:
        TypeError, ValueError: words or z is no table of numbers in its range.
    """
    check_positive(n_topics=n_topics)
    count_words(words, vocabulary)  # for its checks
    if not isinstance(z, Tensor) or z.dtype != torch.int64 or z.shape != words.shape:
        raise ValueError(f"z must be int64 {tuple(words.shape)}, a topic for each word")
    if z.min() < 0 or z.max() >= n_topics:
        raise ValueError(f"z must lie in 0..{n_topics - 1}")
    pairs = F.one_hot(z * vocabulary + words, n_topics * vocabulary)  # (N, L, K * D)
    return F.one_hot(z, n_topics).sum(1), pairs.sum((0, 1)).reshape(n_topics, vocabulary)


def log_joint(
    words: Tensor, z: Tensor, n_topics: int, vocabulary: int, alpha: float, delta: float
) -> Tensor:
    """log p(x, z), with pi and mu integrated out: a scalar, in nats.

    Chapter 05, eq. lda-collapsed. Arguments as for `topic_counts`, with the priors alpha and delta.
    """
    by_document, by_topic = topic_counts(words, z, n_topics, vocabulary)
    return dirichlet_ratio(by_document, alpha) + dirichlet_ratio(by_topic, delta)


def dirichlet_ratio(counts: Tensor, prior: float) -> Tensor:
    """Sum over rows of log B(prior + counts) / B(prior), for counts (M, K): a scalar."""
    before = torch.full_like(counts, prior, dtype=torch.double)
    return (log_beta(before + counts) - log_beta(before)).sum()


def log_beta(concentration: Tensor) -> Tensor:
    """The Dirichlet's log normalizer, log B(a), for a (..., K): (...), in nats."""
    return concentration.lgamma().sum(-1) - concentration.sum(-1).lgamma()


def gibbs_weights(in_document: list, at_word: list, in_topic: list) -> list[float]:
    """p(z = k | x, all other topics) for one word, up to a factor (chapter 05, eq. lda-gibbs).

    Args:
        in_document: the other words of its document in each topic, plus alpha, (K,).
        at_word: the other occurrences of this word in each topic, plus delta, (K,).
        in_topic: all other words in each topic, plus D delta, (K,).
    """
    return [n * m / total for n, m, total in zip(in_document, at_word, in_topic, strict=True)]


class CollapsedGibbs:
    """A Markov chain over the topics of all words, started from topics drawn at random.

    Plain numbers and lists: each draw needs the one before, and ten numbers are too few for
    tensors to be worth their overhead.

    Args:
        words: word numbers, (N, L), int64.
        n_topics, vocabulary: K and D.
        alpha, delta: the symmetric priors.
        seed: of the chain's own draws.

    Raises:
        ValueError: words is no table of numbers in 0, ..., D - 1, or a size is not positive.
    """

    def __init__(
        self,
        words: Tensor,
        n_topics: int,
        vocabulary: int,
        alpha: float,
        delta: float,
        seed: int = 0,
    ) -> None:
        check_positive(n_topics=n_topics)
        _check_priors(alpha, delta)
        count_words(words, vocabulary)  # for its checks
        self._random = random.Random(seed)
        self._words = words.tolist()
        self._z = [[self._random.randrange(n_topics) for _ in row] for row in self._words]
        by_document, by_topic = topic_counts(words, self.z, n_topics, vocabulary)
        self._in_document = (by_document + alpha).tolist()  # (N, K)
        self._at_word = (by_topic.T + delta).tolist()  # (D, K)
        self._in_topic = (by_topic.sum(-1) + vocabulary * delta).tolist()  # (K,)

    @property
    def z(self) -> Tensor:
        """The topic of each word now, (N, L)."""
        return torch.tensor(self._z)

    def topics(self) -> Tensor:
        """E[mu | x, z] for the z of now: (K, D), rows sum to one (chapter 05, eq. lda-topics)."""
        at_word = torch.tensor(self._at_word, dtype=torch.double).T
        return at_word / at_word.sum(-1, keepdim=True)

    def sweep(self) -> None:
        """Draw the topic of every word once, given all others (chapter 05, eq. lda-gibbs)."""
        for words, z, in_document in zip(self._words, self._z, self._in_document, strict=True):
            for place, word in enumerate(words):
                counts = in_document, self._at_word[word], self._in_topic
                for count in counts:
                    count[z[place]] -= 1
                cumulative = list(accumulate(gibbs_weights(*counts)))
                level = self._random.random() * cumulative[-1]
                z[place] = bisect(cumulative, level, hi=len(cumulative) - 1)
                for count in counts:
                    count[z[place]] += 1
