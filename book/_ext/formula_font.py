"""The font of the formulas: STIX Two Math, which the package ziamath brings, cut and adjusted."""

import io
from importlib.util import find_spec
from pathlib import Path

from fontTools import subset
from fontTools.misc.transform import Offset
from fontTools.pens.transformPen import TransformPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont

LICENCE = [0, 13, 14]  # among the names in a font: copyright, terms and their address
PRIMES = "\u2032\u2033\u2034\u2057"
ACCENTS = "ˆˇ˜¯˘˙¨\u20d7"


def lower_accents(font: TTFont) -> None:
    """Put them on the line that letters stand on: WebKit adds their height to the letter's."""
    glyphs = font.getGlyphSet()
    for code, name in font.getBestCmap().items():
        if chr(code) in ACCENTS:
            pen = TTGlyphPen(glyphs)
            glyphs[name].draw(TransformPen(pen, Offset(0, -font["glyf"][name].yMin)))
            font["glyf"][name] = pen.glyph()


def font_of(codes: set[int]) -> bytes:
    """A WOFF file with the glyphs of these characters, their sizes and their parts."""
    path = Path(find_spec("ziamath").origin).parent / "fonts/STIXTwoMath-Regular.ttf"
    font = TTFont(path, lazy=True, recalcTimestamp=False)
    letters = font.getBestCmap()
    # As they are drawn in a superscript, which not all browsers choose by themselves.
    primes = {ord(prime): f"{letters[ord(prime)]}.ssty" for prime in PRIMES}
    for table in font["cmap"].tables:
        if table.isUnicode() and table.format != 14:
            table.cmap.update(primes)
    options = subset.Options(layout_features=[], hinting=False, name_IDs=LICENCE)
    cut = subset.Subsetter(options)
    cut.populate(unicodes=codes)
    cut.subset(font)
    # In TeX, the index of a letter stands as low beside a p as beside an x.
    font["MATH"].table.MathConstants.SubscriptBaselineDropMin.Value = -40
    lower_accents(font)
    font.flavor = "woff"
    file = io.BytesIO()
    font.save(file)
    return file.getvalue()
