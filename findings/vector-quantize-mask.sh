#!/usr/bin/env bash
# vector-quantize-pytorch 1.32.0: with cosine similarity, a mask that keeps every place changes the
# commitment loss.
# Twelve sequences of 20 vectors in 8 dimensions, 32 words; no mask, a mask of ones, and the same
# lengths given as numbers.
# Seen: without a mask the loss is the mean square between the unit words and the unit inputs, 0.08;
# with the mask of ones it is 0.71, the mean square between the unit words and the inputs as they
# came, which also pulls the encoder's vectors to length one. Without cosine similarity both agree.
# The losses of two data sets, one padded and one not, cannot be compared.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q vector-quantize-pytorch==1.32.0 torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json

import torch
from torch.nn.functional import mse_loss, normalize
from vector_quantize_pytorch import VectorQuantize

torch.manual_seed(0)
x = torch.randn(12, 20, 8)
masks = {
    "none": {}, "ones": {"mask": torch.ones(12, 20, dtype=torch.bool)},
    "lengths": {"lens": torch.full((12,), 20)},
}


def losses(cosine):
    """The loss by the kind of mask, and the words that were chosen."""
    found = {}
    for name, mask in masks.items():
        torch.manual_seed(0)
        vq = VectorQuantize(8, 32, use_cosine_sim=cosine)
        words = vq.codebook.clone()
        _, indices, loss = vq(x, **mask)
        found[name] = loss.item()
    return found, words[indices]


cosine, words = losses(True)
unit, raw = mse_loss(normalize(x, dim=-1), words).item(), mse_loss(x, words).item()
plain, _ = losses(False)
print("cosine", cosine, "unit inputs", unit, "inputs as they came", raw, "plain", plain)
assert abs(cosine["none"] - unit) < 1e-5 and cosine["ones"] == cosine["lengths"]
assert abs(cosine["ones"] - raw) < 1e-5 and raw > 3 * unit
assert abs(plain["none"] - plain["ones"]) < 1e-6
print("measured", json.dumps({"loss": round(unit, 2), "masked": round(raw, 2)}))
PY
