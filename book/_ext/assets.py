"""What the pages load, made small: each page's text as it is written, then the shared files.

Nothing here changes what a reader sees. lighten_page says what becomes of a page.
"""

import base64
import functools
import importlib.util
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
from fontTools import subset
from fontTools.ttLib import TTFont
from myst_nb.core.render import WIDGET_STATE_MIMETYPE
from PIL import Image


def load_packing():
    """The library's module of that name, by its path: by its name it would import PyTorch."""
    path = Path(__file__).parents[2] / "src/em2vae/interactive/packing.py"
    spec = importlib.util.spec_from_file_location("packing", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


packing = load_packing()
THEME = Path(importlib.util.find_spec("pydata_sphinx_theme").origin).parent
THEME /= "theme/pydata_sphinx_theme/static"
STATES = re.compile(rf'<script type="{re.escape(WIDGET_STATE_MIMETYPE)}">(.*?)</script>', re.DOTALL)
# The theme's script of all icons, and what a search needs: only search.html searches.
ICON_SCRIPT = re.compile(r"<script[^>]*/fontawesome\.js[^>]*></script>\n?")
SEARCH_SCRIPTS = re.compile(
    r'<script src="[^"]*(?:searchtools|language_data|searchindex|/search)\.js[^"]*"></script>\n?'
)
ICON = re.compile(
    r'<(i|span) class="([^"]*?)\b(?:fas|fa-solid) (fa-([a-z-]+)[^"]*)"'
    r'(?:( data-[a-z]+="[^"]*"))?\s*(?:title="([^"]*)")?></\1>'
)
ICON_RULES = re.compile(r'(?:\.fa-[\w-]+:before,?)+\{content:"[^"]*"\}')
ANGLE_DOWN = 0xF107  # in another style of the theme
ICON_FONTS = [("Free", 900, "fa-solid-900"), ("Brands", 400, "fa-brands-400")]
FONT_RULES = re.compile(r"@font-face\{[^}]*/fontawesome/[^}]*\}")
# The theme's first line leaves the colours open where nobody has chosen them, and its script, which
# comes last, restyles the whole page.
THEME_OPEN = 'localStorage.getItem("theme") || "auto"'
THEME_KNOWN = """localStorage.getItem("theme") ||
      (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")"""
PICTURE = re.compile(r'data:image/png;base64,\n([^"]+)')  # as Matplotlib writes it


def lighten_pages(app) -> None:
    """Have each page go through lighten_page on its way from the template to the disk."""
    if app.builder.format != "html":
        return
    render, shared = app.builder.templates.render, packing.shared_texts()
    app.builder.templates.render = lambda name, context: lighten_page(
        render(name, context), shared, searches=context.get("pagename") == "search"
    )


def copy_host(target: Path) -> None:
    """The script that starts the figures, with what they share."""
    shared = f"self.em2vaeShared = {json.dumps(packing.shared_texts())};\n"
    target.write_text(shared + packing.host_script(), encoding="utf-8")


def lighten_page(page: str, shared: list[str], searches: bool = False) -> str:
    """The page with its figures packed, its icons drawn and its colours known from the start.

    Scripts that it does not use are gone.

    Args:
        page: HTML.
        shared: as from packing.shared_texts.
        searches: it is the page that searches.
    """
    page = ICON_SCRIPT.sub("", page).replace(THEME_OPEN, THEME_KNOWN)
    if not searches:
        page = SEARCH_SCRIPTS.sub("", page)
    page = ICON.sub(draw_icon, page)
    pack = packing.pack_figures
    return STATES.sub(lambda found: pack(json.loads(found[1])["state"], shared), page)


@functools.cache
def icons() -> str:
    """The theme's script of all icons."""
    return (THEME / "scripts/fontawesome.js").read_text(encoding="utf-8")


@functools.cache
def outline(name: str) -> tuple[str, str, str]:
    """Width, height and path of a solid icon; the script has the solid ones last."""
    entry = rf'[{{,]"?{name}"?:\[(\d+),(\d+),\[[^\]]*\],"[0-9a-f]+","([^"]+)"\]'
    return re.findall(entry, icons())[-1]


def draw_icon(tag: re.Match) -> str:
    """The element that the theme's script would put in the icon's place."""
    _, before, classes, name, data, title = tag.groups()
    width, height, path = outline(name)
    named = f"><title>{title}</title>" if title else ' aria-hidden="true">'
    return (
        f'<svg class="svg-inline--fa {before}{classes}"{data or ""} viewBox="0 0 {width} {height}" '
        f'role="img"{named}<path fill="currentColor" d="{path}"/></svg>'
    )


def shrink_files(app, exception) -> None:
    """Make the pictures and the theme's style smaller, and leave out the icons that are drawn."""
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    rewrite(static / "styles/pydata-sphinx-theme.css", cut_icons)
    shutil.rmtree(static / "vendor/fontawesome", ignore_errors=True)
    for script in (static / "scripts").glob("fontawesome.js*"):
        script.unlink()
    for drawing in (static.parent / "_images").glob("*.svg"):
        rewrite(drawing, lambda text: PICTURE.sub(smaller_picture, text))


def rewrite(path: Path, change) -> None:
    text = path.read_text(encoding="utf-8")
    if (changed := change(text)) != text:
        path.write_text(changed, encoding="utf-8")


def cut_icons(css: str) -> str:
    """The theme's style without two thousand icons by name, its fonts cut to the characters left.

    Those stand before the titles of notes and exercises. The fonts are part of the style, so that
    a page in a frame without an origin has them, too.
    """
    if not FONT_RULES.search(css):
        return css  # cut already, by a build that has not written it again
    css = FONT_RULES.sub("", ICON_RULES.sub("", css))
    signs = {ord(sign) for sign in re.findall("[\uf000-\uf8ff]", css)} | {ANGLE_DOWN}
    faces = [
        f'@font-face{{font-family:"Font Awesome 6 {family}";font-weight:{weight};'
        f"src:url(data:font/woff;base64,{icon_font(file, signs)})}}"
        for family, weight, file in ICON_FONTS
    ]
    return "".join([*faces, css])


def icon_font(file: str, signs: set[int]) -> str:
    """A font of the theme's icons cut to these characters, as base64 of a WOFF file."""
    font = TTFont(THEME / f"vendor/fontawesome/webfonts/{file}.ttf", recalcTimestamp=False)
    cut = subset.Subsetter(subset.Options(layout_features=[], hinting=False))
    cut.populate(unicodes=signs)
    cut.subset(font)
    font.flavor = "woff"
    data = io.BytesIO()
    font.save(data)
    return base64.b64encode(data.getvalue()).decode()


def smaller_picture(found: re.Match) -> str:
    """The same pixels as grey values, where there is no colour: Matplotlib stores all as RGBA."""
    picture = Image.open(io.BytesIO(base64.b64decode(found[1])))
    pixels = np.asarray(picture.convert("RGBA"))
    if (pixels[..., :3] == pixels[..., :1]).all() and (pixels[..., 3] == 255).all():
        picture = picture.convert("L")
    data = io.BytesIO()
    picture.save(data, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
