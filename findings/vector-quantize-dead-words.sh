#!/usr/bin/env bash
# vector-quantize-pytorch 1.32.0: a word that is never chosen shrinks to zero, and the threshold
# under which words are revived counts vectors a batch.
# Points around 64 centres in four dimensions, a list of 64 words, 400 steps. Revival is off unless
# asked for; the examples of its documentation ask for a threshold of 2.
# Seen: without revival the mean norm of the unused words is 4.5 after one step, 2.7 after 50 and
# 0.07 after 70: their moving sum falls with their count, but the count has a floor. With 64
# vectors a batch, threshold 2 replaces 45 of the 64 words in every step and ends with a squared
# error of 2.5, above the 1.7 without revival; threshold 0.1 ends with 0.04. With 1,024 vectors a
# batch threshold 2 replaces one word in seven steps.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q vector-quantize-pytorch==1.32.0 torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json

import torch
from vector_quantize_pytorch import VectorQuantize

torch.manual_seed(0)
words = torch.randn(64, 3) * 3
vq = VectorQuantize(3, 64)
vq.codebook = words
vq._codebook.embed_avg.copy_(words[None])
data = 2 + 0.1 * torch.randn(1, 100, 3)
used, norm = torch.zeros(64, dtype=torch.bool), {}
for step in range(71):
    norm[step] = vq.codebook.norm(dim=-1)
    used[vq(data)[1].unique()] = True
norm = {step: norm[step][~used].mean().item() for step in (1, 50, 70)}
print("mean norm of the unused words by steps", norm)
assert norm[1] > 4 and norm[50] < 4 and norm[70] < 0.2


def trained(threshold, batch):
    """Squared error on unseen points, and words replaced a step."""
    torch.manual_seed(0)
    centres = 2 * torch.randn(64, 4)

    def points(n):
        return centres[torch.randint(0, 64, (1, n))] + 0.1 * torch.randn(1, n, 4)

    vq, replaced = VectorQuantize(4, 64, threshold_ema_dead_code=threshold), []
    replace = vq._codebook.replace

    def counted(samples, batch_mask, seq_mask=None):
        replaced.append(batch_mask.sum().item())
        replace(samples, batch_mask, seq_mask)

    vq._codebook.replace = counted
    for _ in range(400):
        vq(points(batch))
    unseen = points(4096)
    error = (vq.eval()(unseen)[0] - unseen).pow(2).sum(-1).mean().item()
    return error, sum(replaced) / 400


none, two, small = (trained(threshold, 64) for threshold in (0, 2, 0.1))
large = trained(2, 1024)
print("64 a batch: none", none, "threshold 2", two, "0.1", small, "1,024 a batch:", large)
assert two[1] > 30 and two[0] > none[0] > 10 * small[0] and small[1] < 2 and large[1] < 1
print("measured", json.dumps({
    "norm-at-1": round(norm[1], 1), "norm-at-70": round(norm[70], 3),
    "replaced": round(two[1]), "error": round(two[0], 1), "error-none": round(none[0], 1),
    "error-small": round(small[0], 2),
}))
PY
