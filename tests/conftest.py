"""Settings that all tests share."""

import os

# Progress bars of the chapters that nbval runs, and of `fit`, would flood the report.
os.environ["TQDM_DISABLE"] = "1"
