"""Where the benchmarks leave their results: one JSON file each, beside this module."""

import json
import os
import platform
from pathlib import Path

import numpy
import torch

FOLDER = Path(__file__).parent / "results"


def environment() -> dict:
    """What a reader needs to know about the machine, and nothing that names it."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def write_result(name: str, result: dict) -> Path:
    """Write results/NAME.json, whole or not at all; the environment is added to it."""
    text = json.dumps({**result, "environment": environment()}, indent=2) + "\n"
    path, partial = FOLDER / f"{name}.json", FOLDER / f".{name}.json.part"
    FOLDER.mkdir(exist_ok=True)
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path
