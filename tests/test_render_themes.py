"""Colours: every word can be read in every theme, and the SVG that follows its reader is the dark one."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

import dsvgraph
from dsvgraph.errors import DsvError

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

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


@pytest.fixture(scope="module")
def model():
    return dsvgraph.load("deepseek_v3_tiny")


@pytest.fixture(scope="module")
def drawn(model, tmp_path_factory):
    """``drawn(view, theme)``: the elements of the SVG, in the order in which they are painted."""

    def draw(view, theme):
        path = tmp_path_factory.mktemp("themes") / "model.svg"
        other = {"diff": dsvgraph.load(VIEWS[view]["diff"])} if view == "diff" else {}
        try:
            return ElementTree.parse(graphviz_backend.render(model, path, **{**VIEWS[view], **other}, theme=theme))
        except DsvError as error:
            if "there is no graphviz" in str(error):
                pytest.skip("there is neither graphviz's `dot` nor pygraphviz here")
            raise

    return draw


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
def test_every_word_can_be_read(drawn, view, theme):
    found = list(readings(drawn(view, theme)))
    assert found
    assert not {(text, a, b, round(contrast(a, b), 2)) for text, a, b in found if contrast(a, b) < READABLE}


def rules(tree):
    """The rules of an SVG that follows its reader: selector and colour."""
    style = "".join(s.text for s in tree.iter(f"{SVG}style"))
    assert style.startswith("@media (prefers-color-scheme: dark)")
    return re.findall(r"([^{}]+)\{(fill|stroke):(#\w+)\}", style.partition("{")[2])


def chosen(element, property_, found):
    """The colour of an element under the rules: the last that fits; one with two attributes wins."""
    best, rank = element.get(property_), 0
    tag = element.tag.removeprefix(SVG)
    for selector, name, colour in found:
        tags = re.search(r":is\(([\w,]+)\)|^(\w+)", selector.strip())
        wanted = dict(re.findall(r'\[(\w+)="([^"]+)"\]', selector))
        fits = not tags or tag in (tags[1] or tags[2]).split(",")
        if name == property_ and fits and all(element.get(k) == v for k, v in wanted.items()) and len(wanted) >= rank:
            best, rank = colour, len(wanted)
    return best


@pytest.mark.parametrize("view", VIEWS)
def test_the_svg_that_follows_its_reader_is_the_dark_one(drawn, view):
    follows, dark = drawn(view, "auto"), drawn(view, "dark")
    found = rules(follows)
    pairs = zip((e for e in follows.iter() if e.tag != f"{SVG}style"), dark.iter(), strict=True)
    for ours, wanted in pairs:
        for property_ in ("fill", "stroke"):
            want = wanted.get(property_)
            assert (chosen(ours, property_, found) or "").lower() == (want or "").lower(), ElementTree.tostring(ours)


@pytest.mark.parametrize("name", ("dark", "print"))
def test_one_light_colour_has_one_counterpart(name):
    """Two hues may share a colour; then they share its counterpart."""
    from dsvgraph_graphviz import palettes

    known = palettes.colours(name)
    for light, other in palettes.counterparts(name):
        for key, value in palettes.pairs(light, other):
            assert known[key] == value, (light, key)
