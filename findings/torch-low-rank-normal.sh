#!/usr/bin/env bash
# PyTorch 2.13.0: LowRankMultivariateNormal.log_prob in float32 loses hundreds of nats when the
# noise is small beside the factors.
# 784 numbers, two factors of standard normal weights, 1,000 draws from the model itself; the truth
# is the dense normal in float64.
# Seen: the largest error is 0.006 nats at noise deviation 1, 0.5 at 0.1, 63 at 0.01 and 7,300 at
# 0.001, without a warning. The Mahalanobis term is the difference of two large numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json

import torch
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal

torch.manual_seed(0)
factors = torch.randn(784, 2)
largest, mean = {}, {}
for sigma in (1.0, 0.1, 0.01, 0.001):
    x = torch.randn(1000, 2) @ factors.T + sigma * torch.randn(1000, 784)
    model = LowRankMultivariateNormal(torch.zeros(784), factors, torch.full((784,), sigma**2))
    wide = factors.double()
    covariance = wide @ wide.T + sigma**2 * torch.eye(784, dtype=torch.float64)
    truth = MultivariateNormal(torch.zeros(784, dtype=torch.float64), covariance)
    error = (model.log_prob(x) - truth.log_prob(x.double())).abs()
    largest[sigma], mean[sigma] = error.max().item(), error.mean().item()
print("largest error in nats by noise deviation", largest)
assert largest[1.0] < 0.05 < 0.1 < largest[0.1]
assert largest[0.01] > 10 and largest[0.001] > 1000
print("measured", json.dumps({
    "error-at-0.01": round(largest[0.01]), "error-at-0.001": round(largest[0.001], -2),
    "mean-error-at-0.001": round(mean[0.001], -1),
}))
PY
