"""Codes made of words: a VQ-VAE, a prior over its words, and what both cost in nats (chapter 18)."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli
from torch.nn.functional import pad

from em2vae.checks import check_data, check_like, check_positive
from em2vae.convolutional import FAST, UpConv
from em2vae.vae import ElboTerms

SIDE = 7  # the grid of words has 7 rows of 7 places


def straight_through(h: Tensor, words: Tensor) -> Tensor:
    """The value of `words`, with the gradient passed to h as if it were h itself (chapter 18,
    eq. straight-through). Both have the same shape."""
    if h.shape != words.shape:
        raise ValueError(f"words must have the shape of h {tuple(h.shape)}, got {words.shape}")
    return h + (words - h).detach()


class VQVAE(nn.Module):
    """Pictures of 28x28 pixels as 7x7 words from a list of M vectors (chapter 18).

    The list is `words` (M, D). It has no gradient: in training each word is the running mean of
    the encoder's vectors that chose it, and a word that few chose is replaced by one of them.

    Args:
        n_words: M, the length of the list.
        word_dim: D, the numbers of a word.
        channels: maps of the encoder's two layers; the decoder mirrors them.
        commitment: weight of the squared distance from the encoder's vectors to their words.
        decay: the share of the running sums that each batch keeps.
        dead_below: a word whose running count lies below this share of the mean count is dead.
        activation: module class between layers.
        seed: fixes the initial weights and the draws of new words.

    Raises:
        ValueError: a size is not a whole number of at least 1, decay or dead_below is not in
            [0, 1), or commitment is negative.
    """

    binary, data_dim, n_places = True, 784, SIDE * SIDE

    def __init__(
        self,
        n_words: int = 64,
        word_dim: int = 8,
        channels: tuple[int, int] = (16, 32),
        commitment: float = 0.25,
        decay: float = 0.98,
        dead_below: float = 0.05,
        activation: type[nn.Module] = nn.SiLU,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(n_words=n_words, word_dim=word_dim)
        check_positive(**{f"channels[{i}]": maps for i, maps in enumerate(channels)})
        _check_share(decay=decay, dead_below=dead_below)
        if not 0 <= commitment < math.inf:
            raise ValueError(f"commitment must be finite and at least 0, got {commitment!r}")
        self.n_words, self.word_dim = n_words, word_dim
        self.commitment, self.decay, self.dead_below = commitment, decay, dead_below
        a, b = channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = nn.Sequential(
                nn.Conv2d(1, a, 3, stride=2, padding=1), activation(),  # 28 to 14
                nn.Conv2d(a, b, 3, stride=2, padding=1), activation(),  # 14 to 7
                nn.Conv2d(b, word_dim, 1),
            )  # fmt: skip
            self.decoder = nn.Sequential(
                nn.Conv2d(word_dim, b, 3, padding=1), activation(),
                UpConv(b, a), activation(),  # 7 to 14
                UpConv(a, 1),  # 14 to 28
            )  # fmt: skip
        self.generator = torch.Generator().manual_seed(seed)
        self.register_buffer("words", torch.zeros(n_words, word_dim))
        self.register_buffer("counts", torch.zeros(n_words))  # nobody chose any: all are dead
        self.register_buffer("sums", torch.zeros(n_words, word_dim))

    def vectors(self, x: Tensor) -> Tensor:
        """What the encoder says about images x (B, 784): a vector for each place, (B, 49, D)."""
        maps = self.encoder(x.unflatten(-1, (1, 28, 28)).contiguous(memory_format=FAST))
        return maps.flatten(2).transpose(1, 2)

    def nearest(self, h: Tensor) -> Tensor:
        """The number of the word nearest to each vector of h (..., D): (...,), int64."""
        scores = h @ self.words.T - 0.5 * (self.words**2).sum(-1)  # eq. nearest, without |h|^2
        return scores.argmax(-1)

    def encode(self, x: Tensor) -> Tensor:
        """The words of images x (B, 784) in [0, 1]: numbers from 0 to M - 1, (B, 49), int64.

        Raises TypeError or ValueError for a wrong type or device, a wrong shape, NaN, or values
        outside [0, 1].
        """
        check_data(x, self.data_dim)
        check_like(x, self.words)
        return self.nearest(self.vectors(x))

    def decode(self, words: Tensor) -> Bernoulli:
        """p(x|words) for numbers of words (B, 49): a Bernoulli of batch shape (B, 784).

        Raises TypeError or ValueError unless words are whole numbers from 0 to M - 1, (B, 49).
        """
        check_words(words, self.n_words)
        return self._picture(self.words[words])

    def elbo(
        self, x: Tensor, generator: torch.Generator | None = None, validate_args: bool = True
    ) -> ElboTerms:
        """The bound of a uniform prior, less the commitment (chapter 18, eq. uniform-bound).

        `.log_likelihood` is log p(x|words) and `.kl` is 49 log M: their difference is a lower
        bound on log p(x). `.elbo` also subtracts commitment * |h - words|^2, which is a loss and
        no part of a bound; since it is not negative, `.elbo` is below the bound. Its gradient goes
        straight through the choice of words. In training, with gradients, the words move.

        Args:
            x: images (B, 784) of zeros and ones.
            generator: chooses the vectors that replace dead words; the model's own by default.
            validate_args: False skips the check of x.

        Returns:
            ElboTerms: elbo, log_likelihood and kl, each (B,), in nats.
        """
        if validate_args:
            check_data(x, self.data_dim, binary=True)
            check_like(x, self.words)
        h = self.vectors(x)  # (B, 49, D)
        if self.training and torch.is_grad_enabled():
            self.revive(h, generator or self.generator)
        indices = self.nearest(h)
        chosen = self.words[indices]
        log_p = self._picture(straight_through(h, chosen)).log_prob(x).sum(-1)  # over pixels
        commitment = self.commitment * (h - chosen).square().sum((1, 2))  # over places, numbers
        if self.training and torch.is_grad_enabled():
            self.move_words(h, indices)
        kl = torch.full_like(log_p, self.n_places * math.log(self.n_words))
        return ElboTerms(log_p - kl - commitment, log_p, kl)

    def forward(self, x: Tensor, **options) -> Tensor:
        """The mean of `elbo(x, ...).elbo` over images x (B, 784), a scalar in nats."""
        return self.elbo(x, **options).elbo.mean()

    @torch.no_grad()
    def move_words(self, h: Tensor, indices: Tensor) -> None:
        """Running counts and sums of the vectors h (..., D) that chose each word, and its mean
        (chapter 18, eq. ema)."""
        h, indices = h.flatten(0, -2), indices.flatten()
        n = torch.bincount(indices, minlength=self.n_words).to(h)
        total = torch.zeros_like(self.sums).index_add_(0, indices, h)
        self.counts.lerp_(n, 1 - self.decay)
        self.sums.lerp_(total, 1 - self.decay)
        self.words.copy_(self.sums / self.counts.clamp(min=1e-6)[:, None])

    @torch.no_grad()
    def revive(self, h: Tensor, generator: torch.Generator) -> int:
        """Put vectors of h (..., D), drawn at random, in the place of dead words; how many."""
        h = h.flatten(0, -2)
        mean = len(h) / self.n_words  # vectors that a word is chosen by if all are alike
        dead = self.counts < self.dead_below * mean if self.dead_below else self.counts == 0
        rows = torch.randint(len(h), (int(dead.sum()),), generator=generator).to(h.device)
        self.words[dead], self.counts[dead] = h[rows], mean
        self.sums[dead] = mean * h[rows]
        return len(rows)

    def _picture(self, vectors: Tensor) -> Bernoulli:
        maps = vectors.transpose(1, 2).unflatten(-1, (SIDE, SIDE))  # (B, D, 7, 7)
        logits = self.decoder(maps.contiguous(memory_format=FAST)).flatten(1)
        return Bernoulli(logits=logits, validate_args=False)


class WordPrior(nn.Module):
    """p(words): each of the 49 words given those just above it and to its left (chapter 18).

    Place k sees the words of the two rows above, up to two columns away, and the two to its left:
    12 neighbours, with the number M where there is none. Their vectors, side by side, and a bias
    of each place pass a network of two hidden layers.

    Args:
        n_words: M.
        embed_dim, hidden_dim: numbers of a neighbour's vector, and of hidden units.
        seed: fixes the initial weights.
    """

    reach = tuple((r, c) for r in (-2, -1, 0) for c in range(-2, 3) if r or c < 0)

    def __init__(
        self, n_words: int = 64, embed_dim: int = 16, hidden_dim: int = 128, seed: int = 0
    ) -> None:
        super().__init__()
        check_positive(n_words=n_words, embed_dim=embed_dim, hidden_dim=hidden_dim)
        self.n_words = n_words
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Embedding(n_words + 1, embed_dim)
            self.first = nn.Linear(len(self.reach) * embed_dim, hidden_dim, bias=False)
            self.place = nn.Parameter(torch.zeros(SIDE * SIDE, hidden_dim))
            self.second = nn.Linear(hidden_dim, hidden_dim)
            self.head = nn.Linear(hidden_dim, n_words)

    def neighbours(self, words: Tensor) -> Tensor:
        """The words that each place sees (B, 49, 12), M where there is none."""
        grid = pad(words.unflatten(-1, (SIDE, SIDE)), (2, 2, 2, 0), value=self.n_words)
        seen = [grid[:, 2 + r : 2 + r + SIDE, 2 + c : 2 + c + SIDE] for r, c in self.reach]
        return torch.stack(seen, -1).flatten(1, 2)

    def logits(self, words: Tensor) -> Tensor:
        """Of each word given those before it, (B, 49, M)."""
        hidden = self.first(self.embed(self.neighbours(words)).flatten(2)) + self.place
        silu = nn.functional.silu
        return self.head(silu(self.second(silu(hidden))))

    def log_prob(self, words: Tensor) -> Tensor:
        """log p of each word of the pages words (B, 49) given those before it: (B, 49), nats."""
        check_words(words, self.n_words)
        return self.logits(words).log_softmax(-1).gather(-1, words[..., None]).squeeze(-1)

    def elbo(self, words: Tensor, generator: torch.Generator | None = None) -> ElboTerms:
        """log p(words), exact, as terms that `fit` takes: (B,) each, in nats."""
        log_p = self.log_prob(words).sum(-1)  # over places
        return ElboTerms(log_p, log_p, torch.zeros_like(log_p))

    @torch.no_grad()
    def sample(self, words: Tensor, kept: int = 0, generator=None) -> Tensor:
        """Pages (B, 49) whose first `kept` words are those given; the others are drawn in turn."""
        words = words.clone()
        for place in range(kept, SIDE * SIDE):
            p = self.logits(words)[:, place].softmax(-1)
            words[:, place] = torch.multinomial(p, 1, generator=generator).squeeze(-1)
        return words


def check_words(words: Tensor, n_words: int) -> None:
    """Raise TypeError or ValueError unless words are whole numbers from 0 to M - 1, (B, 49)."""
    if not isinstance(words, Tensor) or words.dtype != torch.int64:
        raise TypeError(f"words must be an int64 tensor, got {getattr(words, 'dtype', type(words))}")
    if words.ndim != 2 or words.shape[-1] != SIDE * SIDE:
        raise ValueError(f"words must have shape (B, {SIDE * SIDE}), got {tuple(words.shape)}")
    if words.numel() and not (0 <= words.min() and words.max() < n_words):
        raise ValueError(f"words must lie in 0..{n_words - 1}")


def two_part(vqvae: VQVAE, prior: WordPrior, x: Tensor, words: Tensor | None = None) -> ElboTerms:
    """log p(words) + log p(x|words) <= log p(x), for the encoder's words or any others (chapter
    18, eq. two-part). `.kl` is -log p(words). (B,) each, in nats."""
    check_data(x, vqvae.data_dim, binary=True)
    words = vqvae.encode(x) if words is None else words
    log_likelihood = vqvae.decode(words).log_prob(x).sum(-1)  # over pixels
    kl = -prior.log_prob(words).sum(-1)  # over places
    return ElboTerms(log_likelihood - kl, log_likelihood, kl)


def _check_share(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {share!r}")


def exchange(
    vqvae: VQVAE, prior: WordPrior, x: Tensor, words: Tensor, rounds: int = 8, tries: int = 6
) -> Tensor:
    """Words of images x (B, 784) with a bound that is no lower: single exchanges, (B, 49).

    In each round a first-order estimate ranks all exchanges of one word of a page, the best
    `tries` are computed, and the best of them is kept where it raises the bound of `two_part`
    (chapter 18, eq. exchange). Any page of words gives a bound, however it was found.
    """
    check_positive(rounds=rounds, tries=tries)
    best = two_part(vqvae, prior, x, words).elbo.detach()
    for _ in range(rounds):
        gains = _gains(vqvae, prior, x, words).flatten(1)  # (B, 49 M)
        picks = gains.topk(tries, dim=-1).indices  # (B, T)
        pages = words[:, None].repeat(1, tries, 1)  # (B, T, 49)
        pages.scatter_(-1, (picks // vqvae.n_words)[..., None], (picks % vqvae.n_words)[..., None])
        with torch.no_grad():
            bounds = two_part(vqvae, prior, x.repeat_interleave(tries, 0), pages.flatten(0, 1))
        top, index = bounds.elbo.unflatten(0, (-1, tries)).max(-1)
        page = pages[torch.arange(len(x)), index]
        words = torch.where((top > best)[:, None], page, words)
        best = torch.maximum(best, top)
    return words


def _gains(vqvae: VQVAE, prior: WordPrior, x: Tensor, words: Tensor) -> Tensor:
    """To first order, what each exchange of one word adds to the bound: (B, 49, M), nats."""
    vectors = vqvae.words[words].requires_grad_()
    log_p = vqvae._picture(vectors).log_prob(x).sum()
    (slope,) = torch.autograd.grad(log_p, vectors)  # (B, 49, D)
    with torch.no_grad():
        picture, page = slope @ vqvae.words.T, prior.logits(words)  # (B, 49, M) each
        gains = picture + page
        return gains - gains.gather(-1, words[..., None])
