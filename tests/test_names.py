"""Names of chapter 19: folding to a to z, the fixed split, strings as whole numbers and back."""

import pytest
import torch

from em2vae.names import (
    ALPHABET,
    LETTERS,
    decode_names,
    encode_names,
    fold,
    fold_parts,
    load_names,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Zürich", "zurich"), ("Tromsø", "tromso"), ("Łódź", "lodz"), ("STRAẞE", "strasse"),
        ("Αθήνα", "athina"), ("Йошкар", "ioshkar"), ("Київ", "kiiv"), ("İzmir", "izmir"), ("", ""),
    ],
)  # fmt: skip
def test_a_name_is_folded_to_the_alphabet(text, folded):
    assert fold(text) == folded


def test_marks_written_by_themselves_or_with_their_letter_are_the_same():
    assert fold("e\u0301vora") == fold("\u00e9vora") == "evora"


def test_what_cannot_be_folded_is_left_out_or_named():
    assert fold_parts("São Paulo 2") == ("saopaulo", "  2")
    with pytest.raises(ValueError, match=r"text must fold to the letters a-z.*東京"):
        fold("東京")
    with pytest.raises(TypeError, match="text must be a string, got int"):
        fold(3)


def test_the_table_leads_into_the_alphabet_and_holds_no_letter_of_it():
    assert not set(LETTERS) & set(ALPHABET)
    assert set("".join(LETTERS.values())) <= set(ALPHABET)
    assert all(c == c.lower() for c in LETTERS)  # small, as `fold` has made the text


def test_the_names_are_different_and_of_the_alphabet():
    train, test = load_names("train"), load_names("test")
    assert (len(train), len(test)) == (10_000, 1_361)
    assert len({*train, *test}) == 11_361  # nothing is in both
    assert all(3 <= len(name) <= 12 and set(name) <= set(ALPHABET) for name in train + test)


def test_the_split_is_always_the_same():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = load_names("test")[:3]
    assert torch.equal(torch.get_rng_state(), state)  # the global generator stays as it was
    first.append("something")
    assert load_names("test")[:3] == ["blanchard", "marseille", "diepholz"]
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'all'"):
        load_names("all")


def test_names_become_numbers_with_an_end_and_zeros_behind_it():
    x = encode_names(["abz", "", "z"])
    assert x.dtype == torch.int64
    assert x.tolist() == [[1, 2, 26, 0], [0, 0, 0, 0], [26, 0, 0, 0]]


def test_numbers_become_the_same_names():
    names = load_names("test")
    assert decode_names(encode_names(names)) == names
    assert decode_names(torch.tensor([[3, 0, 4, 0]])) == ["c"]  # what stands behind the end is none


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("paris", TypeError, "names must be a list of strings"),
        (["paris", 3], TypeError, "names must be a list of strings"),
        ([], ValueError, "names must hold at least one name"),
        (["paris", "Oslo"], ValueError, "names must be of the letters a-z, got 'Oslo'"),
    ],
)
def test_encoding_refuses_what_is_no_list_of_folded_names(names, error, message):
    with pytest.raises(error, match=message):
        encode_names(names)


@pytest.mark.parametrize(
    "x", [torch.zeros(2, 3), torch.tensor([1, 0]), torch.tensor([[27, 0]]), torch.tensor([[-1, 0]])]
)
def test_decoding_refuses_what_are_no_letters(x):
    with pytest.raises(
        ValueError, match=r"x must be an int64 tensor \(N, T\) of numbers from 0 to 26"
    ):
        decode_names(x)
