"""The laid out pictures: nothing lies on anything else, and no text leaves its card."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

from pictures import FULL, ROOT, along, boxes, drawn, lines, model, shapes, source, untidy  # noqa: E402

from dsvgraph_graphviz.model import find  # noqa: E402
from dsvgraph_graphviz.model.copies import has_body  # noqa: E402
from dsvgraph_graphviz.style import palettes  # noqa: E402

SPECS = [path.stem for path in sorted((ROOT / "specs").glob("*.yaml"))]
SPECS += [str(path) for path in sorted((ROOT / "tests/specs").glob("*.yaml"))]
VARIANTS = [str(path) for path in sorted((ROOT / "specs/variants").glob("*.yaml"))]
TEMPLATES = [str(path) for path in sorted((ROOT / "specs/templates").glob("*.yaml"))]
ODD = [str(path) for path in sorted((ROOT / "tests/specs/odd").glob("*.yaml"))]
DEEP, INPUTS = (str(ROOT / f"tests/specs/odd/{name}.yaml") for name in ("deep", "inputs"))
CHAINS = [(spec, {"num_nextn_predict_layers": d}) for spec in ("deepseek_v3", "deepseek_v3_paper") for d in range(4)]
MODELS = [
    *((spec, {}, depth) for spec in SPECS for depth in (1, 2, FULL)),
    *((*chain, 1) for chain in CHAINS),
    *((spec, {}, depth) for spec in (*VARIANTS, *TEMPLATES, *ODD) for depth in (1, FULL)),
]
LIKE_V3 = ("deepseek_v3_paper", "deepseek_v3_tiny")  # its blocks in other sizes
SVG = "{http://www.w3.org/2000/svg}"


def ident(value):
    if isinstance(value, dict):
        return "-".join(str(v) for v in value.values())
    return Path(value).stem if isinstance(value, str) else str(value)


def mess(spec, **view):
    """What is untidy in a picture, in words."""
    return list(untidy(drawn(graphviz_backend.dot_source(model(spec), **view)).layout))


@pytest.mark.parametrize(("spec", "config", "depth"), MODELS, ids=ident)
def test_nothing_overlaps(spec, config, depth):
    found = drawn(source(spec, depth, **config)).layout
    assert shapes(found) and boxes(found)
    assert not list(untidy(found))


@pytest.mark.parametrize("direction", ("TB", "LR"))
@pytest.mark.parametrize("spec", (*SPECS, *VARIANTS), ids=ident)
def test_nothing_overlaps_wherever_data_flows(spec, direction):
    assert not mess(spec, direction=direction)


@pytest.mark.parametrize("spec", (*SPECS, *VARIANTS, *TEMPLATES), ids=ident)
def test_a_theme_is_other_colours_and_nothing_else(spec):
    """What holds of a picture in the light theme holds in all."""
    light, *others = (
        re.sub("#[0-9A-Fa-f]{6}", "#", palettes.recoloured(source(spec, FULL), name)) for name in palettes.THEMES
    )
    assert set(others) == {light}


VIEWS = (
    {"direction": "TB"},
    {"direction": "LR"},
    {"weights": True},
    {"heat": "flops"},
    {"shapes": "symbolic"},
    {"weights": True, "shapes": "off"},
)


@pytest.mark.parametrize("view", VIEWS, ids=ident)
@pytest.mark.parametrize("spec", ("deepseek_v3", "qwen3_8b", "tutorial_mtp"))
def test_nothing_overlaps_however_it_is_seen(spec, view):
    for where in ({"depth": FULL}, {"focus": "model.layers.0.self_attn"}):
        found = mess(spec, **where, **view)
        if "shapes" in view:  # long names may stand across a frame
            found = [words for words in found if " lies on " in words]
        assert not found, where


@pytest.mark.parametrize("spec", [s for s in (*SPECS, *VARIANTS, *ODD) if s not in LIKE_V3], ids=ident)
def test_nothing_overlaps_in_any_block_alone(spec):
    paths = {found.body: found.path for found in find.places(model(spec)) if found.copies and has_body(found.node)}
    for path in paths.values():
        assert not mess(spec, focus=path), path


@pytest.mark.parametrize("spec", [s for s in SPECS if s not in LIKE_V3], ids=ident)
def test_nothing_overlaps_where_a_layer_and_its_blocks_are_open_in_place(spec):
    places = list(find.places(model(spec)))
    layer = next(f for f in places if f.copies and "model.layers" in f.path)
    inner = {f.body: f.path for f in places if f.around == (layer.node,) and f.copies and has_body(f.node)}
    for path in inner.values():
        assert not mess(spec, expand=(path,)), path


@pytest.mark.parametrize("path", ("model.layers.5.self_attn", "model.layers.5.mlp"))
def test_no_two_lines_cross_in_the_blocks_that_people_know(path):
    found = drawn(graphviz_backend.dot_source(model("deepseek_v3"), focus=path)).layout
    ways = [(ends, list(itertools.pairwise(way))) for ends, way in lines(found)]
    assert len(ways) > 9
    for i, (ends, way) in enumerate(ways):
        apart = [(others, other) for others, other in ways[:i] if not ends & others]
        assert not [others for others, other in apart if any(cut(a, b) for a in way for b in other)], ends


def cut(a, b):
    """Whether two pieces of lines cross."""
    return side(*a, b[0]) * side(*a, b[1]) < 0 and side(*b, a[0]) * side(*b, a[1]) < 0


def side(p, q, r):
    return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])


RAILS = {"#94a3b8", "#ec4899"}  # residuals, and states handed on
RAILED = [spec for spec in VARIANTS if "detached" not in spec]  # where a card stands between a rail and its end


@pytest.mark.parametrize(
    ("spec", "view"),
    [*((spec, {}) for spec in (*SPECS, *RAILED)), (DEEP, {"expand": ("a.*.a.*.a",)}), (INPUTS, {"focus": "n"})],
    ids=ident,
)
def test_rails_run_straight(spec, view):
    """Across the page or along it, and never aslant; a state handed to two cards may part a little."""
    found = drawn(graphviz_backend.dot_source(model(spec), **view)).layout
    for line in found["edges"]:
        if line.get("color", "").lower() in RAILS and line.get("style") != "invis":
            xs, ys = zip(*along(line["pos"]))
            assert min(max(xs) - min(xs), max(ys) - min(ys)) < 4, line["tooltip"]


@pytest.mark.parametrize("spec", SPECS, ids=ident)
def test_every_text_lies_in_its_card(spec):
    root = drawn(source(spec, FULL)).svg
    seen = 0
    for card in root.iter(f"{SVG}g"):
        if card.get("class", "").startswith("node"):
            xs = [float(x) for shape in card.iter() for x in abscissae(shape)]
            for words in card.iter(f"{SVG}text"):
                if xs and (words.text or "").strip() and words.get("text-anchor") == "start":
                    left, width = float(words.get("x")), float(words.get("textLength"))
                    assert min(xs) - 1 <= left and left + width <= max(xs) + 1, words.text
                    seen += 1
    assert seen


def abscissae(shape):
    """The x of every point of a path or polygon."""
    if shape.tag in (f"{SVG}path", f"{SVG}polygon"):
        return re.findall(r"(-?[\d.]+),-?[\d.]+", shape.get("d", "") + shape.get("points", ""))
    return []
