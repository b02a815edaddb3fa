#!/usr/bin/env bash
# TensorFlow Probability 0.25.0 (with TensorFlow 2.18 and tf-keras): two defaults that change a
# bound.
# Seen: Independent(Normal of batch shape (5, 7, 3)) without a number takes all batch axes but the
# first into the event, so log_prob sums over 21 numbers, with a note that this will change one
# day; KLDivergenceRegularizer, on which KLDivergenceAddLoss rests, estimates the KL from one draw
# although both normals have a closed form: twenty calls give -2.5 to 2.7 nats where the KL is
# 1.63. use_exact_kl is off.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q tensorflow-probability==0.25.0 tensorflow-cpu==2.18.1 tf-keras==2.18.0
"$folder/env/bin/python" - <<'PY'
import json
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf
import tensorflow_probability as tfp

tfd, tfpl = tfp.distributions, tfp.layers
together = tfd.Independent(tfd.Normal(tf.zeros([5, 7, 3]), 1.0))
assert (together.batch_shape, together.event_shape) == ([5], [7, 3])
tf.random.set_seed(0)
prior = tfd.Independent(tfd.Normal(tf.zeros(2), 1.0), 1)
code = tfpl.IndependentNormal(2)
q = code(tf.constant([[1.0, 1.0, -0.43, -0.43]]))  # mean 1, deviation softplus(-0.43) = 0.5
drawn = [float(tfpl.KLDivergenceRegularizer(prior)(code(tf.constant([[1.0, 1.0, -0.43, -0.43]]))))
         for _ in range(20)]
exact = float(tfpl.KLDivergenceRegularizer(prior, use_exact_kl=True)(q))
print("KL drawn from", min(drawn), "to", max(drawn), "exact", exact)
assert max(drawn) - min(drawn) > 0.5 and min(drawn) < exact < max(drawn)
print("measured", json.dumps({
    "lowest": round(min(drawn), 1), "highest": round(max(drawn), 1), "exact": round(exact, 2),
}))
PY
