#!/usr/bin/env bash
# scvi-tools 1.4.2: how far the weight of the KL has been annealed when training ends depends on
# the number of cells, and its two ELBOs have opposite signs.
# The weight rises over 400 epochs, and the default number of epochs falls with the data.
# Seen: weight in the last epoch 0.9975, 0.3975, 0.0975, 0.0175 and 0 for 20 thousand, 50 thousand,
# 200 thousand, 1 million and 10 million cells. history["elbo_train"] is positive (a loss),
# get_elbo() negative (a bound).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q scvi-tools==1.4.2 torch==2.13.0
"$folder/env/bin/python" - <<'PY'
import json
import warnings

import anndata
import numpy as np
import scvi
from scvi.model._utils import get_max_epochs_heuristic
from scvi.train import TrainingPlan
from scvi.train._trainingplans import _compute_kl_weight

warnings.filterwarnings("ignore")
cells = np.random.default_rng(0).poisson(3.0, (64, 10)).astype(np.float32)
data = anndata.AnnData(cells)
scvi.model.SCVI.setup_anndata(data)
model = scvi.model.SCVI(data)
plan = TrainingPlan(model.module)
weights = {}
for n in (20_000, 50_000, 200_000, 1_000_000, 10_000_000):
    last = get_max_epochs_heuristic(n) - 1
    settings = (plan.n_steps_kl_warmup, plan.max_kl_weight, plan.min_kl_weight)
    weights[n] = round(_compute_kl_weight(last, 0, plan.n_epochs_kl_warmup, *settings), 4)
model.train(max_epochs=2, accelerator="cpu", enable_progress_bar=False, logger=None)
loss, bound = float(model.history["elbo_train"].iloc[-1, 0]), float(model.get_elbo())
print("KL weight in the last epoch by cells", weights, "elbo_train", loss, "get_elbo", bound)
assert list(weights.values()) == [0.9975, 0.3975, 0.0975, 0.0175, 0.0]
assert loss > 0 > bound
print("measured", json.dumps({f"weight-at-{n}": value for n, value in weights.items()}))
PY
