"""Codes made of words: a VQ-VAE, and what a code of words costs in nats (chapter 18)."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli

from em2vae.checks import check_data, check_finite, check_like, check_positive
from em2vae.convolutional import FAST, UpConv
from em2vae.vae import ElboTerms
from em2vae.words import SIDE, WordPrior, check_words


def straight_through(h: Tensor, words: Tensor) -> Tensor:
    """The words, with the gradient handed to h (chapter 18, eq. straight-through); same shapes."""
    if h.shape != words.shape:
        raise ValueError(f"words must have h's shape {tuple(h.shape)}, got {tuple(words.shape)}")
    return h + (words - h).detach()


class VQVAE(nn.Module):
    """Pictures of 28x28 pixels as pages of 7x7 words from a list of M vectors (chapter 18).

    The list `words` (M, D) has no gradient: in training a word is the running mean of the vectors
    that chose it, and one that too few chose is replaced.

    Args:
        n_words, word_dim: M, the length of the list, and D, the numbers of a word.
        channels: maps of the encoder's two layers; the decoder mirrors them.
        commitment: weight of the squared distances from the encoder's vectors to their words.
        decay: the share of the running counts and sums that each batch keeps.
        dead_below: a word whose running count is below this share of the mean count is dead.
        seed: fixes the initial weights and the draws of new words.

    Raises:
        ValueError: a size is not a whole number of at least 1, decay is not in [0, 1), or
            commitment or dead_below is not a finite number of at least 0.
    """

    binary, data_dim = True, 784

    def __init__(
        self,
        n_words: int = 16,
        word_dim: int = 4,
        channels: tuple[int, int] = (16, 32),
        commitment: float = 1.0,
        decay: float = 0.98,
        dead_below: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(n_words=n_words, word_dim=word_dim)
        check_positive(**{f"channels[{i}]": maps for i, maps in enumerate(channels)})
        check_finite(commitment=commitment, dead_below=dead_below)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay!r}")
        self.n_words, self.commitment, self.decay = n_words, commitment, decay
        self.dead_below, (a, b) = dead_below, channels
        down, up = {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 3, "padding": 1}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            halves = [nn.Conv2d(1, a, **down), nn.SiLU(), nn.Conv2d(a, b, **down), nn.SiLU()]
            self.encoder = nn.Sequential(*halves, nn.Conv2d(b, word_dim, 1))  # 28 to 14 to 7
            doubles = [UpConv(b, a), nn.SiLU(), UpConv(a, 1)]  # 7 to 14 to 28
            self.decoder = nn.Sequential(nn.Conv2d(word_dim, b, **up), nn.SiLU(), *doubles)
        self.generator = torch.Generator().manual_seed(seed)
        for name, shape in (("words", (n_words, word_dim)), ("sums", (n_words, word_dim))):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("counts", torch.zeros(n_words))  # all are dead until the first batch

    def forward(self, x: Tensor, **options) -> Tensor:
        """The mean of `elbo(x, ...).elbo` over images x (B, 784), a scalar in nats."""
        return self.elbo(x, **options).elbo.mean()

    def vectors(self, x: Tensor) -> Tensor:
        """The encoder's vector for each place of images x (B, 784): (B, 49, D)."""
        maps = self.encoder(x.unflatten(-1, (1, 28, 28)).contiguous(memory_format=FAST))
        return maps.flatten(2).transpose(1, 2)

    def nearest(self, h: Tensor) -> Tensor:
        """The number of the word nearest to each vector of h (..., D) (eq. nearest): (...,)."""
        return (h @ self.words.T - 0.5 * self.words.square().sum(-1)).argmax(-1)

    def encode(self, x: Tensor) -> Tensor:
        """The words of images x (B, 784) in [0, 1], numbers from 0 to M - 1: (B, 49), int64.

        Raises TypeError or ValueError for x of a wrong type, device, shape or range.
        """
        check_data(x, self.data_dim)
        check_like(x, self.words)
        return self.nearest(self.vectors(x))

    def decode(self, words: Tensor) -> Bernoulli:
        """p(x|words) for words (B, 49): a Bernoulli of batch shape (B, 784).

        Raises TypeError or ValueError unless words are whole numbers from 0 to M - 1.
        """
        check_words(words, self.n_words)
        return self._picture(self.words[words])

    def elbo(
        self, x: Tensor, generator: torch.Generator | None = None, validate_args: bool = True
    ) -> ElboTerms:
        """The bound under equally likely words, less the commitment (eq. uniform-bound, vq-loss).

        `.log_likelihood` is log p(x|words) and `.kl` is 49 log M. `.elbo` is their difference, a
        bound, less commitment * |h - words|^2, a loss; so it is below the bound. Its gradient is
        no gradient of a bound: it goes straight through the choice of words. In training, while
        gradients are recorded, the words move. x: images (B, 784) of zeros and ones. The generator
        draws new words for dead ones; the model's own by default. Terms are (B,) each, in nats.

        Raises TypeError or ValueError if x is not that, unless validate_args is False.
        """
        if validate_args:
            check_data(x, self.data_dim, binary=True)
            check_like(x, self.words)
        h, learns = self.vectors(x), self.training and torch.is_grad_enabled()  # (B, 49, D)
        if learns:
            self.revive(h, generator or self.generator)
        numbers = self.nearest(h)  # (B, 49)
        chosen = self.words[numbers]
        log_p = self._picture(straight_through(h, chosen)).log_prob(x).sum(-1)  # over pixels
        distance = (h - chosen).square().sum((1, 2))  # over places and the numbers of a word
        if learns:
            self.move_words(h, numbers)
        kl = torch.full_like(log_p, SIDE * SIDE * math.log(self.n_words))
        return ElboTerms(log_p - kl - self.commitment * distance, log_p, kl)

    @torch.no_grad()
    def move_words(self, h: Tensor, numbers: Tensor) -> None:
        """Each word to the running mean of the vectors h (..., D) that chose it (eq. ema)."""
        h, numbers = h.flatten(0, -2), numbers.flatten()
        n = torch.bincount(numbers, minlength=self.n_words).to(h)
        total = torch.zeros_like(self.sums).index_add_(0, numbers, h)
        self.counts.lerp_(n, 1 - self.decay)
        self.sums.lerp_(total, 1 - self.decay)
        heard = self.counts > 0
        self.words[heard] = self.sums[heard] / self.counts[heard, None]

    @torch.no_grad()
    def revive(self, h: Tensor, generator: torch.Generator) -> int:
        """Replace dead words by vectors drawn from h (..., D), with the mean count; how many."""
        h, mean = h.flatten(0, -2), h[..., 0].numel() / self.n_words
        dead = self.counts <= self.dead_below * mean
        rows = torch.randint(len(h), (int(dead.sum()),), generator=generator).to(h.device)
        self.words[dead], self.sums[dead], self.counts[dead] = h[rows], mean * h[rows], mean
        return len(rows)

    def _picture(self, vectors: Tensor) -> Bernoulli:
        maps = vectors.transpose(1, 2).unflatten(-1, (SIDE, SIDE))  # (B, D, 7, 7)
        logits = self.decoder(maps.contiguous(memory_format=FAST)).flatten(1)
        return Bernoulli(logits=logits, validate_args=False)


def two_part(vqvae: VQVAE, prior: WordPrior, x: Tensor, words: Tensor | None = None) -> ElboTerms:
    """log p(words) + log p(x|words), a bound on log p(x) for any words (chapter 18, eq. two-part).

    x: images (B, 784) of zeros and ones; words (B, 49), by default the encoder's. `.kl` is
    -log p(words). Terms are (B,) each, in nats. Raises TypeError or ValueError for other input.
    """
    check_data(x, vqvae.data_dim, binary=True)
    words = vqvae.encode(x) if words is None else words
    log_likelihood = vqvae.decode(words).log_prob(x).sum(-1)  # over pixels
    kl = -prior.log_prob(words).sum(-1)  # over places
    return ElboTerms(log_likelihood - kl, log_likelihood, kl)


@torch.no_grad()
def exchange(vqvae: VQVAE, prior: WordPrior, x: Tensor, candidates: int = 3) -> Tensor:
    """Words of images x (B, 784) whose bound is no lower than that of the encoder's: (B, 49).

    At each place in turn the words nearest to the encoder's vector, `candidates` of them, are
    tried in its stead; the one with the best `two_part` stays (chapter 18, eq. exchange).
    Raises ValueError unless candidates lies in 1..M, and as `two_part` for x.
    """
    check_positive(candidates=candidates)
    if candidates > vqvae.n_words:
        raise ValueError(f"candidates must be at most {vqvae.n_words}, got {candidates}")
    words = vqvae.encode(x)
    closest = torch.cdist(vqvae.vectors(x), vqvae.words).topk(candidates, largest=False).indices
    copies = x.repeat_interleave(candidates, 0)
    for place in range(SIDE * SIDE):
        pages = words[:, None].repeat(1, candidates, 1)  # (B, candidates, 49)
        pages[:, :, place] = closest[:, place]
        bounds = two_part(vqvae, prior, copies, pages.flatten(0, 1)).elbo
        best = bounds.unflatten(0, (-1, candidates)).argmax(-1, keepdim=True)
        words[:, place] = closest[:, place].gather(-1, best).squeeze(-1)
    return words
