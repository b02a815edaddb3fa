"""The lab beside `fit`: seconds of an epoch, the bound after training, and what its page claims.

    python benchmarks/lab.py                    all of it, half an hour on two cores
    python benchmarks/lab.py --only epochs      or bounds, claims, page

Training runs in headless browsers, as the page's worker would, from the page's own files; "page"
watches the built page (Linux: memory is read from /proc).
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from commands import MARK, processes
from playwright.sync_api import sync_playwright
from results import FOLDER, write_result
from site_load import weight

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/site"), str(ROOT / "book/_ext")]
from browsers import find_browser  # noqa: E402
from engines import Firefox, WebKit  # noqa: E402
from server import serve  # noqa: E402

from em2vae import VAE, fit, load_digits  # noqa: E402
from em2vae.interactive.figure import HERE  # noqa: E402
from em2vae.interactive.vae_lab import DEFAULTS, pack_bytes  # noqa: E402

TURNS, EPOCHS_A_TURN = 5, 4
SEEDS, EPOCHS = 5, 15
MINUTES = 10
CLAIM_SEEDS = 10
# Reports and judgements after each epoch; `changes` are settings from an epoch on.
TRAIN = """async (settings, epochs, changes) => {
    const training = lab.createTraining(await lab.newKernel(), lab.data, settings);
    const records = [];
    let seconds = 0;
    for (let epoch = 1; epoch <= epochs; epoch++) {
        if (changes && changes[epoch]) training.change(changes[epoch]);
        const start = performance.now();
        let terms;
        do terms = training.advance(); while (!terms.epoch);
        seconds += (performance.now() - start) / 1000;
        const judged = training.judge();
        records.push({ ...terms.epoch, judged: { ...judged, klPerDim: [...judged.klPerDim] } });
    }
    return { seconds: seconds / epochs, records };
}"""
PAGE = """<!doctype html><title>lab</title><script type="module">
const read = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
const lab = { ...(await import("./module.js")) };
const set = async (name) => (
  { pixels: await read(`${name}.pixels`), labels: await read(`${name}.labels`) });
lab.data = { train: await set("train"), test: await set("test") };
const wasm = await read("kernel.wasm");
lab.newKernel = () => lab.wasmKernel(wasm);
window.lab = lab;
</script>"""


def write_files(folder: Path) -> Path:
    """A page that holds the lab's arithmetic and its digits."""
    names = ("shared", "vae_lab_math", "vae_lab_worker")
    code = "\n".join((HERE / f"{name}.js").read_text(encoding="utf-8") for name in names)
    (folder / "module.js").write_text(code, encoding="utf-8")
    (folder / "kernel.wasm").write_bytes((HERE / "vae_lab.wasm").read_bytes())
    (folder / "index.html").write_text(PAGE, encoding="utf-8")
    for split in ("train", "test"):
        x, labels = load_digits(split)
        (folder / f"{split}.pixels").write_bytes(pack_bytes(x))
        (folder / f"{split}.labels").write_bytes(labels.byte().numpy().tobytes())
    return folder


class Chromium:
    """As Firefox and WebKit in engines.py."""

    def __init__(self, path: str, folder: Path, server) -> None:
        self.playwright = sync_playwright().start()
        self.browser = self.playwright.chromium.launch(executable_path=path, args=["--disable-gpu"])
        self.page = self.browser.new_page()
        self.page.set_default_timeout(600_000)

    def open(self, url: str) -> None:
        self.page.goto(url)

    def run(self, script: str, *values):
        return self.page.evaluate(f"(values) => ({script})(...values)", list(values))

    def close(self) -> None:
        self.browser.close()
        self.playwright.stop()


@contextlib.contextmanager
def opened(kind, server, folder: Path):
    name = kind.__name__.lower()
    path = find_browser(name)
    profile = Path(tempfile.mkdtemp(dir=folder))
    engine = kind(path, profile, server)
    try:
        engine.open(f"{server.url}index.html")
        deadline = time.monotonic() + 30
        while not engine.run("() => Boolean(window.lab)"):
            assert time.monotonic() < deadline, name
            time.sleep(0.1)
        yield lambda settings, epochs, changes=None: engine.run(
            TRAIN, DEFAULTS | settings, epochs, changes
        )
    finally:
        engine.close()


def with_fit(epochs: int, seed: int = 0):
    """The same model and settings in Python: seconds an epoch, and the held-out bound."""
    x = load_digits("train")[0]
    vae = VAE(2, (64, 64), seed=seed)
    seconds = fit(
        vae, x, epochs=epochs, batch_size=100, learning_rate=DEFAULTS["learningRate"], seed=seed
    ).seconds
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.bernoulli(load_digits("test")[0], generator=generator)
    with torch.no_grad():
        bound = vae.elbo(held_out, n_samples=10, generator=generator).elbo.mean().item()
    return statistics.mean(seconds[1:]) if epochs > 1 else seconds[0], bound


def measure_epochs(server, folder: Path) -> dict:
    """Seconds of an epoch, each engine in turn with `fit` on all threads."""
    found = {}
    for kind in (Chromium, Firefox, WebKit):
        times = {"fit": [], "lab": []}
        with opened(kind, server, folder) as train:
            train({}, 1)
            for _ in range(TURNS):
                times["fit"].append(with_fit(EPOCHS_A_TURN)[0])
                times["lab"].append(train({}, EPOCHS_A_TURN)["seconds"])
        medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
        ratios = [lab / fit for lab, fit in zip(times["lab"], times["fit"], strict=True)]
        found[kind.__name__] = {
            **medians,
            "ratio": round(statistics.median(ratios), 2),
            "from": round(min(ratios), 2),
            "to": round(max(ratios), 2),
        }
        print(kind.__name__, found[kind.__name__], flush=True)
    return found


def measure_bounds(server, folder: Path) -> dict:
    """Held-out bounds after the default training, by seed."""
    found = {"epochs": EPOCHS, "lab": [], "fit": []}
    with opened(Chromium, server, folder) as train:
        for seed in range(SEEDS):
            judged = train({"seed": seed}, EPOCHS)["records"][-1]["judged"]
            found["lab"].append(round(judged["elbo"], 2))
            found["fit"].append(round(with_fit(EPOCHS, seed)[1], 2))
    means = {name: statistics.mean(found[name]) for name in ("lab", "fit")}
    found["lab minus fit"] = round(means["lab"] - means["fit"], 2)
    print(found, flush=True)
    return found


def active(record: dict) -> int:
    """Latent dimensions that cost more than a tenth of a nat."""
    return sum(kl > 0.1 for kl in record["judged"]["klPerDim"])


def flattered(record: dict) -> float:
    """By how many nats the program's report in training exceeds the right held-out bound."""
    return record["elbo"] - record["judged"]["elbo"]


def bound(record: dict) -> float:
    return record["judged"]["elbo"]


class Claim(NamedTuple):
    """What the page says of run A, beside run B where there is one."""

    effect: Callable  # of the records of A and B
    least: float  # what it must exceed
    a: dict
    b: dict | None = None
    epochs: int = 10
    changes: dict | None = None  # settings of A from an epoch on


WIDE, NARROW = {"latent": 8}, {"latent": 10, "beta": 4}
FEW = {"latent": 10, "hidden": 256, "batch": 10, "images": 100}
CLAIMS = {
    "beta 4 closes dimensions": Claim(
        lambda a, b: active(b[-1]) - active(a[-1]), 0, NARROW, {"latent": 10}
    ),
    "beta 1 opens some again": Claim(
        lambda a, b: active(a[19]) - active(a[9]), 0, NARROW, None, 20, {11: {"latent": 10}}
    ),
    "broadcast: divergence": Claim(
        lambda a, b: 1 - a[-1]["judged"]["kl"], 0, WIDE | {"bug": "broadcast"}
    ),
    "averaged: flatters": Claim(
        lambda a, b: flattered(a[-1]) - flattered(b[-1]), 5, WIDE | {"bug": "kl-mean"}, WIDE
    ),
    "averaged: divergence": Claim(
        lambda a, b: a[-1]["judged"]["kl"] - b[-1]["judged"]["kl"],
        5,
        WIDE | {"bug": "kl-mean"},
        WIDE,
    ),
    "squared: flatters": Claim(
        lambda a, b: flattered(a[-1]) - flattered(b[-1]), 0, WIDE | {"bug": "variance"}, WIDE
    ),
    "averaged: flatters early": Claim(
        lambda a, b: flattered(a[4]), 0, WIDE | {"bug": "kl-mean"}, epochs=5
    ),
    "squared: divergence": Claim(
        lambda a, b: a[-1]["judged"]["kl"] - a[-1]["kl"], 1, WIDE | {"bug": "variance"}
    ),
    "relu: loses": Claim(lambda a, b: bound(b[-1]) - bound(a[-1]), 5, WIDE | {"bug": "relu"}, WIDE),
    "tanh: loses": Claim(
        lambda a, b: bound(b[-1]) - bound(a[-1]), 100, WIDE | {"bug": "tanh"}, WIDE
    ),
    "step: loses": Claim(
        lambda a, b: bound(b[-1]) - bound(a[-1]), 100, WIDE | {"bug": "step"}, WIDE
    ),
    "few images: overfit": Claim(
        lambda a, b: max(map(bound, a)) - bound(a[-1]),
        5,
        FEW,
        None,
        100,
    ),
    "few images: turn": Claim(
        lambda a, b: max(range(len(a)), key=lambda n: bound(a[n])) + 1,
        10,
        FEW,
        None,
        100,
    ),
    "first epoch: excess": Claim(lambda a, b: a[0]["kl"] - a[0]["judged"]["kl"], 0, WIDE, epochs=1),
}


def measure_claims(server, folder: Path) -> dict:
    """For how many of ten seeds each claim of the page held, and the range of its effect."""
    found = {}
    with opened(Chromium, server, folder) as train:
        known = {}

        def records(settings, epochs, changes):
            key = json.dumps([settings, epochs, changes])
            if key not in known:
                known[key] = train(settings, epochs, changes)["records"]
            return known[key]

        for name, claim in CLAIMS.items():
            effects = []
            for seed in range(CLAIM_SEEDS):
                own = {"seed": seed}
                changes = claim.changes and {
                    epoch: DEFAULTS | settings | own for epoch, settings in claim.changes.items()
                }
                first = records(claim.a | own, claim.epochs, changes)
                second = claim.b and records(claim.b | own, claim.epochs, None)
                effects.append(round(claim.effect(first, second), 2))
            held = sum(value > claim.least for value in effects)
            found[name] = {
                "held": held,
                "seeds": CLAIM_SEEDS,
                "range": [min(effects), max(effects)],
            }
            print(name, found[name], flush=True)
    return found


# Seconds in which a page that trains is watched: frames a second, and the longest task in seconds.
WATCH = """async (seconds) => {
    let [frames, longest] = [0, 0];
    new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
    }).observe({ type: "longtask" });
    const start = performance.now();
    while (performance.now() - start < 1000 * seconds) {
        await new Promise(requestAnimationFrame);
        frames++;
    }
    return { "frames a second": frames / seconds, "longest task, s": longest / 1000 };
}"""

# `painted`: milliseconds until the frame that first shows the figure is on its way.
FIRST_PAINT = """new MutationObserver((_, observer) => {
    if (!document.querySelector("figure.em2vae[data-state=ready]")) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => { window.painted = performance.now(); }));
}).observe(document, { subtree: true, childList: true, attributeFilter: ["data-state"] });"""


def page_memory(mark: str) -> float:
    """MB of the page's process, its workers in it; the browser draws itself in others, smaller."""
    found = []
    for process in processes(mark):
        command = Path(f"/proc/{process}/cmdline").read_text()
        if "--type=renderer" in command:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            found.append(next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")))
    return max(found) / 1024


def measure_page(server, folder: Path) -> dict:
    """The built page: its weight and first paint, and what it holds while it trains for long."""
    site, mark = ROOT / "_build/html", uuid.uuid4().hex
    found = {"HTML, gzipped, MB": round(weight(site / "book/lab.html") / 1e6, 3)}
    with serve(site) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_browser("chromium", playwright.chromium.executable_path),
            args=["--disable-gpu"],
            env=os.environ | {MARK: mark},
        )
        paints = []
        for _ in range(TURNS):
            page = browser.new_page()
            page.add_init_script(FIRST_PAINT)
            page.goto(f"{server.url}book/lab.html", wait_until="commit")
            page.wait_for_function("window.painted")
            paints.append(page.evaluate("painted") / 1000)
            page.close()
        found["first figure, s"] = round(statistics.median(paints), 2)
        page = browser.new_page()
        page.goto(f"{server.url}book/lab.html")
        page.wait_for_selector("figure.em2vae[data-state=ready]")
        page.get_by_role("button", name="Train", exact=True).click()
        page.wait_for_timeout(2000)
        found |= {name: round(value, 3) for name, value in page.evaluate(WATCH, 20).items()}
        found["MB after minutes"] = {}
        for minute in range(1, MINUTES + 1):
            page.wait_for_timeout(60_000)
            found["MB after minutes"][minute] = round(page_memory(mark))
        browser.close()
    print(found, flush=True)
    return found


MEASURES = {
    "epochs": measure_epochs,
    "bounds": measure_bounds,
    "claims": measure_claims,
    "page": measure_page,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=MEASURES, help="measure this alone; the rest is kept")
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serve(write_files(folder)) as server:
            for key in [only] if only else MEASURES:
                found = MEASURES[key](server, folder)
                if key == "page":  # the page shows the others: it would be built anew
                    write_result("lab_page", found)
                else:
                    write_result("lab", earlier() | {key: found})


def earlier() -> dict:
    """What is already measured."""
    path = FOLDER / "lab.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: found[name] for name in MEASURES if name in found}


if __name__ == "__main__":
    main()
