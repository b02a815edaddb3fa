"""Several processes train as one does: `VAE.forward` is the mean bound, so that
DistributedDataParallel, which averages gradients, follows the gradient of the joined batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from em2vae import VAE
from em2vae.data import binarize

STEPS, BATCH, PIXELS, WORLD = 5, 8, 30, 2
# By double precision, in which Adam does not blow up the last digit of a gradient near zero.
X = binarize(torch.rand(STEPS, BATCH, PIXELS, generator=torch.Generator().manual_seed(0))).double()


def model() -> VAE:
    return VAE(latent_dim=3, hidden_dims=(16,), data_dim=PIXELS).double()


def share_noise(vae: VAE, rank: int) -> None:
    """Each process draws the noise of the joined batch and takes the rows of its own images."""

    def noise(like, n_samples, generator=None):
        shape = (n_samples, WORLD * len(like), vae.latent_dim)
        eps = torch.randn(shape, generator=generator or vae.generator)
        return eps.chunk(WORLD, dim=1)[rank].to(like)

    vae.noise = noise


def train(bound, batches, n_samples=2) -> None:
    """The loop of chapter 11; `bound` is the model, or what is wrapped around it."""
    optimizer = torch.optim.Adam(bound.parameters(), lr=0.01, maximize=True)
    for x in batches:
        optimizer.zero_grad()
        bound(x, n_samples=n_samples, beta=0.5).backward()
        optimizer.step()


def work(rank: int, folder: str, shared: bool) -> None:
    """What a process does: its half of each batch, and then it saves its weights."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD
    )
    vae = model()
    if shared:
        share_noise(vae, rank)
    else:
        vae.generator.manual_seed(rank)
    train(DistributedDataParallel(vae), X.chunk(WORLD, dim=1)[rank])
    torch.save(vae.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def weights(vae: VAE) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in vae.parameters()])


def trained_apart(folder, shared: bool) -> list[torch.Tensor]:
    """The weights that each process has in the end."""
    mp.spawn(work, (str(folder), shared), nprocs=WORLD)
    ends = []
    for rank in range(WORLD):
        vae = model()
        vae.load_state_dict(torch.load(folder / f"{rank}.pt", weights_only=True))
        ends.append(weights(vae))
    return ends


@pytest.fixture(scope="module")
def together():
    """The weights that one process reaches with whole batches."""
    vae = model()
    train(vae, X)
    assert (weights(vae) - weights(model())).abs().max() > 0.01
    return weights(vae)


def test_two_processes_equal_one_on_the_joined_batch(together, tmp_path):
    first, second = trained_apart(tmp_path, shared=True)
    assert torch.equal(first, second)
    assert (first - together).abs().max() <= 1e-6


def test_processes_with_noise_of_their_own_still_share_their_weights(together, tmp_path):
    first, second = trained_apart(tmp_path, shared=False)
    assert torch.equal(first, second)
    assert 1e-6 < (first - together).abs().max() < 0.1
