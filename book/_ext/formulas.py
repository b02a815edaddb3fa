"""Formulas: the build turns TeX into MathML, which browsers draw, and packs a font for it.

math-core translates; a command that it does not know is a warning with the page, the line and the
formula. The font (formula_font.py) has the characters in use and stands in the style sheet itself:
a page from a folder or in a frame without an origin may not fetch fonts, and it is there before
the first formula is.
"""

import base64
import hashlib
import re
import unicodedata
from html import escape, unescape
from pathlib import Path

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

STYLE = "formula-font.css"
CONVERTER = LatexToMathML(fancy_error=False)
# Sphinx numbers equations, not the converter.
NUMBERED = re.compile(r"\\(begin|end)\{(align|alignat|equation|gather|multline)\}")
# Where TeX has an empty operand ({} and the start of a line's right half), MathML needs one, too:
# without it a plus is a sign and a relation among nothing but spaces loses its own.
OPERAND = re.compile(r'(<mtd style="text-align: left;[^"]*padding-left: 0;">)|<mrow></mrow>')
CELL = re.compile(r"<mtd\b[^>]*>")  # in which WebKit stretches brackets only if they are in a row
MATHML = re.compile(r"<math\b.*?</math>", re.DOTALL)
# A single letter is drawn as the italic of mathematics, which has code points of its own.
ITALIC = [0x210E, *range(0x1D434, 0x1D468), *range(0x1D6E2, 0x1D71C)]
# Browsers take even such a font only when they lay out a letter, one frame too late.
LOAD = 'document.fonts.load("1em Formulas");'


def mathml(node: nodes.Node, display: bool) -> str:
    """The formula of a node; its TeX, and a warning, if that has an error."""
    tex = NUMBERED.sub(r"\\\1{\2*}", node.astext())
    if r"\\" in tex and r"\begin" not in tex:  # lines without an environment
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    try:
        formula = CONVERTER.convert_with_local_state(tex, displaystyle=display)
    except LatexError as error:
        logger.warning("formula %r: %s", node.astext(), error, location=node)
        return f"<code>{escape(node.astext())}</code>"
    formula = OPERAND.sub(r"\1<mi></mi>", formula)
    return CELL.sub(r"\g<0><mrow>", formula).replace("</mtd>", "</mrow></mtd>")


def visit_inline(self, node: nodes.math) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(f"{mathml(node, display=False)}</span>")
    raise nodes.SkipNode


def visit_block(self, node: nodes.math_block) -> None:
    """The number, if it has one, and a box that scrolls where the formula is too wide."""
    self.body.append(self.starttag(node, "div", "", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(f'<div class="formula">{mathml(node, display=True)}</div></div>\n')
    raise nodes.SkipNode


def characters(pages: list[str]) -> set[int]:
    """The code points that the formulas of these pages are drawn with."""
    formulas = "".join(formula for page in pages for formula in MATHML.findall(page))
    used = set(unescape(re.sub(r"<[^>]*>", "", formulas)))
    italic = (code for code in ITALIC if unicodedata.normalize("NFKC", chr(code)) in used)
    return {*map(ord, used), *italic}


def write_font(app, exception) -> None:
    """Write the style sheet that holds the font; it stays beside the chapters' results."""
    if exception or app.builder.format != "html":
        return
    pages = [path.read_text(encoding="utf-8") for path in Path(app.outdir).rglob("*.html")]
    codes = characters(pages)
    made_by = Path(__file__).with_name("formula_font.py").read_bytes()
    key = hashlib.sha256(repr(sorted(codes)).encode() + made_by).hexdigest()[:16]
    kept = Path(app.config.nb_execution_cache_path) / f"formulas-{key}.css"
    if not kept.exists():
        from formula_font import font_of  # takes half a second to import

        data = base64.b64encode(font_of(codes)).decode()
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(
            '@font-face { font-family: "Formulas"; '
            f"src: url(data:font/woff;base64,{data}) format('woff'); }}\n"
        )
    (Path(app.outdir) / "_static" / STYLE).write_text(kept.read_text())


def setup(app) -> dict:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.add_css_file(STYLE)
    app.add_js_file(None, body=LOAD)
    app.connect("build-finished", write_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
