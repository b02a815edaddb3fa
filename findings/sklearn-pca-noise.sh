#!/usr/bin/env bash
# scikit-learn 1.9.1: PCA with fewer examples than dimensions overstates the noise variance of
# probabilistic PCA, and with it lowers every score.
# 30 examples in 100 dimensions, 5 components: the mean of the discarded variance is taken over the
# 25 eigenvalues that the examples can show, not over the 95 dimensions that are left.
# Seen: 3.2 with the default solver (right by maximum likelihood: 0.82), and score() 29.6 nats an
# example too low; svd_solver="covariance_eigh" of the same class gives 0.85, which differs only by
# dividing by n - 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q scikit-learn==1.9.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json

import numpy as np
from sklearn.decomposition import PCA

rng = np.random.default_rng(0)
x = rng.normal(size=(30, 5)) @ rng.normal(size=(5, 100)) + rng.normal(size=(30, 100))
fitted = {solver: PCA(5, svd_solver=solver).fit(x) for solver in ("auto", "covariance_eigh")}
centred = x - x.mean(0)
values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
values, vectors = values[::-1], vectors[:, ::-1]
noise = values[5:].sum() / 95  # Tipping and Bishop 1999, eq. 8
factors = vectors[:, :5]
covariance = (factors * (values[:5] - noise)) @ factors.T + noise * np.eye(100)
distance = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred).mean()
score = -0.5 * (100 * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + distance)
for solver, model in fitted.items():
    print(solver, "noise", model.noise_variance_, "score", model.score(x))
print("maximum likelihood: noise", noise, "score", score)
default = fitted["auto"]
assert default.noise_variance_ > 3 * noise and score - default.score(x) > 20
assert abs(fitted["covariance_eigh"].noise_variance_ - noise * 30 / 29) < 1e-6
print("measured", json.dumps({
    "noise": round(float(default.noise_variance_), 2), "right-noise": round(float(noise), 2),
    "other-solver": round(float(fitted["covariance_eigh"].noise_variance_), 2),
    "score-too-low": round(float(score - default.score(x)), 1),
}))
PY
