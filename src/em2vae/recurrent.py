"""The two GRUs of a VAE of strings: one reads a name into a code, one writes it (chapter 19)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from em2vae.densities import LogVarNormal

END = 0  # ends a string, and stands before its first letter and behind its end


def up_to_end(x: Tensor) -> Tensor:
    """Which places of strings (B, T) count: the letters and one end each, (B, T) True or False."""
    return pad((x != END).cumprod(-1)[:, :-1], (1, 0), value=1).bool()


class NameEncoder(nn.Module):
    """q(z|x) from the state of a GRU that has read a string up to its end (chapter 19)."""

    def __init__(self, n_letters: int, latent_dim: int, hidden_dim: int, embed_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        if latent_dim:
            self.embed = nn.Embedding(n_letters + 1, embed_dim)
            self.gru = nn.GRU(embed_dim, hidden_dim, batch_first=True)
            self.heads = nn.Linear(hidden_dim, 2 * latent_dim)  # mu and log sigma^2, side by side

    def forward(self, x: Tensor) -> LogVarNormal:
        if not self.latent_dim:
            return LogVarNormal(*torch.zeros(2, len(x), 0, device=x.device))  # nothing to tell
        states, _ = self.gru(self.embed(x))  # (B, T, H), those behind the end included
        at_end = states[torch.arange(len(x)), up_to_end(x).sum(-1) - 1]  # (B, H)
        return LogVarNormal(*self.heads(at_end).chunk(2, dim=-1))  # of (B, K) each


class NameDecoder(nn.Module):
    """p(x|z) of strings: the next letter from z and the letters before it (chapter 19)."""

    def __init__(self, n_letters, latent_dim, hidden_dim, embed_dim, reach) -> None:
        super().__init__()
        self.reach, self.blank = reach, n_letters + 1
        self.embed = nn.Embedding(n_letters + 2, embed_dim)  # the start, letters, a blank
        if latent_dim:
            self.code = nn.Linear(latent_dim, embed_dim, bias=False)
        self.gru = nn.GRU(embed_dim, hidden_dim, batch_first=True)
        self.head = nn.Linear(hidden_dim, n_letters + 1)

    def forward(self, z: Tensor) -> "Strings":
        return Strings(self, z)

    def logits(self, seen: Tensor, z: Tensor) -> Tensor:
        """Of the next letter at each place, (..., B, T, V), from z (..., B, K) and the letters
        before it: those of `seen` (B, T) up to that place."""
        if self.reach is not None:
            seen = self._windows(seen)  # (B, T, r)
        inputs = self.embed(seen)  # (B, T, E) or (B, T, r, E)
        if z.shape[-1]:
            code = self.code(z).reshape(*z.shape[:-1], *[1] * (seen.ndim - 1), -1)
            inputs = inputs + code  # (..., B, T, E) or (..., B, T, r, E)
        else:
            inputs = inputs.expand(*z.shape[:-1], *inputs.shape[1:])
        states, last = self.gru(inputs.flatten(0, -3))  # (M, T, H), or (M, r, H) of windows
        states = states if self.reach is None else last  # of a window the last one counts
        return self.head(states).view(*z.shape[:-1], seen.shape[1], -1)

    def _windows(self, seen: Tensor) -> Tensor:
        """The last r letters at each place, (B, T, r); a blank where none may be seen."""
        if self.reach == 0:
            return torch.full_like(seen, self.blank)[..., None]
        return pad(seen, (self.reach - 1, 0), value=END).unfold(-1, self.reach, 1)


class Strings:
    """The distribution p(x|z) of strings, for latent points z (..., B, K)."""

    def __init__(self, decoder: NameDecoder, z: Tensor) -> None:
        self.decoder, self.z = decoder, z

    def log_prob(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """log p of each letter of x (B, T), given z and those before it, and of the end: nats.

        0 behind the end, so that a sum over places is log p(x|z) (eq. letter-by-letter). `seen` is
        what the decoder sees in place of the letters before each place.

        Returns (..., B, T).
        """
        logits = self.decoder.logits(before(x) if seen is None else seen, self.z)
        target = x.expand(logits.shape[:-1])
        nats = -cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none")
        return nats.view(target.shape) * up_to_end(x)


def before(x: Tensor) -> Tensor:
    """The letter before each place of x (B, T): the start and all letters but the last."""
    return pad(x[:, :-1], (1, 0), value=END)
