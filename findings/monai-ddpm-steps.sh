#!/usr/bin/env bash
# MONAI 1.6.1: DDPMScheduler with fewer steps than were trained draws from a distribution that is
# far too wide.
# The data are normal with deviation 0.5 (and 0.1), so the best prediction of the noise is a
# formula; 1,000 training steps, 20,000 draws, no clipping.
# Seen: with all 1,000 steps 0.99 of the right variance; after set_timesteps(50), which is accepted
# without a warning, 3.5 times and at deviation 0.1 64 times: the step goes from t to t - 1 although
# the next one is 20 further on. diffusers' class of the same name has 0.80 there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q monai==1.6.1 torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json

import torch
from monai.networks.schedulers import DDPMScheduler


def variance(deviation, steps):
    """Of the draws, over the variance of the data."""
    torch.manual_seed(0)
    scheduler = DDPMScheduler(num_train_timesteps=1000, clip_sample=False)
    scheduler.set_timesteps(steps)
    x = torch.randn(20_000, 1)
    for t in scheduler.timesteps:
        kept = scheduler.alphas_cumprod[t]
        noise = x * (1 - kept).sqrt() / (kept * deviation**2 + 1 - kept)
        x, _ = scheduler.step(noise, int(t), x)
    return (x.var() / deviation**2).item()


every = variance(0.5, 1000)
few = {s: variance(s, 50) for s in (0.5, 0.1)}
print("all steps", every, "50 steps, by deviation", few)
assert abs(every - 1) < 0.05 and few[0.5] > 2.5 and few[0.1] > 40
print("measured", json.dumps({
    "every": round(every, 2), "few": round(few[0.5], 1), "few-at-0.1": round(few[0.1]),
}))
PY
