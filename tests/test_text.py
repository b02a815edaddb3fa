"""What holds for every text of the project, whatever it is for."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("book", "src", "tests", "benchmarks", "findings")
KINDS = {".css", ".ipynb", ".js", ".md", ".py", ".sh", ".toml", ".txt", ".yml"}
MARKS = tuple(7 * mark + " " for mark in "<>")  # what git leaves around two versions of a line


def test_no_merge_is_left_half_done():
    paths = [*ROOT.glob("*"), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*"))]
    texts = [path for path in paths if path.suffix in KINDS]
    assert len(texts) > 200
    left = [path for path in texts for line in path.read_text("utf-8").splitlines()
            if line.lstrip(' "').startswith(MARKS)]  # fmt: skip
    assert left == []


def test_no_text_points_to_a_chapter_that_is_not_there():
    chapters = {path.name[:2] for path in (ROOT / "book").glob("[0-9][0-9]-*.ipynb")}
    texts = [
        p for folder in ("book", "src") for p in (ROOT / folder).rglob("*") if p.suffix in KINDS
    ]
    named = {(path.name, number.zfill(2)) for path in texts
             for number in re.findall(r"\bchapter (\d+)\b", path.read_text("utf-8"))}  # fmt: skip
    assert len(named) > 50
    assert {(name, number) for name, number in named if number not in chapters} == set()
