#!/usr/bin/env bash
# PyTorch 2.13.0: torch.special.ndtr and Normal.cdf lose the lower tail: one plus an error function
# is rounded before it is halved.
# The normal distribution function at a few points, beside SciPy's in double precision and beside
# PyTorch's own log_ndtr.
# Seen: in float32 57 % too large at -5.5 and exactly 0 from -6 on; in float64 2 % off at -8 and 0
# at -8.5, where 9.5e-18 is right. log_ndtr is right to six digits in both, at -10 as well. So the
# mass that a normal gives to one of 256 grey levels, taken as a difference of two values of cdf,
# has the logarithm minus infinity six deviations away, where about -21 nats are right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q torch==2.13.0 numpy==2.4.6 scipy==1.17.1
"$folder/env/bin/python" - <<'PY'
import json

import numpy as np
import scipy.special
import torch
from torch.distributions import Normal

points = np.array([-3.0, -5.5, -6.0, -8.0, -8.5, -10.0])
right = scipy.special.ndtr(points)
shares = {}
for dtype in (torch.float32, torch.float64):
    x = torch.tensor(points, dtype=dtype)
    value = torch.special.ndtr(x)
    assert torch.equal(value, Normal(torch.zeros((), dtype=dtype), 1.0).cdf(x))
    shares[dtype] = dict(zip(points.tolist(), (value.double().numpy() / right).tolist()))
    logs = torch.special.log_ndtr(x).double().numpy()
    assert np.allclose(logs, scipy.special.log_ndtr(points), rtol=1e-6)
print("value over truth:", shares)
single, double = shares.values()
assert abs(single[-3.0] - 1) < 1e-5 and 1.5 < single[-5.5] < 1.65 and single[-6.0] == 0
assert abs(double[-6.0] - 1) < 1e-6 and 0.01 < abs(double[-8.0] - 1) < 0.03 and double[-8.5] == 0
print("measured", json.dumps({
    "percent-at-5.5": round(100 * (single[-5.5] - 1)),
    "right-log-at-6": round(float(scipy.special.log_ndtr(-6.0)), 1),
    "zero-single": -6, "zero-double": -8.5,
}))
PY
