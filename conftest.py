"""Settings that all tests share, also those of one chapter alone."""

import os
from pathlib import Path

from execute import cache_folder, executed
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile
from tolerance import agree

# The tests run in two processes beside browsers and kernels. PyTorch's threads wait for each other
# by spinning, which makes them ten times slower when there are more of them than cores.
os.environ["OMP_NUM_THREADS"] = "1"

# Progress bars of the chapters that nbval runs, and of `fit`, would flood the report.
os.environ["TQDM_DISABLE"] = "1"

ROOT = Path(__file__).parent
IDLE = NotebookNode(output_type="status", execution_state="idle")

start_kernel = IPyNbFile.setup
compare_exactly = IPyNbCell.compare_outputs


class Replay:
    """In place of nbval's kernel: sends what a chapter said when it was executed for the site."""

    def __init__(self, notebook: NotebookNode):
        self.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]

    def execute_cell_input(self, source: str, allow_stdin: bool) -> str:
        while (cell := self.cells.pop(0)).source != source:
            pass  # a cell that nbval skips
        self.outputs = [*cell.outputs, IDLE]
        return "replay"

    def get_message(self, stream: str, timeout: float) -> dict:
        content = self.outputs.pop(0)
        header = {"msg_id": "replay"}
        return {"msg_type": content.output_type, "content": content, "parent_header": header}

    def await_reply(self, msg_id: str, timeout: float) -> None:
        """It has come."""

    def is_alive(self) -> bool:
        return True

    def stop(self) -> None:
        """There is nothing to stop."""


def setup(file) -> None:
    """A chapter that was executed as it stands need not run again."""
    chapter = file.path.parent == ROOT / "book"
    notebook = executed(file.path, cache_folder(ROOT)) if chapter else None
    if notebook:
        file.kernel = Replay(notebook)
    else:
        start_kernel(file)


def compare_outputs(cell, outputs, stored, skip_compare=None) -> bool:
    """nbval's comparison, with the numbers of a checked cell within the tolerance it states."""
    tolerance = cell.cell.metadata.get("tolerance")
    if tolerance is not None and len(outputs) == len(stored) == 1:
        texts = [out.get("text") for out in (*outputs, *stored)]
        if None not in texts and agree(*texts, tolerance):
            outputs = stored
    return compare_exactly(cell, outputs, stored, skip_compare)


IPyNbFile.setup = setup
IPyNbCell.compare_outputs = compare_outputs
