#!/usr/bin/env bash
# PyTorch 2.13.0: CrossEntropyLoss with class weights divides by two different numbers, depending on
# whether the targets are indices or one-hot probabilities.
# Six sequences of up to nine letters, padded with class 0, whose weight is 0, so that padding shall
# not count.
# Seen: targets as indices: the mean over the letters, 2.01 nats, as ignore_index gives; the same
# targets as one-hot probabilities: the sum over the letters divided by the number of all places,
# 1.16. The more padding, the better the loss looks. Without weights both agree.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json

import torch
from torch.nn.functional import cross_entropy, one_hot

torch.manual_seed(0)
lengths, logits = torch.tensor([9, 7, 5, 4, 3, 3]), torch.randn(6, 5, 9)
padding = torch.arange(9) >= lengths[:, None]
letters = torch.randint(1, 5, (6, 9)).masked_fill(padding, 0)
weights = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0])
probabilities = one_hot(letters, 5).movedim(-1, 1).float()

by_index = cross_entropy(logits, letters, weight=weights).item()
by_probability = cross_entropy(logits, probabilities, weight=weights).item()
ignored = cross_entropy(logits, letters, ignore_index=0).item()
share = lengths.sum().item() / letters.numel()
print("indices", by_index, "one-hot", by_probability, "ignore_index", ignored, "letters", share)
assert abs(by_index - ignored) < 1e-5 and abs(by_probability - share * by_index) < 1e-5
plain = [cross_entropy(logits, target).item() for target in (letters, probabilities)]
assert share < 0.7 and abs(plain[0] - plain[1]) < 1e-5
print("measured", json.dumps({
    "one-hot": round(by_probability, 2), "right": round(by_index, 2),
}))
PY
