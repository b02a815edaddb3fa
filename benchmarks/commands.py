"""How long `make test` and `make book` take and how much memory they hold, beside another version.

    git worktree add ../before COMMIT
    python benchmarks/commands.py ../before

Both checkouts work in turn, before, now, before, now, on an otherwise idle machine: two hours on
two cores. Whatever must be installed is installed first. Memory needs /proc, that is, Linux: the
largest sum over all processes of a command, browsers and kernels among them, where what several
of them share counts once.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import threading
import time
import uuid
from pathlib import Path

from results import FOLDER, write_result

ROOT = Path(__file__).parents[1]
MARK = "EM2VAE_MEASURED"  # the environment variable that processes of one command have in common
CHAPTER = "book/06-elbo"  # that one sentence is added to
COMMANDS = {  # name: what is made, whether nothing is built before
    "make test": ("test", True),
    "make book, cold": ("book", True),
    "make book, nothing changed": ("book", False),
    "make book, one sentence more": ("book", False),
}


def processes(mark: str) -> set[str]:
    """Numbers of those that have the mark in their environment, and of all that these started."""
    parents, found = {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[folder.name] = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if mark.encode() in (folder / "environ").read_bytes():
                found.add(folder.name)
        except OSError:
            continue  # it has ended, or is another user's
    while new := {p for p, parent in parents.items() if parent in found} - found:
        found |= new
    return found


def held(mark: str) -> float:
    """MB that these processes hold now, each share of shared memory counted once (PSS)."""
    total = 0
    for process in processes(mark):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def measure(checkout: Path, target: str) -> dict:
    """Seconds and the largest MB, looked at once a second."""
    mark, end, peaks = uuid.uuid4().hex, threading.Event(), [0.0]

    def watch() -> None:
        while not end.wait(1):
            peaks.append(held(mark))

    watcher = threading.Thread(target=watch)
    start = time.perf_counter()
    watcher.start()
    try:
        run = subprocess.run(
            ["make", target], cwd=checkout, env=os.environ | {MARK: mark}, capture_output=True
        )
    finally:
        end.set()
        watcher.join()
    seconds = time.perf_counter() - start
    if run.returncode:
        raise RuntimeError(f"make {target} in {checkout}:\n{run.stdout.decode()[-3000:]}")
    return {"seconds": round(seconds, 1), "MB": round(max(peaks))}


@contextlib.contextmanager
def one_sentence_more(checkout: Path):
    """A chapter that ends in a new sentence, which must have come to its page."""
    path, sentence = checkout / f"{CHAPTER}.ipynb", f"One sentence more, {uuid.uuid4().hex}."
    before = path.read_text(encoding="utf-8")
    notebook = json.loads(before)
    notebook["cells"][-1]["source"] += ["\n", "\n", sentence]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    try:
        yield
        page = checkout / f"_build/html/{CHAPTER}.html"
        if sentence not in page.read_text(encoding="utf-8"):
            raise RuntimeError(f"{page} lacks the sentence")
    finally:
        path.write_text(before, encoding="utf-8")


def compare(before: list[dict], now: list[dict]) -> dict:
    """Ratios of medians, now to before."""
    return {
        kind: round(
            statistics.median(run[kind] for run in now)
            / statistics.median(run[kind] for run in before),
            3,
        )
        for kind in ("seconds", "MB")
    }


def commit(checkout: Path) -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(
        command, cwd=checkout, check=True, capture_output=True, text=True
    ).stdout.strip()


def earlier() -> dict:
    """What is already measured, each with its own commits."""
    path = FOLDER / "commands.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: found[name] for name in COMMANDS if name in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path, help="a checkout of the version to compare with")
    parser.add_argument("--only", choices=COMMANDS, help="measure this command alone")
    parser.add_argument("--rounds", type=int, default=2, help="turns of both (default 2)")
    arguments = parser.parse_args()
    checkouts = {"before": arguments.before.resolve(), "now": ROOT}
    for checkout in checkouts.values():
        subprocess.run(["make", ".venv/stamp"], cwd=checkout, check=True)
    commits = {name: commit(folder) for name, folder in checkouts.items()}
    result = {
        "what": "seconds and peak memory (MB, PSS each second) of the two commands, in turn",
    } | earlier()
    for name in [arguments.only] if arguments.only else COMMANDS:
        target, cold = COMMANDS[name]
        runs = {"before": [], "now": []}
        for _ in range(arguments.rounds):
            for version, checkout in checkouts.items():
                if cold:
                    shutil.rmtree(checkout / "_build", ignore_errors=True)
                sentence = one_sentence_more(checkout) if "sentence" in name else None
                with sentence or contextlib.nullcontext():
                    runs[version].append(measure(checkout, target))
                print(name, version, runs[version][-1], flush=True)
        ratios = compare(runs["before"], runs["now"])
        result[name] = {"commits": commits, "runs": runs, "now to before": ratios}
        write_result("commands", result)  # what is measured so far is kept
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
