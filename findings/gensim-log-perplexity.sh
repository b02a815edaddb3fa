#!/usr/bin/env bash
# gensim 4.4.0: log_perplexity returns a bound in nats a word, and the perplexity that it logs is 2
# to that power, as if it were in bits.
# Seen: it returns -2.466 and logs a perplexity of 5.5; the same bound in nats means e^2.466 =
# 11.8, for a vocabulary of 20 words.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q gensim==4.4.0
"$folder/env/bin/python" - <<'PY'
import json
import logging
import math
import re

import numpy as np
from gensim.models import LdaModel

rng = np.random.default_rng(0)
topics = rng.dirichlet(np.full(20, 0.2), 3)


def documents(n):
    drawn = (rng.multinomial(50, rng.dirichlet([0.5] * 3) @ topics) for _ in range(n))
    return [[(w, int(c)) for w, c in enumerate(counts) if c] for counts in drawn]


names = {w: str(w) for w in range(20)}
model = LdaModel(documents(200), num_topics=3, id2word=names, passes=5, random_state=0)
lines, logger = [], logging.getLogger("gensim.models.ldamodel")
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logger.addHandler(handler)
logger.setLevel(logging.INFO)
held_out = documents(60)
bound = float(model.log_perplexity(held_out))
logged = float(re.search(r"([\d.]+) perplexity", lines[-1])[1])
words = sum(count for document in held_out for _, count in document)
print("returned", bound, "logged", logged, "e to the bound", math.exp(-bound))
assert abs(bound - model.bound(held_out) / words) < 1e-3  # bound() sums log-densities in nats
assert abs(logged - 2**-bound) < 0.06 and math.exp(-bound) > 1.8 * logged
print("measured", json.dumps({
    "bound": round(bound, 3), "logged": logged, "right": round(math.exp(-bound), 1),
}))
PY
