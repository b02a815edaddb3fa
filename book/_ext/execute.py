"""Executes the chapters that have changed, several at once, into the cache from which the site is
built and with which nbval compares.

    python book/_ext/execute.py
"""

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from nbformat import NotebookNode

TIMEOUT = 300  # s a cell, as in _config.yml
AT_ONCE = 4  # each takes up to half a gigabyte
QUIET = {"extra_arguments": ["--log-level=ERROR"]}  # no warning about a kernel's TCP port


def sources(folder: Path) -> list[Path]:
    """The files below a folder that are ours, not made by Python, pip, JupyterLab or macOS."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(
            part.startswith(".") or part == "__pycache__" or part.endswith(".egg-info")
            for part in path.relative_to(folder).parts
        )
    ]


def dependencies(root: Path) -> list[Path]:
    """The pins, the library, and the benchmarks' results that chapters show."""
    names = ("claims", "libraries", "quality", "lab", "practice")
    results = (root / f"benchmarks/results/{name}.json" for name in names)
    results = filter(Path.exists, results)  # a small test book has none
    return [root / "requirements.txt", *sources(root / "src"), *results]


def hash_files(root: Path, files: list[Path]) -> str:
    """A short hash of the names and contents of files."""
    digest = sha256()
    for path in files:
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def cache_folder(root: Path) -> Path:
    """The execution cache, in a folder named after all that results depend on besides the cells.

    jupyter-cache looks at the cells alone and would miss a change in src/, a pin or a result.
    `jupyter-book clean .` keeps .jupyter_cache, hence the place.
    """
    return root / "_build" / ".jupyter_cache" / hash_files(root, dependencies(root))


def executed(path: Path, folder: Path) -> NotebookNode | None:
    """The notebook as it was executed, or None if the cache has no run of its present cells."""
    cache = get_cache(str(folder))
    try:
        record = cache.match_cache_notebook(nbformat.read(path, as_version=4))
    except KeyError:
        return None
    return cache.get_cache_bundle(record.pk).nb


def run(path: Path) -> CacheBundleIn:
    """Execute a notebook in an empty folder, where it must leave nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = nbformat.read(path, as_version=4)
        result = single_nb_execution(notebook, folder, timeout=TIMEOUT, allow_errors=False, **QUIET)
        if result.err:
            raise result.err
        if left := os.listdir(folder):
            raise RuntimeError(f"it leaves files in its folder: {', '.join(left)}")
    return CacheBundleIn(result.nb, str(path), data={"execution_seconds": result.time})


def execute(paths: list[Path], folder: Path) -> list[str]:
    """Run the notebooks that the cache lacks and keep those that end; returns errors of others."""
    # More threads than cores would wait for each other by spinning, and one thread a kernel makes
    # all runs print the same digits.
    os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    cache = get_cache(str(folder))
    errors = []
    with ThreadPoolExecutor(min(AT_ONCE, os.cpu_count() or 1)) as pool:
        runs = {pool.submit(run, path): path for path in paths if not executed(path, folder)}
        for done in as_completed(runs):
            name = runs[done].name
            if error := done.exception():
                errors.append(f"{name}: {error}")
                print(f"{name}: fails", flush=True)
            else:
                bundle = done.result()
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
                print(f"{name}: {bundle.data['execution_seconds']:.0f} s", flush=True)
    return errors


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    chapters = sorted((root / "book").glob("*.ipynb"))
    sys.exit("\n".join(execute(chapters, cache_folder(root))) or 0)
