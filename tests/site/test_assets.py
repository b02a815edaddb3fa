"""What the pages load: nothing that they have no use for, and nothing twice."""

import base64
import io
import json
import re
import zlib

import assets
import pytest
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont
from pages import PAGES
from PIL import Image
from widgets import figures_in

HEAD = """<script defer src="../_static/scripts/fontawesome.js?digest=1"></script>
<script src="../_static/book.js?v=1"></script>
<script src="../_static/search.js?v=1"></script>
<script src="../_static/searchtools.js"></script>
<script src="../_static/language_data.js"></script>
<script src="../searchindex.js"></script>"""
VIEW = '<script type="application/vnd.jupyter.widget-view+json">{"model_id": "%s"}</script>'
STATE = '<script type="application/vnd.jupyter.widget-state+json">%s</script>'


def model(code: str, **buffers: bytes) -> dict:
    encoded = [
        {"path": [name], "data": base64.b64encode(data).decode()} for name, data in buffers.items()
    ]
    return {"state": {"_esm": code, "_css": "p {}", "n": [1]}, "buffers": encoded}


def test_figures_come_out_as_they_went_in():
    same, big = bytes(range(256)), bytes(1000)
    models = {"a": model("one", x=same, y=big), "b": model("two"), "c": model("one", z=same)}
    models["plain"] = {"state": {"value": 3}}
    text = json.dumps({"state": models})
    page = assets.lighten_page(
        STATE % text + "".join(VIEW % name for name in [*"cab", "plain"]), ["on"]
    )
    assert "widget-state" not in page
    base = {"_css": "p {}", "n": [1]}
    assert figures_in(page, ["on"]) == [
        {**base, "_esm": "one", "z": same},
        {**base, "_esm": "one", "x": same, "y": big},
        {**base, "_esm": "two"},
    ]


def test_what_two_figures_share_is_there_once():
    noise = zlib.compress(bytes(str([n**5 for n in range(4000)]), "ascii"))
    one = assets.lighten_page(STATE % json.dumps({"state": {"a": model("code", x=noise)}}), [])
    both = {name: model("code", x=noise) for name in "ab"}
    two = assets.lighten_page(STATE % json.dumps({"state": both}), [])
    assert len(noise) > 10_000 and len(two) < len(one) + 100


def test_what_all_figures_share_is_not_in_the_pages(site):
    code, style = assets.packing.shared_texts()
    assert len(code) > 10_000 and len(style) > 5_000
    pages = [figures_in(path.read_text(encoding="utf-8"), ["", ""]) for path in site.glob("book/*")]
    figures = [figure for page in pages for figure in page]
    assert len(figures) > 12
    for figure in figures:
        assert figure["_css"] == "" and len(figure["_esm"]) < len(code)
    host = (site / "_static/em2vae-host.js").read_text(encoding="utf-8")
    assert json.dumps(code) in host and json.dumps(style) in host


def test_only_the_page_that_searches_loads_the_index():
    assert re.findall(r"(\w+)\.js", assets.lighten_page(HEAD, [])) == ["book"]
    assert len(re.findall(r"\.js", assets.lighten_page(HEAD, [], searches=True))) == 5


def drawn(tag: str):
    return BeautifulSoup(assets.lighten_page(tag, []), "html.parser").contents[0]


def test_an_icon_is_drawn_in_its_place():
    switch = "theme-switch fa-solid fa-sun   fa-lg"
    icon = drawn(f'<i class="{switch}" data-mode="light"  title="Light"></i>')
    assert icon["class"] == ["svg-inline--fa", "theme-switch", "fa-sun", "fa-lg"]
    assert icon["data-mode"] == "light" and icon.title.string == "Light"
    assert icon["viewbox"] == "0 0 512 512" and len(icon.path["d"]) > 100
    plain = drawn('<span class="fas fa-bars"></span>')
    assert plain["aria-hidden"] == "true" and not plain.title


def test_an_icon_is_the_solid_one():
    """The theme's script has an outlined sun, too."""
    file = assets.THEME / "vendor/fontawesome/webfonts/fa-solid-900.ttf"
    with TTFont(file) as font:
        glyph = font["glyf"][font.getBestCmap()[0xF185]]
        assert len(re.findall("[Mm]", assets.outline("sun")[2])) == glyph.numberOfContours


@pytest.mark.parametrize("name", PAGES)
def test_no_icon_waits_for_a_script(site, name):
    soup = BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    assert soup.select("i[class*=fa-], span[class*=fa-]") == []
    assert len(soup.select("svg.svg-inline--fa path[d]")) >= 5


def test_signs_of_the_styles_have_glyphs(site):
    """Those before the titles of notes; their characters mean nothing in another font."""
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    faces = re.findall(r'"Font Awesome[^}]*base64,([^)]+)', styles)
    fonts = [TTFont(io.BytesIO(base64.b64decode(face))) for face in faces]
    glyphs = set().union(*(font.getBestCmap() for font in fonts))
    signs = {ord(sign) for sign in re.findall("[\uf000-\uf8ff]", styles)}
    signs |= {int(code, 16) for code in re.findall(r'content:"\\(f[0-9a-f]{3})"', styles)}
    assert len(signs) > 10 and len(fonts) == 2
    assert signs <= glyphs


def test_the_style_is_cut_once():
    """A build with nothing to write leaves the last one's style where it is."""
    css = (assets.THEME / "styles/pydata-sphinx-theme.css").read_text(encoding="utf-8")
    cut = assets.cut_icons(css)
    assert len(cut) < 0.9 * len(css) and assets.cut_icons(cut) == cut


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_are_known_from_the_start(browser, site_url, scheme):
    """A change of them restyles the page, and a dark room sees a white flash."""
    context = browser.new_context(color_scheme=scheme)
    context.add_init_script("""self.themes = new Set();
        new MutationObserver(() => themes.add(document.documentElement.dataset.theme))
            .observe(document, { subtree: true, attributeFilter: ["data-theme"] });""")
    page = context.new_page()
    page.goto(f"{site_url}book/glossary.html")
    assert page.evaluate("[...themes]") == [scheme]
    context.close()


@pytest.mark.parametrize("color", [(9, 9, 9, 255), (255, 0, 9, 255), (0, 0, 0, 40)])
def test_a_picture_keeps_its_pixels(color):
    picture = Image.linear_gradient("L").convert("RGBA")
    picture.paste(color, (10, 10, 90, 200))
    data = io.BytesIO()
    picture.save(data, "png")
    svg = f'<image href="data:image/png;base64,\n{base64.b64encode(data.getvalue()).decode()}"/>'
    small = assets.PICTURE.sub(assets.smaller_picture, svg)
    assert assets.PICTURE.sub(assets.smaller_picture, small) == small  # the next build leaves it
    again = Image.open(io.BytesIO(base64.b64decode(re.search('base64,([^"]+)', small)[1])))
    assert again.convert("RGBA").tobytes() == picture.tobytes()
    assert again.mode == ("L" if color == (9, 9, 9, 255) else "RGBA")
    assert len(small) < len(svg)
