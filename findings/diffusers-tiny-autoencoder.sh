#!/usr/bin/env bash
# diffusers 0.42.1: calling an AutoencoderTiny is not decode(encode(x)), and no gradient reaches its
# encoder.
# A small model as it is constructed, with its last encoder layer scaled until the codes have
# deviation 2; random pictures, the squared error as a loss.
# Seen: forward() clamps the code to [-3, 3] and rounds it to one of 256 levels, as if it were
# stored in the bytes of a picture. The loss trains the decoder alone: the gradient of all 17
# encoder parameters is None, without a warning; through decode(encode(x)) all have one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q diffusers==0.42.1 torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json

import torch
from diffusers import AutoencoderTiny

torch.manual_seed(0)
sizes, blocks = (8, 8), (1, 1)
model = AutoencoderTiny(
    encoder_block_out_channels=sizes, decoder_block_out_channels=sizes,
    num_encoder_blocks=blocks, num_decoder_blocks=blocks,
)
x, codes = torch.rand(16, 3, 16, 16) * 2 - 1, []
last = model.encoder.layers[-1]
with torch.no_grad():
    last.weight *= 2 / model.encode(x).latents.std()
model.decoder.register_forward_pre_hook(lambda module, given: codes.append(given[0].detach()))
called, stepwise = model(x).sample, model.decode(model.encode(x).latents).sample
bytes_of = 255 * (codes[0] / 6 + 0.5)
assert torch.allclose(bytes_of, bytes_of.round(), atol=1e-3)
clamped, free = codes[0].abs().max().item(), codes[1].abs().max().item()
encoder = list(model.encoder.parameters())


def reached(output):
    loss = (output - x).pow(2).mean()
    found = torch.autograd.grad(loss, encoder, allow_unused=True)
    return sum(gradient is not None for gradient in found)


by_call, by_steps = reached(called), reached(stepwise)
print("largest code", clamped, "by encode", free)
print("encoder parameters with a gradient", by_call, "through decode(encode(x))", by_steps)
assert abs(clamped - 3) < 1e-6 and free > 3.2
assert by_call == 0 and by_steps == len(encoder)
print("measured", json.dumps({
    "largest": round(clamped), "free": round(free, 1), "reached": by_call, "parameters": by_steps,
}))
PY
