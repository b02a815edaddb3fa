#!/usr/bin/env bash
# scikit-learn 1.9.1: the density of KernelDensity with the cosine kernel is none in two, four or
# six dimensions, and its rules for the bandwidth do not look at the scale of the data.
# One kernel around the origin, integrated along the radius with the surface of the sphere; all six
# kernels, one to six dimensions.
# Seen: every integral is 1 but those of "cosine" in even dimensions: 0.363 in two, NaN in four,
# 0.0045 in six. bandwidth="scott" is the same number, 0.29, for 500 standard normal draws and for
# the same draws times 100, so their log-density moves by more than the log of 100; SciPy's rule of
# that name multiplies by the deviation.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
"$folder/env/bin/python" - <<'PY'
import json
import warnings

import numpy as np
from scipy.special import gamma
from scipy.stats import gaussian_kde
from sklearn.neighbors import KernelDensity

warnings.filterwarnings("ignore")  # the logarithm of a negative number in four dimensions


def integral(kernel, d):
    reach = 40 if kernel in ("gaussian", "exponential") else 1
    radius = np.linspace(0, reach, 100_001)[:-1]
    points = np.zeros((len(radius), d))
    points[:, 0] = radius
    log_density = KernelDensity(kernel=kernel).fit(np.zeros((1, d))).score_samples(points)
    surface = 2 * np.pi ** (d / 2) / gamma(d / 2) * radius ** (d - 1)
    return float(np.trapezoid(np.exp(log_density) * surface, radius))


others = ("gaussian", "tophat", "epanechnikov", "exponential", "linear")
assert all(abs(integral(kernel, d) - 1) < 1e-3 for kernel in others for d in range(1, 7))
cosine = {d: integral("cosine", d) for d in range(1, 7)}
print("integral with the cosine kernel by dimension", cosine)
assert all(abs(cosine[d] - 1) < 1e-3 for d in (1, 3, 5))
assert 0.3 < cosine[2] < 0.4 and np.isnan(cosine[4]) and cosine[6] < 0.01

x = np.random.default_rng(0).normal(size=(500, 1))
width = {scale: KernelDensity(bandwidth="scott").fit(scale * x).bandwidth_ for scale in (1, 100)}
scipys = gaussian_kde(100 * x[:, 0]).covariance.item() ** 0.5
print("bandwidth", width, "SciPy's for the draws times 100", scipys)
assert width[1] == width[100] < 0.3 and scipys > 25
print("measured", json.dumps({
    "integral-of-2": round(cosine[2], 3), "integral-of-6": round(cosine[6], 4),
    "width": round(width[100], 2), "right-width": round(scipys, 1),
}))
PY
