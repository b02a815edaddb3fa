"""The pages of the site, from the table of contents, and how the site is built."""

import shutil
import subprocess
import sys
from pathlib import Path

from em2vae_book import dependencies, sources
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build" / "html"
DOCNAMES = list(parse_toc_yaml(ROOT / "_toc.yml"))
PAGES = [*DOCNAMES, "search"]
UNSET_FORMULAS = """() =>
    [...document.querySelectorAll(".math")]
        .filter((e) => !e.querySelector("mjx-container") || e.querySelector("mjx-merror"))
        .map((e) => e.textContent)
"""


def out_of_date(built: Path) -> bool:
    """Whether the built file is missing or older than a source."""
    files = [ROOT / "_config.yml", ROOT / "_toc.yml", *sources(ROOT / "book")]
    files += dependencies(ROOT)
    return not built.exists() or max(p.stat().st_mtime for p in files) > built.stat().st_mtime


def build(root: Path, **options) -> None:
    """What `make book` does, with the tools of the running Python."""
    tool = shutil.which("jupyter-book", path=str(Path(sys.executable).parent)) or "jupyter-book"
    for command in (["clean", "."], ["build", ".", "-W", "-n", "--keep-going"]):
        run = subprocess.run(
            [tool, *command], cwd=root, capture_output=True, text=True, check=False, **options
        )
        if run.returncode:
            # The next run must build again.
            (root / "_build/html/index.html").unlink(missing_ok=True)
            raise RuntimeError(f"{' '.join(run.args)} failed:\n{run.stdout}\n{run.stderr}")


def faults(page) -> list[str]:
    """What an open page lacks: its title, one visible headline, formulas that are set."""
    missing = [] if page.title() else ["no title"]
    if (count := page.locator("h1:visible").count()) != 1:
        missing.append(f"{count} headlines")
    return missing + [f"not set: {formula}" for formula in page.evaluate(UNSET_FORMULAS)]
