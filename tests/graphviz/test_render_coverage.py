"""No picture drops or doubles anything: every line in one box, every loss and shared weight once, sums are whole."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import dsvgraph
from dsvgraph.graph import Model, join, walk

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

from pictures import model  # noqa: E402

from dsvgraph.backends import View  # noqa: E402
from dsvgraph_graphviz.model.copies import has_body  # noqa: E402
from dsvgraph_graphviz.model.shares import LEAST, SMALL, Shares  # noqa: E402
from dsvgraph_graphviz.scene.boxes import node_boxes  # noqa: E402
from dsvgraph_graphviz.scene.losses import score  # noqa: E402
from dsvgraph_graphviz.scene.plan import plan  # noqa: E402

ROOT = Path(__file__).parents[2]
FULL = 1_000
BUNDLED = [p.stem for p in sorted((ROOT / "specs").glob("*.yaml"))]
OTHERS = ("specs/variants", "specs/losses", "specs/templates", "tests/specs", "tests/specs/odd")
SPECS = [*BUNDLED, *(str(p) for folder in OTHERS for p in sorted((ROOT / folder).glob("*.yaml")))]
NUMBERS = re.compile(r"\[[^\]]*\]|(?<=\.)\d+(?=\.|$)")


@cache
def written(text):
    """The model of a spec in the docs."""
    return dsvgraph.loads(text)


def documented():
    """Every whole spec in the docs."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        for i, text in enumerate(re.findall(r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)):
            if re.search(r"^graph:", text, re.M):
                try:
                    written(text)
                except dsvgraph.DsvError:
                    continue
                yield pytest.param(text, id=f"{page.stem} {i}")


@pytest.fixture(params=[*(pytest.param(s, id=Path(s).stem) for s in SPECS), *documented()])
def spec(request):
    return written(request.param) if "\n" in request.param else model(request.param)


@cache
def drawn(found: Model, **view):
    """A view that is planned, once for all tests: none changes it."""
    made = plan(found, View(**view))
    if not made.focus:
        score(made)
    return made


def lines(graph, path=""):
    """Path and line of everything below a body, as walk has it."""
    return [(visit.path, id(visit.node)) for visit in walk(graph, path)]


def assert_whole(made):
    """Each line of the model, and of each block that is open beside it, lies in one box for each copy drawn apart."""
    roots = [body for body in made.scene.bodies if body.node is None]
    for body in roots:
        found = node_boxes(made.scene, body)
        assert [(one.path, id(one.node)) for one in found] == lines(body.graph)
        wrong = [one for one in found if any(len(boxes) != 1 for boxes in one.boxes)]
        wrong += [one for one in found if not one.boxes and (one.node.op or one.node.copies)]
        assert not wrong, wrong[:3]
    boxes = {card.id for card in made.scene.cards.values()} | made.scene.clusters.keys()
    named = {box for body in roots for one in node_boxes(made.scene, body) for part in one.boxes for box in part}
    assert named <= boxes
    return roots


@pytest.mark.parametrize("depth", (0, 1, 2, FULL))
def test_every_line_lies_in_one_box(spec, depth):
    made = drawn(spec, depth=depth)
    roots = assert_whole(made)
    assert roots[0].graph is spec
    if depth == FULL:  # blocks that differ in sizes only are opened once
        opened = {body.graph.name for body in made.scene.bodies}
        assert {g.name for g in spec.graphs() if len(g.nodes) > 1} <= opened


def test_every_block_alone_has_every_line_in_one_box(spec):
    for visit in walk(spec):
        if not visit.node.op and visit.node.copies:
            alone = drawn.__wrapped__(spec, focus=visit.path)
            if alone.scene.bodies:
                assert alone.focus is not None
                assert assert_whole(alone)[0].graph is alone.focus.body


def test_every_block_in_place_has_every_line_in_one_box(spec):
    for visit in walk(spec):
        if not visit.node.op and visit.node.copies and has_body(visit.node):
            assert_whole(drawn.__wrapped__(spec, expand=(visit.path,)))


def test_every_op_alone_is_one_box(spec):
    for visit in walk(spec):
        if visit.node.op:
            made = drawn.__wrapped__(spec, focus=visit.path)
            if made.focus.node is visit.node:  # a path may name a block around it
                assert [c.nodes for c in made.scene.cards.values() if c.nodes] == [(visit.node,)]


# -- the formats --------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ("BT", "LR"))
def test_dot_has_every_card_once_and_says_what_lies_in_it(spec, direction):
    made = drawn(spec, depth=FULL)
    dot = graphviz_backend.dot_source(spec, FULL, direction=direction)
    told = dict(re.findall(r' id="?([^"\s]+?)"? (?:[^\n]* )?tooltip="?([^"\n]*)', dot))
    cards = [line for line in dot.splitlines() if " class=" in line and "->" not in line.split("[")[0]]
    assert len(cards) == len(made.scene.cards) and told.keys() >= made.scene.cards.keys()
    for card in made.scene.cards.values():
        others = [line.name for line in card.nodes[1:]]
        assert (f"with {', '.join(others)}" in told[card.id]) if others else "&#10;with " not in told[card.id]


def test_mermaid_has_every_card_once(spec, tmp_path):
    made = drawn(spec, depth=FULL)
    text = graphviz_backend.render(spec, tmp_path / "m.mmd", FULL).read_text(encoding="utf-8")
    nodes = Counter(re.findall(r"^\s+(n\d+)(?:\[|\(\(|\(\[)\"", text, re.MULTILINE))
    assert nodes == Counter(f"n{i}" for i in range(len(made.scene.cards)))


def test_model_explorer_has_every_op_once(spec, tmp_path):
    path = graphviz_backend.render(spec, tmp_path / "m.json")
    (graph,) = json.loads(path.read_text(encoding="utf-8"))["graphs"]
    told = [{a["key"]: a["value"] for a in node["attrs"]} for node in graph["nodes"]]
    assert Counter((a["path"], a["op"]) for a in told if a) == Counter(
        (visit.path, visit.node.callee) for visit in walk(spec) if visit.node.op
    )
    assert len({node["id"] for node in graph["nodes"]}) == len(graph["nodes"])


def page_lines(data, number=0, path=""):
    """Path and name of every line of a page, through the blocks that cards open."""
    for card in data["pictures"][number]["cards"].values():
        if card.get("aside") or card["role"] == "loss":
            continue
        here = join(path, card["path"])
        yield here, card["name"]
        yield from ((join(path, part["path"]), part["name"]) for part in card.get("parts", ()))
        for kind in card.get("opens", ()):
            yield from page_lines(data, kind["picture"], join(here, kind["at"]))


def test_page_has_every_line_once_in_its_picture(spec):
    page = pytest.importorskip("dsvgraph_html")
    data = page.page_data(spec)
    for picture in data["pictures"]:
        boxes = [(id_.rpartition("/")[0], card) for id_, card in picture["cards"].items()]
        boxes = [(place, card) for place, card in boxes if not card.get("aside") and card["role"] != "loss"]
        names = [(place, part["name"]) for place, card in boxes for part in (card, *card.get("parts", ()))]
        assert len(names) == len(set(names))
    found = {(NUMBERS.sub("*", path), name) for path, name in page_lines(data)}
    wanted = {(NUMBERS.sub("*", v.path), v.node.name) for v in walk(spec) if v.node.op or v.node.copies}
    columns = set(re.findall(r'subgraph "cluster_(\w+)-\d+"', data["pictures"][0]["dot"]))
    assert {(NUMBERS.sub("*", spec.nodes[name].at), name) for name in columns} == wanted - found
    assert found <= wanted


# -- losses, weights, sums ----------------------------------------------------------------------


def test_every_loss_is_drawn_once_and_every_weight_is_lent_once(spec):
    made = plan(spec, View(1))
    terms = score(made)
    scored = [card.tip.split("\n")[0] for card in made.scene.cards.values() if card.key == "loss"]
    outputs = {loss.name: loss for loss in spec.losses if loss.output and loss.depths}
    assert Counter(scored).keys() == outputs.keys() and len(terms) == len(scored)
    for name, loss in outputs.items():
        columns = made.stacked.get(spec.outputs[loss.output], [])
        assert scored.count(name) == (len(columns) or 1)
        assert sorted(d for _, depths in columns for d in depths) == (sorted(loss.depths) if columns else [])
    shared = Counter(wire.dst.card for wire in made.scene.wires if wire.kind in ("shared", "entering"))
    tied = {card.id: lent(card) for card in made.scene.cards.values() if card.nodes and card.column >= 0}
    assert {id_: count for id_, count in tied.items() if count} == shared


def lent(card):
    """How many weights the line of a card borrows, itself or in its block; in a column those from outside of it."""
    (line,), tables = (
        card.nodes[:1],
        [r for p, r in card.nodes[0].inputs.items() if not card.nodes[0].input_types[p].names()],
    )
    borrowed = [*line.tied.values(), *tables]
    return sum(ref.node == ref.port for ref in borrowed) if card.column else len(borrowed)


def parameters(made, body):
    """The parameters of the boxes of one body and of the frames in it."""
    scene = made.scene
    total = sum(
        made.analysis.parameters(body.graph, line)
        for card in scene.cards.values()
        if card.body == body.id
        for line in card.nodes
    )
    for inner in (one for one in scene.bodies if one.within == body.id and one.node is not None):
        groups = inner.node.stored
        copies = 1 if inner.copy is not None else sum(groups[i].count for i in inner.groups if i < len(groups))
        once = inner.node.reused and inner.copy not in (None, 0)
        total += 0 if once else copies * parameters(made, inner)
    return total


def test_parameters_of_the_boxes_are_those_of_the_model(spec):
    expand = next((v.path for v in walk(spec) if v.node.copies and has_body(v.node)), None)
    total = dsvgraph.cost(spec, formulas=False).parameters.total
    for view in ({}, {"expand": (expand,)}) if expand else ({},):
        made = drawn(spec, **view)
        assert parameters(made, made.scene.bodies[0]) == total


@pytest.mark.parametrize("heat", ("", "params", "flops", "memory"))
def test_shares_of_a_frame_are_100_percent_and_say_of_what(spec, heat):
    made = drawn(spec, depth=FULL, **({"heat": heat} if heat else {}))
    shares = Shares(made.analysis, heat or "flops")
    for body in made.scene.bodies:
        boxes = [card for card in made.scene.cards.values() if card.body == body.id and card.nodes]
        found = {card.id: share for card in boxes if (share := shares.of(body.graph, card.nodes))}
        if not found:
            continue
        assert sum(found.values()) == pytest.approx(1)
        told = {id_: made.scene.cards[id_] for id_ in found}
        words = {id_: c.tip if c.shape == "circle" else c.label for id_, c in told.items()}
        said = {id_: re.findall(r"([\d.]+(?:e-\d+)?) % of ([^<\n]*)", words[id_]) for id_ in found}
        if not any(said.values()):  # cards with the names of lines say sizes alone
            assert not heat
            continue
        for id_, share in found.items():
            words = [(float(number), what) for number, what in said[id_]]
            assert len(words) <= 1 and (words or share < SMALL)
            assert not words or words[0][0] == pytest.approx(100 * share, rel=0.005)
            assert not words or re.fullmatch(
                r"(the (main )?model's|this depth's|the layer's|the block's) (FLOPs|parameters|activations)",
                words[0][1],
            )
        assert sum(share for id_, share in found.items() if not said[id_]) < max(SMALL, LEAST) * len(found)
