#!/usr/bin/env bash
# tomotopy 0.14.0: ll_per_word and perplexity of an LDAModel are the joint log p(w, z) of the words
# and the sampled topics, with both priors, a word.
# 200 documents of 50 words from a vocabulary of 20.
# Seen: perplexity 14.7 where the words alone have 9.7 under the fitted topics and proportions; the
# collapsed joint log p(w, z), computed from the counts, divided by the number of words, is
# ll_per_word to rounding. It cannot be compared with another program's perplexity.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q tomotopy==0.14.0 numpy==2.4.6 scipy==1.17.1
"$folder/env/bin/python" - <<'PY'
import json

import numpy as np
import tomotopy
from scipy.special import gammaln

rng = np.random.default_rng(0)
topics = rng.dirichlet(np.full(20, 0.2), 3)
model = tomotopy.LDAModel(k=3, seed=0)
for _ in range(200):
    counts = rng.multinomial(50, rng.dirichlet([0.5] * 3) @ topics)
    model.add_doc([str(word) for word in np.repeat(np.arange(20), counts)])
model.train(300, workers=1)
phi = np.array([model.get_topic_word_dist(k) for k in range(3)])
alpha, eta, joint, plug_in, n_words = np.array(model.alpha), model.eta, 0.0, 0.0, 0
of_topic = np.zeros(phi.shape)
for document in model.docs:
    words, chosen = np.array(document.words), np.array(document.topics)
    counts = np.bincount(chosen, minlength=3)
    np.add.at(of_topic, (chosen, words), 1)
    joint += (gammaln(alpha + counts) - gammaln(alpha)).sum()
    joint += gammaln(alpha.sum()) - gammaln(alpha.sum() + counts.sum())
    plug_in += np.log(np.array(document.get_topic_dist()) @ phi[:, words]).sum()
    n_words += len(words)
joint += (gammaln(of_topic + eta) - gammaln(eta)).sum()
size = phi.shape[1]
joint += (gammaln(size * eta) - gammaln(size * eta + of_topic.sum(1))).sum()
print("perplexity", model.perplexity, "of the joint", np.exp(-joint / n_words))
print("of the words alone, plugged in:", np.exp(-plug_in / n_words))
assert abs(model.ll_per_word - joint / n_words) < 1e-3
assert model.perplexity > 1.3 * np.exp(-plug_in / n_words)
print("measured", json.dumps({
    "perplexity": round(model.perplexity, 1),
    "plug-in": round(float(np.exp(-plug_in / n_words)), 1),
}))
PY
