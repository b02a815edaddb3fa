"""How often the claims about training hold: chapters 06 to 19 again, with other seeds.

    python benchmarks/claims.py                        # all of it, on two cores
    python benchmarks/claims.py --only free-bits-gain  # some claims, by name or by chapter

A page shows one run. Here the code cells of its chapter run as they stand, once for each seed, with
every seed in them moved: initial weights, order of the images, noise and binarization change
together, and the first run is the page's own. claims.toml lists the claims: each is a number made
of what the cells leave behind, and it holds where that lies between two limits. The pages read the
counts from results/claims.json.
"""

import argparse
import contextlib
import copy
import io
import json
import math
import os
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import matplotlib
import matplotlib.pyplot as plt
import torch
from results import FOLDER, write_result
from torch import nn
from torch.distributions import MultivariateNormal

from em2vae import VAE, BernoulliMixture, fit, iwae_bound
from em2vae.convolutional import ConvVAE
from em2vae.data import binarize
from em2vae.sequence import SequenceVAE

BOOK = Path(__file__).parents[1] / "book"
TABLE = Path(__file__).with_suffix(".toml")
SEEDS = 10  # runs of every chapter
STEP = 10_000  # from one run's seeds to the next one's: more than any seed in a chapter


class Claim(NamedTuple):
    """One claim of a page; `number` is written in the names of its chapter's cells."""

    name: str
    chapter: int
    sentence: str
    effect: str  # what the number is, with its unit
    number: str
    above: float = 0.0
    below: float = math.inf
    digits: int = 1  # of the range that the page shows


class Names(dict):
    """What the cells of a chapter leave behind, also as attributes."""

    __getattr__ = dict.__getitem__


CLAIMS = [
    Claim(name, **claim) for name, claim in tomllib.loads(TABLE.read_text(encoding="utf-8")).items()
]


# What the chapters do not train themselves: longer, or with another activation.


def longer_encoders(c: Names) -> dict:
    """Chapter 09: mean gaps of the small encoder after 4,000 steps, of a large one after 1,000."""
    gaps = {}
    for name, widths, steps in (("small", (4,), 4000), ("fresh", (64, 64), 1000)):
        encoder = VAE(2, widths, activation=nn.SiLU).encoder
        gaps[name] = c.mean_gaps(c.train_encoder(encoder, c.x_train, n_steps=steps, lr=1e-2))
    return gaps


def other_recipes(c: Names) -> dict:
    """Chapter 10: other VAEs under the table's grid, and features after a longer training."""
    short = {"epochs": 18, "batch_size": 256, "learning_rate": 1e-2}
    nine = {"epochs": 20, "learning_rate": 4e-3, "seed": 1}
    recipes = {
        "SiLU": (nn.SiLU, [short]),
        "23 epochs": (nn.ReLU, [{**short, "epochs": 23}]),
        "chapter 09": (nn.SiLU, [nine, {"epochs": 3, "learning_rate": 1e-3, "seed": 2}]),
    }
    extra, prior = {}, MultivariateNormal(c.zero, c.eye)
    for name, (activation, stages) in recipes.items():
        vae = VAE(2, (64, 64), activation=activation, seed=int(name == "chapter 09"))
        for stage in stages:
            fit(vae, c.x_train, **stage)
        grid = c.likelihood_on_grid(lambda z, vae=vae: vae.decode(z).logits, c.unit, c.x_test[:100])
        extra[name] = c.log_p_x(grid, prior).item()
    radius = [z.norm(dim=-1) for z in (c.ae.encode(c.x_test), c.vae.encode(c.x_test).mean)]
    outside = [100 * (r > 2).float().mean().item() for r in radius]
    return {**extra, **slow_features(c), "outside": outside[0] - outside[1]}


def slow_features(c: Names) -> dict:
    """Accuracies of the codes in 16 dimensions after 60 epochs at a tenth of the step size."""
    autoencoder, vae = c.Autoencoder(latent_dim=16), VAE(latent_dim=16, hidden_dims=(64, 64))
    fit(vae, c.x_train, epochs=60, batch_size=256, learning_rate=1e-3)
    generator = torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(autoencoder.parameters(), lr=1e-3, fused=True)
    for _ in range(60):
        for batch in torch.randperm(len(c.x_train), generator=generator).split(256):
            loss = c.copy_loss(autoencoder, binarize(c.x_train[batch], generator)).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
    with torch.no_grad():
        codes = [autoencoder.encode(x) for x in (c.x_train_binary, c.x_test)]
        means = [vae.encode(x).mean for x in (c.x_train_binary, c.x_test)]
    return {"ae-16": c.probe(*codes), "vae-16": c.probe(*means)}


def fifty_prototypes(c: Names) -> dict:
    """Chapter 11: the largest mixture of chapter 03, from another start."""
    x = binarize(c.x_train)
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:50]
    mixture = BernoulliMixture(torch.full((50,), 1 / 50), 0.25 + 0.5 * x[rows])
    mixture.fit(x, n_steps=40, tolerance=0.05)
    return {"prototypes": mixture.log_likelihood(c.x_test).mean().item()}


def beside_linear(c: Names) -> dict:
    """Chapter 13: networks above the linear model of the same rate, and a longer training."""
    above = {s: p["distortion"] - at_rate(c.curve, p["rate"]) for s, p in c.points.items()}
    kl = c.join(epochs=12)[2].sum().item()
    return {"above linear": above, "plain, 12 epochs": kl}


def at_rate(curve: list[tuple], rate: float) -> float:
    """The second number of a curve of pairs, falling in the first, interpolated at a rate."""
    for (r1, d1), (r2, d2) in pairwise(curve):
        if r1 >= rate >= r2:
            return d1 + (d2 - d1) * (r1 - rate) / max(r1 - r2, 1e-12)
    return curve[0][1] if rate > curve[0][0] else curve[-1][1]


def early_log(c: Names) -> dict:
    """Chapter 14: the log after one epoch, and how many images hold what a search leaves."""
    young = VAE(latent_dim=2, hidden_dims=(64, 64), activation=nn.SiLU)
    log = fit(young, c.x_grey, epochs=1, batch_size=100, learning_rate=3e-3).elbo[0]
    weights = young.elbo(c.x_train, 10).elbo.mean().item()
    shares = c.refined.clamp(min=0).sort(descending=True).values.cumsum(0)
    holders = (shares < 0.75 * shares[-1]).sum().item() + 1
    return {"lag": weights - log, "holders": holders}


def returning_pixels(c: Names) -> dict:
    """Chapter 15: what becomes of ink pixels behind a clamped tanh, and exhibit 12's code."""
    x, eps = binarize(c.x_train), torch.randn(len(c.x_train), 8)

    def logits(vae):
        mu, log_var = vae.encoder.heads(vae.encoder.body(x)).chunk(2, dim=-1)
        return vae.decoder(c.reparameterize(mu, log_var, eps)).logits

    start, clamped = VAE(latent_dim=8, hidden_dims=(128,), seed=0), c.train(c.clamp)
    with torch.no_grad():
        below = (x == 1) & (logits(start) < 0)
        end = logits(clamped)
    broadcast = c.train(c.partial(c.program, log_prob=c.one_channel_with_bug))
    kl = broadcast.elbo(c.x_test).kl.mean().item()
    return {"returned": 100 * (end[below] > 0).float().mean().item(), "broadcast kl": kl}


def dense_rivals(c: Names) -> dict:
    """Chapter 17: what is trained beside the convolutions, as there are fewer images."""
    extra = {}
    for name, width in (("dense", 400), ("small", 64)):
        rival = VAE(20, (width,))
        fit(rival, c.x_grey, epochs=22, learning_rate=3e-3)  # as in chapter 11
        fit(rival, c.x_grey, epochs=4, learning_rate=5e-4)
        extra[name] = c.test_bound(rival, n_samples=4)
        extra[f"{name} weighted"] = weighted_bound(c, rival)
    for name, passes in (("conv", (4, 1)), ("longer", (9, 2))):
        conv = ConvVAE(20)
        for epochs, step in zip(passes, (8e-3, 1.5e-3), strict=True):
            fit(conv, c.x_grey, epochs=epochs, batch_size=32, learning_rate=step)
        extra[name] = c.test_bound(conv, n_samples=4)
        extra[f"{name} weighted"] = weighted_bound(c, conv)
        if name == "conv":
            extra["train"] = c.test_bound(conv, binarize(c.x_grey))
    for n, passes in ((1000, 10), (250, 40)):
        images = c.x_grey[:n]
        extra["conv", n] = c.best_bound(ConvVAE(20), images, passes)
        for name, width in (("dense", 400), ("small", 64)):
            more = {"dense": 2, "small": 4}[name] * passes  # in about the same time
            rival = VAE(20, (width,))
            extra[name, n] = c.best_bound(rival, images, more, learning_rate=2e-3)
    extra["pass"] = seconds(c, ConvVAE(20), 32) / seconds(c, VAE(20, (400,)), 128)
    for longest in (math.inf, 100.0):
        extra["clip", longest] = clipped(c, longest)
    return extra


def seconds(c: Names, vae: VAE, batch_size: int) -> float:
    """Chapter 17: processor time of two passes over the images."""
    start = time.process_time()
    fit(vae, c.x_grey, epochs=2, batch_size=batch_size)
    return time.process_time() - start


def weighted_bound(c: Names, vae: VAE) -> float:
    """Chapters 17 and 18: with 50 draws inside the logarithm, on 300 test images."""
    with torch.no_grad():
        return iwae_bound(vae, c.x_test[:300], 50, c.seeded()).mean().item()


def clipped(c: Names, longest: float) -> float:
    """Chapter 17: the test bound of a short training whose gradients are no longer than this."""
    vae, x = ConvVAE(20), binarize(c.x_grey[:1000])
    adam = torch.optim.Adam(vae.parameters(), lr=4e-3, maximize=True)
    for batch in torch.randperm(6000, generator=c.seeded()).remainder(1000).split(32):
        bound = vae.elbo(x[batch]).elbo.mean()
        adam.zero_grad()
        bound.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), longest)
        adam.step()
    return c.test_bound(vae)


def beside_words(c: Names) -> dict:
    """Chapter 18: words exchanged on all test images, a longer list, and chapters 11 and 17."""
    words = torch.cat([c.exchange(c.vqvae, c.prior, part) for part in c.x_test.split(250)])
    extra = {"exchanged": c.two_part(c.vqvae, c.prior, c.x_test, words).elbo}
    dense, conv, longer = VAE(20, (400,)), ConvVAE(20), c.VQVAE(n_words=64)
    fit(dense, c.x_grey, epochs=22, learning_rate=3e-3)  # as in chapter 11
    fit(dense, c.x_grey, epochs=4, learning_rate=5e-4)
    fit(conv, c.x_grey, epochs=4, batch_size=32, learning_rate=8e-3)  # the race of chapter 17
    fit(conv, c.x_grey, epochs=1, batch_size=32, learning_rate=1.5e-3)
    extra |= {"dense weighted": weighted_bound(c, dense), "conv weighted": weighted_bound(c, conv)}
    fit(longer, c.x_grey, epochs=4, batch_size=32, learning_rate=8e-3)
    fit(longer, c.x_grey, epochs=1, batch_size=32, learning_rate=1.6e-3)
    prior = c.WordPrior(n_words=64)
    fit(prior, longer.encode(c.x_train), epochs=3, learning_rate=1e-2, **c.options)
    fit(prior, longer.encode(c.x_train), epochs=1, learning_rate=2e-3, **c.options)
    with torch.no_grad():
        extra["64 words"] = c.two_part(longer, prior, c.x_test).elbo.mean().item()
    return extra


def remedies(c: Names) -> dict:
    """Chapter 19: other remedies, codes whose start is over, and longer trainings."""
    rivals = {
        "anneal": c.annealed(SequenceVAE(2, 48)),
        "dropout": c.train(SequenceVAE(2, 48, word_dropout=0.3)),
        "longer": trained_on(c, c.model, passes=5, free_bits=1.1),
    }
    known = {"longer": c.nats(trained_on(c, c.codeless, passes=5))}  # of the same decoder, no code
    extra = {}
    for name, model in rivals.items():
        price = known.get(name, c.honest) - c.nats(model, 100 if name == "longer" else 30)
        extra |= {name: price, f"{name} kl": c.means(model)[2]}
    bound, _, extra["blind kl"] = c.means(c.subsidized(SequenceVAE(2, 48, reach=0)))
    extra["blind"] = bound - c.frequencies["unigram"]
    for name, model in (("full", c.model), ("short", c.short)):
        extra[f"released {name}"] = c.means(trained_on(c, model, passes=2, step=2e-2))[2]
    return extra


def trained_on(c: Names, model: nn.Module, passes: int, step=6e-3, **options) -> nn.Module:
    """Chapter 19: a copy after more passes, the last with a smaller step."""
    model, options = copy.deepcopy(model), {"batch_size": 128, "binarize": "none", **options}
    fit(model, c.x, passes - 1, learning_rate=step, **options)
    fit(model, c.x, 1, learning_rate=step / 5, **options)
    return model.eval()


EXTRA = {
    9: longer_encoders,
    10: other_recipes,
    11: fifty_prototypes,
    13: beside_linear,
    14: early_log,
    15: returning_pixels,
    17: dense_rivals,
    18: beside_words,
    19: remedies,
}


# Running a chapter with other seeds.


@contextlib.contextmanager
def moved_seeds(run: int) -> Iterator[None]:
    """Every seed that is set within counts STEP further for each run."""
    plain = torch.manual_seed

    class Generator(torch.Generator):
        def manual_seed(self, seed):
            return super().manual_seed(seed + STEP * run)

    moved = {"Generator": Generator, "manual_seed": lambda seed: plain(seed + STEP * run)}
    with patch.multiple(torch, **moved):
        torch.manual_seed(0)
        yield


def chapter_path(chapter: int) -> Path:
    return next(BOOK.glob(f"{chapter:02d}-*.ipynb"))


def code_cells(chapter: int) -> list[str]:
    """The sources that a run executes: without live controls and the glue of these results."""
    cells = json.loads(chapter_path(chapter).read_text(encoding="utf-8"))["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    kept = [c for c in code if "live-only" not in c["metadata"].get("tags", [])]
    sources = ["".join(c["source"]) for c in kept]
    return [s for s in sources if 'load_results("claims")' not in s]


def execute(chapter: int) -> Names:
    """Run a chapter's cells: the names they leave, with the numbers that they glued in `glued`."""
    glued = {}

    def glue(name, value, display=True):
        glued[name] = value

    names = Names(__name__="chapter")
    with patch("myst_nb.glue", glue):
        for i, source in enumerate(code_cells(chapter)):
            exec(compile(source, f"chapter {chapter}, code cell {i}", "exec"), names)
    names["glued"] = glued
    return names


def run_chapter(chapter: int, run: int) -> dict[str, float]:
    """The effects of a chapter's claims, by name, from one run of its cells."""
    matplotlib.use("agg")
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)  # chapter 08 leaves another
    os.chdir(BOOK)
    out, bars = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with moved_seeds(run), out, bars:
        names = execute(chapter)
        names["extra"] = EXTRA[chapter](names) if chapter in EXTRA else {}
    names |= {"pairwise": pairwise, "torch": torch}
    plt.close("all")
    with torch.no_grad():
        return {
            claim.name: float(eval(claim.number, names))
            for claim in CLAIMS
            if claim.chapter == chapter
        }


def entry(claim: Claim, effects: list[float]) -> dict:
    """What the results say about one claim; `held` counts the effects that lie in its range."""
    digits = claim.digits
    effects = [round(effect, digits + 2) + 0.0 for effect in effects]
    ends = [round(end, digits) + 0.0 for end in (min(effects), max(effects))]
    return {
        "chapter": claim.chapter,
        "sentence": claim.sentence,
        "effect": claim.effect,
        "holds above": claim.above if math.isfinite(claim.above) else None,
        "holds below": claim.below if math.isfinite(claim.below) else None,
        "held": sum(claim.above < effect < claim.below for effect in effects),
        "seeds": len(effects),
        "range": [int(end) for end in ends] if digits == 0 else ends,
        "effects": effects,
    }


def merge(entries: dict[str, dict]) -> None:
    """Write the entries into results/claims.json, beside what it holds of other claims."""
    path = FOLDER / "claims.json"
    known = json.loads(path.read_text(encoding="utf-8"))["claims"] if path.exists() else {}
    known |= entries
    result = {
        "what": "how often the book's claims about training hold, each over several seeds",
        "command": "python benchmarks/claims.py",
        "settings": {
            "runs": "the code cells of each chapter as they stand, one run a seed",
            "seeds": f"the chapter's, {STEP:,} further in every run; the first is the page's",
            "held": "the number of effects above `holds above` and below `holds below`",
        },
        "claims": {claim.name: known[claim.name] for claim in CLAIMS if claim.name in known},
    }
    write_result("claims", result)


def chosen(only: list[str]) -> list[Claim]:
    """The claims that the words name, each by its own name or by its chapter's number."""
    unknown = set(only) - {c.name for c in CLAIMS} - {str(c.chapter) for c in CLAIMS}
    if unknown:
        sys.exit(f"no claim and no chapter is called {', '.join(sorted(unknown))}")
    return [c for c in CLAIMS if not only or c.name in only or str(c.chapter) in only]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], help="names of claims, or chapters")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs of every chapter")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    options = parser.parse_args()
    claims, failed = chosen(options.only), []
    torch.set_num_threads(1)  # as in the workers
    with ProcessPoolExecutor(options.workers) as pool:
        for chapter in sorted({claim.chapter for claim in claims}):
            start = time.perf_counter()
            try:
                runs = list(pool.map(run_chapter, [chapter] * options.seeds, range(options.seeds)))
            except Exception as error:  # the other chapters' results are not lost for it
                failed.append(f"chapter {chapter}: {error!r}")
                continue
            own = [claim for claim in claims if claim.chapter == chapter]
            entries = {claim.name: entry(claim, [r[claim.name] for r in runs]) for claim in own}
            merge(entries)
            print(f"chapter {chapter}, {time.perf_counter() - start:.0f} s", flush=True)
            for name, e in entries.items():
                low, high = e["range"]
                print(f"  {name:24} {e['held']:2} of {e['seeds']}, {low} to {high}", flush=True)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
