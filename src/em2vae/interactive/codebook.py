"""Codebook (chapter 18): draw a digit, read it in words, exchange them, let the prior go on."""

import torch
import traitlets
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from em2vae.checks import check_like
from em2vae.codebook import VQVAE
from em2vae.data import binarize
from em2vae.interactive.amortized_pad import normalize
from em2vae.interactive.figure import (
    SIDE,
    InteractiveFigure,
    check_images,
    check_index,
    pack_half,
    pack_maps,
)
from em2vae.interactive.style_transfer import check_choices, first_of_each
from em2vae.words import WordPrior

PLACES = 49  # of 7 rows and 7 columns
PATCH = SIDE // 7  # pixels of a place, in each direction
MOST_WORDS = 64  # that still have a tile each


class Words(traitlets.List):
    """49 whole numbers from 0 to M - 1, row by row: a list, a tuple, a tensor or an array."""

    def validate(self, obj, value) -> list[int]:
        value = value.tolist() if hasattr(value, "tolist") else value
        wrong = traitlets.TraitError(
            f"{self.name} must hold {PLACES} whole numbers from 0 to {obj.n_words - 1}, "
            f"got {value!r}"
        )
        try:
            words = super().validate(obj, value)
        except traitlets.TraitError:
            raise wrong from None
        if len(words) != PLACES or not all(0 <= word < obj.n_words for word in words):
            raise wrong
        return words


class Codebook(InteractiveFigure):
    """A pad, its 49 words with what each costs, the picture that they stand for, and the list.

    Args:
        vqvae: an em2vae.codebook.VQVAE of at most 64 words; its weights and its list travel along.
        prior: an em2vae.words.WordPrior over as many words.
        x: grey held-out images (N, 784), from which it is measured what each word stands for.
        labels: their digits, (N,).
        choices: indices of the images that can be put on the pad; by default the first of each
            digit.
        digit: which of them is there at first, or -1 for an empty pad.

    Attributes:
        digit: which of the choices is on the pad, or -1 for a drawing of one's own.
        words: the 49 words of the picture shown, row by row; set them to see another picture.
        place: the place whose word can be exchanged, 0..48.
        kept: how many words stay, from the first on, 0..49; the prior draws those after them.
        seed: of these draws.
        n_words: M, the length of the list.

    Raises:
        TypeError, ValueError: vqvae or prior is none, they disagree about M or it is above 64,
            the images are not 28x28, labels are not their digits, or choices name no image with
            ink.
    """

    digit = traitlets.Int(0).tag(sync=True)
    words = Words(traitlets.Int()).tag(sync=True)
    place = traitlets.Int(0).tag(sync=True)
    kept = traitlets.Int(PLACES).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    _encoder = traitlets.Dict().tag(sync=True)
    _encoder_weights = traitlets.Bytes().tag(sync=True)
    _decoder = traitlets.Dict().tag(sync=True)
    _decoder_weights = traitlets.Bytes().tag(sync=True)
    _prior = traitlets.Dict().tag(sync=True)
    _prior_weights = traitlets.Bytes().tag(sync=True)
    _reach = traitlets.List().tag(sync=True)
    _list = traitlets.List().tag(sync=True)  # (M, D)
    _tiles = traitlets.Bytes().tag(sync=True)  # what each word stands for: (M, 16), float16
    _images = traitlets.Bytes().tag(sync=True)  # grey, a byte a pixel
    _digits = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(
        self,
        vqvae: VQVAE,
        prior: WordPrior,
        x: Tensor,
        labels: Tensor,
        choices: list[int] | None = None,
        digit: int = 0,
    ) -> None:
        check_models(vqvae, prior)
        check_images(x, labels)
        check_like(x, vqvae.words)
        choices = first_of_each(labels) if choices is None else list(choices)
        check_choices(choices, x)
        check_index("digit", digit, len(choices), least=-1)
        self.n_words, self._pages = vqvae.n_words, pages_of(vqvae, x[choices])
        encoder, encoder_weights = pack_maps(with_middles(vqvae.encoder), (1, SIDE, SIDE))
        decoder, decoder_weights = pack_maps(vqvae.decoder, (vqvae.words.shape[1], 7, 7))
        tables, prior_weights = pack_maps(as_tables(prior), (1, 1, 1))
        super().__init__(
            digit=digit,
            words=self._pages[digit],
            place=dearest(prior, self._pages[digit]),
            _encoder=encoder,
            _encoder_weights=encoder_weights,
            _decoder=decoder,
            _decoder_weights=decoder_weights,
            _prior=tables,
            _prior_weights=prior_weights,
            _reach=[list(offset) for offset in prior.reach],
            _list=vqvae.words.tolist(),
            _tiles=pack_half(tiles_of(vqvae, binarize(x))),
            _images=(255 * x[choices]).round().to(torch.uint8).cpu().numpy().tobytes(),
            _digits=labels[choices].tolist(),
        )

    @traitlets.validate("digit", "place", "kept")
    def _check_index(self, proposal) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        if name == "digit":
            return check_index(name, value, len(self._pages) - 1, least=-1)
        return check_index(name, value, PLACES + (name == "kept"))

    @traitlets.observe("digit")
    def _read_it(self, change) -> None:
        if change["new"] >= 0:
            self.words, self.kept = self._pages[change["new"]], PLACES


def check_models(vqvae, prior) -> None:
    """Raise unless these are a VQVAE and a WordPrior over the same words, at most 64."""
    for name, model, kind in (("vqvae", vqvae, VQVAE), ("prior", prior, WordPrior)):
        if not isinstance(model, kind):
            wanted = f"{kind.__module__}.{kind.__name__}"
            raise TypeError(f"{name} must be an {wanted}, got {type(model).__name__}")
    if prior.n_words != vqvae.n_words:
        raise ValueError(f"prior must have the {vqvae.n_words} words of vqvae, got {prior.n_words}")
    if vqvae.n_words > MOST_WORDS:
        raise ValueError(
            f"vqvae must have at most {MOST_WORDS} words, got {vqvae.n_words}: each has a tile"
        )


@torch.no_grad()
def pages_of(vqvae: VQVAE, x: Tensor) -> list[list[int]]:
    """The words of grey images (N, 784) as the pad shows them; then those of an empty one."""
    pictures = [normalize(image.reshape(SIDE, SIDE).cpu()) > 0.5 for image in x]
    pictures = torch.stack([*pictures, torch.zeros(SIDE, SIDE, dtype=torch.bool)])
    return vqvae.encode(pictures.flatten(1).to(x)).tolist()


@torch.no_grad()
def dearest(prior: WordPrior, words: list[int]) -> int:
    """The place of the word that costs most."""
    return prior.log_prob(torch.tensor([words], device=prior.place.device)).argmin().item()


@torch.no_grad()
def tiles_of(vqvae: VQVAE, x: Tensor) -> Tensor:
    """The mean of the 4x4 pixels at the places where each word stands in images x: (M, 16)."""
    patches = unfold(x.unflatten(-1, (1, SIDE, SIDE)), PATCH, stride=PATCH)  # (N, 16, 49)
    patches, numbers = patches.transpose(1, 2).flatten(0, 1), vqvae.encode(x).flatten()
    counts = torch.bincount(numbers, minlength=vqvae.n_words)
    sums = torch.zeros(vqvae.n_words, PATCH**2).to(x).index_add_(0, numbers, patches)
    return sums / counts.clamp(min=1)[:, None]


def with_middles(encoder: nn.Sequential) -> nn.Sequential:
    """The same encoder, its last convolution of 1x1 the middle of one of 3x3, as the page has."""
    *body, last = encoder
    wide = nn.Conv2d(last.in_channels, last.out_channels, 3, padding=1)
    wide.weight, wide.bias = nn.Parameter(pad(last.weight.detach(), (1, 1, 1, 1))), last.bias
    return nn.Sequential(*body, wide)


@torch.no_grad()
def as_tables(prior: WordPrior) -> nn.Sequential:
    """The same prior from ones and zeros: which word each neighbour is, and which place it is.

    Its first layer multiplies each neighbour's vector by a block of weights: a table of M + 1
    columns for each neighbour. The biases of the places follow as 49 columns.
    """
    blocks = prior.first.weight.unflatten(1, (len(prior.reach), -1)).transpose(0, 1)  # (12, H, E)
    tables = (blocks @ prior.embed.weight.T).transpose(0, 1).flatten(1)  # (H, 12 (M + 1))
    weight = torch.cat([tables, prior.place.T], dim=1)
    first = nn.Linear(*weight.shape[::-1], device=weight.device)
    first.weight.copy_(weight)
    first.bias.zero_()
    return nn.Sequential(first, nn.SiLU(), prior.second, nn.SiLU(), prior.head)
