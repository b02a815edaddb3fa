"""Every chapter runs after `pip install .`, in an empty folder, with nothing else around it.

The environment is a new one that holds the wheel and what the wheel requires, found in the running
one: so the tests need no network, and a package that is missing in pyproject.toml is missing here.
"""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_chapter_runs_in_an_empty_folder(python, path, tmp_path):
    notebook = shutil.copy(path, tmp_path)
    said = execute(python, tmp_path, "-c", EXECUTE, notebook)
    assert not said.returncode, said.stderr[-3000:]
    assert list(tmp_path.iterdir()) == [tmp_path / path.name]  # and it leaves nothing behind


def execute(python: Path, folder: Path, *arguments) -> subprocess.CompletedProcess:
    alone = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "EM2VAE_DATA")}
    command = [python, *arguments]
    return subprocess.run(
        command, cwd=folder, env=alone, capture_output=True, text=True, timeout=600, check=False
    )
