#!/usr/bin/env bash
# scikit-learn 1.9.1: LatentDirichletAllocation.perplexity depends on how many documents are asked
# about at once, and can exceed the number of words.
# A model of three topics over 20 words, fitted once; the same held-out documents, the first 1, 5,
# 10, 30 and 60 of them, all of equal length.
# Seen: 125 for one document (a uniform guess over 20 words has 20), then 19, 15, 12.6 and 11.8:
# the bound holds the divergence of the fitted topics from their prior, which is counted once a
# call, so it weighs most where the documents are few.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q scikit-learn==1.9.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json

import numpy as np
from sklearn.decomposition import LatentDirichletAllocation

rng = np.random.default_rng(0)
topics = rng.dirichlet(np.full(20, 0.2), 3)


def documents(n):
    return np.array([rng.multinomial(50, rng.dirichlet([0.5] * 3) @ topics) for _ in range(n)])


held_out = documents(60)
model = LatentDirichletAllocation(3, max_iter=50, random_state=0).fit(documents(200))
perplexity = {n: model.perplexity(held_out[:n]) for n in (1, 5, 10, 30, 60)}
single = [model.perplexity(held_out[i : i + 1]) for i in range(60)]
print("by the number of documents", perplexity, "mean of single ones", np.mean(single))
assert perplexity[1] > 40 and perplexity[5] > 1.3 * perplexity[60] and min(single) > 40
print("measured", json.dumps({
    **{f"of-{n}": float(f"{p:.3g}") for n, p in perplexity.items()}
}))
PY
