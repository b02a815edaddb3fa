"""The variational autoencoder (chapter 11): encoder q(z|x), decoder p(x|z) and the bound."""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

from em2vae.checks import check_data, check_latent, check_like, check_positive
from em2vae.densities import LogVarNormal, log_variance


class ElboTerms(NamedTuple):
    """The terms of the bound for each example, each (B,) in nats."""

    elbo: Tensor  # log_likelihood - beta * kl, less what free bits add to the KL
    log_likelihood: Tensor  # E_q[log p(x|z)], estimated with n_samples draws of z
    kl: Tensor  # KL(q(z|x) || p(z)), exact


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

    def forward(self, x: Tensor) -> LogVarNormal:
        return LogVarNormal(*self.heads(self.body(x)).chunk(2, dim=-1))  # of (B, K) each


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

    binary = True  # whether p(x|z) is one of zeros and ones

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

    def get_extra_state(self) -> Tensor:
        """Where the stream of noise stands: `state_dict` carries it beside the weights."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """What `load_state_dict` does with it."""
        self.generator.set_state(state.cpu())

    def forward(self, x: Tensor, **options) -> Tensor:
        """The mean bound over the images x (B, D), a scalar in nats: `elbo(x, ...).elbo.mean()`.

        What `torch.compile`, `DistributedDataParallel` and training frameworks call.
        """
        return self.elbo(x, **options).elbo.mean()

    def check_images(self, x: Tensor) -> None:
        """Raise TypeError or ValueError unless x (B, D) is data of p(x|z): binary, here."""
        check_data(x, self.data_dim, binary=self.binary)

    def encode(self, x: Tensor) -> LogVarNormal:
        """q(z|x) for images x (B, D) in [0, 1]: a Normal of batch shape (B, K), with `.log_var`.

        Raises TypeError or ValueError for a wrong type or device, a wrong shape, NaN, or values
        outside [0, 1].
        """
        check_data(x, self.data_dim)
        check_like(x, next(self.parameters(), x))
        return self.encoder(x)

    def decode(self, z: Tensor) -> Bernoulli:
        """p(x|z) for latent points z (..., K): a Bernoulli of batch shape (..., D).

        Raises TypeError or ValueError for a wrong last dimension, dtype or device, or a value that
        is not finite.
        """
        check_latent(z, self.latent_dim)
        check_like(z, next(self.parameters(), z), "z")
        return self.decoder(z)

    def noise(
        self, like: Tensor, n_samples: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws of N(0, 1), (S, *like.shape), by default from the model's own stream."""
        eps = torch.randn((n_samples, *like.shape), generator=generator or self.generator)
        return eps.to(like)  # drawn on the CPU: the same noise on every device

    def rsample(
        self, q_z: Normal, n_samples: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Reparameterized draws z = mu + sigma * eps (eq. reparameterize), (S, B, K)."""
        check_positive(n_samples=n_samples)
        return q_z.mean + q_z.stddev * self.noise(q_z.mean, n_samples, generator)

    def elbo(
        self,
        x: Tensor,
        n_samples: int = 1,
        beta: float = 1.0,
        generator: torch.Generator | None = None,
        free_bits: float = 0.0,
        validate_args: bool = True,
    ) -> ElboTerms:
        """The evidence lower bound of chapter 11 (eq. elbo) for binary images x (B, D).

        Args:
            x: images (B, D) of zeros and ones.
            n_samples: S, draws of z per image for the likelihood term; the KL is exact.
            beta: weight of the KL in `.elbo`, which bounds log p(x) for beta of at least 1, the
                closest for beta = 1 (chapter 13). `.kl` itself is never scaled.
            generator: source of the noise; the model's own stream by default.
            free_bits: nats that each latent dimension may cost for free: where its KL, averaged
                over the batch, lies below, `.elbo` takes this number in its place on average
                (chapter 13, eq. free-bits), and that dimension's KL has no gradient.
            validate_args: False skips the check of x, as in `torch.distributions`: for images
                that are known to be binary.

        Returns:
            ElboTerms: elbo, log_likelihood and kl, each (B,), in nats.

        Raises:
            TypeError, ValueError: x is not a binary float tensor of shape (B, D).
        """
        if validate_args:
            self.check_images(x)
            check_like(x, next(self.parameters(), x))
        q_z = self.encoder(x)
        z = self.rsample(q_z, n_samples, generator)  # (S, B, K)
        log_likelihood = self.decoder(z).log_prob(x).sum(-1).mean(0)  # over pixels, then draws
        log_var = log_variance(q_z)
        kl_per_dim = 0.5 * (log_var.expm1() - log_var + q_z.mean**2)  # eq. gaussian-kl, (B, K)
        price = kl = kl_per_dim.sum(-1)  # over latent dimensions
        if free_bits:
            price = kl + (free_bits - kl_per_dim.mean(0)).clamp(min=0).sum()
        return ElboTerms(log_likelihood - beta * price, log_likelihood, kl)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Bernoulli means (n, D) of n draws z ~ N(0, I) decoded: new images (chapter 11)."""
        check_positive(n=n)
        like = self.decoder.head.bias.new_empty(self.latent_dim)
        return self.decoder(self.noise(like, n, generator)).mean

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Bernoulli means (B, D) at the mean of q(z|x): a picture, not a bound (chapter 11)."""
        return self.decoder(self.encode(x).mean).mean


@torch.no_grad()
def active_units(vae: VAE, x: Tensor, threshold: float = 0.01) -> Tensor:
    """Which latent dimensions are active (chapter 13, eq. active-units): (K,), True or False.

    A dimension is active if the encoder's mean for it varies from image to image: its variance
    over x (N, D) exceeds the threshold (Burda et al., 2016). Their number is `.sum()`.

    Raises TypeError or ValueError for a wrong x, or fewer than two images.
    """
    mu = vae.encode(x).mean  # (N, K)
    if len(mu) < 2:
        raise ValueError("x must hold at least two images: a variance over one is undefined")
    return mu.var(0) > threshold
