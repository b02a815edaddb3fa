"""Pages of 7x7 words and a prior over them, word by word (chapter 18)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from em2vae.checks import check_positive
from em2vae.vae import ElboTerms

SIDE = 7  # a page of words has 7 rows of 7 places


def check_words(words: Tensor, n_words: int) -> None:
    """Raise TypeError or ValueError unless words are whole numbers from 0 to M - 1, (B, 49)."""
    kind = getattr(words, "dtype", type(words).__name__)
    if kind != torch.int64:
        raise TypeError(f"words must be an int64 tensor, got {kind}")
    if words.ndim != 2 or words.shape[-1] != SIDE * SIDE or not len(words):
        raise ValueError(f"words must have shape (B, {SIDE * SIDE}), got {tuple(words.shape)}")
    low, high = (e.item() for e in words.aminmax())
    if low < 0 or high >= n_words:
        raise ValueError(f"words must lie in 0..{n_words - 1}, but hold {low}..{high}")


class WordPrior(nn.Module):
    """p(words), word by word: each given 12 neighbours above it and to its left (chapter 18).

    `reach` lists them, rows first; beyond the edge stands the number M. Their vectors, side by
    side, pass two hidden layers of width H; the first adds a bias of each place.

    Args:
        n_words: M; embed_dim: numbers of a neighbour's vector; hidden_dim: H.
        seed: fixes the initial weights.

    Raises:
        ValueError: a size is not a whole number of at least 1.
    """

    reach = tuple((r, c) for r in (-2, -1, 0) for c in range(-2, 3) if r or c < 0)

    def __init__(
        self, n_words: int = 16, embed_dim: int = 16, hidden_dim: int = 64, seed: int = 0
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
        """The words that each place of the pages words (B, 49) sees: (B, 49, 12)."""
        grid = pad(words.unflatten(-1, (SIDE, SIDE)), (2, 2, 2, 0), value=self.n_words)
        seen = [grid[:, 2 + r : 2 + r + SIDE, 2 + c : 2 + c + SIDE] for r, c in self.reach]
        return torch.stack(seen, -1).flatten(1, 2)

    def logits(self, words: Tensor) -> Tensor:
        """Of every word at each place, given those before it: (B, 49, M)."""
        hidden = silu(self._first(self.neighbours(words)) + self.place)
        return self.head(silu(self.second(hidden)))

    def _first(self, seen: Tensor) -> Tensor:
        """`first` of the embedded neighbours seen (B, 49, 12), side by side: (B, 49, H).

        That is a sum of 12 rows of a table with one for each neighbour's place and word, here a
        product with zeros and ones: a third of the time when gradients are wanted.
        """
        weight = self.first.weight.unflatten(-1, (len(self.reach), -1))  # (H, 12, E)
        table = torch.einsum("me,hre->rmh", self.embed.weight, weight)  # (12, M + 1, H)
        rows = seen + table.shape[1] * torch.arange(len(self.reach), device=seen.device)
        chosen = table.new_zeros(*seen.shape[:2], table[..., 0].numel()).scatter_(-1, rows, 1.0)
        return chosen @ table.flatten(0, 1)

    def log_prob(self, words: Tensor) -> Tensor:
        """log p of each word of words (B, 49) given those before it: (B, 49), in nats."""
        check_words(words, self.n_words)
        return self.logits(words).log_softmax(-1).gather(-1, words[..., None]).squeeze(-1)

    def elbo(self, words: Tensor, generator: torch.Generator | None = None) -> ElboTerms:
        """log p(words), which needs no bound, in the terms that `fit` takes: (B,) each."""
        log_p = self.log_prob(words).sum(-1)  # over places
        return ElboTerms(log_p, log_p, torch.zeros_like(log_p))

    @torch.no_grad()
    def sample(self, words: Tensor, kept: int = 0, generator=None) -> Tensor:
        """The pages words (B, 49) with all but the first `kept` words drawn anew, in turn."""
        check_words(words, self.n_words)
        words = words.clone()
        for place in range(kept, SIDE * SIDE):
            p = self.logits(words)[:, place].softmax(-1)
            words[:, place] = torch.multinomial(p, 1, generator=generator).squeeze(-1)
        return words
