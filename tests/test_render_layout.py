"""The laid out pictures: nothing lies on anything else, and no text leaves its card."""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import dsvgraph
from dsvgraph.errors import DsvError

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

from dsvgraph_graphviz import engine, find  # noqa: E402
from dsvgraph_graphviz.opening import has_body  # noqa: E402

ROOT = Path(__file__).parents[1]
SPECS = [path.stem for path in sorted((ROOT / "specs").glob("*.yaml"))]
SPECS += [str(path) for path in sorted((ROOT / "tests/specs").glob("*.yaml"))]
VARIANTS = [str(path) for path in sorted((ROOT / "specs/variants").glob("*.yaml"))]
CHAINS = [(spec, {"num_nextn_predict_layers": d}) for spec in ("deepseek_v3", "deepseek_v3_paper") for d in range(4)]
FULL = 1_000
DEPTHS = (1, 2, FULL)
MODELS = [
    *((spec, {}, depth) for spec in SPECS for depth in DEPTHS),
    *((*chain, 1) for chain in CHAINS),
    *((spec, {}, FULL) for spec in VARIANTS),
]
LIKE_V3 = ("deepseek_v3_paper", "deepseek_v3_tiny")  # its blocks in other sizes
UNSEEN = ("corner/", "sum/")  # points that lines and rows hold on to
SVG = "{http://www.w3.org/2000/svg}"


def ident(value):
    if isinstance(value, dict):
        return "-".join(str(v) for v in value.values())
    return Path(value).stem if isinstance(value, str) else str(value)


@pytest.fixture(scope="session")
def layout():
    """``layout(spec, depth, **config)``: graphviz's measures, made once."""
    return functools.cache(
        lambda spec, depth, **config: measured(graphviz_backend.dot_source(dsvgraph.load(spec, config), depth))
    )


def measured(text):
    try:
        return engine.measured(text)
    except DsvError as error:
        if "there is no graphviz" in str(error):
            pytest.skip("there is neither graphviz's `dot` nor pygraphviz here")
        raise


def boxes(layout):
    """Left, bottom, right and top of every card, in points."""
    found = {}
    for node in layout["objects"]:
        if "pos" in node and not node["name"].startswith(UNSEEN):
            (x, y), w, h = map(float, node["pos"].split(",")), float(node["width"]) * 36, float(node["height"]) * 36
            found[node["name"]] = (x - w, y - h, x + w, y + h)
    return found


def names(layout):
    """The same for the names of frames."""
    found = {}
    for frame in layout["objects"]:
        if frame["name"].startswith("cluster") and "lp" in frame:
            (x, y), w, h = map(float, frame["lp"].split(",")), frame["lwidth"], frame["lheight"]
            w, h = float(w) * 36, float(h) * 36
            found[frame["name"]] = (x - w, y - h, x + w, y + h)
    return found


def frames(layout):
    """The same for every frame that is seen, but for the bar of the losses."""
    seen = [f for f in layout["objects"] if f["name"].startswith("cluster") and f.get("peripheries") != "0"]
    return {f["name"]: tuple(map(float, f["bb"].split(","))) for f in seen if "bb" in f}


def holds(outer, inner, room=1):
    return all(a - room <= b for a, b in zip(outer[:2], inner[:2], strict=True)) and all(
        b <= a + room for a, b in zip(outer[2:], inner[2:], strict=True)
    )


def shapes(layout):
    """The same for the words on lines; the two spaces before them are none."""
    found = {}
    for line in layout["edges"]:
        for step in line.get("_ldraw_", ()):
            if step["op"] == "T" and step["text"].strip():
                (x, y), w = step["pt"], step["width"]
                left = x - w / 2 if step["align"] == "c" else x
                spaces = w * (1 - len(step["text"].lstrip()) / len(step["text"]))
                found[line["_gvid"], step["text"]] = (left + spaces, y, left + w, y + 7)
    return found


def lines(layout):
    """Every line that is seen: the cards at its ends, and points along it."""
    card = {node["_gvid"]: node["name"] for node in layout["objects"]}
    for line in layout["edges"]:
        if line.get("style") != "invis":
            yield {card[line["tail"]], card[line["head"]]}, list(along(line["pos"]))


def along(spline):
    for piece in spline.split(";"):
        points = [tuple(map(float, p.split(","))) for p in piece.split() if p[0] not in "es"]
        for i in range(0, len(points) - 3, 3):
            yield from bezier(*points[i : i + 4])


def bezier(*points, steps=12):
    for i in range(steps + 1):
        t = i / steps
        factors = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
        yield tuple(sum(f * p[axis] for f, p in zip(factors, points)) for axis in (0, 1))


def meet(a, b, room=0):
    return a[0] + room < b[2] and b[0] + room < a[2] and a[1] + room < b[3] and b[1] + room < a[3]


def crosses(points, box, room=2):
    return any(box[0] + room < x < box[2] - room and box[1] + room < y < box[3] - room for x, y in points)


def untidy(layout):
    """What lies on something else or sticks out of its frame, in words."""
    cards, titles, around, words = boxes(layout), names(layout), frames(layout), shapes(layout)
    ways = list(lines(layout))
    yield from (f"{a} lies on {b}" for a, b in meeting(cards, cards, 0))
    yield from (f"{w} lies on {c}" for w, c in meeting(words, cards))
    yield from (f"{v} lies on {w}" for v, w in meeting(words, words))
    yield from (f"the name of {f} lies on {c}" for f, c in meeting(titles, cards))
    for name, box in {**cards, **titles, **words}.items():
        yield from (f"{ends} runs through {name}" for ends, way in ways if name not in ends and crosses(way, box))
    for name, frame in around.items():
        yield from (f"{name} cuts its name" for box in [titles.get(name)] if box and not holds(frame, box))
        yield from (f"{name} cuts {c}" for c, box in cards.items() if meet(frame, box, 1) and not holds(frame, box))
        yield from (f"{name} cuts {w}" for w, box in words.items() if meet(frame, box, 1) and not holds(frame, box))
    for a, b in meeting(around, around):
        if not (holds(around[a], around[b]) or holds(around[b], around[a])):
            yield f"{a} cuts {b}"


def meeting(some, others, room=1):
    pairs = itertools.combinations(some, 2) if some is others else itertools.product(some, others)
    return [(a, b) for a, b in pairs if meet(some[a], others[b], room)]


@pytest.mark.parametrize(("spec", "config", "depth"), MODELS, ids=ident)
def test_nothing_overlaps(layout, spec, config, depth):
    found = layout(spec, depth, **config)
    assert shapes(found) and boxes(found)
    assert not list(untidy(found))


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
    model = dsvgraph.load(spec)
    for where in ({"depth": FULL}, {"focus": "model.layers.0.self_attn"}):
        found = untidy(measured(graphviz_backend.dot_source(model, **where, **view)))
        if "shapes" in view:  # long names may stand across a frame
            found = (words for words in found if " lies on " in words)
        assert not list(found), where


@pytest.mark.parametrize("spec", [s for s in SPECS if s not in LIKE_V3], ids=ident)
def test_nothing_overlaps_in_any_block_alone(spec):
    model = dsvgraph.load(spec)
    paths = {found.body: found.path for found in find.places(model) if found.run and has_body(found.node)}
    for path in paths.values():
        found = measured(graphviz_backend.dot_source(model, focus=path))
        assert not list(untidy(found)), path


@pytest.mark.parametrize("spec", [s for s in SPECS if s not in LIKE_V3], ids=ident)
def test_nothing_overlaps_where_a_layer_and_its_blocks_are_open_in_place(spec):
    model = dsvgraph.load(spec)
    layer = next(f for f in find.places(model) if f.run and "model.layers" in f.path)
    inner = {f.body: f.path for f in find.places(model) if f.around == (layer.node,) and f.run and has_body(f.node)}
    for path in inner.values():
        assert not list(untidy(measured(graphviz_backend.dot_source(model, expand=(path,))))), path


@pytest.mark.parametrize("spec", SPECS, ids=ident)
def test_every_text_lies_in_its_card(layout, spec):
    layout(spec, FULL)  # skips where there is no graphviz
    text = graphviz_backend.dot_source(dsvgraph.load(spec), FULL)
    root = ElementTree.fromstring(engine.picture(text, "svg"))
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
