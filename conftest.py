"""Settings that all tests share, also those of one chapter alone."""

import os

from nbval.plugin import IPyNbCell
from tolerance import agree

# The tests run in two processes beside browsers and kernels. PyTorch's threads wait for each other
# by spinning, which makes them ten times slower when there are more of them than cores.
os.environ["OMP_NUM_THREADS"] = "1"

# Progress bars of the chapters that nbval runs, and of `fit`, would flood the report.
os.environ["TQDM_DISABLE"] = "1"

compare_exactly = IPyNbCell.compare_outputs


def compare_outputs(cell, outputs, stored, skip_compare=None) -> bool:
    """nbval's comparison, with the numbers of a checked cell within the tolerance it states."""
    tolerance = cell.cell.metadata.get("tolerance")
    if tolerance is not None and len(outputs) == len(stored) == 1:
        texts = [out.get("text") for out in (*outputs, *stored)]
        if None not in texts and agree(*texts, tolerance):
            outputs = stored
    return compare_exactly(cell, outputs, stored, skip_compare)


IPyNbCell.compare_outputs = compare_outputs
