"""Chapters are executed once, and nbval reads what they printed."""

import os
from pathlib import Path

import nbformat
import notebook_form
import pytest
from execute import cache_folder, execute, executed

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[1]


@pytest.fixture
def book(tmp_path, monkeypatch):
    """An empty book, outside of which nothing is read or run."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    (tmp_path / "book").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "requirements.txt").touch()
    return tmp_path


def write(book: Path, name: str, *sources: str, stored: str = "") -> Path:
    """A chapter of these cells; what the last one prints is compared with the stored text."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    if stored:
        cells[-1].metadata.tags = [notebook_form.CHECKED]
        cells[-1].execution_count = len(cells)
        cells[-1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=stored)]
    page = nbformat.v4.new_notebook(cells=cells, metadata=notebook_form.METADATA)
    path = book / "book" / name
    nbformat.write(page, path)
    return path


COUNT = "import os\nwith open(os.environ['RUNS'], 'a') as runs:\n    runs.write('x')"


def test_chapters_run_once_in_an_empty_folder(book, capfd):
    look = "print(os.environ['OMP_NUM_THREADS'], os.listdir())\nos.path.exists('a') or 'no'"
    chapters = [write(book, f"{name}.ipynb", f"{COUNT}  # {name}", look) for name in "ab"]
    folder = cache_folder(book)
    assert executed(chapters[0], folder) is None
    assert execute(chapters, folder) == []
    assert execute(chapters, folder) == []
    assert (book / "runs").read_text() == "xx"
    printed, returned = executed(chapters[1], folder).cells[1].outputs
    assert printed.text == "1 []\n" and returned.data["text/plain"] == "'no'"
    said = capfd.readouterr()
    assert sorted(line.split(":")[0] for line in said.out.splitlines()) == ["a.ipynb", "b.ipynb"]
    assert said.err == ""


def test_a_chapter_that_fails_is_named_and_not_kept(book):
    good, bad = write(book, "good.ipynb", COUNT), write(book, "bad.ipynb", "1 / 0")
    (error,) = execute([bad, good], cache_folder(book))
    assert error.startswith("bad.ipynb: ") and "ZeroDivisionError" in error
    assert executed(bad, cache_folder(book)) is None
    assert executed(good, cache_folder(book))


def test_a_chapter_that_leaves_files_or_dies_is_named_and_not_kept(book):
    """And costs the others nothing."""
    messy = write(book, "messy.ipynb", "open('left.txt', 'w').close()")
    dead = write(book, "dead.ipynb", "import os\nos._exit(1)")
    good = write(book, "good.ipynb", COUNT)
    errors = sorted(execute([messy, dead, good], cache_folder(book)))
    assert errors[0].startswith("dead.ipynb: Kernel died")
    assert errors[1:] == ["messy.ipynb: it leaves files in its folder: left.txt"]
    assert [bool(executed(path, cache_folder(book))) for path in (messy, dead, good)] == [0, 0, 1]


def test_nbval_judges_what_was_executed(book, pytester, monkeypatch):
    """It compares each cell, and runs only the chapter that has changed since."""
    right = write(book, "right.ipynb", COUNT, "print('gap', 1.25)", stored="gap 1.25\n")
    wrong = write(book, "wrong.ipynb", COUNT, "print('gap', 1.26)", stored="gap 1.25\n")
    assert execute([right], cache_folder(book)) == []
    assert execute([wrong], cache_folder(book)) == []
    (book / "conftest.py").write_text((ROOT / "conftest.py").read_text(encoding="utf-8"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}{os.pathsep}{ROOT / 'book/_ext'}")
    options = ["--nbval-lax", "--nbval-current-env", "-p", "no:xdist", f"--rootdir={book}"]

    run = pytester.runpytest_subprocess(*options, "-v", book / "book")
    run.stdout.fnmatch_lines(["*right*::Cell 0 PASSED*", "*right*::Cell 1 PASSED*"])
    run.stdout.fnmatch_lines(["*wrong*::Cell 0 PASSED*", "*wrong*::Cell 1 FAILED*"])
    assert (book / "runs").read_text() == "xx"
    write(book, "right.ipynb", COUNT, "print('gap', 1.24)", stored="gap 1.25\n")
    run = pytester.runpytest_subprocess(*options, "-v", book / "book/right.ipynb")
    run.stdout.fnmatch_lines(["*right*::Cell 0 PASSED*", "*right*::Cell 1 FAILED*"])
    assert (book / "runs").read_text() == "xxx"
