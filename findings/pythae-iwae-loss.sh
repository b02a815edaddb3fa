#!/usr/bin/env bash
# pythae 0.1.2: the loss of its IWAE is not the importance-weighted bound, and get_nll is not a
# negative log-likelihood.
# Eight binary pixels, one latent, an encoder that returns the prior, so that log p(x) is one
# integral by the trapezoid rule.
# Seen: with 50 draws the loss is 5.17 where -log p(x) is 5.76: it weighs the log weights by their
# normalized weights, a surrogate with the right gradient that is too low as a number, and training
# keeps the model for which it is lowest. get_nll returns -5.76, the log-likelihood.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q pythae==0.1.2 torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json
import math

import torch
from pythae.data.datasets import DatasetOutput
from pythae.models import IWAE, IWAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder

slopes = torch.linspace(-3, 3, 8)


class Prior(BaseEncoder):
    def forward(self, x):
        zeros = torch.zeros(len(x), 1)
        return ModelOutput(embedding=zeros, log_covariance=zeros)


class Slopes(BaseDecoder):
    def forward(self, z):
        return ModelOutput(reconstruction=torch.sigmoid(z * slopes))


torch.manual_seed(0)
sizes = IWAEConfig(
    input_dim=(8,), latent_dim=1, reconstruction_loss="bce", number_samples=50
)
model = IWAE(sizes, encoder=Prior(), decoder=Slopes())
image = torch.tensor([[0, 0, 1, 0, 1, 1, 0, 1.0]])
with torch.no_grad():
    loss = model(DatasetOutput(data=image.repeat(2000, 1))).loss.item()
    nll = model.get_nll(image.repeat(20, 1), n_samples=1000, batch_size=1000)
z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
joint = torch.distributions.Bernoulli(logits=z[:, None] * slopes).log_prob(image).sum(-1)
joint = joint + torch.distributions.Normal(0.0, 1.0).log_prob(z)
exact = -(torch.logsumexp(joint, 0) + math.log(16 / 4000)).item()
print("IWAE loss", loss, "get_nll", nll, "-log p(x)", exact)
assert loss < exact - 0.3 and abs(nll + exact) < 0.05
print("measured", json.dumps({
    "loss": round(loss, 2), "get-nll": round(float(nll), 2), "right": round(exact, 2),
}))
PY
