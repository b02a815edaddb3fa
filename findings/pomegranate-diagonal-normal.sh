#!/usr/bin/env bash
# pomegranate 1.1.2: a diagonal Normal reads its parameters as variances where it fits and as
# deviations where it draws.
# 20,000 points with deviations 3 and 0.2, one Normal fitted with covariance_type="diag" and one
# with "full", 20,000 draws from each.
# Seen: both have the maximum of the log-likelihood, -2.33 nats an example; the draws of the full
# one have deviations 3 and 0.2, those of the diagonal one 9 and 0.04, and under the model that drew
# them a log-density of -5.9.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q pomegranate==1.1.2 torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json

import torch
from pomegranate.distributions import Normal
from torch.distributions import Normal as TorchNormal

torch.manual_seed(0)
x = torch.randn(20_000, 2) * torch.tensor([3.0, 0.2]) + 1
best = TorchNormal(x.mean(0), x.std(0, unbiased=False)).log_prob(x).sum(1).mean().item()
deviations, own = {}, {}
for kind in ("full", "diag"):
    model = Normal(covariance_type=kind).fit(x)
    assert abs(model.log_probability(x).mean().item() - best) < 0.01
    drawn = model.sample(20_000)
    deviations[kind] = drawn.std(0).tolist()
    own[kind] = model.log_probability(drawn).mean().item()
print("deviations of the draws", deviations, "log-density of own draws", own, "of the data", best)
assert abs(deviations["full"][0] - 3) < 0.1 and abs(own["full"] - best) < 0.1
assert abs(deviations["diag"][0] - 9) < 0.3 and abs(deviations["diag"][1] - 0.04) < 0.005
assert own["diag"] < best - 2
print("measured", json.dumps({
    "first": round(deviations["diag"][0], 1), "second": round(deviations["diag"][1], 2),
    "own": round(own["diag"], 1), "of-data": round(best, 1),
}))
PY
