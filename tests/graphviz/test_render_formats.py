"""Mermaid, Model Explorer, notebooks, and pictures that are drawn again."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import dsvgraph
from dsvgraph.cli import app
from dsvgraph.cli.make import watch
from dsvgraph.errors import DsvError
from dsvgraph.graph import walk
from dsvgraph.passes.graph.paths import weights

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

from pictures import LINES, drawn, model, or_skip  # noqa: E402

from dsvgraph_graphviz.formats import engine  # noqa: E402

ROOT = Path(__file__).parents[2]
SPECS = ("deepseek_v3", "tutorial_mtp", "qwen3_30b_a3b", "tests/specs/patterns.yaml", "tests/specs/parallel_heads.yaml")
HOSTILE = "name: 'a \"b\" <c> & `d` #1; \\N ] end'\n" + LINES


@pytest.fixture
def no_graphviz(monkeypatch):
    monkeypatch.setattr(engine.shutil, "which", lambda _: None)
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda _: None)


def made(model, path, **view):
    return graphviz_backend.render(model, path, **view).read_text(encoding="utf-8")


# -- mermaid ------------------------------------------------------------------------------------

NODE = re.compile(r'^\s+(\w+)(?:\[|\(\(|\(\[)"([^"]*)"(?:\]|\)\)|\]\)):::(\w+)$')
EDGE = re.compile(r'^\s+(\w+) (?:-->|==>|-\.-|-\.->)(?:\|"([^"]*)"\|)? (\w+)$')
OTHER = (r'subgraph f\d+\["[^"]*"\]', "end", r"classDef \w+ fill:#\w{6},stroke:#\w{6},color:#\w{6}")


@pytest.mark.usefixtures("no_graphviz")
@pytest.mark.parametrize("view", ({}, {"depth": 1_000}, {"focus": "model.layers.0.self_attn"}), ids=str)
@pytest.mark.parametrize("spec", SPECS)
def test_mermaid_is_a_flowchart_of_declared_nodes(tmp_path, spec, view):
    """Every line is one of the grammar's forms that are used (mermaid.js 11's parser takes the bundled specs)."""
    head, title, tail, flowchart, *lines = made(dsvgraph.load(spec), tmp_path / "m.mmd", **view).splitlines()
    assert (head, tail, flowchart) == ("---", "---", "flowchart BT") and json.loads(title.removeprefix("title: "))
    nodes = {m[1]: m[3] for m in map(NODE.match, lines) if m}
    edges = [(m[1], m[3]) for m in map(EDGE.match, lines) if m]
    rest = [ln.strip() for ln in lines if not NODE.match(ln) and not EDGE.match(ln)]
    assert nodes and edges and {end for edge in edges for end in edge} <= nodes.keys()
    assert all(any(re.fullmatch(form, line) for form in OTHER) for line in rest)
    assert sum(line.startswith("subgraph") for line in rest) == rest.count("end")
    assert set(nodes.values()) <= {line.split()[1] for line in rest if line.startswith("classDef")}


def test_mermaid_says_what_the_picture_says(tmp_path):
    text = made(dsvgraph.load("deepseek_v3"), tmp_path / "m.mmd")
    for part in ("<b>MoE block × 58</b>", "B,T,129280", "MTP depth 1", "L₀  +  λ · L₁, λ = 0.3 → 0.1", "-.-", "==>|"):
        assert part in text, part


@pytest.mark.usefixtures("no_graphviz")
def test_names_are_text_in_every_format(tmp_path):
    model = dsvgraph.loads(HOSTILE)
    mermaid = made(model, tmp_path / "m.mmd")
    assert all(line.count('"') % 2 == 0 for line in mermaid.splitlines()[3:])
    assert json.loads(made(model, tmp_path / "m.json"))["label"] == model.name


# -- Model Explorer -----------------------------------------------------------------------------


@pytest.fixture(params=SPECS, scope="module")
def explored(request, tmp_path_factory):
    model = dsvgraph.load(request.param)
    path = graphviz_backend.render(model, tmp_path_factory.mktemp("json") / "model.json")
    return model, json.loads(path.read_text(encoding="utf-8"))


def test_the_json_is_a_graph_collection(explored):
    """Field names of Model Explorer's GraphCollection, Graph, GraphNode, IncomingEdge and MetadataItem."""
    _, found = explored
    assert found.keys() == {"label", "graphs"}
    (graph,) = found["graphs"]
    assert graph.keys() == {"id", "nodes", "groupNodeAttributes"}
    places = {node["id"]: {o["id"] for o in node["outputsMetadata"]} for node in graph["nodes"]}
    assert len(places) == len(graph["nodes"])
    for node in graph["nodes"]:
        assert node.keys() == {"id", "label", "namespace", "attrs", "incomingEdges", "outputsMetadata"}
        for edge in node["incomingEdges"]:
            assert edge.keys() == {"sourceNodeId", "sourceNodeOutputId", "targetNodeInputId"}
            assert edge["sourceNodeOutputId"] in places[edge["sourceNodeId"]]
        assert not node["namespace"] or node["namespace"] in graph["groupNodeAttributes"]


def test_every_op_is_a_node_and_every_weight_an_attribute(explored):
    model, found = explored
    nodes = found["graphs"][0]["nodes"]
    ops = [visit for visit in walk(model) if visit.node.op]
    assert len(nodes) == len(ops) + len(model.inputs) + len(model.outputs)
    told = {a["key"].removeprefix("weight ") for n in nodes for a in n["attrs"] if a["key"].startswith("weight ")}
    assert told == {owned.path for owned in weights(model)}


def test_shared_weights_are_edges_from_their_owner(tmp_path):
    found = json.loads(made(dsvgraph.load("deepseek_v3"), tmp_path / "m.json"))["graphs"][0]["nodes"]
    by_id = {node["id"]: node for node in found}
    (user,) = [node for id_, node in by_id.items() if id_.startswith("model.layers.[61].shared_head.head")]
    sources = [by_id[edge["sourceNodeId"]] for edge in user["incomingEdges"]]
    owner = next(node for node in sources if node["label"] == "lm_head")
    place = next(e["sourceNodeOutputId"] for e in user["incomingEdges"] if e["sourceNodeId"] == owner["id"])
    assert owner["outputsMetadata"][int(place)]["attrs"][0]["value"] == "weight"


# -- notebooks ----------------------------------------------------------------------------------


def test_a_model_shows_itself_in_a_notebook():
    model = dsvgraph.load("deepseek_v3_tiny")
    svg = model._repr_svg_()
    if svg is None:
        pytest.skip("there is neither graphviz's `dot` nor pygraphviz here")
    assert svg.startswith("<svg") and "MoE block" in svg


@pytest.mark.usefixtures("no_graphviz")
def test_a_notebook_without_graphviz_shows_the_text():
    assert dsvgraph.load("deepseek_v3_tiny")._repr_svg_() is None


# -- watching -----------------------------------------------------------------------------------


class Enough(Exception):
    """Ends a watch."""


def test_a_saved_file_is_drawn_again_and_an_error_takes_the_pictures_place(tmp_path, monkeypatch, capsys):
    spec, picture = tmp_path / "model.yaml", tmp_path / "model.dot"
    texts = [HOSTILE.replace("out: 256", "out: 512"), HOSTILE.replace("linear:", "linaer:"), None, HOSTILE]
    spec.write_text(HOSTILE)
    seen = []

    def save(_):
        seen.append(picture.read_text())
        if not texts:
            raise Enough
        text = texts.pop(0)
        if text is None:
            return spec.unlink()
        spec.write_text(text)
        stamp = spec.stat().st_mtime_ns + len(seen) * 10**9
        os.utime(spec, ns=(stamp, stamp))

    monkeypatch.setattr(watch.time, "sleep", save)

    def draw():
        model = dsvgraph.load(str(spec))
        graphviz_backend.render(model, picture)
        return [model]

    with pytest.raises(Enough):
        watch.watch([str(spec)], draw, lambda error: graphviz_backend.render_error(error, picture))
    plain, wider, wrong, gone, again = seen
    assert "there&#160;is&#160;no&#160;spec" in gone
    assert "64 → 256" in plain and "64 → 512" in wider and again == plain
    assert "linaer" in wrong and "did&#160;you&#160;mean" in wrong and "linaer" in capsys.readouterr().err


def test_the_files_of_a_spec_are_those_it_is_made_of():
    found = watch.files([ROOT / "specs/deepseek_v3_tiny.yaml"], [dsvgraph.load("deepseek_v3_tiny")])
    assert {"deepseek_v3_tiny.yaml", "deepseek_v3.yaml", "mla.yaml", "mtp.yaml"} <= {path.name for path in found}
    assert all(found.values())


@pytest.mark.parametrize(("theme", "paper"), [("light", "#ffffff"), ("dark", "#0b1220"), ("auto", "prefers-color")])
def test_an_error_is_drawn_in_the_theme(tmp_path, theme, paper):
    path = or_skip(graphviz_backend.render_error, DsvError("wrong"), tmp_path / "m.svg", theme)
    assert paper in path.read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("ending", ("mmd", "json"))
def test_a_format_without_pictures_keeps_what_it_had(tmp_path, ending):
    path = tmp_path / f"m.{ending}"
    path.write_text("old")
    graphviz_backend.render_error(DsvError("wrong"), path)
    assert path.read_text() == "old"


# -- the docs -----------------------------------------------------------------------------------


def documented():
    """The commands of docs/diagrams.md."""
    return re.findall(r"^dsvgraph (render .*)$", (ROOT / "docs/diagrams.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", documented())
def test_the_commands_of_the_docs_draw(tmp_path, command):
    words = re.sub(r" -o \S+", "", command).split()
    answer = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "m.dot")])
    assert answer.exit_code == 0, answer.output
    assert (tmp_path / "m.dot").read_text().startswith("digraph")


def test_the_docs_name_every_option_and_show_every_picture():
    text = (ROOT / "docs/diagrams.md").read_text(encoding="utf-8")
    options = set(re.findall(r'"(--[a-z]+)"', (ROOT / "dsvgraph/cli/make/render.py").read_text())) - {"--output"}
    assert options and {o for o in options if o not in text} == set()
    shown = set(re.findall(r"\]\(images/([\w.]+)\)", text))
    assert shown <= {path.name for path in (ROOT / "docs/images").iterdir()}


PICTURES = {
    "deepseek_v3": ("deepseek_v3", {"num_nextn_predict_layers": 2}, {}),
    "deepseek_v3_full": ("deepseek_v3", {}, {"depth": 1_000}),
    "mla": ("deepseek_v3", {}, {"focus": "model.layers.5.self_attn"}),
    "mla_lr": ("deepseek_v3", {}, {"focus": "model.layers.5.self_attn", "direction": "LR", "weights": True}),
    "heat": ("llama3_8b", {}, {"heat": "flops"}),
    "diff": ("llama3_8b", {}, {"diff": "qwen3_8b"}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_of_the_docs_are_what_is_drawn_now(name):
    """Their words, since other fonts lay them out a little differently."""
    spec, config, view = PICTURES[name]
    other = {"diff": model(view["diff"])} if "diff" in view else {}
    now = drawn(graphviz_backend.dot_source(model(spec, **config), **{**view, **other})).svg
    then = ElementTree.parse(ROOT / f"docs/images/{name}.svg")
    assert spoken(then) == spoken(now), "draw it again with --theme auto"


def spoken(tree):
    return sorted(text for node in tree.iter("{http://www.w3.org/2000/svg}text") if (text := (node.text or "").strip()))


OTHERWISE = {  # by hand, and by the command: more digits, what the spec calls it, axes in the graph's order
    "deepseek_v3": {
        "37.6 B active per token": "37.55 B active per token", "11.32 B, 398 M active": "11.32 B, 398.2 M active",
        "73.2 GFLOP / token forward (weights)": "83.49 GFLOP / token forward at T 4,096",
        "MTP depth 2: + 23.2 B parameters": "MTP depth 2: + 23.22 B parameters",
        "+ 6.5 GFLOP / token (+ 8.8 %)": "+ 6.795 GFLOP / token (+ 8.1 % of the main model's)",
        "7,168 × 129,280": "7,168 → 129,280",
        "MLA attention": "Multi-head latent attention", "kv rank 512 + 64": "kv rank 512 caches 512 + 64",
        "d_ff 2,048": "width 2,048", "from block below": "from previous block", "to block above": "to next block",
    },
    "mla": {
        "11.0 M": "11.01 M", "16.8 M": "16.78 M", "37.7 M": "37.75 M", "4.1 M": "4.129 M",
        "B,1,T,64": "B,T,64", "B,128,T,128": "B,T,128,128", "B,128,T,192": "B,T,128,192", "B,128,T,64": "B,T,128,64",
        "B,T,16384": "B,T,128,128", "Multi-head Latent Attention": "Multi-head latent attention",
        "after input RMSNorm": "after RMSNorm", "expand to": "expand", "k nope 128 × 128": "nope 128 × 128",
        "k rope": "k_rope", "latent c": "kv_a_layernorm", "s = mscale² / √192": "s = 1.874 / √192",
        "v 128 × 128": "value 128 × 128",
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "by_hand"), [("deepseek_v3", "reference_overview"), ("mla", "reference_mla")])
def test_a_picture_says_what_the_one_by_hand_says(name, by_hand):
    ours, theirs = (spoken(ElementTree.parse(ROOT / f"docs/images/{picture}.svg")) for picture in (name, by_hand))
    said = " ".join(" ".join(ours).split())
    parts = {" ".join(part.split()) for text in theirs for part in text.split("·")}
    assert len(parts) > 30
    assert {part for part in parts if part not in said} == OTHERWISE[name].keys()
    words = {word for line in OTHERWISE[name].values() for word in line.split()}
    assert {word for word in words if word not in said} == set()
