"""The walk between two names (chapter 19): type both, slide from one to the other."""

import numpy as np
import torch
import traitlets
from torch import Tensor, nn

from em2vae.interactive.figure import InteractiveFigure, Number, pack_half, pack_rounded
from em2vae.interactive.style_transfer import cubature
from em2vae.names import ALPHABET, LETTERS, LONGEST
from em2vae.sequence import SequenceVAE

TYPED = 40  # characters that a field takes
FINEST = 30_000  # of weights: whole multiples up to this of a step of their row
HOTTEST = 2.0


class NameWalk(InteractiveFigure):
    """Two names that a reader types, the encoder's codes of both, and the decoder's names between.

    Encoder and decoder run in the page. What is typed is folded to a to z as by
    `em2vae.names.fold_parts`.

    Args:
        model: a sequence VAE of the letters a to z, with a code, whose decoder sees all letters
            before; its weights travel along.
        start, end: the two names at first, as typed.
        t: where on the line between their codes, 0 at the start and 1 at the end.
        temperature: letters are drawn in proportion to p**(1 / temperature); at 0 the most likely
            one is taken.
        seed: which draw is shown.

    Raises:
        TypeError, ValueError: model is no such sequence VAE, or has weights that are not finite.
        traitlets.TraitError: a trait is out of its range.
    """

    start = traitlets.Unicode("").tag(sync=True)
    end = traitlets.Unicode("").tag(sync=True)
    t = Number(0.5, min=0.0, max=1.0).tag(sync=True)
    temperature = Number(0.0, min=0.0, max=HOTTEST).tag(sync=True)
    seed = traitlets.CInt(0, min=0).tag(sync=True)
    _hottest = traitlets.Float(HOTTEST).tag(sync=True)
    _longest = traitlets.Int(LONGEST).tag(sync=True)
    _typed = traitlets.Int(TYPED).tag(sync=True)
    _folds = traitlets.Dict(LETTERS).tag(sync=True)
    _network = traitlets.Dict().tag(sync=True)
    _weights = traitlets.Bytes().tag(sync=True)
    _eps = traitlets.List().tag(sync=True)

    def __init__(
        self,
        model: SequenceVAE,
        start: str = "london",
        end: str = "paris",
        t: float = 0.5,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        check_sequence(model)
        network, weights = pack_sequence(model)
        super().__init__(
            start=start,
            end=end,
            t=t,
            temperature=temperature,
            seed=seed,
            _network=network,
            _weights=weights,
            _eps=cubature(model.latent_dim).tolist(),
        )

    @traitlets.validate("start", "end")
    def _check_name(self, proposal) -> str:
        name, text = proposal["trait"].name, proposal["value"]
        if len(text) > TYPED:
            raise traitlets.TraitError(
                f"{name} must have at most {TYPED} characters, got {len(text)}"
            )
        return text


def check_sequence(model: nn.Module) -> None:
    """Raise unless model is a sequence VAE with a code, a to z, and a decoder that sees it all."""
    if not isinstance(model, SequenceVAE):
        raise TypeError(f"model must be an em2vae.sequence.SequenceVAE, got {type(model).__name__}")
    if model.latent_dim < 1:
        raise ValueError("model must have latent_dim of at least 1, got 0: a walk needs codes")
    if model.n_letters != len(ALPHABET):
        raise ValueError(f"model must have n_letters = {len(ALPHABET)}, got {model.n_letters}")
    if model.decoder.reach is not None:
        raise ValueError(
            f"model must have reach = None, got {model.decoder.reach}: the page's decoder sees "
            "all letters before"
        )


@torch.no_grad()
def pack_sequence(model: SequenceVAE) -> tuple[dict, bytes]:
    """The layers that the page computes, rounded, in the form of pack_network.

    A symbol's numbers, and the code's, meet the input weights of a GRU always in the same way. So
    they need not travel: for each gate the page gets a weight a symbol (V = 27: the end, which
    also stands before the first letter, and a to z) and a weight a latent dimension.
    """
    encoder, decoder = model.encoder, model.decoder
    letters = decoder.embed.weight[: decoder.blank]  # no blanks on the page
    from_input = decoder.gru.weight_ih_l0
    matrices = [
        (encoder.gru.weight_ih_l0 @ encoder.embed.weight.T, encoder.gru.bias_ih_l0),  # (3 H, V)
        (encoder.gru.weight_hh_l0, encoder.gru.bias_hh_l0),  # (3 H, H)
        (encoder.heads.weight, encoder.heads.bias),  # (2 K, H)
        (from_input @ letters.T, decoder.gru.bias_ih_l0),  # (3 H, V)
        (from_input @ decoder.code.weight, torch.zeros(len(from_input))),  # (3 H, K)
        (decoder.gru.weight_hh_l0, decoder.gru.bias_hh_l0),  # (3 H, H)
        (decoder.head.weight, decoder.head.bias),  # (V, H)
    ]
    layers = [
        {"inputs": weight.shape[1], "outputs": weight.shape[0], "activation": "identity"}
        for weight, _ in matrices
    ]
    return pack_rounded(layers, [round_rows(*matrix) for matrix in matrices])


def round_rows(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whole numbers (O, I), the step of each row and the bias (O,); ValueError as pack_half."""
    weight, bias = weight.cpu().float(), bias.cpu().float()
    for values in (weight, bias):
        pack_half(values)  # refuses what is not finite, or too large
    steps = (weight.abs().amax(1) / FINEST).clamp(min=1e-6)
    steps = torch.from_numpy(steps.numpy().astype(np.float16).astype(np.float32))
    return (weight / steps[:, None]).round(), steps, bias
