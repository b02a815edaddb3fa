#!/usr/bin/env bash
# scikit-learn 1.9.1: with reg_covar above its tiny default, GaussianMixture's EM lowers the
# likelihood, and lower_bound_ belongs to the parameters of one step before.
# Twenty mixtures of three normals in two dimensions, two of them narrower than the regularization,
# 300 steps each with warm_start and tol=0.
# Seen: the mean log-likelihood of the training data falls in 1,315 of 5,980 steps, by up to 0.03
# nats an example (EM never lowers it), and lower_bound_ after a step equals score() of the step
# before to the last digit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q scikit-learn==1.9.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json
import warnings

import numpy as np
from sklearn.mixture import GaussianMixture

warnings.filterwarnings("ignore")  # one step at a time does not converge
falls, steepest, late = 0, 0.0, 0.0
for seed in range(20):
    rng = np.random.default_rng(seed)
    blobs = ((0, 0.1), (0.6, 0.5), (1.5, 0.1))
    x = np.concatenate([rng.normal(center, width, (60, 2)) for center, width in blobs])
    model = GaussianMixture(
        3, reg_covar=0.1, max_iter=1, warm_start=True, tol=0, random_state=seed,
        init_params="random_from_data",
    )
    scores = []
    for _ in range(300):
        model.fit(x)
        if scores:
            late = max(late, abs(model.lower_bound_ - scores[-1]))
        scores.append(model.score(x))
    steps = np.diff(scores)
    falls += int((steps < -1e-9).sum())
    steepest = min(steepest, steps.min())
print("steps that fall", falls, "of 5,980; steepest", steepest, "nats an example")
print("largest difference of lower_bound_ and the score one step before:", late)
assert falls > 100 and steepest < -0.001 and late < 1e-9
print("measured", json.dumps({"falls": falls, "steepest": round(float(steepest), 3)}))
PY
