"""Printed numbers compared within the tolerance that a checked cell's metadata states.

`"tolerance": 3` lets each number differ by three units of its last printed digit, and
`"tolerance": 0.02` by two hundredths of the stored value. Everything else that is printed has to be
the same: the words, the lines and how many numbers there are. Spaces that line numbers up may move.
"""

import math
import re
from decimal import Decimal

# Not the 2 of x2, of vae-2 or of 2D, nor the 5 of 0.5x: those are words.
NUMBER = re.compile(
    r"(?<![\w.])(?<![A-Za-z]-)[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?!\w|\.\d)"
)
# A tolerance may let a number differ by this share of it or by these units, whichever is more.
MAX_SHARE, MAX_UNITS = Decimal("0.05"), 18
EXAMPLE = (
    "a whole number of units in the last printed digit, or a fraction below 1 of the stored value"
)


def is_tolerance(value: object) -> bool:
    """Whether a cell may state this tolerance; True and False are no numbers here."""
    if isinstance(value, float):
        return 0 < value < 1
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def split(text: str) -> tuple[list[str], list[Decimal]]:
    """The lines of a printed text with a mark in place of each number, and the numbers."""
    words = [" ".join(line.split()) for line in NUMBER.sub("\0", text).splitlines()]
    found = (number.replace(",", "").replace("−", "-") for number in NUMBER.findall(text))
    return words, [Decimal(number) for number in found]


def unit(*values: Decimal) -> Decimal:
    """One unit of the last printed digit, of the value that was printed with the fewest."""
    return Decimal(1).scaleb(max(value.as_tuple().exponent for value in values))


def allowed(value: Decimal, step: Decimal, tolerance: float) -> Decimal:
    """By how much a number may differ from the stored value, printed in steps of `step`."""
    return tolerance * step if isinstance(tolerance, int) else Decimal(str(tolerance)) * abs(value)


def too_loose(text: str, tolerance: float) -> list[str]:
    """The numbers of a stored text that the tolerance lets differ by more than a cell may state."""
    return [
        str(value)
        for value in split(text)[1]
        if allowed(value, unit(value), tolerance)
        > max(MAX_UNITS * unit(value), MAX_SHARE * abs(value))
    ]


def agree(text: str, stored: str, tolerance: float) -> bool:
    """Whether two printed texts have the same words, and numbers within the tolerance."""
    if not is_tolerance(tolerance):
        raise ValueError(f"a tolerance must be {EXAMPLE}, got {tolerance!r}")
    words, values = split(text)
    stored_words, stored_values = split(stored)
    if words != stored_words:
        return False
    pairs = zip(values, stored_values, strict=True)
    return all(abs(a - b) <= allowed(b, unit(a, b), tolerance) for a, b in pairs)


def measured(texts: list[str]) -> float | None:
    """Three times the spread of the numbers over several runs, as the tighter kind of tolerance.

    None where all runs print the same. Raises ValueError if they print other words.
    """
    if len(set(texts)) == 1:
        return None
    words, values = zip(*map(split, texts), strict=True)
    if any(other != words[0] for other in words):
        different = next(text for text in texts if split(text)[0] != words[0])
        raise ValueError(f"prints other words in another run: {texts[0]!r} and {different!r}")
    numbers = list(zip(*values, strict=True))  # each with its values in the runs
    units = [unit(*runs) for runs in numbers]
    spreads = [max(runs) - min(runs) for runs in numbers]
    absolute = 3 * max(math.ceil(s / u) for s, u in zip(spreads, units, strict=True))
    if any(s and not runs[0] for s, runs in zip(spreads, numbers, strict=True)):
        return absolute  # no share of zero
    share = max(3 * s / abs(runs[0]) for s, runs in zip(spreads, numbers, strict=True) if s)
    share = math.ceil(1000 * share) / 1000
    slack = sum(Decimal(share) * abs(runs[0]) / u for u, runs in zip(units, numbers, strict=True))
    return share if share < 1 and slack < absolute * len(numbers) else absolute


def wider(text: str, *tolerances: float | None) -> float | None:
    """That which lets the text's numbers move most; None is the exact one."""
    _, values = split(text)
    return max(
        tolerances,
        key=lambda t: 0 if t is None else sum(allowed(value, unit(value), t) for value in values),
    )
