"""The page on other libraries' numbers quotes every script, and nothing that no script measured."""

import json
import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
RESULTS = json.loads((ROOT / "benchmarks/results/libraries.json").read_text(encoding="utf-8"))
SCRIPTS = sorted((ROOT / "findings").glob("*.sh"))


def quoted() -> set[str]:
    page = nbformat.read(ROOT / "book/trusted-numbers.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")
    return set(re.findall(r"\{glue:text\}`([\w.-]+)`", text))


def test_every_script_has_its_numbers_and_its_line_on_the_page():
    names = [script.stem for script in SCRIPTS]
    assert list(RESULTS["scripts"]) == names
    assert {name for name in names if f"{name}-library" in quoted()} == set(names)


def test_the_page_quotes_what_was_measured():
    known = {
        f"{name}-{key}"
        for name, script in RESULTS["scripts"].items()
        for key in ("library", *script["numbers"])
    }
    assert quoted() <= known


def test_a_script_installs_the_version_that_it_names():
    for script in SCRIPTS:
        text, stated = script.read_text(encoding="utf-8"), RESULTS["scripts"][script.stem]
        assert text.splitlines()[1].startswith(f"# {stated['library']} {stated['version']}")
        assert re.search(rf"=={re.escape(stated['version'])}\s", text), script.name
        assert "mktemp -d" in text and "em2vae" not in text
