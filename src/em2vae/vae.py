"""The variational autoencoder (chapter 11): encoder q(z|x), decoder p(x|z) and the bound."""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence


class ElboTerms(NamedTuple):
    """The terms of the bound for each example, each (B,) in nats."""

    elbo: Tensor  # log_likelihood - beta * kl
    log_likelihood: Tensor  # E_q[log p(x|z)], estimated with n_samples draws of z
    kl: Tensor  # KL(q(z|x) || p(z)), exact


def check_positive(**sizes: int) -> None:
    """Raise ValueError naming the first argument that is not a whole number of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {size!r}")


def check_data(x: Tensor, data_dim: int, binary: bool = False) -> None:
    """Raise if x is not a float tensor (B, data_dim) in [0, 1], or in {0, 1} if `binary`."""
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        raise TypeError(f"x must be a floating-point tensor, got {getattr(x, 'dtype', type(x))}")
    if x.ndim != 2 or x.shape[-1] != data_dim:
        raise ValueError(f"x must have shape (B, {data_dim}), got {tuple(x.shape)}")
    if not len(x):
        raise ValueError(f"x must hold at least one image, got shape {tuple(x.shape)}")
    low, high = x.aminmax()  # NaN if any value is
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise ValueError("x must be finite, but it contains NaN or infinity")
    if low < 0 or high > 1:
        raise ValueError(f"x must lie in [0, 1], but it spans [{low:.3g}, {high:.3g}]")
    if not binary or torch.equal(x * x, x):  # only 0 and 1 are their own squares
        return
    raise ValueError(
        "x must be binary (0 or 1) under a Bernoulli likelihood, but it holds grey values: "
        "use em2vae.data.binarize(x), or fit(..., binarize='stochastic')"
    )


def mlp(sizes: list[int], activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers of the given sizes, each followed by the activation."""
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """The recognition network q(z|x) = N(z; mu(x), diag sigma^2(x)) (chapter 11)."""

    def __init__(self, data_dim: int, hidden_dims: tuple, latent_dim: int, activation) -> None:
        super().__init__()
        self.body = mlp([data_dim, *hidden_dims], activation)
        self.heads = nn.Linear(hidden_dims[-1], 2 * latent_dim)  # mu and log sigma^2, side by side

    def forward(self, x: Tensor) -> Normal:
        mu, log_var = self.heads(self.body(x)).chunk(2, dim=-1)  # (B, K) each
        return Normal(mu, (0.5 * log_var).exp(), validate_args=False)


class Decoder(nn.Module):
    """The generative network p(x|z) = prod_d Bernoulli(x_d; logits_d(z)) (chapter 11)."""

    def __init__(self, latent_dim: int, hidden_dims: tuple, data_dim: int, activation) -> None:
        super().__init__()
        self.body = mlp([latent_dim, *hidden_dims], activation)
        self.head = nn.Linear(hidden_dims[-1], data_dim)

    def forward(self, z: Tensor) -> Bernoulli:
        return Bernoulli(logits=self.head(self.body(z)), validate_args=False)


class VAE(nn.Module):
    """A variational autoencoder with prior N(0, I), Gaussian q(z|x) and Bernoulli p(x|z).

    Chapter 11 derives it. The model draws its noise from its own generator, so that neither
    building it nor calling it touches PyTorch's global one.

    Args:
        latent_dim: K, the number of latent dimensions.
        hidden_dims: widths of the encoder's hidden layers; the decoder mirrors them.
        data_dim: D, the number of pixels.
        activation: module class between layers.
        seed: fixes the initial weights and the stream of noise.

    Raises:
        ValueError: a size is not a whole number of at least 1, or there is no hidden layer.
    """

    def __init__(
        self,
        latent_dim: int = 20,
        hidden_dims: tuple[int, ...] = (400,),
        data_dim: int = 784,
        activation: type[nn.Module] = nn.ReLU,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(hidden_dims, tuple | list) or not hidden_dims:
            raise ValueError(f"hidden_dims must be a tuple of layer widths, got {hidden_dims!r}")
        check_positive(latent_dim=latent_dim, data_dim=data_dim)
        check_positive(**{f"hidden_dims[{i}]": width for i, width in enumerate(hidden_dims)})
        self.latent_dim, self.data_dim = latent_dim, data_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = Encoder(data_dim, hidden_dims, latent_dim, activation)
            self.decoder = Decoder(latent_dim, hidden_dims[::-1], data_dim, activation)
        self.generator = torch.Generator().manual_seed(seed)

    def encode(self, x: Tensor) -> Normal:
        """q(z|x) for images x (B, D) in [0, 1]: a Normal of batch shape (B, K).

        Raises TypeError or ValueError for a wrong type, a wrong shape, NaN, or values
        outside [0, 1].
        """
        check_data(x, self.data_dim)
        return self.encoder(x)

    def decode(self, z: Tensor) -> Bernoulli:
        """p(x|z) for latent points z (..., K): a Bernoulli of batch shape (..., D).

        Raises ValueError for a wrong last dimension or a value that is not finite.
        """
        if not (isinstance(z, Tensor) and z.ndim and z.shape[-1] == self.latent_dim):
            shape = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise ValueError(f"z must be a tensor of shape (..., {self.latent_dim}), got {shape}")
        if not bool(torch.isfinite(z).all()):
            raise ValueError("z must be finite, but it contains NaN or infinity")
        return self.decoder(z)

    def _noise(self, like: Tensor, n_samples: int, generator: torch.Generator | None) -> Tensor:
        eps = torch.randn((n_samples, *like.shape), generator=generator or self.generator)
        return eps.to(like)  # drawn on the CPU: the same noise on every device

    def rsample(
        self, q_z: Normal, n_samples: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Reparameterized draws z = mu + sigma * eps (eq. reparameterize), (S, B, K)."""
        check_positive(n_samples=n_samples)
        return q_z.mean + q_z.stddev * self._noise(q_z.mean, n_samples, generator)

    def elbo(
        self,
        x: Tensor,
        n_samples: int = 1,
        beta: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> ElboTerms:
        """The evidence lower bound of chapter 11 (eq. elbo) for binary images x (B, D).

        Args:
            x: images (B, D) of zeros and ones.
            n_samples: S, draws of z per image for the likelihood term; the KL is exact.
            beta: weight of the KL in `.elbo`; only beta = 1 gives a bound on log p(x) whatever
                the decoder (chapter 13). `.kl` itself is never scaled.
            generator: source of the noise; the model's own stream by default.

        Returns:
            ElboTerms: elbo, log_likelihood and kl, each (B,), in nats.

        Raises:
            TypeError, ValueError: x is not a binary float tensor of shape (B, D).
        """
        check_data(x, self.data_dim, binary=True)
        q_z = self.encoder(x)
        z = self.rsample(q_z, n_samples, generator)  # (S, B, K)
        log_likelihood = self.decoder(z).log_prob(x).sum(-1).mean(0)  # over pixels, then draws
        prior = Normal(torch.zeros_like(q_z.mean), 1.0, validate_args=False)
        kl = kl_divergence(q_z, prior).sum(-1)  # over latent dimensions
        return ElboTerms(log_likelihood - beta * kl, log_likelihood, kl)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Bernoulli means (n, D) of n draws z ~ N(0, I) decoded: new images (chapter 11)."""
        check_positive(n=n)
        like = self.decoder.head.bias.new_empty(self.latent_dim)
        return self.decoder(self._noise(like, n, generator)).mean

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Bernoulli means (B, D) at the mean of q(z|x): a picture, not a bound (chapter 11)."""
        return self.decoder(self.encode(x).mean).mean
