#!/usr/bin/env bash
# Pyro 1.9.2: TraceMeanField_ELBO, which takes the KL in closed form, has the larger spread near
# the optimum.
# A normal observation of a standard normal, three dimensions, guide equal to the exact posterior:
# there log p(x, z) - log q(z) is the constant log p(x).
# Seen: the estimates of Trace_ELBO, which samples the KL, do not vary at all; those of
# TraceMeanField_ELBO have a deviation of 0.97 nats. Subtracting an exact KL removes the term that
# cancels the noise of the log-likelihood.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q pyro-ppl==1.9.2 torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json
import statistics

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

pyro.set_rng_seed(0)
x = torch.tensor([0.5, -1.0, 2.0])


def model():
    z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def guide():
    pyro.sample("z", dist.Normal(x / 2, 0.5**0.5).to_event(1))


kinds = (Trace_ELBO(), TraceMeanField_ELBO())
sampled, analytic = (statistics.stdev([k.loss(model, guide) for _ in range(400)]) for k in kinds)
print("deviation in nats with a sampled KL", sampled, "with the exact KL", analytic)
assert sampled < 1e-5 and analytic > 0.3
print("measured", json.dumps({"sampled": round(sampled, 2), "analytic": round(analytic, 2)}))
PY
