#!/usr/bin/env bash
# diffusers 0.42.1: an AutoencoderKL is trained and used unlike the VAE of the papers, and its KLs
# differ in shape and size between its models.
# Seen: forward() decodes the mode of q(z|x) unless asked to sample, so two calls agree; log-
# variances are clamped to [-30, 20], so a code's KL cannot exceed a limit; kl() of a picture sums
# over channels and pixels, of a video it returns (batch, width); kl() of the audio model is twice
# the KL, averaged over time, and its KL between two distributions can be negative. scaling_factor is
# 0.18215 and shift_factor None by default; encode() and decode() apply neither.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q diffusers==0.42.1 torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import json

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.distributions import Normal, kl_divergence

torch.manual_seed(0)
model = AutoencoderKL(block_out_channels=(32,), norm_num_groups=8)
x = torch.randn(1, 3, 16, 16)
with torch.no_grad():
    first, second = model(x).sample, model(x).sample
    mode = model.decode(model.encode(x).latent_dist.mode()).sample
    bare = model.post_quant_conv(model.encode(x).latent_dist.mode())
    assert torch.equal(model.decoder(bare), mode)
    moments = model.quant_conv(model.encoder(x))
    assert torch.equal(model.encode(x).latent_dist.mode(), moments.chunk(2, 1)[0])
assert torch.equal(first, second) and torch.equal(first, mode)
assert model.config.scaling_factor == 0.18215 and model.config.shift_factor is None


def halves(*shape, mean, second):
    return torch.cat([torch.full(shape, mean), torch.full(shape, second)], 1)


clamped = DiagonalGaussianDistribution(halves(2, 4, 3, 5, mean=0.0, second=-40.0))
assert clamped.logvar.unique().tolist() == [-30.0]
picture = DiagonalGaussianDistribution(halves(2, 4, 3, 5, mean=1.0, second=0.0)).kl()
video = DiagonalGaussianDistribution(halves(2, 4, 2, 3, 5, mean=1.0, second=0.0)).kl()
assert picture.shape == (2,) and video.shape == (2, 5)
narrow = OobleckDiagonalGaussianDistribution(halves(1, 4, 5, mean=0.0, second=-3.0))
wide = OobleckDiagonalGaussianDistribution(halves(1, 4, 5, mean=0.0, second=3.0))


def right(q, p):  # summed over channels, averaged over time, as theirs
    return kl_divergence(Normal(q.mean, q.std), p).sum(1).mean().item()


kl, kl_right = narrow.kl().item(), right(narrow, Normal(0.0, 1.0))
between, between_right = narrow.kl(wide).item(), right(narrow, Normal(wide.mean, wide.std))
print("audio kl()", kl, "right", kl_right, "kl(other)", between, "right", between_right)
assert abs(kl / kl_right - 2) < 1e-3 and between < 0 < between_right
print("measured", json.dumps({
    "audio-kl": round(kl, 2), "right-audio-kl": round(kl_right, 2),
    "audio-kl-other": round(between, 2), "right-audio-kl-other": round(between_right, 2),
}))
PY
