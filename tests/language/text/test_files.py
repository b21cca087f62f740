"""Files of a spec: include, extends, --set, and that nothing outside is read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import dsvgraph
from dsvgraph import DsvError, loader
from dsvgraph.graph.signature import signature

BASE = """
name: Base
config: {d: 4, V: 9, n: 2}
blocks:
  a: {args: {d}, in: {x: [..., d]}, body: {y: {silu: x}}, out: y}
  b: {args: {d}, in: {x: [..., d]}, body: {y: {relu: x}}, out: y}
graph:
  in: {ids: "int[B, T]"}
  body:
    e: {embedding: ids, num: V, dim: d}
    x: {a: e}
    y: {linear: x, out: V}
  out: {logits: y}
loss: {next: {cross_entropy: logits, target: ids}}
init: {"**": {normal: 1}, "y.weight": zeros}
trained: {"e.**": false}
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def load(files: Path, text: str, name: str = "spec.yaml", **settings: object) -> dsvgraph.Model:
    (files / name).write_text(text)
    return dsvgraph.load(name, settings)


def refused(files: Path, text: str, **settings: object) -> tuple[str, str]:
    """The one mistake of a spec, and where it stands."""
    with pytest.raises(DsvError) as caught:
        load(files, text, **settings)
    (found,) = caught.value.diagnostics
    return found.message, str(found.span)


# -- extends ----------------------------------------------------------------------------------


def test_config_and_sections_merge_by_name(files: Path) -> None:
    found = load(files, 'extends: base.yaml\nconfig: {n: 3, m: 1}\ninit: {"**": ones}\ntrained: {"y.**": false}')
    assert found.name == "Base"
    assert found.config == {"d": 4, "V": 9, "n": 3, "m": 1}
    assert [(pattern, init.kind) for pattern, init in found.init] == [("y.weight", "zeros"), ("**", "ones")]
    assert found.trained == (("e.**", False), ("y.**", False))


def test_blocks_are_replaced_whole(files: Path) -> None:
    text = "extends: base.yaml\nname: Other\nblocks: {a: {in: {x: [...]}, body: {y: {gelu: x}}, out: y}}"
    found = load(files, text)
    inner = found.nodes["x"].copies[0].graph
    assert (found.name, inner.nodes["y"].callee, inner.args) == ("Other", "gelu", {})
    assert found.spec.blocks.keys() == {"a", "b"}


def test_graph_and_loss_are_replaced_whole(files: Path) -> None:
    graph = 'graph: {in: {ids: "int[B, T]"}, body: {e: {embedding: ids, num: V, dim: V}}, out: {other: e}}'
    found = load(files, f"extends: base.yaml\n{graph}\nloss: {{only: {{cross_entropy: other, target: ids}}}}")
    assert (list(found.nodes), list(found.outputs)) == (["e"], ["other"])
    assert [loss.name for loss in found.losses] == ["only"]


def test_a_chain_of_extends_tells_who_set_a_value(files: Path) -> None:
    (files / "middle.yaml").write_text("extends: base.yaml\nconfig:\n  n: 3")
    found = load(files, "extends: middle.yaml\nconfig:\n  n: 4", n=5)
    entry = found.spec.config["n"]
    assert entry.value == 5
    assert [str(span) for span in (entry.span, *entry.overrides)] == [
        "--set:1:3", "spec.yaml:3:6", "middle.yaml:3:6", "base.yaml:3:25",
    ]  # fmt: skip


# -- include ----------------------------------------------------------------------------------

LIBRARY = "blocks: {c: {in: {x: [...]}, body: {y: {gelu: x}}, out: y}}"
USES = BASE.replace("x: {a: e}", "x: {c: e}")


def test_include_brings_blocks(files: Path) -> None:
    (files / "library.yaml").write_text(LIBRARY)
    assert load(files, "include: [library.yaml]\n" + USES).nodes["x"].callee == "c"


def test_include_finds_the_bundled_blocks(files: Path) -> None:
    text = BASE.replace("x: {a: e}", "x: {mlp: e, hidden_size: d, intermediate_size: 8}")
    assert load(files, "include: [blocks/mlp.yaml]\n" + text).nodes["x"].callee == "mlp"


def test_a_file_beside_the_spec_goes_before_a_bundled_one(files: Path) -> None:
    (files / "blocks").mkdir()
    (files / "blocks/mlp.yaml").write_text(LIBRARY)
    assert load(files, "include: [blocks/mlp.yaml]\n" + USES).nodes["x"].callee == "c"


def test_own_blocks_go_before_included_ones(files: Path) -> None:
    (files / "library.yaml").write_text(LIBRARY.replace("c:", "a:", 1))
    found = load(files, "include: [library.yaml]\n" + BASE)
    assert found.nodes["x"].copies[0].graph.nodes["y"].callee == "silu"


def test_a_file_may_come_twice_by_two_ways(files: Path) -> None:
    (files / "library.yaml").write_text(LIBRARY)
    (files / "more.yaml").write_text("include: [library.yaml]\n" + LIBRARY.replace("c:", "k:", 1))
    assert "k" in load(files, "include: [more.yaml, library.yaml]\n" + USES).spec.blocks


def test_every_file_that_is_wrong_is_told(files: Path) -> None:
    """A circle once, from wherever it is entered."""
    for name, text in {"b": "include: [c.yaml]", "c": "include: [b.yaml]", "bad": "blcks: {}"}.items():
        (files / f"{name}.yaml").write_text(text)
    with pytest.raises(DsvError) as caught:
        load(files, "extends: nope.yaml\ninclude: [b.yaml, c.yaml, gone.yaml, bad.yaml]")
    found = [(d.span.source.name, d.span.line, d.span.column) for d in caught.value.diagnostics if d.span]
    assert found == [("bad.yaml", 1, 1), ("c.yaml", 1, 11), ("spec.yaml", 1, 10), ("spec.yaml", 2, 27)]
    assert "in a circle: b.yaml -> c.yaml -> b.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("library", "words"),
    [
        (BASE, "`library.yaml` is a whole model"),
        (LIBRARY + "\nconfig: {a: 1}", "`library.yaml` has a section `config`, and `include` brings only blocks"),
        ("include: [library.yaml]", "files include each other in a circle: library.yaml -> library.yaml"),
        ("extends: spec.yaml", "files include each other in a circle: spec.yaml -> library.yaml -> spec.yaml"),
    ],
)
def test_what_cannot_be_included(files: Path, library: str, words: str) -> None:
    (files / "library.yaml").write_text(library)
    message, _ = refused(files, "include: [library.yaml]\n" + BASE)
    assert message == words


def test_two_files_cannot_bring_one_block(files: Path) -> None:
    (files / "library.yaml").write_text(LIBRARY)
    (files / "other.yaml").write_text(LIBRARY)
    assert refused(files, "include: [library.yaml, other.yaml]\n" + USES) == (
        "two files bring the block `c`", "spec.yaml:1:25",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["blocks/mlp.yaml", "mine.yaml"])
def test_a_copy_of_a_bundled_file_is_the_same_block(files: Path, name: str) -> None:
    """A bundled file includes the bundled one; what stands for it beside the spec goes before."""
    text = (loader.bundled() / "blocks/mlp.yaml").read_text()
    (files / "blocks").mkdir()
    (files / name).write_text(text)
    model = BASE.replace("x: {a: e}", "x: {mlp: e, hidden_size: d, intermediate_size: 8}")
    for order in (f"{name}, blocks/moe.yaml", f"blocks/moe.yaml, {name}"):
        part = load(files, f"include: [{order}]\n" + model).spec.blocks["mlp"]
        assert part.doc.source.name == name
    (files / name).write_text(text.replace("up_proj", "up"))
    if name == "mine.yaml":
        assert refused(files, "include: [blocks/moe.yaml, mine.yaml]\n" + model)[0] == "two files bring the block `mlp`"
    else:
        part = load(files, "include: [blocks/moe.yaml, blocks/mlp.yaml]\n" + model).spec.blocks["mlp"]
        assert "up" in part.model.body


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All bundled specs, in a folder elsewhere."""
    return Path(shutil.copytree(loader.bundled(), tmp_path_factory.mktemp("elsewhere") / "mine"))


HOME = loader.bundled()
SPECS = [p.relative_to(HOME).as_posix() for p in sorted(HOME.rglob("*.yaml")) if p.parent.name != "blocks"]


@pytest.mark.parametrize("name", SPECS)
def test_a_folder_of_specs_works_wherever_it_lies(copied: Path, name: str) -> None:
    """Every file of it is that of the copy, none the bundled one."""
    found = dsvgraph.load(str(copied / name))
    assert signature(found) == signature(dsvgraph.load(str(loader.bundled() / name)))
    assert found.spec is not None
    files = [part.doc.source.name for part in (found.spec.graph, *found.spec.blocks.values())]
    assert len(files) > 1 and all(Path(file).resolve().is_relative_to(copied) for file in files)


def test_a_folder_above_is_read_only_from_the_folders_of_its_parts(files: Path) -> None:
    (files / "library.yaml").write_text(LIBRARY)
    for folder in ("variants", "other"):
        (files / folder).mkdir()
        (files / folder / "spec.yaml").write_text("include: [library.yaml]\n" + USES)
    with pytest.raises(DsvError, match=r"there is no spec `library\.yaml`"):
        dsvgraph.load("variants/spec.yaml")
    (files / "blocks").mkdir()
    assert dsvgraph.load("variants/spec.yaml").nodes["x"].callee == "c"
    with pytest.raises(DsvError, match=r"there is no spec `library\.yaml`"):
        dsvgraph.load("other/spec.yaml")


# -- nothing outside --------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["include: [{}]\n", "extends: {}\n"])
@pytest.mark.parametrize("name", ["../outside.yaml", "{tmp}/outside.yaml", "link.yaml", "folder/../../outside.yaml"])
def test_files_outside_are_not_read(files: Path, key: str, name: str) -> None:
    home = files / "home"
    (home / "folder").mkdir(parents=True)
    (files / "outside.yaml").write_text(LIBRARY)
    (home / "link.yaml").symlink_to(files / "outside.yaml")
    (home / "spec.yaml").write_text(key.format(name.format(tmp=files)) + USES)
    with pytest.raises(DsvError, match="lies outside the spec's folder"):
        dsvgraph.load("home/spec.yaml")


@pytest.mark.parametrize("name", ["/dev/zero", "/etc/passwd", "folder", "pipe", "nothing.yaml", "", ".", "\0"])
def test_only_files_that_are_there_are_read(files: Path, name: str) -> None:
    (files / "folder").mkdir()
    os.mkfifo(files / "pipe")
    with pytest.raises(DsvError):
        dsvgraph.load(name)
    with pytest.raises(DsvError):
        load(files, f'extends: "{name}"\n'.replace("\0", "\\0"))


# -- finding ----------------------------------------------------------------------------------


def test_bundled_specs_are_found_by_name_from_anywhere(files: Path) -> None:
    assert loader.find("deepseek_v3") == loader.bundled() / "deepseek_v3.yaml"
    assert loader.find("blocks/mla") == loader.bundled() / "blocks/mla.yaml"


def test_a_misspelt_name_has_a_hint(files: Path) -> None:
    with pytest.raises(DsvError) as caught:
        dsvgraph.load("deepsek_v3")
    assert caught.value.diagnostics[0].hint == "did you mean `deepseek_v3`?"


@pytest.mark.parametrize(
    "name, meant", [("medusa", "`variants/medusa`"), ("eagle", "`losses/eagle` or `variants/eagle`")]
)
def test_a_name_without_its_folder_has_a_hint(name: str, meant: str) -> None:
    with pytest.raises(DsvError) as caught:
        dsvgraph.load(name)
    assert caught.value.diagnostics[0].hint == f"did you mean {meant}?"


@pytest.mark.parametrize("name", ["deepseek_v4", "llama3_70b", "qwen2_8b", "mixtral_8x22b"])
def test_another_version_or_size_is_another_model(name: str) -> None:
    with pytest.raises(DsvError) as caught:
        dsvgraph.load(name)
    assert caught.value.diagnostics[0].hint.startswith("bundled: ")


# -- --set ------------------------------------------------------------------------------------


def test_settings_are_values_or_expressions(files: Path) -> None:
    found = load(files, BASE, d="2 * n", n=8)
    assert (found.config["d"], found.config["n"]) == (16, 8)


@pytest.mark.parametrize(
    ("settings", "words", "place"),
    [
        ({"dd": 3}, "--set: the spec has no config value `dd`", "None"),
        ({"d": 0}, "a size is at least 1, found 0", "--set:1:3"),
        ({"d": "many"}, "there is no name `many` here", "--set:1:3"),
        ({"d": None}, "a size is a whole number, found `null`", "--set:1:3"),
        ({"d": {4}}, "--set: a config value is what YAML can hold, `d` is set", "None"),
    ],
)
def test_a_wrong_setting_is_told_as_one(files: Path, settings: dict[str, object], words: str, place: str) -> None:
    assert refused(files, BASE, **settings) == (words, place)
