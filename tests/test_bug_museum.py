"""Every exhibit of chapter 15: its test fails on the bug and passes on the fix.

The cells are the chapter's own: its imports, functions, data and the exact model. The trainings
are left out, so this takes seconds and fails apart from them.
"""

import ast
import re
from pathlib import Path

import nbformat
import pytest
import torch

from em2vae import VAE

NOTEBOOK = nbformat.read(Path(__file__).parents[1] / "book" / "15-bug-museum.ipynb", 4)
SET_UP = {"load", "program-code", "train-code", "oracle", "ex-break-code"}
KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef)
EXHIBITS = [
    int(number)
    for cell in NOTEBOOK.cells
    if cell.cell_type == "markdown"
    for number in re.findall(r"^### Exhibit (\d+):", cell.source, re.M)
]


def calls_verdict(statement):
    call = getattr(statement, "value", None)
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") == "verdict"


@pytest.fixture(scope="module")
def museum():
    """The page's names, and (test, bug, fix) of each call of `verdict`, in its order."""
    found = []
    scope = {"vae": VAE(latent_dim=8, hidden_dims=(128,))}  # untrained is enough
    for cell in NOTEBOOK.cells:
        if cell.cell_type != "code":
            continue
        statements = [
            statement
            for statement in ast.parse(cell.source).body
            if isinstance(statement, KEPT)
            or calls_verdict(statement)
            or (cell.id in SET_UP and isinstance(statement, ast.Assign))
        ]
        exec(compile(ast.Module(statements, []), cell.id, "exec"), scope)
        scope["verdict"] = lambda *trial: found.append(trial)
    return scope, found


@pytest.fixture
def trials(museum):
    return museum[1]


@pytest.fixture
def passes(museum):
    return museum[0]["passes"]


def test_the_museum_has_twelve_exhibits():
    assert list(range(1, 13)) == EXHIBITS


def test_every_exhibit_and_the_exercise_has_its_trial(trials):
    assert len(trials) == len(EXHIBITS) + 1


@pytest.mark.parametrize("number", range(13))
def test_a_test_fails_on_the_bug_and_passes_on_the_fix(trials, passes, number):
    test, bug, fix = trials[number]
    assert not passes(*test(bug))
    assert passes(*test(fix))


def test_values_pass_only_within_the_slack_and_in_the_right_shape(passes):
    right = torch.ones(2)
    assert passes(right + 0.1, right, 0.2)
    assert passes(right, right, 0.0)
    assert not passes(torch.tensor([1.0, 1.3]), right, 0.2)
    assert not passes(torch.tensor([1.0, torch.nan]), right, 0.2)
    assert not passes(torch.ones(2, 2), right, 0.2)


def test_a_verdict_stops_the_page_when_it_should(museum):
    source = next(cell.source for cell in NOTEBOOK.cells if "def verdict(" in cell.source)
    scope = {name: museum[0][name] for name in ("numbers", "passes")}
    exec(compile(source, "verdict", "exec"), scope)

    def is_one(part):
        return torch.tensor(part), torch.tensor(1.0), 0.0

    scope["verdict"](is_one, 0.0, 1.0)
    for bug, fix in ((1.0, 1.0), (0.0, 0.0), (1.0, 0.0)):
        with pytest.raises(AssertionError):
            scope["verdict"](is_one, bug, fix)


def test_every_label_says_what_is_wrong_and_where_it_was_seen():
    labels = [
        cell.source for cell in NOTEBOOK.cells if "{admonition} What is wrong?" in cell.source
    ]
    assert len(labels) == len(EXHIBITS)
    for label in labels:
        assert "*Symptom:*" in label
        assert "*The test:*" in label
        assert "https://github.com/" in label or "exhibit 10" in label
