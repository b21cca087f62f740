"""The pictures: their DOT by golden text, their SVG by what a reader finds in it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

import dsvgraph
from dsvgraph.errors import DsvError

graphviz_backend = pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

from pictures import LINES, drawn, source, written  # noqa: E402

from dsvgraph_graphviz.formats import engine  # noqa: E402

ROOT = Path(__file__).parents[2]
BUNDLED = sorted(path.stem for path in (ROOT / "specs").glob("*.yaml"))
OWN = sorted(path for path in (ROOT / "tests/specs").glob("*.yaml"))
SPECS = [*BUNDLED, *map(str, OWN)]
DEPTHS = (1, 1_000)
SVG = "{http://www.w3.org/2000/svg}"

LOSS = "loss: {next_token: {cross_entropy: logits, target: ids, shift: 1}}\n"


def name(value):
    return Path(value).stem if isinstance(value, str) else None


def svg(spec, depth=1, **config):
    """The finished SVG of a spec."""
    return drawn(source(spec, depth, **config)).svg


def spoken(root):
    """Every text of an SVG."""
    return [(node.text or "").strip() for node in root.iter(f"{SVG}text")]


def said(dot):
    """The words of a DOT without its markup, one space between."""
    return " ".join(re.sub(r"<[^>]*>", " ", dot).replace("&amp;", "&").split())


# -- the texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", (1, 2))
def test_the_dot_is_golden(golden, depth):
    golden(f"render/deepseek_v3_tiny-{depth}.dot", source("deepseek_v3_tiny", depth))


def test_equal_models_give_equal_texts():
    again = graphviz_backend.dot_source(dsvgraph.load("deepseek_v3_tiny"), 2)
    assert again == source("deepseek_v3_tiny", 2)


@pytest.mark.parametrize("depth", (0, 1, 2, 3, 1_000))
@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_every_spec_has_a_dot_that_names_only_its_own_cards(spec, depth):
    """An edge to a misspelt node would make graphviz invent one."""
    dot = source(spec, depth)
    nodes = set(re.findall(r'^\t+"?([^"\s]+)"? \[', dot, re.MULTILINE))
    ends = re.findall(r'^\t+"?([^"\s]+?)"? -> "?([^"\s]+)"?', dot, re.MULTILINE)
    assert ends
    missing = {end for pair in ends for end in pair if end not in nodes and end.split(":")[0] not in nodes}
    assert not missing


# -- the pictures -------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_every_spec_is_drawn_and_no_text_is_clipped(spec, depth):
    root = svg(spec, depth)
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    right, bottom = left + width, top + height
    group = root.find(f".//{SVG}g[@id='graph0']")
    assert group is not None
    scale_x, scale_y, dx, dy = moved(group)
    for text in root.iter(f"{SVG}text"):
        x, y = float(text.attrib["x"]) * scale_x + dx, float(text.attrib["y"]) * scale_y + dy
        size = float(text.get("font-size", 14)) * scale_y
        low, high = span(text, x, scale_x)
        assert left <= low and high <= right, text.text
        assert top <= y - size and y <= bottom, text.text


def moved(group):
    """The transform of graphviz's outermost group: scale, then translate inside it."""
    text = group.get("transform", "")
    numbers = {k: [float(n) for n in v.split()] for k, v in re.findall(r"(\w+)\(([^)]*)\)", text.replace(",", " "))}
    sx, sy = (numbers.get("scale", [1, 1]) * 2)[:2]
    dx, dy = numbers.get("translate", [0, 0])
    return sx, sy, dx * sx, dy * sy


def span(text, x, scale):
    """Where a text begins and ends, by the width that it is held to."""
    width = float(text.get("textLength", 0)) * scale
    return {"middle": (x - width / 2, x + width / 2), "end": (x - width, x)}.get(
        text.get("text-anchor", "start"), (x, x + width)
    )


def test_every_text_is_held_to_its_width():
    """Another machine has other fonts; the boxes stay as they were laid out."""
    texts = list(svg("deepseek_v3").iter(f"{SVG}text"))
    held = [t for t in texts if t.get("textLength")]
    assert len(held) == len([t for t in texts if (t.text or "").strip()])


def test_the_svg_speaks():
    root = svg("deepseek_v3_tiny")
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "a title"
    assert root.findtext(f"{SVG}desc") == "some words"


# -- depths of multi-token prediction -----------------------------------------------------------


@pytest.mark.parametrize("depths", range(4))
def test_the_chain_has_a_column_for_every_depth(depths):
    config = {"num_nextn_predict_layers": depths}
    words = spoken(svg("deepseek_v3_tiny", **config))
    assert [w for w in words if re.fullmatch(r"MTP depth \d+", w)] == [f"MTP depth {d + 1}" for d in range(depths)]
    assert words.count("shared") == 2 * depths  # the embedding and the head
    for d in range(depths + 1):
        assert f"L{'₀₁₂₃'[d]}" in words
    said_all = " ".join(" ".join(words).split())
    for d in range(depths + 1):
        assert f"predicts t{'₂₃₄₅'[d]} … t{'₅₆₇₈'[d]}" in said_all
    assert ("Main model" in words) == (depths > 0)


def test_many_depths_are_folded_into_one_column_with_their_number():
    words = said(source("deepseek_v3_tiny", num_nextn_predict_layers=7))
    assert "MTP depths 1 … 7 × 7" in words
    assert "MTP depth 2" not in words
    assert "λ/7 · ( L₁ + … + L₇ )" in words


def test_pictures_say_lines_of_specs_but_no_folders():
    dot = source("deepseek_v3_tiny")
    assert "decoder.yaml:" in dot
    assert not re.search(r"[/\\]\w+\.yaml:", dot)


def test_weights_of_losses_are_in_the_picture():
    words = said(source("deepseek_v3_tiny"))
    assert "× 1.00" in words
    assert words.count("× 0.15 → 0.05") == 2  # λ over the depth, before and after the schedule
    assert "L = L₀ + λ/2 · ( L₁ + L₂ )" in words and "λ = 0.3 → 0.1" in words
    assert "balance loss of 5 routers" in words and "selection bias of 5 routers" in words
    decaying = said(source("tutorial_mtp"))
    assert "L = L₀ + 0.30 · L₁ + 0.24 · L₂" in decaying


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_every_loss_is_a_card(spec):
    model = dsvgraph.load(spec)
    dot = source(spec)
    for loss in (one for one in model.losses if one.kind == "cross_entropy"):
        for depth in loss.depths:
            id_ = f"loss/{loss.name}" + (f"-{depth}" if depth else "")
            assert f'"{id_}" -> "sum/{id_}"' in dot


def test_shared_weights_are_dashed():
    dot = source("deepseek_v3_tiny")
    lines = [line for line in dot.splitlines() if "->" in line and "dashed" in line]
    users = {card for line in lines for card in re.findall(r'"([^"]+)"', line.partition("[")[0])}
    assert users == {
        *("main/embed", "main/lm_head"),
        *(f"mtp-{d}/{card}" for d in (1, 2) for card in ("embed_tokens", "logits")),
    }
    assert dot.count('style="rounded,dashed"') == 4


@pytest.mark.parametrize(("layers", "dense"), [(61, 3), (1000, 10)])
def test_repeated_layers_are_folded_with_their_count(layers, dense):
    words = said(source("deepseek_v3", num_hidden_layers=layers, first_k_dense_replace=dense))
    assert f"Dense block × {dense} " in words
    assert f"MoE block × {layers - dense} " in words
    assert f"{layers:,} layers" in words


def test_shapes_are_on_the_edges():
    dot = source("deepseek_v3")
    assert 'label="  B,T,7168"' in dot and 'label="  B,T,129280"' in dot


# -- small and strange specs --------------------------------------------------------------------


@pytest.fixture
def spec(tmp_path):
    def write(text):
        path = tmp_path / "small.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("loss", ("", LOSS), ids=("no loss", "one loss"))
def test_a_plain_spec_without_repeats(spec, loss):
    text = graphviz_backend.dot_source(dsvgraph.load(spec(LINES + loss)))
    words = said(text)
    assert "Embedding" in words and "Output head" in words
    assert ("predicts" in words) == bool(loss)
    assert ("cluster_sum" in text) == bool(loss)
    assert "Inside one" not in words
    ElementTree.fromstring(written(text))


def test_names_are_text_and_never_markup(spec):
    text = "name: '<b>&\"\\N{tick}'\n" + LINES
    root = ElementTree.fromstring(written(graphviz_backend.dot_source(dsvgraph.load(spec(text)))))
    assert '<b>&"\\N{tick}' in spoken(root)


# -- files --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("specs") / "plain.yaml"
    path.write_text(LINES)
    return dsvgraph.load(str(path))


@pytest.mark.parametrize("ending", ("svg", "png", "pdf", "dot"))
def test_the_ending_says_what_is_written(plain_model, tmp_path, ending):
    written(graphviz_backend.dot_source(plain_model))  # skips where there is no graphviz
    path = graphviz_backend.render(plain_model, tmp_path / f"model.{ending}")
    starts = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF", "dot": b"digraph"}
    assert path.read_bytes().startswith(starts[ending])
    assert os.listdir(tmp_path) == [path.name]  # nothing left beside it


@pytest.mark.parametrize("file", ("model.gif", "model", "model.svg.txt"))
def test_an_unknown_ending(plain_model, tmp_path, file):
    with pytest.raises(DsvError, match=re.escape(file)) as error:
        graphviz_backend.render(plain_model, tmp_path / file)
    assert ".svg" in error.value.diagnostics[0].hint and ".dot" in error.value.diagnostics[0].hint
    assert not os.listdir(tmp_path)


def test_a_missing_folder_and_a_folder_as_file(plain_model, tmp_path):
    with pytest.raises(DsvError, match="there is no folder"):
        graphviz_backend.render(plain_model, tmp_path / "none" / "model.dot")
    (tmp_path / "here.dot").mkdir()
    with pytest.raises(DsvError, match="is a folder"):
        graphviz_backend.render(plain_model, tmp_path / "here.dot")
    assert os.listdir(tmp_path) == ["here.dot"]
    assert not os.listdir(tmp_path / "here.dot")


def test_a_file_that_fails_leaves_the_old_one(plain_model, tmp_path, monkeypatch):
    path = tmp_path / "model.dot"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DsvError, match="No space left"):
        graphviz_backend.render(plain_model, path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.dot"]


# -- without graphviz ---------------------------------------------------------------------------


def test_without_graphviz_only_dot_is_written(plain_model, tmp_path, monkeypatch):
    monkeypatch.setattr(engine.shutil, "which", lambda _: None)
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DsvError, match="no graphviz") as error:
        graphviz_backend.render(plain_model, tmp_path / "model.svg")
    assert "dsvgraph[draw]" in error.value.diagnostics[0].hint
    assert not os.listdir(tmp_path)
    assert graphviz_backend.render(plain_model, tmp_path / "model.dot").read_text().startswith("digraph")


def script(folder, body):
    dot = folder / "dot"
    dot.write_text(f"#!/bin/sh\n{body}\n")
    dot.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for `dot` is a shell script")
def test_the_systems_dot_comes_first(plain_model, tmp_path, monkeypatch):
    script(tmp_path, 'cat > /dev/null; echo "drawn with $1"')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert engine.call("digraph {}", "png") == b"drawn with -Tpng\n"


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for `dot` is a shell script")
@pytest.mark.parametrize(
    ("body", "says"), [("echo no such font >&2; exit 1", "no such font"), ("exit 0", "said nothing")]
)
def test_a_dot_that_fails_is_an_error(plain_model, tmp_path, monkeypatch, body, says):
    script(tmp_path, f"cat > /dev/null; {body}")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert shutil.which("dot") == str(tmp_path / "dot")
    with pytest.raises(DsvError, match=says):
        graphviz_backend.render(plain_model, tmp_path / "model.png")
    assert os.listdir(tmp_path) == ["dot"]
