"""A model on disk, with all that it needs to go on (chapter 11)."""

import json
import os
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from em2vae.convolutional import ConvVAE
from em2vae.pixels import LIKELIHOODS
from em2vae.training import TrainingState, unwrapped
from em2vae.vae import VAE

FORMAT = "em2vae model 1"
BODY = re.compile(r"model/encoder\.body\.\d+\.bias")  # of the hidden layers, in their order


def save(model: nn.Module, path: str | os.PathLike) -> None:
    """Write a model as an .npz: weights, the stream of its noise, and where its training stands.

    The file appears at `path` only when it is whole; whatever stood there before stays if the
    writing fails. It holds arrays alone and is read without unpickling anything.

    Args:
        model: a VAE, or another module whose state_dict holds tensors.
        path: where to; it is taken as it is, and its folder must exist.

    Raises:
        TypeError: the state_dict holds something else than tensors that NumPy knows (no bfloat16).
        OSError: the file cannot be written.
    """
    model = unwrapped(model)
    arrays = {f"model/{name}": _array(name, value) for name, value in model.state_dict().items()}
    state = getattr(model, "training_state", None)
    if state is not None:
        arrays["training/generator"] = state.generator.get_state().numpy()
        arrays["training/counts"] = np.array([state.seed, state.epochs])
        for name, moments in state.moments.items():
            arrays |= {f"adam/{name}/{key}": _array(name, v) for key, v in moments.items()}
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as out:
            np.savez(out, format=np.array(FORMAT), layers=np.array(_layers(model)), **arrays)
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(model: nn.Module, path: str | os.PathLike) -> nn.Module:
    """Fill a model that was built with the same sizes from a file of `save`, and return it.

    Training goes on from there as if it had never stopped: the next `fit` gives the same bits.
    If anything does not fit, the model stays as it was.

    Args:
        model: built as the saved one was; its weights stay on their device.
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file was not written by `save`, is damaged, or holds a model of another
            architecture, of other sizes or of another dtype.
    """
    path, inner = Path(path), unwrapped(model)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    arrays = _read(path)
    if (saved := str(arrays.pop("layers"))) != (ours := _layers(inner)):
        raise ValueError(f"{path} holds another architecture: {_first_difference(saved, ours)}")
    weights = _part(arrays, "model/")
    _check_weights(path, weights, inner.state_dict())
    training = _part(arrays, "training/")
    state = _training_state(training, _part(arrays, "adam/")) if training else None
    inner.load_state_dict(weights)
    inner.training_state = state
    return model


def load_vae(path: str | os.PathLike, shape: tuple[int, int, int] | None = None) -> VAE:
    """The VAE or ConvVAE in a file of `save`, built with the sizes that the file tells.

    Args:
        path: the file.
        shape: colours, height and width of a picture, which the weights of a ConvVAE do not tell.

    Raises:
        FileNotFoundError, ValueError: as `load`; or the file holds another kind of model.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    arrays = _read(path)
    layers = json.loads(str(arrays["layers"]))
    if layers[""] not in ("VAE", "ConvVAE") or (layers[""] == "ConvVAE" and shape is None):
        raise ValueError(
            f"{path} holds a {layers['']}, not a VAE: build a model as it was and use em2vae.load"
        )
    sizes = [len(array) for name, array in arrays.items() if BODY.fullmatch(name)]
    activation = getattr(nn, layers["encoder.body.1"], nn.ReLU)
    latent_dim = len(arrays["model/encoder.heads.bias"]) // 2
    if layers[""] == "VAE":
        data_dim = len(arrays["model/decoder.head.bias"])
        vae = VAE(latent_dim, tuple(sizes), data_dim, activation)
    else:
        pixels = layers["decoder.likelihood"]
        likelihood = next(name for name, kind in LIKELIHOODS.items() if kind.__name__ == pixels)
        vae = ConvVAE(latent_dim, tuple(sizes), shape, likelihood, activation)
    return load(vae.to(getattr(torch, arrays["model/encoder.heads.bias"].dtype.name)), path)


def _layers(model: nn.Module) -> str:
    """The names and types of the model and of all modules in it."""
    return json.dumps({name: type(module).__name__ for name, module in model.named_modules()})


def _array(name: str, value: Tensor) -> np.ndarray:
    if not isinstance(value, Tensor) or value.dtype == torch.bfloat16:
        kind = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"{name} is {kind}, which an .npz cannot hold: use model.float() first")
    return value.detach().cpu().numpy()


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if str(arrays.pop("format")) != FORMAT or "layers" not in arrays:
            raise ValueError("another format")
    except Exception as error:  # zipfile and NumPy have a dozen kinds for what is damaged
        raise ValueError(f"{path} is damaged or was not written by em2vae.save: {error}") from error
    return arrays


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    found = {name: value for name, value in arrays.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): torch.from_numpy(value) for name, value in found.items()}


def _first_difference(saved: str, ours: str) -> str:
    saved, ours = json.loads(saved), json.loads(ours)
    name = next(name for name in saved | ours if saved.get(name) != ours.get(name))
    there, here = saved.get(name, "nothing"), ours.get(name, "nothing")
    return f"{name or 'the model'} is {there} in the file and {here} in the model"


def _check_weights(path: Path, saved: dict[str, Tensor], ours: dict[str, Tensor]) -> None:
    for name in saved | ours:
        there, here = (
            f"{state[name].dtype} {tuple(state[name].shape)}" if name in state else "nothing"
            for state in (saved, ours)
        )
        if there != here:
            raise ValueError(
                f"{path} does not fit the model: {name} is {there} in the file and {here} in the "
                "model. Build the model with the sizes and the dtype of the saved one"
            )


def _training_state(training: dict[str, Tensor], adam: dict[str, Tensor]) -> TrainingState:
    generator = torch.Generator()
    generator.set_state(training["generator"])
    seed, epochs = training["counts"].tolist()
    moments = {}
    for name, value in adam.items():
        parameter, key = name.rsplit("/", 1)
        moments.setdefault(parameter, {})[key] = value
    return TrainingState(seed, generator, epochs, moments)
