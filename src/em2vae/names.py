"""Names of cities that have an airport, as strings and as whole numbers (chapter 19)."""

import functools
import unicodedata

import airportsdata
import torch
from torch import Tensor

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
END = 0  # the number of the end of a name, and of what stands behind it; letters count from 1
SHORTEST, LONGEST = 3, 12  # letters of a name in the data
N_TEST = 1361  # names that are held out; 10,000 are left to train on
# Letters that are no letter of the alphabet with a mark on it, and what is written in their place.
LETTERS = {
    "ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i",
    "ħ": "h", "ŋ": "ng",
    "α": "a", "β": "v", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "η": "i", "θ": "th", "ι": "i",
    "κ": "k", "λ": "l", "μ": "m", "ν": "n", "ξ": "x", "ο": "o", "π": "p", "ρ": "r", "σ": "s",
    "ς": "s", "τ": "t", "υ": "y", "φ": "f", "χ": "ch", "ψ": "ps", "ω": "o",
    "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ж": "zh", "з": "z", "и": "i",
    "к": "k", "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t",
    "у": "u", "ф": "f", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ъ": "", "ы": "y",
    "ь": "", "э": "e", "ю": "yu", "я": "ya", "є": "ye", "і": "i", "ґ": "g", "ђ": "dj", "ј": "j",
    "љ": "lj", "њ": "nj", "ћ": "c", "џ": "dz",
}  # fmt: skip


def fold_parts(text: str) -> tuple[str, str]:
    """The letters a-z that a text is folded to, and its characters that were left out.

    Capitals become small, marks fall away (é to e), and LETTERS says what stands for letters that
    have no simpler form (ø to o, ж to zh).
    """
    folded, left_out = [], []
    for c in unicodedata.normalize("NFD", text.lower()):
        if unicodedata.category(c) == "Mn":  # a mark that stands on the letter before it
            continue
        if c in LETTERS or c in ALPHABET:
            folded.append(LETTERS.get(c, c))
        else:
            left_out.append(c)
    return "".join(folded), "".join(left_out)


def fold(text: str) -> str:
    """A name in the letters a-z: `fold("Tromsø")` is "tromso" (chapter 19).

    Raises:
        TypeError: text is no string.
        ValueError: a character has no place in the alphabet; the message names it.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    folded, left_out = fold_parts(text)
    if left_out:
        raise ValueError(f"text must fold to the letters a-z, but {text!r} holds {left_out!r}")
    return folded


def load_names(split: str = "train") -> list[str]:
    """Different names of cities with an airport, of 3 to 12 letters a-z after folding.

    From the package airportsdata; names of several words are left out. Shuffled and split once
    and for all.

    Args:
        split: "train" (10,000 names) or "test" (1,361).

    Raises:
        ValueError: an unknown split.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    names = _shuffled_names()
    return list(names[:N_TEST] if split == "test" else names[N_TEST:])


@functools.cache
def _shuffled_names() -> tuple[str, ...]:
    parts = {fold_parts(airport["city"]) for airport in airportsdata.load().values()}
    fits = {name for name, left_out in parts if not left_out and SHORTEST <= len(name) <= LONGEST}
    names = sorted(fits)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))
    return tuple(names[i] for i in order)


def encode_names(names: list[str]) -> Tensor:
    """Names as rows of whole numbers: a letter's place in the alphabet, from 1, then zeros.

    Args:
        names: strings of the letters a-z, at least one.

    Returns:
        (N, T) int64, where T is one more than the longest name: each row holds an end.

    Raises:
        TypeError: names is a single string, or holds something else than strings.
        ValueError: there is no name, or one holds other characters (see `fold`).
    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError("names must be a list of strings")
    if not names:
        raise ValueError("names must hold at least one name")
    x = torch.full((len(names), max(map(len, names)) + 1), END)
    for row, name in zip(x, names, strict=True):
        if not set(name) <= set(ALPHABET):
            raise ValueError(
                f"names must be of the letters a-z, got {name!r}: see em2vae.names.fold"
            )
        row[: len(name)] = torch.tensor([ALPHABET.index(c) + 1 for c in name], dtype=torch.int64)
    return x


def decode_names(x: Tensor) -> list[str]:
    """The strings in rows (N, T) of `encode_names`, each up to its first zero.

    Raises ValueError if x is not (N, T) of whole numbers from 0 to 26.
    """
    whole = isinstance(x, Tensor) and x.dtype == torch.int64 and x.ndim == 2
    if not whole or (x.numel() and not 0 <= x.min() <= x.max() <= len(ALPHABET)):
        raise ValueError("x must be an int64 tensor (N, T) of numbers from 0 to 26")
    letters = "." + ALPHABET
    return ["".join(letters[i] for i in row).partition(".")[0] for row in x.tolist()]
