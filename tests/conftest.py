"""Settings that all tests share."""

import os

# The tests run in two processes beside browsers and kernels. PyTorch's threads wait for each other
# by spinning, which makes them ten times slower when there are more of them than cores.
os.environ["OMP_NUM_THREADS"] = "1"

# Progress bars of the chapters that nbval runs, and of `fit`, would flood the report.
os.environ["TQDM_DISABLE"] = "1"
