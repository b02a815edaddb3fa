#!/usr/bin/env bash
# diffusers 0.42.1: in a VQModel the weight 0.25 stands before the wrong one of the two terms of the
# VQ-VAE's loss, and encode does not quantize.
# A small VQModel as it is constructed; the gradients of its quantizer's loss by the encoder's
# output and by the list of words, over those of the plain mean squares.
# Seen: 1 for the encoder and 0.25 for the words; van den Oord, Vinyals and Kavukcuoglu 2017 have
# 0.25 for the encoder and 1 for the words. The source says so ("legacy"), but VQModel has no
# argument to change it. The value of the loss is the same either way. encode() returns the
# encoder's output, far from every word; decode() looks the words up, so indices stored from
# encode() do not exist. scaling_factor is 0.18215, the number of one set of weights of another
# class.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q diffusers==0.42.1 torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json

import torch
from diffusers import VQModel

torch.manual_seed(0)
model = VQModel(block_out_channels=(32,), norm_num_groups=8)
words = model.quantize.embedding.weight
latents = model.encode(torch.randn(2, 3, 8, 8)).latents.detach().requires_grad_()
flat = latents.permute(0, 2, 3, 1).reshape(-1, 3)
away = torch.cdist(flat, words).min(1).values
_, loss, (_, _, indices) = model.quantize(latents)
assert torch.equal(loss, model.decode(latents).commit_loss)
for_encoder = (flat - words[indices].detach()).pow(2).mean()
for_words = (flat.detach() - words[indices]).pow(2).mean()
assert abs(loss / for_words - 1.25) < 1e-5
weights = {}
for name, at, term in (("encoder", latents, for_encoder), ("words", words, for_words)):
    theirs, plain = (torch.autograd.grad(f, at, retain_graph=True)[0] for f in (loss, term))
    weights[name] = (theirs.norm() / plain.norm()).item()
    assert torch.allclose(theirs, weights[name] * plain, atol=1e-7)
print("weights", weights, "distance of encode() to the nearest word", away.mean().item())
assert abs(weights["encoder"] - 1) < 1e-4 and abs(weights["words"] - 0.25) < 1e-4
assert away.mean() > 50 * words.abs().max() and model.config.scaling_factor == 0.18215
print("measured", json.dumps({name: round(weight, 2) for name, weight in weights.items()}))
PY
