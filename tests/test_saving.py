import copy
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import em2vae
from em2vae import VAE, fit
from em2vae.data import binarize

SIZES = {"latent_dim": 2, "hidden_dims": (6,), "data_dim": 8}
TRAINING = {"epochs": 2, "batch_size": 3, "binarize": "fixed", "seed": 4}


@pytest.fixture
def x():
    return torch.linspace(0, 1, 80).reshape(10, 8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vae.npz"


def outcome(model, x) -> torch.Tensor:
    """All that training on changes: the weights, and a bound with the model's own noise."""
    fit(model, x, **TRAINING)
    parameters = [weight.detach().ravel() for weight in model.parameters()]
    return torch.cat([*parameters, model.elbo(binarize(x)).elbo.detach()])


AGAIN = """
import sys, torch, em2vae
from test_saving import SIZES, outcome
model = em2vae.load(em2vae.VAE(**SIZES, seed=9), sys.argv[1])
torch.save(outcome(model, torch.linspace(0, 1, 80).reshape(10, 8)), sys.argv[2])
"""


def test_another_process_goes_on_with_the_same_bits(x, path):
    model = VAE(**SIZES)
    fit(model, x, **TRAINING)
    model.sample(3)  # the noise has moved on too
    em2vae.save(model, path)
    result = path.with_name("result.pt")
    folders = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", AGAIN, str(path), str(result)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": folders})
    assert torch.equal(torch.load(result), outcome(model, x))


@pytest.mark.parametrize("seed", [-(2**63), 2**63 - 1])
def test_the_largest_seeds_come_back(x, path, seed):
    model = VAE(**SIZES)
    fit(model, x, epochs=1, seed=seed)
    em2vae.save(model, path)
    state = em2vae.load(VAE(**SIZES), path).training_state
    assert (state.seed, state.epochs) == (seed, 1)


def test_a_model_that_was_never_trained_comes_back_untrained(x, path):
    fresh, used = VAE(**SIZES), VAE(**SIZES, seed=1)
    fit(used, x, **TRAINING)
    em2vae.save(fresh, path)
    assert em2vae.load(used, path) is used
    assert torch.equal(outcome(used, x), outcome(fresh, x))


def test_training_in_double_precision_goes_on_with_the_same_bits(x, path):
    model, other = VAE(**SIZES).double(), VAE(**SIZES, seed=9).double()
    fit(model, x.double(), **TRAINING)
    em2vae.save(model, path)
    em2vae.load(other, path)
    assert torch.equal(outcome(other, x.double()), outcome(model, x.double()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_dtypes(path, dtype):
    model, other = (VAE(**SIZES, seed=seed).to(dtype) for seed in (0, 1))
    em2vae.save(model, path)
    em2vae.load(other, path)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_bfloat16_is_refused(path):
    with pytest.raises(TypeError, match=r"torch.bfloat16, which an .npz cannot hold: use model.fl"):
        em2vae.save(VAE(**SIZES).bfloat16(), path)
    assert not path.exists()


def test_a_state_that_is_no_tensor_is_refused(path):
    class Counting(nn.Linear):
        def get_extra_state(self):
            return {"steps": 3}

    with pytest.raises(TypeError, match=r"_extra_state is dict, which an \.npz cannot hold"):
        em2vae.save(Counting(2, 2), path)
    assert not path.exists()


def test_the_name_is_taken_as_it_is(tmp_path):
    model = VAE(**SIZES)
    em2vae.save(model, str(tmp_path / "my model"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["my model"]
    em2vae.load(VAE(**SIZES, seed=1), str(tmp_path / "my model"))


def test_other_modules_may_be_saved(path):
    model, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    model(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    em2vae.save(model, path)
    em2vae.load(other, path)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


@pytest.mark.parametrize("broken", ["writing", "replacing"])
def test_a_failure_leaves_the_old_file_and_nothing_else(path, monkeypatch, broken):
    model = VAE(**SIZES)
    em2vae.save(model, path)
    before = path.read_bytes()

    def fail(target, *args, **kwargs):
        if broken == "writing":
            target.write(b"half a file")
        raise OSError("no space left")

    monkeypatch.setattr(*((np, "savez") if broken == "writing" else (os, "replace")), fail)
    with pytest.raises(OSError, match="no space left"):
        em2vae.save(VAE(**SIZES, seed=1), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


OTHERS = {
    "width": (
        VAE(**{**SIZES, "hidden_dims": (7,)}),
        r"encoder.body.0.weight is .* \(6, 8\) in the",
    ),
    "latents": (VAE(**{**SIZES, "latent_dim": 3}), r"encoder.heads.weight is .* in the file and"),
    "depth": (
        VAE(**{**SIZES, "hidden_dims": (6, 6)}),
        "encoder.body.2 is nothing in the file and L",
    ),
    "activation": (VAE(**SIZES, activation=nn.Tanh), "encoder.body.1 is ReLU in the file and Tanh"),
    "dtype": (
        VAE(**SIZES).double(),
        r"torch.float32 \(6, 8\) in the file and torch.float64 \(6, 8",
    ),
    "class": (nn.Linear(2, 2), "the model is VAE in the file and Linear in the model"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_architecture_is_refused(x, path, name):
    other, message = OTHERS[name]
    em2vae.save(VAE(**SIZES), path)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=message):
        em2vae.load(other, path)
    for key, value in other.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("with_bias", [True, False])
def test_a_parameter_that_one_side_lacks_is_named(path, with_bias):
    em2vae.save(nn.Linear(2, 2, bias=with_bias), path)
    there, here = r"torch.float32 \(2,\)", "nothing"
    there, here = (there, here) if with_bias else (here, there)
    with pytest.raises(ValueError, match=rf"bias is {there} in the file and {here} in the model"):
        em2vae.load(nn.Linear(2, 2, bias=not with_bias), path)


def not_an_npz(path):
    path.write_text("weights")


def cut_short(path):
    em2vae.save(VAE(**SIZES), path)
    path.write_bytes(path.read_bytes()[:-500])


def damaged(path):
    em2vae.save(VAE(**SIZES), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def of_somebody_else(path):
    np.savez(path, weights=np.zeros(3))


def a_single_array(path):
    with open(path, "wb") as out:
        np.save(out, np.zeros(3))


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def pickled(path):
    with open(path, "wb") as out:
        np.savez(out, format=np.array([Bomb()], dtype=object))


def flags(path, place, value):
    """A file whose first entry says in its header that it is packed, locked or made otherwise."""
    em2vae.save(VAE(**SIZES), path)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + place] ^= value  # in the table of contents
    path.write_bytes(content)


def locked(path):
    flags(path, 8, 1)


def packed_otherwise(path):
    flags(path, 10, 255)


def with_a_torn_header(path):
    em2vae.save(VAE(**SIZES), path)
    header = np.lib.format.magic(1, 0) + (10).to_bytes(2, "little") + b"{'descr': "
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("extra.npy", header)


def without_its_layers(path):
    np.savez(path, format=np.array(em2vae.saving.FORMAT))


def another_version(path):
    np.savez(path, format=np.array("em2vae model 0"))


@pytest.mark.parametrize(
    "write",
    [
        not_an_npz,
        cut_short,
        damaged,
        of_somebody_else,
        a_single_array,
        pickled,
        another_version,
        without_its_layers,
        locked,
        packed_otherwise,
        with_a_torn_header,
    ],
)
def test_a_wrong_file_is_refused(path, monkeypatch, write):
    write(path)
    monkeypatch.chdir(path.parent)
    with pytest.raises(ValueError, match=r"vae.npz is damaged or was not written by em2vae.save"):
        em2vae.load(VAE(**SIZES), path)
    assert list(path.parent.iterdir()) == [path]  # no bomb went off


def test_a_missing_file_or_folder_is_named(path):
    with pytest.raises(FileNotFoundError, match=r"vae.npz does not exist"):
        em2vae.load(VAE(**SIZES), path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        em2vae.save(VAE(**SIZES), path.parent / "nowhere" / "vae.npz")
