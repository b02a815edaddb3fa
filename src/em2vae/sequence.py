"""A VAE of strings (chapter 19): the bound of a code and of the letters written from it."""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn.functional import pad

from em2vae.checks import check_finite, check_latent, check_like, check_positive
from em2vae.densities import LogVarNormal
from em2vae.recurrent import END, NameDecoder, NameEncoder, Strings, before, up_to_end
from em2vae.vae import VAE, ElboTerms


class SequenceVAE(nn.Module):
    """A VAE of strings: q(z|x) by a GRU, p(x|z) letter by letter by another (chapter 19).

    A string is a row of whole numbers, letters from 1 and END = 0 behind the last one, as
    `names.encode_names` gives. `fit` trains it with binarize="none", `iwae_bound` evaluates it.

    Args:
        latent_dim: K; with 0 it is the decoder alone, a model of letters without a code.
        hidden_dim: numbers in the state of each GRU.
        embed_dim: numbers that stand for a letter.
        n_letters: of the alphabet, the end not counted.
        reach: how many letters back the decoder sees, 0 for none; all of them by default.
        word_dropout: share of the letters that the decoder finds blank while it is trained. It is
            at work in `elbo` after `.train()`, where `fit` leaves a model, not after `.eval()`.
        seed: fixes the initial weights and the stream of noise.

    Raises:
        ValueError: a size, the reach or the share is not what is described here.
    """

    def __init__(
        self,
        latent_dim: int = 8,
        hidden_dim: int = 64,
        embed_dim: int = 24,
        n_letters: int = 26,
        reach: int | None = None,
        word_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(hidden_dim=hidden_dim, embed_dim=embed_dim, n_letters=n_letters)
        for name, size in (("latent_dim", latent_dim), ("reach", 0 if reach is None else reach)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise ValueError(f"{name} must be a whole number of at least 0, got {size!r}")
        if not 0 <= word_dropout <= 1:
            raise ValueError(f"word_dropout must lie in [0, 1], got {word_dropout!r}")
        self.latent_dim, self.n_letters, self.word_dropout = latent_dim, n_letters, word_dropout
        sizes = (n_letters, latent_dim, hidden_dim, embed_dim)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = NameEncoder(*sizes)
            self.decoder = NameDecoder(*sizes, reach)
        self.generator = torch.Generator().manual_seed(seed)

    # Noise, and its place in a saved model, as every VAE of the book has them.
    noise, rsample = VAE.noise, VAE.rsample
    get_extra_state, set_extra_state = VAE.get_extra_state, VAE.set_extra_state
    forward = VAE.forward

    def check_images(self, x: Tensor) -> None:
        """Raise TypeError or ValueError unless x (B, T) holds strings, each with an end."""
        if not isinstance(x, Tensor) or x.dtype != torch.int64:
            raise TypeError(f"x must be an int64 tensor, got {getattr(x, 'dtype', type(x))}")
        if x.ndim != 2 or not x.numel():
            raise ValueError(f"x must have shape (B, T) with B, T > 0, got {tuple(x.shape)}")
        low, high = (extreme.item() for extreme in x.aminmax())
        if low < 0 or high > self.n_letters:
            raise ValueError(f"x must lie in 0..{self.n_letters}, but it spans {low}..{high}")
        if not bool((x == END).any(-1).all()):
            raise ValueError(f"each row of x must hold an end, {END}")

    def encode(self, x: Tensor) -> LogVarNormal:
        """q(z|x) for strings x (B, T): a Normal of batch shape (B, K); errors as `check_images`."""
        self.check_images(x)
        return self.encoder(x)

    def decode(self, z: Tensor) -> Strings:
        """p(x|z) for latent points z (..., B, K): log_prob(x) of it is (..., B, T), in nats.

        Raises TypeError or ValueError for a wrong last dimension, dtype or device, or a value that
        is not finite.
        """
        check_latent(z, self.latent_dim)
        check_like(z, self.decoder.head.bias, "z")
        return self.decoder(z)

    def elbo(
        self,
        x: Tensor,
        n_samples: int = 1,
        beta: float = 1.0,
        generator: torch.Generator | None = None,
        free_bits: float = 0.0,
    ) -> ElboTerms:
        """The bound of chapter 19 (eq. name-elbo) for strings x (B, T); arguments as `VAE.elbo`.

        Returns:
            ElboTerms: elbo, log_likelihood and kl, each (B,), in nats a string.

        Raises:
            TypeError, ValueError: x holds no strings, or n_samples < 1.
        """
        q_z = self.encode(x)
        z = self.rsample(q_z, n_samples, generator)  # (S, B, K)
        seen = self._blanked(before(x), generator)
        log_likelihood = self.decoder(z).log_prob(x, seen).sum(-1).mean(0)  # places, then draws
        kl_per_dim = 0.5 * (q_z.log_var.expm1() - q_z.log_var + q_z.mean**2)  # (B, K)
        price = kl = kl_per_dim.sum(-1)  # over latent dimensions
        if free_bits:
            price = kl + (free_bits - kl_per_dim.mean(0)).clamp(min=0).sum()
        return ElboTerms(log_likelihood - beta * price, log_likelihood, kl)

    def _blanked(self, seen: Tensor, generator) -> Tensor:
        """Letters (B, T), a share of them replaced by blanks while training; a start never is."""
        if not (self.training and self.word_dropout):
            return seen
        chance = torch.rand(seen.shape, generator=generator or self.generator).to(seen.device)
        return seen.masked_fill((chance < self.word_dropout) & (seen != END), self.decoder.blank)

    @torch.no_grad()
    def write(
        self,
        z: Tensor,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
        longest: int = 12,
    ) -> Tensor:
        """Strings (B, longest + 1) written from z (B, K), letter by letter; cut at `longest`.

        A temperature of 0 takes the likeliest letter at each place, 1 draws from the model, and
        others draw from the probabilities to the power 1 / temperature, made to sum to one.

        Raises TypeError or ValueError for a z that `decode` refuses, or a negative temperature.
        """
        check_finite(temperature=temperature)
        check_positive(longest=longest)
        decoder, x = self.decode(z).decoder, torch.zeros(len(z), 1, dtype=torch.int64).to(z.device)
        for _ in range(longest):
            logits = decoder.logits(x, z)[:, -1]  # (B, V)
            letter = logits.argmax(-1, keepdim=True)
            if temperature:
                p = Categorical(logits=logits / temperature).probs
                draws = torch.multinomial(p.cpu(), 1, generator=generator or self.generator)
                letter = draws.to(z.device)
            x = torch.cat([x, letter], dim=1)
        written = pad(x[:, 1:], (0, 1), value=END)
        return written * up_to_end(written)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n strings (n, 13) from the model: z ~ N(0, I), then letters by their probabilities."""
        check_positive(n=n)
        z = self.noise(self.decoder.head.bias.new_empty(self.latent_dim), n, generator)
        return self.write(z, 1.0, generator)
