#!/usr/bin/env bash
# scikit-learn 1.9.1: BernoulliRBM.score_samples, which in other models of the library is the log-
# likelihood, is a noisy pseudo-likelihood that can prefer the worse model.
# Eight visible and four hidden units, so that log Z is a sum over 256 states; 500 noisy copies of
# two patterns, one training looked at after 10 and after 30 passes, over ten seeds.
# Seen: the mean score rises in ten of ten trainings (it asks how well one bit, drawn at random,
# follows from the other seven); the exact log-likelihood falls in four of them, in one by 2.4 nats
# an example. Every score lies above it. One example scores between -26.6 and -0.3 in fifty calls.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q scikit-learn==1.9.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import itertools
import json

import numpy as np
from sklearn.neural_network import BernoulliRBM

rng = np.random.default_rng(0)
states = np.array(list(itertools.product([0.0, 1.0], repeat=8)))
patterns = np.repeat(rng.random((500, 1)) < 0.5, 8, axis=1)
x = (patterns ^ (rng.random((500, 8)) < 0.05)).astype(float)


def log_likelihood(model, v):
    """Mean in nats an example, the normalizer summed over all states."""

    def unnormalized(v):
        inputs = v @ model.components_.T + model.intercept_hidden_
        return v @ model.intercept_visible_ + np.logaddexp(0, inputs).sum(1)

    return float((unnormalized(v) - np.logaddexp.reduce(unnormalized(states))).mean())


rise, change = [], []
for seed in range(10):
    scores, exact = [], []
    for passes in (10, 30):
        model = BernoulliRBM(4, learning_rate=0.1, n_iter=passes, random_state=seed).fit(x)
        model.set_params(random_state=np.random.RandomState(0))  # each call draws other bits
        scores.append(float(np.mean([model.score_samples(x).mean() for _ in range(20)])))
        exact.append(log_likelihood(model, x))
    print("seed", seed, "score", scores, "log-likelihood", exact)
    assert min(s - e for s, e in zip(scores, exact)) > 0.2
    rise.append(scores[1] - scores[0])
    change.append(exact[1] - exact[0])
one = [model.score_samples(x[:1]).item() for _ in range(50)]
falls, steepest = sum(c < -0.01 for c in change), min(change)
print("score rises in", sum(r > 0.01 for r in rise), "log-likelihood falls in", falls)
print("by up to", steepest, "one example from", min(one), "to", max(one))
assert min(rise) > 0.01 and 2 <= falls <= 7 and steepest < -1 and max(one) - min(one) > 5
print("measured", json.dumps({
    "rises": 10, "falls": falls, "steepest": round(-steepest, 1),
    "lowest": round(min(one), 1), "highest": round(max(one), 1),
}))
PY
