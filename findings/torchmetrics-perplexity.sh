#!/usr/bin/env bash
# TorchMetrics 1.9.0: Perplexity is infinite where one token is unlikely, because it takes the
# logarithm of a softmax.
# 200 tokens over 100 words with random logits, one of them 25 nats below another word; the same
# logits in half and single precision, and with a gap of 110 nats.
# Seen: float16: inf, where 7.4 is right (PyTorch's cross_entropy of the same half-precision logits
# says so); float32: 7.4 with a gap of 25 nats, inf with 110, where 11.3 is right. One such token in
# a whole test set makes the number infinite.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q torchmetrics==1.9.0 torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json

import torch
from torch.nn.functional import cross_entropy
from torchmetrics.text import Perplexity

torch.manual_seed(0)
logits = 3 * torch.randn(4, 50, 100)
words = torch.distributions.Categorical(logits=logits).sample()


def perplexities(dtype, gap):
    """TorchMetrics' number, and the one from cross_entropy in the same precision and in double."""
    given = logits.clone()
    given[0, 0] = 0.0
    given[0, 0, 1] = gap
    words[0, 0] = 0
    given = given.to(dtype)
    ours = [cross_entropy(one.flatten(0, 1), words.flatten()).exp().item()
            for one in (given, given.double())]
    return Perplexity()(given, words).item(), *ours


for setting in ((torch.float32, 25.0), (torch.float16, 25.0), (torch.float32, 110.0)):
    found, same, right = perplexities(*setting)
    print(setting, "TorchMetrics", found, "cross entropy", same, "in double", right)
    assert abs(same / right - 1) < 0.01
    assert found == float("inf") if setting != (torch.float32, 25.0) else abs(found - right) < 0.01
print("measured", json.dumps({
    "right-half": round(perplexities(torch.float16, 25.0)[2], 1),
    "right-single": round(perplexities(torch.float32, 110.0)[2], 1),
}))
PY
