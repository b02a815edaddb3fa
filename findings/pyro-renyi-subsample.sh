#!/usr/bin/env bash
# Pyro 1.9.2: RenyiELBO(alpha=0) with a subsampled plate estimates something above log p(x).
# Twenty numbers from a normal with a standard normal mean; the guide is the exact posterior, so
# that on the full data the estimate equals log p(x) = the dense normal's log-density in every
# draw.
# Seen: with 5 of 20 in a mini-batch and 20 particles the mean estimate lies about 5 nats above log
# p(x), with 10 of 20 about 2.4; Trace_ELBO stays unbiased. Each particle draws its own mini-batch
# and the factor N/B stands inside the log-mean-exp.
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
from pyro.infer import RenyiELBO, Trace_ELBO

pyro.set_rng_seed(0)
n = 20
x = torch.randn(n) + 1


def model(size):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", n, subsample_size=size) as chosen:
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[chosen])


def guide(size):
    pyro.sample("z", dist.Normal(x.sum() / (n + 1), (n + 1) ** -0.5))


truth = dist.MultivariateNormal(torch.zeros(n), torch.eye(n) + 1).log_prob(x).item()


def above(loss, size):
    """Mean of sixty estimates less log p(x), and its standard error."""
    values = [-loss.loss(model, guide, size) - truth for _ in range(60)]
    return statistics.mean(values), statistics.stdev(values) / 60**0.5


renyi = RenyiELBO(alpha=0, num_particles=20)
found = {size: above(renyi, size) for size in (n, 10, 5)}
plain = above(Trace_ELBO(num_particles=20), 5)
print("above log p(x) by mini-batch size:", found, "Trace_ELBO with 5:", plain)
assert abs(found[n][0]) < 1e-4 and abs(plain[0]) < 5 * plain[1]
assert found[10][0] > 10 * found[10][1] and found[5][0] > 10 * found[5][1]
print("measured", json.dumps({f"above-at-{s}": round(found[s][0], 1) for s in (10, 5)}))
PY
