"""Numbers of other libraries that mislead, as the scripts in findings/ measure them.

    python benchmarks/libraries.py                    all of them: some minutes and downloads
    python benchmarks/libraries.py sklearn-pca-noise  only some; the others keep their numbers

Each script installs its library in a temporary folder, checks what it says of it and prints the
numbers that the page book/trusted-numbers quotes.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from results import FOLDER, write_result

FINDINGS = Path(__file__).parents[1] / "findings"


def measured(name: str) -> dict:
    """The library with its version, and the numbers that the script prints in its last line."""
    script = FINDINGS / f"{name}.sh"
    run = subprocess.run(["bash", script], check=True, capture_output=True, text=True)
    library, version = re.search(r"^# (\w[\w -]*?) (\d[\d.]*\d)", script.read_text(), re.M).groups()
    numbers = json.loads(run.stdout.splitlines()[-1].removeprefix("measured "))
    return {"library": library, "version": version, "numbers": numbers}


def main() -> None:
    names = sorted(path.stem for path in FINDINGS.glob("*.sh"))
    file = FOLDER / "libraries.json"
    scripts = json.loads(file.read_text(encoding="utf-8"))["scripts"] if file.exists() else {}
    for name in sys.argv[1:] or names:
        scripts[name] = measured(name)
        print(name, scripts[name])
        write_result("libraries", {
            "what": "what other libraries return, and what is right",
            "command": "python benchmarks/libraries.py",
            "scripts": {name: scripts[name] for name in names if name in scripts},
        })  # fmt: skip


if __name__ == "__main__":
    main()
