"""Give notebooks the form in which they are committed, or check that they have it.

    python tests/notebook_form.py book/*.ipynb              run them and write that form
    python tests/notebook_form.py --measure book/*.ipynb    the same, and measure tolerances
    python tests/notebook_form.py --check book/*.ipynb      run nothing, only say what is wrong

In git a notebook holds no outputs, except what the cells tagged `nbval-check-output` print:
the values that nbval compares, within the tolerance in the cell's metadata (tolerance.py). It is
measured: --measure runs a notebook with one thread, with two, without the processor's vector
instructions and as on an older processor, and writes three times the spread of the cell's numbers,
but never less than the cell states already: that may have been measured on another processor.
Every command prints all faults and exits with 1 if there is one.
"""

import argparse
import ast
import functools
import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tolerance import EXAMPLE, is_tolerance, measured, too_loose, wider

CHECKED = "nbval-check-output"
# An exception that no longer comes would pass if what was printed before it agrees.
NEVER_COMPARED = {"nbval-ignore-output", "nbval-skip", "skip-execution", "raises-exception"}
INPUT_HIDDEN = {"hide-cell", "hide-input", "remove-cell", "remove-input"}
OUTPUT_REMOVED = {"remove-cell", "remove-output"}
PYPLOT_FIGURES = {"bar", "figure", "hist", "imshow", "plot", "scatter", "show", "subplots"}
MAX_LINES = 15
MIN_CHECKED = 5
CURE = "print fewer digits, or the number that moves most in a cell of its own"
# The way that nbval runs chapters comes first: its numbers are the stored ones. Two threads that
# wait for each other would spin, and take four times the processor's time on a busy machine: here
# they sleep.
SETTINGS = [
    {"OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
    {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"},
    {
        "OMP_NUM_THREADS": "1",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_CBWR": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
]
KEPT_METADATA = ("mystnb", "tags", "tolerance")
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", ()))


def read(path: Path) -> NotebookNode:
    """The notebook, its cells named where they have no id or a copied one."""
    notebook = nbformat.v4.reads(path.read_text(encoding="utf-8"))
    notebook.nbformat_minor = 5
    seen = {None}
    for number, cell in enumerate(notebook.cells, 1):
        if cell.get("id") in seen:
            cell.id = f"cell-{number}"
        seen.add(cell.id)
    return notebook


def run(path: Path, notebook: NotebookNode, settings: dict[str, str]) -> None:
    """Execute every cell in the notebook's own folder, as Jupyter and the book do."""
    where = {"metadata": {"path": str(path.resolve().parent)}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where)
    client.execute(env={**os.environ, "TQDM_DISABLE": "1", **settings})  # no bars on stderr


def output_faults(notebook: NotebookNode) -> list[str]:
    """What fresh outputs tell and the committed form cannot: call it between run and to_form."""
    faults = []
    for number, cell in code_cells(notebook):
        if CHECKED in tags(cell):
            others = {kind(out) for out in cell.outputs} - {"stdout"}
            if others:
                faults.append(f"code cell {number}: a checked cell may only print, not {others}")
        if any(is_picture(out) for out in cell.outputs) and lacks_alt(cell):
            faults.append(f"code cell {number}: its figure has no alt text ({ALT_EXAMPLE})")
    return faults


ALT_EXAMPLE = 'cell metadata "mystnb": {"image": {"alt": "..."}}'


def code_cells(notebook: NotebookNode):
    """The code cells with their ordinals from 1, which are the execution counts of a fresh run."""
    return enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1)


def kind(output) -> str:
    return output.name if output.output_type == "stream" else output.output_type


def is_picture(output) -> bool:
    return bool({"image/png", "image/jpeg", "image/svg+xml"} & set(output.get("data", ())))


def lacks_alt(cell) -> bool:
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    return not str(alt).strip() and not tags(cell) & OUTPUT_REMOVED


def to_form(notebook: NotebookNode) -> None:
    """Drop all that a run or an editor leaves behind, and keep what checked cells printed."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.update(nbformat.from_dict(METADATA))
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in KEPT_METADATA if key in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)
    for number, cell in code_cells(notebook):
        text = printed(cell) if CHECKED in tags(cell) else ""
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
        cell.execution_count = number if text else None


def printed(cell) -> str:
    return "".join(out.text for out in cell.outputs if kind(out) == "stdout")


def serialize(notebook: NotebookNode) -> str:
    return nbformat.v4.writes(notebook) + "\n"


def check(path: Path) -> list[str]:
    """Everything that is wrong with the notebook as it lies on disk."""
    notebook = read(path)
    faults = [fault for cell in code_cells(notebook) for fault in cell_faults(*cell)]
    n_checked = sum(CHECKED in tags(cell) for _, cell in code_cells(notebook))
    if re.match(r"\d\d-", path.name) and n_checked < MIN_CHECKED:
        faults.append(f"{n_checked} cells are tagged {CHECKED}, a chapter needs {MIN_CHECKED}")
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        return [*faults, f"not a valid notebook: {error.message}"]
    to_form(notebook)
    if path.read_text(encoding="utf-8") != serialize(notebook):
        faults.append("not in its committed form: run tests/notebook_form.py on it")
    return faults


def cell_faults(number: int, cell) -> list[str]:
    faults = []
    if "tolerance" in cell.metadata:
        if CHECKED not in tags(cell):
            faults.append(f"states a tolerance but is not tagged {CHECKED}: nothing is compared")
        stated = cell.metadata.tolerance
        if not is_tolerance(stated):
            faults.append(f"its tolerance must be {EXAMPLE}, not {stated!r}")
        elif loose := too_loose(printed(cell), stated):
            faults.append(f"its tolerance {stated} is too wide for {loose}: {CURE}")
    if CHECKED in tags(cell):
        if not printed(cell).strip():
            faults.append(f"tagged {CHECKED} but holds no stored text, so nothing is compared")
        if tags(cell) & NEVER_COMPARED:
            faults.append(f"tagged {CHECKED} and {tags(cell) & NEVER_COMPARED}: never compared")
    elif cell.outputs:
        faults.append(f"holds outputs but is not tagged {CHECKED}")
    n_lines = len(cell.source.strip().splitlines())
    if n_lines > MAX_LINES and not tags(cell) & INPUT_HIDDEN:
        faults.append(f"{n_lines} lines of visible code, at most {MAX_LINES} are allowed")
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        faults.append(f"not plain Python, magics with % or ! included (line {error.lineno})")
    else:
        if draws(tree) and lacks_alt(cell):
            faults.append(f"draws a figure that has no alt text ({ALT_EXAMPLE})")
    return [f"code cell {number}: {fault}" for fault in faults]


def draws(tree: ast.AST) -> bool:
    """Whether the code makes a figure when run; the bodies of functions it defines do not run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Call):
            owner, _, name = ast.unparse(node.func).rpartition(".")
            if name in (PYPLOT_FIGURES if owner == "plt" else library_figures()):
                return True
        if draws(node):
            return True
    return False


@functools.cache
def library_figures() -> set[str]:
    """The functions of em2vae.figures that return a figure, read without importing torch."""
    source = Path(__file__).parents[1] / "src/em2vae/figures.py"
    functions = ast.parse(source.read_text(encoding="utf-8")).body
    return {f.name for f in functions if ast.unparse(getattr(f, "returns", None) or f) == "Figure"}


def refresh(path: Path, measure: bool) -> list[str]:
    """Run the notebook and write its form, or nothing if what it shows cannot have that form."""
    runs = [read(path) for _ in (SETTINGS if measure else SETTINGS[:1])]
    try:
        for notebook, settings in zip(runs, SETTINGS, strict=False):
            run(path, notebook, settings)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return [f"it does not run: {error}"]
    notebook = runs[0]
    faults = output_faults(notebook) + (write_tolerances(runs) if measure else [])
    if faults:
        return faults
    to_form(notebook)
    text = serialize(notebook)
    if text != path.read_text(encoding="utf-8"):
        partial = path.with_name(f".{path.name}.part")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    return check(path)


def write_tolerances(runs: list[NotebookNode]) -> list[str]:
    """Put into the first run's cells what the spread over all runs allows."""
    faults = []
    for cells in zip(*map(code_cells, runs), strict=True):
        number, cell = cells[0]
        stated = cell.metadata.pop("tolerance", None)
        if CHECKED not in tags(cell):
            continue
        texts = [printed(other) for _, other in cells]
        try:
            tolerance = wider(texts[0], stated, measured(texts))
        except ValueError as error:
            faults.append(f"code cell {number}: {error}")
        else:
            if tolerance:
                cell.metadata.tolerance = tolerance
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="run nothing, write nothing")
    parser.add_argument("--measure", action="store_true", help="measure the tolerances")
    arguments = parser.parse_args()
    n_faults = 0
    for path in arguments.notebooks:
        faults = check(path) if arguments.check else refresh(path, arguments.measure)
        n_faults += len(faults)
        for line in faults or ["in its committed form"]:
            print(f"{path}: {line}", flush=True)
    return 1 if n_faults else 0


if __name__ == "__main__":
    sys.exit(main())
