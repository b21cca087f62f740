"""Pictures for tests: each is laid out once, in this process, and searched for what lies on what."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import shutil
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

import dsvgraph
from dsvgraph.errors import DsvError

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

from dsvgraph_graphviz.formats import engine  # noqa: E402
from dsvgraph_graphviz.formats.svg import finish  # noqa: E402

ROOT = Path(__file__).parents[2]
UNSEEN = ("corner/", "sum/")  # points that lines and rows hold on to
FULL = 1_000
LINES = """graph:
  in: {ids: "int[B, T]"}
  body:
    embed: {embedding: ids, num: 256, dim: 64}
    head:  {linear: embed, out: 256}
  out: {logits: head}
"""


class Drawn(NamedTuple):
    """Graphviz's measures of a picture, and its finished SVG, parsed and as text."""

    layout: dict
    svg: ElementTree.Element
    text: str


@functools.cache
def model(spec, **config):
    return dsvgraph.load(spec, config)


@functools.cache
def source(spec, depth=1, **config):
    """The DOT of a spec."""
    return graphviz_backend.dot_source(model(spec, **config), depth)


@functools.cache
def drawn(text):
    """The picture of a DOT; skips where there is no graphviz."""
    layout, picture = (part.decode() for part in or_skip(_both, text))
    measures = json.loads(layout)
    text = finish(picture, measures, "a title", "some words")
    return Drawn(measures, ElementTree.fromstring(text), text)


def written(text):
    """The SVG of a DOT as `engine.picture` writes it; skips where there is no graphviz."""
    return or_skip(engine.picture, text, "svg", "a title", "some words")


def or_skip(draw, *args):
    """What ``draw`` returns; skips where there is no graphviz."""
    try:
        return draw(*args)
    except DsvError as error:
        if "there is no graphviz" in str(error):
            pytest.skip("there is neither graphviz's `dot` nor pygraphviz here")
        raise


def _both(text):
    """What `engine.both` gives, without a process for each picture where the wheel draws."""
    if shutil.which("dot") or importlib.util.find_spec("pygraphviz") is None:
        return engine.both(text)
    from dsvgraph_graphviz.formats import bundled

    return bundled.drawn(text, ["json", "svg"])


# -- what lies where ----------------------------------------------------------------------------


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


def outline(points):
    """The box around a line."""
    xs, ys = zip(*points)
    return min(xs), min(ys), max(xs), max(ys)


def crosses(points, box, room=2):
    return any(box[0] + room < x < box[2] - room and box[1] + room < y < box[3] - room for x, y in points)


def untidy(layout):
    """What lies on something else or sticks out of its frame, in words."""
    cards, titles, around, words = boxes(layout), names(layout), frames(layout), shapes(layout)
    ways = [(ends, way, outline(way)) for ends, way in lines(layout)]
    yield from (f"{a} lies on {b}" for a, b in meeting(cards, cards, 0))
    yield from (f"{w} lies on {c}" for w, c in meeting(words, cards))
    yield from (f"{v} lies on {w}" for v, w in meeting(words, words))
    yield from (f"the name of {f} lies on {c}" for f, c in meeting(titles, cards))
    for name, box in {**cards, **titles, **words}.items():
        near = ((ends, way) for ends, way, around_it in ways if name not in ends and meet(around_it, box))
        yield from (f"{ends} runs through {name}" for ends, way in near if crosses(way, box))
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
