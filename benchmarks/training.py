"""How long an epoch of training takes: ours, a plain DataLoader's, the classic script's, the floor.

    EM2VAE_DATA=path/to/mnist.npz python benchmarks/training.py

All four take turns in one process, epoch by epoch, and each round gives its own ratios: the speed
of a machine may change within seconds. The medians of the rounds are the result.
"""

import os
import statistics
import sys
import time
from types import ModuleType

import torch
from results import write_result
from torch import nn
from torch.nn.functional import binary_cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from em2vae import VAE, fit, load_digits
from em2vae.data import binarize

# Beside a PyTorch of another build torchvision's compiled operators are missing, and this module
# of theirs stops the import. What is used here is plain Python.
sys.modules["torchvision._meta_registrations"] = ModuleType("operators that are not needed here")
from torchvision.datasets import MNIST  # noqa: E402
from torchvision.transforms import ToTensor  # noqa: E402

EPOCHS = 20
BOUND_AFTER, BOUND_SEEDS = 3, 5  # epochs; one seed moves a bound by 0.3 nats
BATCH_SIZE = 128
LEARNING_RATE = 1e-3
LATENT_DIM, HIDDEN_DIM, DATA_DIM = 20, 400, 784
TEST_SAMPLES = 10  # draws of z an image for the test bound
WAYS = {
    "fit": "em2vae.fit",
    "dataloader": "the same model and stochastic binarization, DataLoader over a TensorDataset, "
    "default Adam",
    "classic": "the classic script's loop: torchvision's MNIST with ToTensor for every image, "
    "sigmoid, summed binary cross-entropy on grey values, default Adam, the loss read after every "
    "batch",
    "floor": "the matrix products of forward and backward alone",
}


def new_vae(seed: int = 0) -> VAE:
    return VAE(latent_dim=LATENT_DIM, hidden_dims=(HIDDEN_DIM,), data_dim=DATA_DIM, seed=seed)


class DataLoaderTraining:
    """What most people write first, with the model and the bound of the book."""

    def __init__(self, x, labels, seed=0):
        self.model = new_vae(seed)
        self.loader = DataLoader(TensorDataset(x, labels), batch_size=BATCH_SIZE, shuffle=True)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)

    def epoch(self):
        for batch, _ in self.loader:
            loss = -self.model.elbo(torch.bernoulli(batch)).elbo.mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


class TransformedImages(MNIST):
    """torchvision's own dataset, which makes every image a Pillow image, then a tensor."""

    def __init__(self, x, labels):  # without its download
        self.data, self.targets = (x * 255).round().byte().reshape(-1, 28, 28), labels
        self.transform, self.target_transform = ToTensor(), None


class ClassicVAE(nn.Module):
    """The classic network: probabilities out of a sigmoid, noise from the global stream."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(DATA_DIM, HIDDEN_DIM)
        self.mu = nn.Linear(HIDDEN_DIM, LATENT_DIM)
        self.log_var = nn.Linear(HIDDEN_DIM, LATENT_DIM)
        self.unfold = nn.Linear(LATENT_DIM, HIDDEN_DIM)
        self.pixels = nn.Linear(HIDDEN_DIM, DATA_DIM)

    def forward(self, x):
        h = self.hidden(x).relu()
        mu, log_var = self.mu(h), self.log_var(h)
        z = mu + (0.5 * log_var).exp() * torch.randn_like(mu)
        return self.pixels(self.unfold(z).relu()).sigmoid(), mu, log_var


class ClassicTraining:
    def __init__(self, x, labels):
        self.model = ClassicVAE()
        self.loader = DataLoader(TransformedImages(x, labels), batch_size=BATCH_SIZE, shuffle=True)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)

    def epoch(self):
        total = 0.0
        for batch, _ in self.loader:
            self.optimizer.zero_grad()
            x = batch.view(-1, DATA_DIM)
            p, mu, log_var = self.model(x)
            kl = -0.5 * (1 + log_var - mu**2 - log_var.exp()).sum()
            loss = binary_cross_entropy(p, x, reduction="sum") + kl
            loss.backward()
            total += loss.item()
            self.optimizer.step()


class MatrixProducts:
    """Every layer's output, weight gradient and, but for the first layer, input gradient."""

    def __init__(self, x):
        self.n_batches = -(-len(x) // BATCH_SIZE)
        sizes = [(DATA_DIM, HIDDEN_DIM), (HIDDEN_DIM, 2 * LATENT_DIM)]
        sizes += [(LATENT_DIM, HIDDEN_DIM), (HIDDEN_DIM, DATA_DIM)]
        self.products = []  # (left, right, result)
        for number, (n_in, n_out) in enumerate(sizes):
            inputs, weight = torch.rand(BATCH_SIZE, n_in), torch.rand(n_out, n_in)
            outputs = torch.rand(BATCH_SIZE, n_out)
            self.products += [(inputs, weight.T, torch.empty_like(outputs))]
            self.products += [(outputs.T, inputs, torch.empty_like(weight))]
            if number:
                self.products += [(outputs, weight, torch.empty_like(inputs))]

    def epoch(self):
        for _ in range(self.n_batches):
            for left, right, result in self.products:
                torch.mm(left, right, out=result)


def race(x, labels) -> dict[str, list[float]]:
    """Seconds of every epoch of every way.

    The others run between the epochs of `fit`, each round in another order, so that a slow
    moment of the machine hits all alike; `fit` itself does not count the time they take.
    """
    torch.manual_seed(0)
    others = {
        "dataloader": DataLoaderTraining(x, labels),
        "classic": ClassicTraining(x, labels),
        "floor": MatrixProducts(x),
    }
    seconds = {name: [] for name in others}

    def run_others(epochs_done):
        names = list(others) if epochs_done < EPOCHS else []
        for name in names[epochs_done % 3 :] + names[: epochs_done % 3]:
            start = time.perf_counter()
            others[name].epoch()
            seconds[name].append(time.perf_counter() - start)

    history = fit(new_vae(), x, EPOCHS, BATCH_SIZE, LEARNING_RATE, seed=0, on_epoch=run_others)
    return {"fit": history.seconds, **seconds}


def race_bounds(x, labels, test) -> dict[str, list[float]]:
    """The test bounds, seed by seed, of the two ways that share the model."""
    bounds = {"fit": [], "dataloader": []}
    for seed in range(BOUND_SEEDS):
        model = new_vae(seed)
        fit(model, x, BOUND_AFTER, BATCH_SIZE, LEARNING_RATE, seed=seed)
        bounds["fit"].append(mean_bound(model, test))
        torch.manual_seed(seed)
        other = DataLoaderTraining(x, labels, seed)
        for _ in range(BOUND_AFTER):
            other.epoch()
        bounds["dataloader"].append(mean_bound(other.model, test))
    return bounds


@torch.no_grad()
def mean_bound(model: VAE, x) -> float:
    """The mean ELBO of binary images x, z sampled, in nats; the same noise for every model."""
    generator = torch.Generator().manual_seed(0)
    parts = [model.elbo(part, TEST_SAMPLES, generator=generator).elbo for part in x.split(1_000)]
    return torch.cat(parts).mean().item()


def summarize(seconds, bounds) -> dict:
    def ratio(name):
        rounds = zip(seconds["fit"], seconds[name], strict=True)
        return round(statistics.median([ours / theirs for ours, theirs in rounds]), 3)

    means = {name: statistics.mean(values) for name, values in bounds.items()}
    return {
        "what": "training 784-400-20 on all of MNIST, seconds an epoch",
        "settings": {
            "epochs": EPOCHS,
            "batch_size": BATCH_SIZE,
            "learning_rate": LEARNING_RATE,
            "training_images": 60_000,
            "test_bound": f"after {BOUND_AFTER} epochs, mean of {BOUND_SEEDS} seeds; 10,000 test "
            f"images binarized once, {TEST_SAMPLES} draws of z an image",
        },
        "ways": WAYS,
        "seconds_of_each_epoch": {k: [round(s, 3) for s in v] for k, v in seconds.items()},
        "seconds_median_epoch": {k: round(statistics.median(s), 3) for k, s in seconds.items()},
        "fit_divided_by": {name: ratio(name) for name in seconds if name != "fit"},
        "test_bound_of_each_seed": {k: [round(b, 2) for b in v] for k, v in bounds.items()},
        "test_bound_nats": {name: round(mean, 2) for name, mean in means.items()},
        "test_bound_difference_nats": round(abs(means["fit"] - means["dataloader"]), 2),
    }


def show(result: dict) -> None:
    print(f"{'':12}{'s/epoch':>10}{'fit / it':>10}{'test bound':>12}")
    for name, value in result["seconds_median_epoch"].items():
        ratio = result["fit_divided_by"].get(name, 1.0)
        bound = result["test_bound_nats"].get(name, "")
        print(f"{name:12}{value:10.2f}{ratio:10.2f}{bound:>12}")
    print("goals: fit / dataloader at most 0.67, fit / classic at most 0.33, bounds within 0.5")


def main() -> None:
    if not os.environ.get("EM2VAE_DATA"):
        sys.exit("This benchmark needs all of MNIST: set EM2VAE_DATA to the path of an mnist.npz")
    x, labels = load_digits("train", source="mnist")
    test = binarize(load_digits("test", source="mnist")[0])
    result = summarize(race(x, labels), race_bounds(x, labels, test))
    show(result)
    print("written to", os.path.relpath(write_result("training", result)))


if __name__ == "__main__":
    main()
