"""Numbers for the page of questions from practice: ten seeds each, on the bundled digits.

    python benchmarks/practice.py                # all of it: 20 minutes on one core
    python benchmarks/practice.py --seeds 0 1 2  # some runs; the rest keeps its numbers
    python benchmarks/practice.py --own          # only the folder of pictures

Run r moves every seed by r: initial weights, order of the images, noise and binary images change
together. Each run measures

- latents-K: chapter 11's model and recipe with K latent dimensions: ELBO, dimensions that are
  active (eq. active-units) and those that cost more than 0.15 nats;
- colour: bits a value of chapter 17's discretized logistic, on patches of two photographs;
- stranger-NAME-SCORE: the area under the ROC curve, in per cent, with which a score tells 1,000
  pictures of a kind from the 1,000 test digits; 50 would be chance, below 50 it takes the strangers
  for the better digits. `left-out` is digit r, which that run's training never saw;
- probe-CODE-N: test accuracy in per cent of a logistic regression on N labelled images;
- free: a KL weight of 1e-6, and the scale of the codes that it leaves;
- sigma: a head whose softplus is the deviation, beside one that is the log-variance;
- saved: chapter 11's thirty epochs in one go and with a file in between, how far the weights end
  up apart, and the size of such a file of chapter 11's model;
- noise: how many times the gradient's variance grows where two processes draw the same noise;
- float: where float32 ends. These need no training and are the same in every run.

Then, once, `python -m em2vae.page` makes a page of 500 pieces of scikit-learn's two photographs.
results/practice.json holds the runs, of each number the mean and the range, and what was printed.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from PIL import Image
from results import FOLDER, write_result
from sklearn.datasets import load_digits as load_small_digits
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from em2vae import VAE, fit, iwae_bound, load, load_digits, save
from em2vae.convolutional import ConvVAE
from em2vae.data import binarize
from em2vae.densities import LogVarNormal
from em2vae.pixels import bits_per_dim
from em2vae.vae import active_units

RUNS = 10
LATENTS = (2, 4, 8, 16, 20, 32, 64)  # 20 is chapter 11's own
LABELS = (100, 4000)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(x: Tensor, latent_dim: int, seed: int, beta: float = 1.0) -> VAE:
    """Chapter 11's recipe: 22 epochs, and four in smaller steps."""
    vae = VAE(latent_dim, (400,), seed=seed)
    fit(vae, x, epochs=22, learning_rate=3e-3, beta=beta, seed=seed)
    fit(vae, x, epochs=4, learning_rate=5e-4, beta=beta)
    return vae


@torch.no_grad()
def terms(vae: VAE, x: Tensor, n_samples: int = 10):
    """ELBO, log-likelihood and KL of each image, with the same noise for every model."""
    return vae.elbo(x, n_samples, generator=seeded(0))


def bounds(vae: VAE, x: Tensor) -> dict:
    """Means of the three terms, and how many dimensions are active by chapters 13 and 12."""
    elbo, log_likelihood, kl = (term.mean().item() for term in terms(vae, x))
    with torch.no_grad():
        nats = kl_divergence(vae.encode(x), Normal(0.0, 1.0)).mean(0)  # of each dimension
    counts = {"active": active_units(vae, x).sum(), "paid": (nats > 0.15).sum()}
    return {"elbo": elbo, "log-likelihood": log_likelihood, "kl": kl} | {
        name: int(count) for name, count in counts.items()
    }


# Colour.


def patches(photo) -> Tensor:
    """A photograph (H, W, 3) of 256 levels as rows of 3 * 8 * 8 values in [0, 1]."""
    tiles = torch.from_numpy(photo.copy()).permute(2, 0, 1).unfold(1, 8, 8).unfold(2, 8, 8)
    return tiles.permute(1, 2, 0, 3, 4).flatten(0, 1).flatten(1).float() / 255


def colour(seed: int) -> dict:
    """Chapter 17's discretized logistic: bits a value on patches that it never saw."""
    every = torch.cat([patches(photo) for photo in load_sample_images().images])
    every = every[torch.randperm(len(every), generator=seeded(seed))]
    unseen, x = every[:1000], every[1000:3000]
    vae = ConvVAE(24, (32, 64), shape=(3, 8, 8), likelihood="logistic", seed=seed)
    for epochs, learning_rate in ((6, 3e-3), (2, 6e-4)):
        fit(vae, x, epochs, 50, learning_rate, "none", seed=seed)
    return {"bits": bits_per_dim(terms(vae, unseen).elbo.mean(), 192).item()}


# Strangers.


def strokes(n: int, generator: torch.Generator) -> Tensor:
    """n images (n, 784) of one straight bar, lying or standing, two pixels thick."""
    images = torch.zeros(n, 28, 28)
    for i, image in enumerate(images):
        top, left, length = (
            torch.randint(low, high, (1,), generator=generator).item()
            for low, high in ((4, 22), (4, 12), (6, 14))
        )
        image = image if i % 2 else image.T
        image[top : top + 2, left : left + length] = 1
    return images.flatten(1)


def resized(images: Tensor, size: int) -> Tensor:
    """Images (N, h, w) scaled to size x size, in the middle of 28 x 28: (N, 784)."""
    scaled = F.interpolate(images[:, None], size=(size, size), mode="bilinear", antialias=True)
    margin = (28 - size) // 2
    return F.pad(scaled, [margin] * 4).flatten(1).clamp(0, 1)


def strangers(x_test: Tensor, grey: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Kinds of pictures that are no test digits, (N, 784) each; the blank sheet is one picture."""
    small = torch.from_numpy(load_small_digits().images[:1000]).float() / 16
    square = x_test.view(-1, 28, 28)
    return {
        "blank": torch.zeros(1, 784),
        "stroke": strokes(1000, generator),
        "half-size": binarize(resized(grey.view(-1, 28, 28), 14), generator),
        "other-digits": binarize(resized(small, 20), generator),
        "mirrored": square.flip(-1).flatten(1),
        "shuffled": x_test[:, torch.randperm(784, generator=generator)],
        "inverted": 1 - x_test,
    }


@torch.no_grad()
def evidence(vae: VAE, x: Tensor) -> dict[str, Tensor]:
    """Bound with 50 draws, log-likelihood and KL of each image, in nats."""
    bound = torch.cat([iwae_bound(vae, part, 50, seeded(0)) for part in x.split(250)])
    _, log_likelihood, kl = terms(vae, x)
    return {"bound": bound, "log-likelihood": log_likelihood, "kl": kl}


def alarms(known: dict[str, Tensor]) -> dict[str, Callable]:
    """Scores that are to be high for strangers, from what training images have."""
    pair = ("log-likelihood", "kl")
    both = torch.stack([known[name] for name in pair], 1)
    whiten = torch.linalg.cholesky(torch.linalg.inv(both.T.cov()))
    return {
        "bound": lambda e: -e["bound"],
        "reconstruction": lambda e: -e["log-likelihood"],
        "kl": lambda e: e["kl"],
        "typicality": lambda e: (e["bound"] - known["bound"].mean()).abs(),
        "both-terms": lambda e: (
            (torch.stack([e[name] for name in pair], 1) - both.mean(0)) @ whiten
        ).norm(dim=1),
    }


def areas(vae: VAE, x: Tensor, x_test: Tensor, kinds: dict[str, Tensor]) -> dict:
    """Area under the ROC curve in per cent, of each kind under each score."""
    scores, digits = alarms(evidence(vae, x)), evidence(vae, x_test)
    result = {}
    for kind, images in kinds.items():
        found = evidence(vae, images)
        truth = [0] * len(x_test) + [1] * len(images)
        for name, score in scores.items():
            both = torch.cat([score(digits), score(found)])
            result[f"{kind}-{name}"] = 100 * roc_auc_score(truth, both)
        result[f"{kind}-nats"] = found["bound"].mean().item()
    return result | {"digits-nats": digits["bound"].mean().item()}


def left_out(train: tuple, test: tuple, digit: int, seed: int) -> dict:
    """The same for one digit that the training never saw."""
    (x, labels), (x_test, labels_test) = train, test
    seen, mine = x[labels != digit], labels_test == digit
    vae = trained(seen, 20, seed)
    known = binarize(seen[:1000], seeded(seed))
    return areas(vae, known, x_test[~mine], {"left-out": x_test[mine]})


# Features, codes without a price, and deviations.


def probes(vae: VAE, train: tuple, test: tuple, seed: int) -> dict:
    """Test accuracy of a logistic regression on mu, on one z, and on the pixels, in per cent."""
    (x, labels), (x_test, labels_test) = train, test
    with torch.no_grad():
        q, q_test = vae.encode(x), vae.encode(x_test)
        drawn = [vae.rsample(p, 1, seeded(seed + i))[0] for i, p in enumerate((q, q_test))]
    codes = {"mu": (q.mean, q_test.mean), "z": drawn, "pixels": (x, x_test)}
    order = torch.randperm(len(x), generator=seeded(seed))
    tens = [order[labels[order] == digit][:10] for digit in range(10)]
    result = {}
    for n, rows in zip(LABELS, (torch.cat(tens), order), strict=True):
        for name, (a, b) in codes.items():
            probe = LogisticRegression(max_iter=2000).fit(a[rows], labels[rows])
            result[f"{name}-{n}"] = 100 * probe.score(b, labels_test)
    return result


def codes_for_free(x: Tensor, x_binary: Tensor, x_test: Tensor, seed: int) -> dict:
    """A KL weight of 1e-6: the codes' deviation, its inverse, and the true bound."""
    vae = trained(x, 20, seed, beta=1e-6)
    with torch.no_grad():
        z = vae.rsample(vae.encode(x_binary), 1, seeded(seed))[0]
    found = bounds(vae, x_test)
    deviation = z.std().item()  # over images and dimensions, as latent diffusion takes it
    return {"deviation": deviation, "factor": 1 / deviation} | {
        name: found[name] for name in ("elbo", "kl")
    }


class SoftplusEncoder(nn.Module):
    """A VAE's encoder whose second output is sigma before a softplus."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.body, self.heads = encoder.body, encoder.heads

    def forward(self, x: Tensor) -> LogVarNormal:
        mu, raw = self.heads(self.body(x)).chunk(2, dim=-1)
        return LogVarNormal(mu, 2 * F.softplus(raw).log())


def deviations(x: Tensor, x_test: Tensor, seed: int) -> dict:
    """The small model of chapter 11's race with either head; raw outputs below 0 at the start."""
    models = {"log-variance": VAE(20, (64,), seed=seed), "softplus": VAE(20, (64,), seed=seed)}
    models["softplus"].encoder = SoftplusEncoder(models["softplus"].encoder)
    with torch.no_grad():
        raw = models["log-variance"].encode(x_test).log_var
    for vae in models.values():
        fit(vae, x[:1000], epochs=15, batch_size=100, learning_rate=1e-2, seed=seed)
    found = {name: terms(vae, x_test).elbo.mean().item() for name, vae in models.items()}
    gain = found["softplus"] - found["log-variance"]
    return found | {"gain": gain, "negative": 100 * (raw < 0).float().mean().item()}


def saved_half_way(x: Tensor, vae: VAE, seed: int) -> dict:
    """Thirty epochs beside eighteen, a file and twelve: the largest difference of a weight."""
    once, stopped, loaded = (VAE(5, (32,), seed=seed) for _ in range(3))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "half-way.npz"
        fit(once, x[:400], epochs=30, seed=seed)
        fit(stopped, x[:400], epochs=18, seed=seed)
        save(stopped, file)
        fit(load(loaded, file), x[:400], epochs=12)
        pairs = zip(once.parameters(), loaded.parameters(), strict=True)
        apart = max((a - b).abs().max().item() for a, b in pairs)
        save(vae, file)
        return {"apart": apart, "megabytes": file.stat().st_size / 1e6}


def noise_in_common(vae: VAE, x: Tensor, seed: int, n_draws: int = 100) -> float:
    """How many times the gradient's variance grows when two halves of a batch draw one noise."""
    variances, own = [], vae.noise
    for common in (True, False):
        generator, gradients = seeded(seed), []
        for _ in range(n_draws):
            eps = torch.randn((1, *vae.encode(x).mean.shape), generator=generator)
            if common:
                eps[:, len(x) // 2 :] = eps[:, : len(x) // 2]
            vae.noise = lambda like, n_samples, generator=None, eps=eps: eps
            gradient = torch.autograd.grad(vae(x), vae.parameters())
            gradients.append(torch.cat([g.flatten() for g in gradient]))
        variances.append(torch.stack(gradients).var(0).sum().item())
    vae.noise = own
    return variances[0] / variances[1]


def where_float32_ends() -> dict:
    """The first logit or log-variance in steps of 0.01 at which a formula breaks."""
    values = torch.arange(0, 200, 0.01)
    broken = {
        "log-sigmoid": (-values).sigmoid().log().isinf(),  # the log of a probability near 0
        "log-one-minus": (1 - values.sigmoid()).log().isinf(),
        "exp": values.exp().isinf(),  # a log-variance
    }
    return {name: values[wrong.int().argmax()].item() for name, wrong in broken.items()}


def prefixed(name: str, numbers: dict) -> dict:
    return {f"{name}-{key}": value for key, value in numbers.items()}


def run(seed: int) -> dict[str, float]:
    """All numbers of one run, by name."""
    (x, labels), (grey, labels_test) = load_digits("train"), load_digits("test")
    x_binary, x_test = binarize(x, seeded(seed)), binarize(grey, seeded(seed + 1000))
    kinds = strangers(x_test, grey, seeded(seed))
    models = {k: trained(x, k, seed) for k in LATENTS}
    vae = models[20]
    result = {}
    for k, model in models.items():
        result |= prefixed(f"latents-{k}", bounds(model, x_test))
    result["latents-20-train"] = terms(vae, x_binary).elbo.mean().item()
    result |= prefixed("colour", colour(seed))
    result |= prefixed("stranger", areas(vae, x_binary[:1000], x_test, kinds))
    pairs = (x, labels), (x_test, labels_test)
    alone = left_out(*pairs, digit=seed % 10, seed=seed)
    result |= prefixed("stranger", {k: v for k, v in alone.items() if k.startswith("left-out")})
    result |= prefixed("probe", probes(vae, (x_binary, labels), pairs[1], seed))
    result |= prefixed("free", codes_for_free(x, x_binary, x_test, seed))
    result |= prefixed("sigma", deviations(x, x_test, seed))
    result |= prefixed("saved", saved_half_way(x, vae, seed))
    result["noise-start"] = noise_in_common(VAE(20, (400,), seed=seed), x_binary[:128], seed)
    result["noise-trained"] = noise_in_common(vae, x_binary[:128], seed)
    return result | prefixed("float", where_float32_ends())


def photographs(folder: Path, n: int) -> None:
    """n JPEG files of 360 to 876 pixels a side: pieces of two photographs, in two subfolders."""
    draw = torch.Generator().manual_seed(0)
    for name, photo in zip(("temple", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir()
        for i in range(n // 2):
            size = torch.randint(90, 220, (2,), generator=draw).tolist()
            top, left = (
                torch.randint(0, whole - part, (1,), generator=draw).item()
                for whole, part in zip(photo.shape, size, strict=False)
            )
            piece = Image.fromarray(photo[top : top + size[0], left : left + size[1]])
            piece.resize((4 * size[1], 4 * size[0])).save(folder / name / f"{i:03}.jpg")


def own_page(n: int = 500) -> dict:
    """What the command prints that makes a page of a folder, and the seconds that it takes."""
    with TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        photographs(photos, n)
        command = [sys.executable, "-m", "em2vae.page", "photos", "page.html", "--color"]
        start = time.perf_counter()
        run = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    return {"printed": run.stdout.splitlines(), "seconds": round(seconds)}


def digits(name: str) -> int:
    """Decimals that a number is worth, by its unit."""
    if name.endswith(("active", "paid")):
        return 0
    if name.startswith(("stranger", "sigma-negative")) and not name.endswith("nats"):
        return 0
    if name == "free-factor":
        return 3
    return 2 if name.startswith(("colour", "free-deviation", "float")) else 1


def summary(runs: dict[str, dict[str, float]]) -> dict:
    """Of each number: its mean and its range over the runs, and the decimals that it is worth."""
    result = {}
    for name in next(iter(runs.values())):
        values, decimals = [numbers[name] for numbers in runs.values()], digits(name)
        ends = [round(end, decimals) for end in (min(values), max(values))]
        mean = round(math.fsum(values) / len(values), decimals)
        result[name] = {"mean": mean, "range": ends, "decimals": decimals}
    return result


def write(runs: dict[str, dict[str, float]], own: dict) -> None:
    """All that there is so far, into results/practice.json."""
    runs = dict(sorted(runs.items(), key=lambda pair: int(pair[0])))
    path = write_result("practice", {
        "what": "numbers for the questions from practice, over seeds, on the bundled digits",
        "command": "python benchmarks/practice.py",
        "settings": {
            "images": "4,000 to learn from, 1,000 for the test, drawn black or white",
            "model": "784-400-K-400-784 and chapter 11's recipe, unless the name says else",
            "elbo": "10 draws of z for each test image, in nats",
            "areas": "bound with 50 draws; per cent; 50 is chance",
        },
        "numbers": summary(runs),
        "own": own,
        "runs": runs,
    })  # fmt: skip
    print(f"{len(runs)} runs in {os.path.relpath(path)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = range(RUNS)
    parser.add_argument("--seeds", type=int, nargs="+", choices=every, default=every)
    parser.add_argument("--own", action="store_true", help="only make the page of a folder")
    given, file = parser.parse_args(), FOLDER / "practice.json"
    old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    runs, own = old.get("runs", {}), old.get("own", {})
    for seed in () if given.own else given.seeds:
        runs[str(seed)] = {name: round(value, 4) for name, value in run(seed).items()}
        write(runs, own)
    if given.own or given.seeds == every:
        write(runs, own_page())


if __name__ == "__main__":
    main()
