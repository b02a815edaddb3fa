#!/usr/bin/env bash
# Keras 3.15.1: binary_crossentropy of probabilities has a floor and a gradient of exactly zero
# where the model is most wrong.
# Seen (backend torch): probability 0 for a one costs 16.118 nats and probability 1 for a zero
# 15.942, both with gradient 0; logit -50 for a one costs 50 nats with gradient -1 when
# from_logits=True, and 16.118 with gradient 0 through a sigmoid.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q keras==3.15.1 torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json
import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch


def cost(target, value, before=lambda v: v, **options):
    """The loss in nats and its gradient by the value."""
    value = torch.tensor([[value]], requires_grad=True)
    loss = keras.losses.binary_crossentropy(torch.tensor([[target]]), before(value), **options)
    loss.sum().backward()
    return loss.item(), value.grad.item()


zero, one = cost(1.0, 0.0), cost(0.0, 1.0)
logit, through_sigmoid = cost(1.0, -50.0, from_logits=True), cost(1.0, -50.0, torch.sigmoid)
print("probability 0:", zero, "1:", one, "logit:", logit, "sigmoid:", through_sigmoid)
assert round(zero[0], 3) == 16.118 and round(one[0], 3) == 15.942 and zero[1] == one[1] == 0
assert logit == (50.0, -1.0) and through_sigmoid == zero
print("measured", json.dumps({"at-0": round(zero[0], 3), "at-1": round(one[0], 3)}))
PY
