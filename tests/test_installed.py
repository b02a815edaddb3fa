"""Every chapter runs after `pip install .`, in an empty folder, with nothing else around it.

The environment is a new one that holds the wheel and what the wheel requires, found in the running
one: so the tests need no network, and a package that is missing in pyproject.toml is missing here.
All chapters are executed in empty folders (execute.py), with the library as it stands in src/. What
the wheel could change is a file that it lacks and a package that it does not require: both are
looked for in all chapters, and one chapter runs.
"""

import ast
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import nbformat
import pytest
from execute import sources
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
EXECUTE = "from nbclient.cli import main; main()"  # `jupyter execute`


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The project's wheel, built from the files that git has or would add."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    source = tmp_path_factory.mktemp("source")
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    run = subprocess.run([*pip, "-w", out, source], capture_output=True, text=True, check=False)
    assert not run.returncode, run.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The Python of an environment with the wheel and its requirements alone."""
    folder = tmp_path_factory.mktemp("reader") / "env"
    venv.create(folder, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    own = Distribution.at(next(packages.glob("em2vae-*.dist-info")))
    for package in closure(own):
        for top in {file.parts[0] for file in package.files if file.parts[0] not in ("..", "/")}:
            target = packages / top
            if top != "__pycache__" and not target.exists():
                target.symlink_to(Path(package.locate_file(top)))
    return folder / "bin" / "python"


def closure(package: Distribution) -> list[Distribution]:
    """All that the package requires, and what that requires, as installed here."""
    found, todo = {}, [(package, "")]
    while todo:
        package, extra = todo.pop()
        for line in package.requires or ():
            need = Requirement(line)
            if need.marker and not need.marker.evaluate({"extra": extra}):
                continue
            for wanted in (need.extras or {""}) | {""}:
                if (need.name, wanted) not in found:
                    found[need.name, wanted] = distribution(need.name)
                    todo.append((found[need.name, wanted], wanted))
    return list(found.values())


def test_there_is_nothing_of_the_repository_around(python, tmp_path):
    code = "import em2vae, importlib.util as u; print(em2vae.__file__, u.find_spec('pytest'))"
    said = execute(python, tmp_path, "-c", code)
    assert said.stdout.startswith(str(python.parents[1])), said.stderr
    assert said.stdout.split()[-1] == "None"


def test_the_wheel_holds_the_library_and_the_results(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    folders = {"em2vae": ROOT / "src/em2vae", "em2vae/results": ROOT / "benchmarks/results"}
    wanted = {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in folders.items()
        for path in sources(folder)
    }
    assert wanted - held == set()


def test_every_import_is_of_a_package_that_the_wheel_requires(python, tmp_path):
    code = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        code += [cell.source for cell in cells if cell.cell_type == "code"]
    trees = [node for text in code for node in ast.walk(ast.parse(text))]
    found = {
        ast.unparse(node)
        for node in trees
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level)
    }
    said = execute(python, tmp_path, "-c", "\n".join(sorted(found)))
    assert not said.returncode, said.stderr


def test_a_chapter_runs_in_an_empty_folder(python, tmp_path):
    """This one reads digits and results, trains, and shows a figure that computes."""
    notebook = Path(shutil.copy(ROOT / "book/09-amortized-inference.ipynb", tmp_path))
    said = execute(python, tmp_path, "-c", EXECUTE, notebook)
    assert not said.returncode, said.stderr[-3000:]
    assert list(tmp_path.iterdir()) == [notebook]  # and it leaves nothing behind


def execute(python: Path, folder: Path, *arguments) -> subprocess.CompletedProcess:
    alone = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "EM2VAE_DATA")}
    command = [python, *arguments]
    return subprocess.run(
        command, cwd=folder, env=alone, capture_output=True, text=True, timeout=600, check=False
    )
