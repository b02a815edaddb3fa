"""Conditional and semi-supervised VAEs (chapter 16): p(x|y, z), and q(y|x) where y is unknown."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence
from torch.nn.functional import linear, one_hot

from em2vae.checks import check_data, check_latent, check_like, check_positive
from em2vae.densities import LogVarNormal
from em2vae.vae import VAE, Decoder, ElboTerms, Encoder


class ConditionalVAE(VAE):
    """A VAE whose two networks are told the label y: q(z|x, y) and p(x|y, z) (chapter 16).

    The label enters as C numbers, a one and zeros, beside the image in the encoder and beside z
    in the decoder. The prior of z is N(0, I) whatever the label.

    Args:
        latent_dim, hidden_dims, data_dim, activation, seed: as in `VAE`.
        n_classes: C, the number of labels, which are 0 to C - 1.

    Raises:
        ValueError: a size is not a whole number of at least 1, or there is no hidden layer.
    """

    def __init__(
        self,
        latent_dim: int = 20,
        hidden_dims: tuple[int, ...] = (400,),
        data_dim: int = 784,
        n_classes: int = 10,
        activation: type[nn.Module] = nn.ReLU,
        seed: int = 0,
    ) -> None:
        super().__init__(latent_dim, hidden_dims, data_dim, activation, seed)
        check_positive(n_classes=n_classes)
        self.hidden_dims, self.n_classes, self.activation = hidden_dims, n_classes, activation
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = Encoder(data_dim + n_classes, hidden_dims, latent_dim, activation)
            self.decoder = Decoder(latent_dim + n_classes, hidden_dims[::-1], data_dim, activation)

    def forward(self, x: Tensor, labels: Tensor, **options) -> Tensor:
        """The mean bound over images x (B, D) and their labels (B,), a scalar in nats."""
        return self.elbo(x, labels, **options).elbo.mean()

    def encode(self, x: Tensor, labels: Tensor) -> LogVarNormal:
        """q(z|x, y) for images x (B, D) in [0, 1] and labels (B,): a Normal, (B, K).

        Raises TypeError or ValueError as `VAE.encode` does, and unless labels are B whole numbers
        from 0 to C - 1.
        """
        check_data(x, self.data_dim)
        check_like(x, next(self.parameters(), x))
        return self.encoder(self._beside(x, labels))

    def decode(self, z: Tensor, labels: Tensor) -> Bernoulli:
        """p(x|y, z) for points z (..., K) and labels (...,), or (B,) for z (S, B, K): (..., D).

        Raises TypeError or ValueError as `VAE.decode` does, and for labels that do not fit.
        """
        check_latent(z, self.latent_dim)
        check_like(z, next(self.parameters(), z), "z")
        return self.decoder(self._beside(z, labels))

    def elbo(
        self,
        x: Tensor,
        labels: Tensor | None,
        n_samples: int = 1,
        beta: float = 1.0,
        generator: torch.Generator | None = None,
        validate_args: bool = True,
    ) -> ElboTerms:
        """The lower bound on log p(x|y) of chapter 16 (eq. conditional-elbo).

        Args:
            x: images (B, D) of zeros and ones.
            labels: theirs (B,), always checked; None: every label, and the terms are (C, B).
            n_samples, beta, generator, validate_args: as in `VAE.elbo`.

        Returns:
            ElboTerms: elbo, log_likelihood and kl, each (B,), in nats.

        Raises:
            TypeError, ValueError: x is not a binary float tensor of shape (B, D), or labels are
                not B whole numbers from 0 to C - 1.
        """
        if validate_args:
            check_data(x, self.data_dim, binary=True)
            check_like(x, next(self.parameters(), x))
        if labels is None:
            q_z, labels = self._encode_under_all(x)
        else:
            q_z = self.encoder(self._beside(x, labels))
        z = self.rsample(q_z, n_samples, generator)  # (S, B, K)
        log_p = self.decoder(self._beside(z, labels)).log_prob(x)  # (S, B, D)
        log_likelihood = log_p.sum(-1).mean(0)  # over pixels, then draws
        kl = kl_divergence(q_z, Normal(0.0, 1.0)).sum(-1)  # over latent dimensions
        return ElboTerms(log_likelihood - beta * kl, log_likelihood, kl)

    def _encode_under_all(self, x: Tensor) -> tuple[LogVarNormal, Tensor]:
        """q(z|x, y) under each label, (C, B, K), and those labels (C, B), by eq. shifted-bias."""
        first, *others = self.encoder.body
        hidden = linear(x, first.weight[:, : self.data_dim], first.bias)  # (B, H), once for all
        hidden = hidden + first.weight[:, self.data_dim :].T[:, None]  # (C, B, H)
        q_z = LogVarNormal(*self.encoder.heads(nn.Sequential(*others)(hidden)).chunk(2, dim=-1))
        return q_z, torch.arange(self.n_classes, device=x.device)[:, None].expand(-1, len(x))

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Bernoulli means (n, D) of z ~ N(0, I) and the labels asked for (n,)."""
        weight = self.decoder.head.bias
        z = self.noise(weight.new_empty(len(labels), self.latent_dim), 1, generator)[0]
        return self.decode(z, labels).mean

    @torch.no_grad()
    def reconstruct(self, x: Tensor, labels: Tensor) -> Tensor:
        """Bernoulli means (B, D) at the mean of q(z|x, y): a picture, not a bound."""
        return self.decode(self.encode(x, labels).mean, labels).mean

    @torch.no_grad()
    def given(self, label: int) -> VAE:
        """What this model is for one label: a VAE, with weights of its own (eq. shifted-bias).

        A one beside the input adds a column of the first layer's weights to its bias. So
        `iwae_bound(cvae.given(7), x)` bounds log p(x|y = 7), as for any VAE.

        Raises TypeError or ValueError if label is not a whole number from 0 to C - 1.
        """
        self._check_labels(torch.as_tensor(label))
        vae = VAE(self.latent_dim, self.hidden_dims, self.data_dim, self.activation)
        for name, size in (("encoder", self.data_dim), ("decoder", self.latent_dim)):
            state = getattr(self, name).state_dict()
            weight = state["body.0.weight"]
            state["body.0.bias"] = state["body.0.bias"] + weight[:, size + label]
            state["body.0.weight"] = weight[:, :size]
            getattr(vae, name).load_state_dict(state)
        return vae.to(weight)

    def _beside(self, values: Tensor, labels: Tensor) -> Tensor:
        """Images or latent points (..., n) with the labels as ones and zeros: (..., n + C)."""
        self._check_labels(labels)
        shape = values.shape[:-1]
        if labels.shape != shape[len(shape) - labels.ndim :] or labels.ndim < min(len(shape), 1):
            raise ValueError(f"labels must have shape {tuple(shape)}, got {tuple(labels.shape)}")
        y = one_hot(labels.long(), self.n_classes).to(values)
        return torch.cat([values, y.expand(*shape, -1)], dim=-1)

    def _check_labels(self, labels: Tensor) -> None:
        kind = getattr(labels, "dtype", type(labels).__name__)
        if isinstance(kind, str) or kind.is_floating_point or kind == torch.bool:
            raise TypeError(f"labels must be an integer tensor, got {kind}")
        low, high = (e.item() for e in labels.aminmax()) if labels.numel() else (0, 0)
        if low < 0 or high >= self.n_classes:
            raise ValueError(f"labels must lie in 0..{self.n_classes - 1}, but hold {low}..{high}")


class SemiSupervisedVAE(nn.Module):
    """A conditional VAE with a classifier q(y|x), for images whose label nobody wrote down.

    The second model of Kingma et al. (2014) with a uniform p(y); chapter 16 derives its bounds.

    Args:
        cvae: the conditional VAE.
        classifier: from images (B, D) to the C logits of q(y|x), (B, C).
    """

    def __init__(self, cvae: ConditionalVAE, classifier: nn.Module) -> None:
        super().__init__()
        self.cvae, self.classifier, self.data_dim = cvae, classifier, cvae.data_dim

    def forward(self, x: Tensor, labels: Tensor | None = None, **options) -> Tensor:
        """The mean bound over images x (B, D), with their labels or without, a scalar in nats."""
        return self.elbo(x, labels, **options).elbo.mean()

    def classify(self, x: Tensor) -> Categorical:
        """q(y|x) for images x (B, D) in [0, 1]; TypeError or ValueError as in `VAE.encode`."""
        check_data(x, self.data_dim)
        check_like(x, next(self.parameters(), x))
        return Categorical(logits=self.classifier(x))

    def elbo(self, x: Tensor, labels: Tensor | None = None, **options) -> ElboTerms:
        """The bound on log p(x, y) if labels (B,) are given, else on log p(x), y summed out.

        Both are E[log p(x|y, z)] - E[KL(q(z|x, y) || p(z))] - KL(q(y) || p(y)), where q(y) is sure
        of a known label, and q(y|x) for an unknown one (eq. labelled-elbo, unlabelled-elbo).
        `options` and errors are those of `ConditionalVAE.elbo`; `.kl` holds both divergences.
        """
        n_classes, beta = self.cvae.n_classes, options.get("beta", 1.0)
        if labels is not None:
            _, log_likelihood, kl = self.cvae.elbo(x, labels, **options)
            kl = kl + math.log(n_classes)
        else:
            terms = self.cvae.elbo(x, None, **options)
            _, log_likelihoods, kls = (t.T for t in terms)  # (B, C) each
            log_q = self.classifier(x).log_softmax(-1)  # (B, C)
            log_likelihood = (log_q.exp() * log_likelihoods).sum(-1)  # over labels
            kl = (log_q.exp() * (kls + log_q + math.log(n_classes))).sum(-1)
        return ElboTerms(log_likelihood - beta * kl, log_likelihood, kl)
