"""The notebooks in git have their committed form, and the tool that checks it sees every fault."""

import sys
from pathlib import Path

import nbformat
import notebook_form
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
CHECKED = {"tags": ["nbval-check-output"]}


def test_the_book_has_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_in_its_committed_form(path):
    assert notebook_form.check(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_checked_cells_print_numbers_not_verdicts(path):
    cells = [cell for _, cell in notebook_form.code_cells(notebook_form.read(path))]
    lines = [line for cell in cells for line in notebook_form.printed(cell).splitlines()]
    verdicts = [line for line in lines if line.rstrip().endswith(("True", "False"))]
    assert len(verdicts) <= len(lines) / 10, verdicts


def good_notebook():
    """A chapter without a fault: a figure with alt text and five checked cells."""
    alt = {"mystnb": {"image": {"alt": "a rising line"}}}
    cells = [nbformat.v4.new_markdown_cell("# A chapter", id="title")]
    cells += [code("import matplotlib.pyplot as plt\n\nplt.plot([1, 2])", "figure", alt)]
    cells += [code(f"print({i})", f"checked-{i}", CHECKED, f"{i}\n") for i in range(5)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook_form.to_form(notebook)
    return notebook


def code(source, name, metadata=(), text=""):
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
    return nbformat.v4.new_code_cell(source, id=name, metadata=dict(metadata), outputs=outputs)


def write(notebook, path):
    path.write_text(notebook_form.serialize(notebook), encoding="utf-8")
    return path


@pytest.fixture
def chapter(tmp_path):
    return write(good_notebook(), tmp_path / "01-chapter.ipynb")


def test_a_good_notebook_has_no_fault(chapter):
    assert notebook_form.check(chapter) == []


def drop_stored_value(figure, checked):
    checked.outputs, checked.execution_count = [], None


def store_blank_value(figure, checked):
    checked.outputs[0].text = "\n"


def keep_stray_text(figure, checked):
    figure.outputs = [nbformat.v4.new_output("stream", name="stdout", text="left over\n")]


def keep_stray_picture(figure, checked):
    figure.outputs = [nbformat.v4.new_output("display_data", data={"image/png": "iVBO"})]


def store_a_result_too(figure, checked):
    checked.outputs.append(nbformat.v4.new_output("execute_result", data={"text/plain": "3"}))


def forget_the_count(figure, checked):
    checked.execution_count = None


def keep_another_count(figure, checked):
    checked.execution_count += 1


def count_an_unchecked_cell(figure, checked):
    figure.execution_count = 1


def keep_editor_metadata(figure, checked):
    figure.metadata["collapsed"] = True


def write_a_long_cell(figure, checked):
    figure.source += "\nx = 1" * 13


def use_a_line_magic(figure, checked):
    figure.source = "%matplotlib inline\n" + figure.source


def use_the_shell(figure, checked):
    figure.source = "files = !ls"


def drop_alt_text(figure, checked):
    del figure.metadata["mystnb"]


def write_blank_alt_text(figure, checked):
    figure.metadata["mystnb"]["image"]["alt"] = " "


def draw_with_the_library(figure, checked):
    figure.source = "from em2vae.figures import image_grid\n\nimage_grid(x)"
    del figure.metadata["mystnb"]


def untag(figure, checked):
    checked.metadata.pop("tags")
    checked.outputs, checked.execution_count = [], None


def skip_the_comparison(figure, checked):
    checked.metadata["tags"].append("nbval-skip")


def allow_a_difference(figure, checked):
    figure.metadata["tolerance"] = 1


def allow_no_difference(figure, checked):
    checked.metadata["tolerance"] = 0.0


def allow_a_large_share(figure, checked):
    checked.outputs[0].text = "rate 4.0 after 2,369.4 steps\n"
    checked.metadata["tolerance"] = 0.06


def allow_many_units(figure, checked):
    checked.outputs[0].text = "rate 4.0 after 2,369.4 steps\n"
    checked.metadata["tolerance"] = 19


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (drop_stored_value, "code cell 6: tagged nbval-check-output but holds no stored text"),
        (store_blank_value, "code cell 6: tagged nbval-check-output but holds no stored text"),
        (keep_stray_text, "code cell 1: holds outputs"),
        (keep_stray_picture, "code cell 1: holds outputs"),
        (store_a_result_too, "not in its committed form"),
        (forget_the_count, "not in its committed form"),
        (keep_another_count, "not in its committed form"),
        (count_an_unchecked_cell, "not in its committed form"),
        (keep_editor_metadata, "not in its committed form"),
        (write_a_long_cell, "code cell 1: 16 lines of visible code"),
        (use_a_line_magic, "code cell 1: not plain Python"),
        (use_the_shell, "code cell 1: not plain Python"),
        (drop_alt_text, "code cell 1: draws a figure that has no alt text"),
        (write_blank_alt_text, "code cell 1: draws a figure that has no alt text"),
        (draw_with_the_library, "code cell 1: draws a figure that has no alt text"),
        (untag, "4 cells are tagged nbval-check-output"),
        (skip_the_comparison, "code cell 6: tagged nbval-check-output and {'nbval-skip'}"),
        (allow_a_difference, "code cell 1: states a tolerance but is not tagged"),
        (allow_no_difference, "code cell 6: its tolerance must be a whole number of units"),
        (allow_a_large_share, "code cell 6: its tolerance 0.06 is too wide for ['2369.4']"),
        (allow_many_units, "code cell 6: its tolerance 19 is too wide for ['4.0']"),
    ],
)
def test_each_fault_is_named(tmp_path, break_it, message):
    notebook = good_notebook()
    break_it(notebook.cells[1], notebook.cells[-1])
    faults = notebook_form.check(write(notebook, tmp_path / "01-chapter.ipynb"))
    assert any(fault.startswith(message) for fault in faults), faults


@pytest.mark.parametrize(
    "change",
    [
        lambda notebook: notebook.metadata.update(widgets={"state": {}}),
        lambda notebook: notebook.metadata.kernelspec.update(name="my-env"),
        lambda notebook: notebook.metadata.language_info.update(version="3.11.7"),
        lambda notebook: notebook.update(nbformat_minor=4),
        lambda notebook: notebook.cells[0].pop("id"),
        lambda notebook: notebook.cells[0].update(id=notebook.cells[1].id),
    ],
    ids=["widgets", "kernel", "version", "nbformat", "no-id", "same-id"],
)
def test_faults_of_the_whole_notebook_are_seen(tmp_path, change):
    notebook = good_notebook()
    change(notebook)
    assert notebook_form.check(write(notebook, tmp_path / "01-chapter.ipynb"))


def test_a_missing_final_newline_is_seen(chapter):
    chapter.write_text(chapter.read_text(encoding="utf-8").rstrip("\n"), encoding="utf-8")
    assert "not in its committed form" in notebook_form.check(chapter)[0]


def test_only_chapters_need_five_checked_cells(chapter):
    notebook = good_notebook()
    del notebook.cells[2:]
    page = write(notebook, chapter.with_name("index.ipynb"))
    assert notebook_form.check(page) == []


@pytest.mark.parametrize("tag", ["hide-input", "remove-cell"])
def test_hidden_code_may_be_long(tmp_path, tag):
    notebook = good_notebook()
    write_a_long_cell(notebook.cells[1], None)
    notebook.cells[1].metadata["tags"] = [tag]
    assert notebook_form.check(write(notebook, tmp_path / "01-chapter.ipynb")) == []


def test_defining_a_plot_draws_nothing(tmp_path):
    notebook = good_notebook()
    notebook.cells[1].source = "def draw(values):\n    plt.plot(values)"
    drop_alt_text(notebook.cells[1], None)
    assert notebook_form.check(write(notebook, tmp_path / "01-chapter.ipynb")) == []


@pytest.fixture
def command(monkeypatch, capsys):
    """The tool's command line: its exit status and what it prints."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["notebook_form.py", *map(str, arguments)])
        return notebook_form.main(), capsys.readouterr().out

    return call


def plain_notebook(*cells):
    """A page of code alone, which runs without importing anything slow."""
    notebook = nbformat.v4.new_notebook(cells=list(cells))
    notebook_form.to_form(notebook)
    return notebook


def test_running_gives_the_same_file_twice(tmp_path, command, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)  # the tool itself must set it
    where = "import os\n\nprint(os.path.basename(os.getcwd()), flush=True)\nprint(os.environ['{}'])"
    notebook = plain_notebook(
        code("print('not kept')\n3 + 4", "first"),
        code(where.format("TQDM_DISABLE"), "copied", CHECKED, "an old value\n"),
        code("", "last"),
    )
    notebook.cells[2].id = "copied"  # as copying a cell by hand leaves it
    notebook.metadata.kernelspec.name = "my-env"
    path = write(notebook, tmp_path / "page.ipynb")
    assert command(path) == (0, f"{path}: in its committed form\n")
    cells = nbformat.read(path, as_version=4).cells
    assert cells[1].outputs[0].text == f"{tmp_path.name}\n1\n"  # run in its own folder
    assert [cell.execution_count for cell in cells] == [None, 2, None]
    assert list(tmp_path.iterdir()) == [path]
    before = path.read_bytes()
    assert command(path)[0] == 0
    assert path.read_bytes() == before


def test_an_error_in_a_cell_is_reported_and_nothing_written(tmp_path, command):
    path = write(plain_notebook(code("raise ValueError('no luck')", "a")), tmp_path / "page.ipynb")
    before = path.read_bytes()
    status, text = command(path)
    assert status == 1
    assert "it does not run" in text
    assert "no luck" in text
    assert path.read_bytes() == before


def test_outputs_that_cannot_be_compared_are_reported_and_nothing_written(tmp_path, command):
    svg = "from IPython.display import SVG, display\n\ndisplay(SVG('<svg xmlns=\"\"/>'))"
    notebook = plain_notebook(
        code("import sys\n\nprint('late', file=sys.stderr)", "a", CHECKED, "late\n"),
        code("print('value')\n3 + 4", "b", CHECKED, "value\n"),
        code(svg, "c"),
        code(svg, "d", {"mystnb": {"image": {"alt": "an empty picture"}}}),
    )
    path = write(notebook, tmp_path / "page.ipynb")
    before = path.read_bytes()
    status, text = command(path)
    assert status == 1
    assert text.splitlines() == [
        f"{path}: code cell 1: a checked cell may only print, not {{'stderr'}}",
        f"{path}: code cell 2: a checked cell may only print, not {{'execute_result'}}",
        f"{path}: code cell 3: its figure has no alt text ({notebook_form.ALT_EXAMPLE})",
    ]
    assert path.read_bytes() == before


def test_measuring_writes_three_times_the_spread_and_narrows_nothing(tmp_path, command):
    threads = "import os\n\nthreads = int(os.environ['OMP_NUM_THREADS'])"
    vector = "older = {'default': 3, 'avx2': 4}.get(os.environ.get('ATEN_CPU_CAPABILITY'), 0)"
    page = plain_notebook(
        code(threads, "a"),
        code(vector, "b"),
        code("print('loss', 100 + threads + older, 200)", "c", CHECKED, "loss 0 0\n"),
        code("print('the same 7')", "d", {**CHECKED, "tolerance": 5}, "the same 7\n"),
        code("print('the same 8')", "e", CHECKED, "the same 8\n"),
    )
    path = write(page, tmp_path / "page.ipynb")
    assert command("--measure", path) == (0, f"{path}: in its committed form\n")
    cells = nbformat.read(path, as_version=4).cells
    assert cells[2].outputs[0].text == "loss 101 200\n"  # one thread, as the tests run it
    assert cells[2].metadata.tolerance == 12  # as 101, 102, 104 and 105 were printed
    assert cells[3].metadata.tolerance == 5
    assert "tolerance" not in cells[4].metadata


def test_measuring_refuses_words_that_change_and_writes_nothing(tmp_path, command):
    source = "import os\n\nprint(os.environ['OMP_NUM_THREADS'] == '1')"
    path = write(plain_notebook(code(source, "a", CHECKED, "True\n")), tmp_path / "page.ipynb")
    before = path.read_bytes()
    status, text = command("--measure", path)
    assert status == 1
    assert "code cell 1: prints other words in another run: 'True\\n' and 'False\\n'" in text
    assert path.read_bytes() == before


def test_check_runs_and_writes_nothing(chapter, command):
    notebook = good_notebook()
    notebook.cells[1].source = "raise SystemExit"
    drop_stored_value(None, notebook.cells[-1])
    before = write(notebook, chapter).read_bytes()
    status, text = command("--check", chapter)
    assert status == 1
    assert "holds no stored text" in text
    assert chapter.read_bytes() == before
