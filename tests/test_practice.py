"""The questions from practice: twenty, short, each with a measured number and a derivation; what
the page says of its measurements holds; and the programs on it run."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from em2vae.data import load_results
from em2vae.page import _parser

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
import practice  # noqa: E402

CELLS = nbformat.read(ROOT / "book/practice.ipynb", as_version=4).cells
TEXT = "\n\n".join(cell.source for cell in CELLS if cell.cell_type == "markdown")
SECTIONS = dict(
    re.findall(r"^## ([^\n]+)\n\n(.*?)(?=^\([a-z-]+\)=|\Z)", TEXT, re.MULTILINE | re.DOTALL)
)
QUESTIONS = {title: answer for title, answer in SECTIONS.items() if title.endswith("?")}
RESULTS, CLAIMS = load_results("practice"), load_results("claims")["claims"]
RUNS = RESULTS["runs"].values()
GLUED = {name for cell in CELLS for name in re.findall(r"\{glue:text\}`([^`:]+)`", cell.source)}
PROGRAMS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def words(answer: str) -> list[str]:
    """What a reader reads: a number, a formula or a link counts as one word, a rule not at all."""
    one = re.sub(r"\{[a-z:]+\}`[^`]*`|\$[^$]*\$|`[^`]*`", "x", answer)
    one = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", one)
    return [word for word in re.split(r"[\s|]+", one) if re.search(r"\w", word)]


def test_there_are_twenty_questions_and_each_can_be_linked():
    assert len(QUESTIONS) == 20
    labels = re.findall(r"^\((q-[a-z]+)\)=\n## [^\n]+\?$", TEXT, re.MULTILINE)
    assert len(set(labels)) == 20
    assert "```{contents}" in TEXT.partition("\n## ")[0]


@pytest.mark.parametrize("title", QUESTIONS)
def test_an_answer_is_short_and_has_a_number_and_a_derivation(title):
    answer = QUESTIONS[title]
    assert len(words(answer)) <= 150
    assert re.search(r"\{glue:text\}`", answer)
    assert re.search(r"\{(doc|eq|ref|prf:ref|numref)\}`", answer)
    assert re.search(r"\{doc\}`\d\d-|\{ref\}`(ex-|own-images)|\{ref\}`q-", answer)


def test_words_are_counted_as_a_reader_counts_them():
    text = (
        "| a row | {glue:text}`x-range` % |\n| --- | --- |\n$K = 2$ in [a lab](lab.html), `f(a, b)`"
    )
    assert len(words(text)) == 8


def glued_by(name: str) -> bool:
    """Whether the page's first cell gives this name, from what was measured."""
    number, claim = name.removesuffix("-range"), re.sub("-(held|range)$", "", name)
    once = {"mnist-weighted", "mnist-minutes", "own-seconds"}
    return number in RESULTS["numbers"] or (claim in CLAIMS and claim != name) or name in once


def test_every_number_is_one_that_was_measured():
    assert [name for name in sorted(GLUED) if not glued_by(name)] == []
    assert not glued_by("mean-over-latents") and not glued_by("nothing-range")


def test_the_numbers_are_those_of_ten_runs():
    assert list(RESULTS["runs"]) == [str(seed) for seed in range(practice.RUNS)]
    assert practice.RUNS >= 10
    assert RESULTS["numbers"] == practice.summary(RESULTS["runs"])


def test_a_claim_that_the_page_borrows_holds_for_nine_of_ten_seeds():
    names = {re.sub("-(held|range)$", "", name) for name in GLUED} & set(CLAIMS)
    weak = [name for name in names if CLAIMS[name]["held"] < 0.9 * CLAIMS[name]["seeds"]]
    assert names and weak == []


SAID = {  # what the answers say of their numbers
    "surplus dimensions cost little": lambda r: r["latents-64-elbo"] > r["latents-8-elbo"],
    "and are hardly used": lambda r: r["latents-64-paid"] < 32,
    "two dimensions are not for likelihood": lambda r: r["latents-2-elbo"] < r["latents-4-elbo"],
    "the threshold for active units does not show thrift": lambda r: r["latents-64-active"] > 60,
    "below 8 bits": lambda r: r["colour-bits"] < 8,
    "a blank sheet is more likely than digits": lambda r: (
        r["stranger-blank-nats"] > r["stranger-digits-nats"]
    ),
    "and than nearly all of them": lambda r: r["stranger-blank-bound"] < 5,
    "simple strangers pass for digits": lambda r: (
        max(r["stranger-stroke-bound"], r["stranger-half-size-bound"]) < 50
    ),
    "both scores look to both sides": lambda r: (
        min(
            r[f"stranger-{kind}-{score}"]
            for kind in ("blank", "stroke", "half-size")
            for score in ("typicality", "both-terms")
        )
        > 50
    ),
    "means are better features than draws": lambda r: (
        r["probe-mu-100"] > r["probe-z-100"] and r["probe-mu-4000"] > r["probe-z-4000"]
    ),
    "raw pixels do as well": lambda r: all(
        r[f"probe-pixels-{n}"] > r[f"probe-mu-{n}"] - 2 for n in practice.LABELS
    ),
    "codes without a price are wide": lambda r: r["free-deviation"] > 1,
    "and cost more than they bring": lambda r: r["free-elbo"] < r["latents-20-elbo"],
    "training images have the better bound": lambda r: r["latents-20-train"] > r["latents-20-elbo"],
    "the weighted bound is above the ELBO": lambda r: (
        r["stranger-digits-nats"] > r["latents-20-elbo"]
    ),
    "a file changes nothing": lambda r: r["saved-apart"] == 0,
    "shared noise costs variance": lambda r: min(r["noise-start"], r["noise-trained"]) > 1,
    "a raw output may be negative": lambda r: r["sigma-negative"] > 0,
}


@pytest.mark.parametrize("sentence", SAID)
def test_what_is_said_of_the_runs_holds_for_nine_of_ten(sentence):
    assert sum(map(SAID[sentence], RUNS)) >= 0.9 * len(RUNS)


# The programs.


def test_no_box_is_opened_by_a_line_that_markdown_does_not_take_for_a_fence():
    assert re.findall(r"^`{3,}(?!`)[^`\n]*`.*$", TEXT, re.MULTILINE) == []


def test_the_command_knows_the_options_that_the_page_names():
    section = next(text for title, text in SECTIONS.items() if title.startswith("Your own images"))
    named = set(re.findall(r"(--[a-z]+(?:-[a-z]+)*)", section))
    assert (
        {"--color", "--size", "--save", "--model"} <= named <= set(_parser()._option_string_actions)
    )


def test_the_page_shows_what_the_command_prints():
    assert re.fullmatch(
        r"photos: 500 pictures of 28x28\n"
        r"pictures trained on \(450\): at most \d\.\d\d bits a value, of 8\n"
        r"pictures held out \(50\): at most \d\.\d\d bits a value, of 8\n"
        r"page\.html: \d\.\d MB\. Open it in a browser",
        "\n".join(RESULTS["own"]["printed"]),
    )
    shown = [cell for cell in CELLS if 'practice["own"]["printed"]' in cell.source]
    assert len(shown) == 1 and shown[0].metadata["tags"] == ["remove-input"]


def run(command: list[str], folder: Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_program_for_own_images_makes_a_page(tmp_path):
    [program] = [text for text in PROGRAMS if "load_images" in text]
    (tmp_path / "photos").mkdir()
    practice.photographs(tmp_path / "photos", 8)
    (tmp_path / "own.py").write_text(program.replace("epochs=250", "epochs=2"), encoding="utf-8")
    run([sys.executable, "own.py"], tmp_path)
    assert "My photographs" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (tmp_path / "model.npz").stat().st_size > 1e5


def test_the_program_for_several_processes_trains_in_two(tmp_path):
    [program] = [text for text in PROGRAMS if "torch.distributed" in text]
    short = program.replace('load_digits("train")', 'load_digits("test")')
    (tmp_path / "train.py").write_text(short.replace("range(5)", "range(1)"), encoding="utf-8")
    module = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    printed = run([*module, "--standalone", "train.py"], tmp_path)
    assert re.fullmatch(r"2 processes, last bound of process 0: -\d+\.\d nats\n", printed)
    assert (tmp_path / "model.npz").exists()


@pytest.mark.parametrize("wrapper", ["lightning_fabric", "accelerate"])
def test_the_other_two_programs_differ_only_in_what_the_tool_does(wrapper):
    [plain] = [text for text in PROGRAMS if "torch.distributed" in text]
    [other] = [text for text in PROGRAMS if wrapper in text]
    compile(other, wrapper, "exec")
    loops = [text.partition("x, _ = ")[2].splitlines() for text in (plain, other)]
    common = [line.partition(")  #")[0] for line in loops[0] if "draws)" not in line]
    own = [line for line in common if line.partition(")  #")[0] not in "\n".join(loops[1])]
    assert [line.strip() for line in own] == [
        "bound.backward()",
        *([] if wrapper == "lightning_fabric" else ["if rank == 0:"]),
        "dist.destroy_process_group()",
    ]
