"""Colours: every word can be read in every theme, and the SVG that follows its reader is the dark one."""

from __future__ import annotations

import functools
import re
from xml.etree import ElementTree

import pytest

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

from pictures import drawn, model  # noqa: E402

from dsvgraph_graphviz.style import palettes  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
AREAS = {f"{SVG}{tag}" for tag in ("polygon", "path", "ellipse")}
READABLE = 4.5  # contrast that WCAG 2.2 asks of text (1.4.3, AA)
VIEWS = {
    "overview": {},
    "full": {"depth": 1_000},
    "mla": {"focus": "model.layers.3.self_attn"},
    "mtp": {"focus": "mtp"},
    "heat": {"heat": "flops", "depth": 1_000},
    "weights": {"weights": True, "depth": 2},
    "diff": {"diff": "deepseek_v3_paper"},
}


@functools.cache
def light(view):
    """The DOT of a view in the colours that all pictures are drawn in."""
    other = {"diff": model(VIEWS[view]["diff"])} if view == "diff" else {}
    return graphviz_backend.dot_source(model("deepseek_v3_tiny"), **{**VIEWS[view], **other})


def painted(view, theme):
    """The SVG; its elements are in the order in which they are painted."""
    return drawn(palettes.recoloured(light(view), theme)).svg


@pytest.mark.parametrize("theme", ("dark", "auto"))
def test_a_theme_is_what_the_view_asks_for(tmp_path, theme):
    drawn(light("mla"))  # skips where there is no graphviz
    path = graphviz_backend.render(model("deepseek_v3_tiny"), tmp_path / "m.svg", theme=theme, **VIEWS["mla"])
    text = path.read_text(encoding="utf-8")
    want = (
        palettes.following(drawn(light("mla")).text)
        if theme == "auto"
        else drawn(palettes.recoloured(light("mla"), theme)).text
    )
    assert text.partition("<g ")[2] == want.partition("<g ")[2]
    assert ("prefers-color-scheme" in text) == (theme == "auto")


def box(shape):
    """Left, top, right, bottom of an area."""
    if shape.tag == f"{SVG}ellipse":
        x, y, rx, ry = (float(shape.get(k)) for k in ("cx", "cy", "rx", "ry"))
        return x - rx, y - ry, x + rx, y + ry
    pairs = re.findall(r"(-?[\d.]+),(-?[\d.]+)", shape.get("d", "") + shape.get("points", ""))
    xs, ys = zip(*[(float(x), float(y)) for x, y in pairs], strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def luminance(colour):
    """WCAG's relative luminance of #rrggbb."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def readings(tree):
    """Every text with its colour and that of what is painted under its middle."""
    areas = []
    for element in tree.iter():
        if element.tag in AREAS and element.get("fill", "none") not in ("none", "transparent"):
            areas.append((box(element), element.get("fill")))
        elif element.tag == f"{SVG}text" and (element.text or "").strip():
            x, y, width = (float(element.get(k)) for k in ("x", "y", "textLength"))
            x += {"middle": 0, "end": -width / 2}.get(element.get("text-anchor"), width / 2)
            under = [fill for (a, b, c, d), fill in areas if a <= x <= c and b <= y - 3 <= d]
            yield element.text, element.get("fill"), under[-1]


def test_the_measure_is_wcags():
    """Values from the definition: black on white is 21, and #767676 is the lightest grey that passes."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") >= READABLE > contrast("#777777", "#ffffff")


@pytest.mark.parametrize("theme", ("light", "dark", "print"))
@pytest.mark.parametrize("view", VIEWS)
def test_every_word_can_be_read(view, theme):
    found = list(readings(painted(view, theme)))
    assert found
    assert not {(text, a, b, round(contrast(a, b), 2)) for text, a, b in found if contrast(a, b) < READABLE}


def rules(tree):
    """The rules of an SVG that follows its reader: tags, attributes, property and colour."""
    style = "".join(s.text for s in tree.iter(f"{SVG}style"))
    assert style.startswith("@media (prefers-color-scheme: dark)")
    for selector, name, colour in re.findall(r"([^{}]+)\{(fill|stroke):(#\w+)\}", style.partition("{")[2]):
        tags = re.search(r":is\(([\w,]+)\)|^(\w+)", selector.strip())
        wanted = dict(re.findall(r'\[(\w+)="([^"]+)"\]', selector))
        yield (tags[1] or tags[2]).split(",") if tags else [], wanted, name, colour


def chosen(element, property_, found):
    """The colour of an element under the rules: the last that fits; one with two attributes wins."""
    best, rank = element.get(property_), 0
    tag = element.tag.removeprefix(SVG)
    for tags, wanted, name, colour in found:
        fits = name == property_ and len(wanted) >= rank and (not tags or tag in tags)
        if fits and all(element.get(k) == v for k, v in wanted.items()):
            best, rank = colour, len(wanted)
    return best


@pytest.mark.parametrize("view", VIEWS)
def test_the_svg_that_follows_its_reader_is_the_dark_one(view):
    follows = ElementTree.fromstring(palettes.following(drawn(light(view)).text))
    found = list(rules(follows))
    pairs = zip((e for e in follows.iter() if e.tag != f"{SVG}style"), painted(view, "dark").iter(), strict=True)
    for ours, wanted in pairs:
        for property_ in ("fill", "stroke"):
            want = wanted.get(property_)
            assert (chosen(ours, property_, found) or "").lower() == (want or "").lower(), ElementTree.tostring(ours)


@pytest.mark.parametrize("name", ("dark", "print"))
def test_one_light_colour_has_one_counterpart(name):
    """Two hues may share a colour; then they share its counterpart."""
    known = palettes.colours(name)
    for light, other in palettes.counterparts(name):
        for key, value in palettes.pairs(light, other):
            assert known[key] == value, (light, key)
