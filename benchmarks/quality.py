"""How good a VAE gets in ten minutes on two cores: full MNIST, the protocol of Burda et al. (2016).

    EM2VAE_DATA=path/to/mnist.npz python benchmarks/quality.py

Two models with one stochastic layer, both binarized anew at every step: one trained on the ELBO,
one on the importance-weighted bound. Chapter 14 shows the results beside the published ones.
"""

import math
import os
import sys
import time

import torch
from results import write_result
from torch import nn
from torch.distributions import Bernoulli
from tqdm import tqdm

from em2vae import VAE, iwae_bound, load_digits
from em2vae.data import binarize
from em2vae.vae import active_units

LATENT_DIM = 50
BATCH_SIZE = 256
PEAK_LEARNING_RATE = 3e-3
MODELS = {  # draws in the training bound: the widths, and as many epochs as ten minutes allow
    1: {"hidden_dims": (500, 500), "epochs": 100},
    3: {"hidden_dims": (400, 400), "epochs": 80},
}
TEST_SAMPLES = 5_000  # draws an image for the estimate of log p(x)
TEST_IMAGES = 1_000  # for which it is made: every tenth of the test set
ELBO_SAMPLES = 20


def train(x, n_samples: int, hidden_dims: tuple, epochs: int) -> tuple[VAE, float]:
    """The model that maximizes the bound with n_samples draws, and the seconds it took."""
    vae = VAE(LATENT_DIM, hidden_dims, activation=nn.SiLU, seed=0)
    generator = torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(vae.parameters(), fused=True)
    n_steps = epochs * -(-len(x) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, PEAK_LEARNING_RATE, n_steps)
    start = time.perf_counter()
    for _ in tqdm(range(epochs), desc=f"k = {n_samples}", leave=False):
        for indices in torch.randperm(len(x), generator=generator).split(BATCH_SIZE):
            batch = binarize(x[indices], generator)
            if n_samples == 1:
                bound = vae.elbo(batch, generator=generator).elbo
            else:
                bound = iwae_bound(vae, batch, n_samples, generator)
            adam.zero_grad()
            (-bound.mean()).backward()
            adam.step()
            schedule.step()
    return vae, time.perf_counter() - start


@torch.no_grad()
def evaluate(vae: VAE, x) -> dict:
    """Bounds on log p(x) of binary test images x (N, D), in nats.

    The many draws are spent on some of the images. The ELBO is known for all of them, so the mean
    difference of the two on the few turns it into an estimate for all that hardly varies.
    """
    noise = torch.Generator().manual_seed(0)
    elbo = torch.cat([vae.elbo(part, ELBO_SAMPLES, generator=noise).elbo for part in x.split(500)])
    few = slice(None, None, len(x) // TEST_IMAGES)
    tight = torch.cat([iwae_bound(vae, p, TEST_SAMPLES, noise) for p in tqdm(x[few].split(20))])
    gap = tight - elbo[few]
    return {
        "elbo": mean_and_error(elbo),
        "L": mean_and_error(tight),
        "L_minus_elbo": mean_and_error(gap),
        "L_of_all_images": round((elbo.mean() + gap.mean()).item(), 2),
        "active_units": int(active_units(vae, x).sum()),
    }


def mean_and_error(values) -> list[float]:
    return [round(values.mean().item(), 2), round(values.std().item() / math.sqrt(len(values)), 2)]


def main() -> None:
    if not os.environ.get("EM2VAE_DATA"):
        sys.exit("This benchmark needs all of MNIST: set EM2VAE_DATA to the path of an mnist.npz")
    x, x_test = (load_digits(split, source="mnist")[0] for split in ("train", "test"))
    result = {
        "what": "VAEs with one stochastic layer on all of MNIST, in nats an image",
        "command": "EM2VAE_DATA=path/to/mnist.npz python benchmarks/quality.py",
        "settings": {
            "latent_dim": LATENT_DIM,
            "activation": "SiLU",
            "prior, encoder, decoder": "N(0, I), diagonal normal, Bernoulli",
            "binarization": "training images anew at every step, test images once",
            "optimizer": f"Adam, one cycle of the learning rate up to {PEAK_LEARNING_RATE}",
            "batch_size": BATCH_SIZE,
            "seed": 0,
            "elbo": f"{ELBO_SAMPLES} draws of z for each of {len(x_test):,} test images",
            "L": f"{TEST_SAMPLES:,} draws for each of {TEST_IMAGES:,} test images",
            "L_of_all_images": "elbo of all test images + mean of L_minus_elbo",
            "pairs of numbers": "mean and standard error over images",
        },
        "entropy_of_grey_test_images": mean_and_error(Bernoulli(x_test).entropy().sum(-1)),
        "models": [],
    }
    for n_samples, how in MODELS.items():
        vae, seconds = train(x, n_samples, **how)
        numbers = {"seconds": round(seconds), **evaluate(vae, binarize(x_test))}
        result["models"].append({"training_samples": n_samples, **how, **numbers})
        print(result["models"][-1])
    print("goals: L of all images above -87.5 for 1 draw and -86.5 for more, in 600 seconds")
    print("written to", os.path.relpath(write_result("quality", result)))


if __name__ == "__main__":
    main()
