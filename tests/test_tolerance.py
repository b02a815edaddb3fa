"""The comparison of printed numbers, by itself and as nbval applies it to a notebook."""

import os
from pathlib import Path

import nbformat
import notebook_form
import pytest
import tolerance

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[1]

STORED = "exact -61.53, bound -63.10 after 1,200 draws\n"


@pytest.mark.parametrize(
    ("text", "allowed", "agrees"),
    [
        (STORED, 1, True),
        ("exact -61.55, bound -63.09 after 1,202 draws\n", 2, True),
        ("exact -61.56, bound -63.10 after 1,200 draws\n", 2, False),
        ("exact -61.00, bound -63.50 after 1,190 draws\n", 0.01, True),
        ("exact -60.90, bound -63.10 after 1,200 draws\n", 0.01, False),
        ("exact 61.53, bound -63.10 after 1,200 draws\n", 0.01, False),
        ("exact -61.53, limit -63.10 after 1,200 draws\n", 2, False),
        ("exact -61.53, bound -63.10, 1,200 draws\n", 2, False),
        ("exact -61.53, bound -63.10 after 1,200 draws 1\n", 2, False),
        ("exact -61.53, bound after 1,200 draws\n", 2, False),
        ("exact nan, bound -63.10 after 1,200 draws\n", 10**6, False),
        ("exact -inf, bound -63.10 after 1,200 draws\n", 10**6, False),
        ("exact -61.53,\nbound -63.10 after 1,200 draws\n", 2, False),
        ("exact  -61.53, bound -63.10 after 1,200 draws\n", 2, True),
    ],
)
def test_numbers_may_differ_and_words_may_not(text, allowed, agrees):
    assert tolerance.agree(text, STORED, allowed) == agrees


@pytest.mark.parametrize(
    ("text", "stored", "agrees"),
    [
        ("x1 and 2D", "x2 and 2D", False),  # a name's number is a word
        ("vae-3 1.5", "vae-2 1.5", False),
        ("version 2.13.1", "version 2.13.0", False),
        ("from 3-5", "from 3-6", True),
        ("1.2e-05", "1.1e-05", True),
        ("1.3e-05", "1.1e-05", False),
        ("-0.0", "+0.0", True),
        ("10.0", " 9.9", True),
        ("True", "False", False),
        ("NaN", "NaN", True),
        ("1.0", "NaN", False),
    ],
)
def test_what_counts_as_a_number(text, stored, agrees):
    assert tolerance.agree(text, stored, 1) == agrees


@pytest.mark.parametrize(
    ("text", "stated", "loose"),
    [
        ("ELBO -153.6, read 66 %", 18, []),
        ("ELBO -153.6, read 66 %", 19, ["66"]),  # for the bound it is 1.2 %
        ("ELBO -153.6, read 66 %", 0.05, []),
        ("ELBO -153.6, read 66 %", 0.25, ["-153.6"]),  # for the per cent it is 17 units
        ("spread 0.04, 3.66, 366.11", 0.124, ["3.66", "366.11"]),
        ("KL 0.0", 18, []),
        ("KL 0.0", 19, ["0.0"]),
    ],
)
def test_a_tolerance_is_too_wide_beyond_a_share_and_units(text, stated, loose):
    assert tolerance.too_loose(text, stated) == loose


@pytest.mark.parametrize("wrong", [0, -1, 1.0, 2.5, 0.0, -0.1, True, "0.02", None, float("nan")])
def test_a_tolerance_that_means_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="a tolerance must be"):
        tolerance.agree(STORED, STORED, wrong)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a 1.25", "a 1.25"], None),
        (["a 1.25", "a 1.26", "a 1.24"], 6),
        (["0.00", "0.01"], 3),
        (["0.01", "0.03"], 6),  # a share of 600 % is no tolerance
        (["1.00 and 200.00", "1.01 and 202.00"], 0.03),  # 600 units would be far looser for the 1
        (["1.00 and 200.00", "1.02 and 200.02"], 6),  # 6 % would be far looser for the 200
    ],
)
def test_the_measured_tolerance_is_three_times_the_spread(texts, expected):
    assert tolerance.measured(texts) == expected


def test_runs_with_other_words_have_no_tolerance():
    with pytest.raises(ValueError, match="other words in another run: 'True 1' and 'False 1'"):
        tolerance.measured(["True 1", "True 2", "False 1"])


@pytest.mark.parametrize(
    ("tolerances", "expected"),
    [((None, None), None), ((3, None), 3), ((3, 0.03), 0.03), ((0.02, 6), 6), ((6, 0.001), 6)],
)
def test_a_wider_tolerance_stays(tolerances, expected):
    assert tolerance.wider("1.00 and 2.00", *tolerances) == expected


CELLS = [  # what a cell prints where "gap 1.25" is stored, its metadata, how nbval judges it
    ("print('gap 1.25')", {}, "PASSED"),
    ("print('gap 1.26')", {}, "FAILED"),  # exact unless the cell says otherwise
    ("print('gap 1.26')", {"tolerance": 1}, "PASSED"),
    ("print('gap 1.27')", {"tolerance": 1}, "FAILED"),
    ("print('gap 1.27')", {"tolerance": 0.02}, "PASSED"),
    ("print('sum 1.25')", {"tolerance": 0.02}, "FAILED"),
    ("print('gap nan')", {"tolerance": 0.02}, "FAILED"),
    ("print('gap 1.25 1.25')", {"tolerance": 0.02}, "FAILED"),
    ("print('gap 1.26', flush=True); print()", {"tolerance": 0.02}, "FAILED"),
    ("print('gap 1.25'); 3", {"tolerance": 0.02}, "FAILED"),
    ("pass", {"tolerance": 0.02}, "FAILED"),
    ("print('gap 1.25')", {"tolerance": 2.5}, "FAILED"),
    # The settings of all tests hold for a notebook that is tested alone, too.
    ("import os; print('gap', 1.25 * int(os.environ['TQDM_DISABLE']))", {}, "PASSED"),
]


def test_nbval_compares_within_the_stated_tolerance(pytester, monkeypatch):
    stored = [nbformat.v4.new_output("stream", name="stdout", text="gap 1.25\n")]
    cells = []
    for number, (source, stated, _) in enumerate(CELLS, 1):
        metadata = {"tags": [notebook_form.CHECKED], **stated}
        cell = nbformat.v4.new_code_cell(source, metadata=metadata, outputs=stored)
        cell.execution_count = number
        cells.append(cell)
    page = nbformat.v4.new_notebook(cells=cells, metadata=notebook_form.METADATA)
    nbformat.write(page, pytester.path / "page.ipynb")
    pytester.makeconftest((ROOT / "conftest.py").read_text(encoding="utf-8"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}{os.pathsep}{ROOT / 'book/_ext'}")
    monkeypatch.delenv("TQDM_DISABLE")
    run = pytester.runpytest_subprocess(
        "--nbval-lax", "--nbval-current-env", "-v", "-p", "no:xdist"
    )
    judged = [f"*::Cell {number} {outcome}*" for number, (*_, outcome) in enumerate(CELLS)]
    run.stdout.fnmatch_lines(judged)
