"""How long each chapter takes to execute, kernel start and imports included.

python benchmarks/chapters.py
"""

import os
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from results import write_result

BOOK = Path(__file__).parents[1] / "book"
CHAPTER_GOAL, BOOK_GOAL = 20, 240  # seconds on two cores


def execute(path: Path) -> float:
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": BOOK}}).execute()
    return time.perf_counter() - start


def main() -> None:
    seconds = {path.stem: round(execute(path), 1) for path in sorted(BOOK.glob("*.ipynb"))}
    for name, value in seconds.items():
        print(f"{name:24}{value:7.1f} s  (goal: {CHAPTER_GOAL})")
    print(f"{'the book':24}{sum(seconds.values()):7.1f} s  (goal: {BOOK_GOAL})")
    result = {"what": "seconds to execute each chapter", "seconds": seconds}
    print("written to", os.path.relpath(write_result("chapters", result)))


if __name__ == "__main__":
    main()
