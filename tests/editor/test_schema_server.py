"""The schema in the language server that editors use for YAML: completion, documentation, errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pygls", reason="the client is pygls's, of the extra `lsp`")

from client import Editor, cursor

from dsvgraph.cli.read.schema import run as write_schema
from dsvgraph.loader import bundled
from dsvgraph.ops import OPS

HERE = Path(__file__).parent
SERVER = HERE / "node_modules/yaml-language-server/bin/yaml-language-server"
SETTINGS = {"yaml": {"validate": True, "hover": True, "completion": True, "schemaStore": {"enable": False}}}
HEADER = "# yaml-language-server: $schema=schema.json\n"
SPEC = (
    HEADER
    + """
config: {d: 8}
graph:
  in: {ids: "int[B, T]"}
  body:
    embed: {embedding: ids, num: 256, dim: d}
    %s
  out: embed
"""
)


@pytest.fixture(scope="module")
def editor(tmp_path_factory) -> Iterator[Editor]:
    """An editor with the YAML server, in a folder that holds the schema."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not here, so there is no yaml-language-server to test with")
    if not SERVER.is_file():
        pytest.fail("yaml-language-server is not installed: `make test`, or `npm ci --prefix tests/editor`")
    folder = tmp_path_factory.mktemp("specs")
    write_schema(folder / "schema.json")
    opened = Editor(folder, "node", str(SERVER), "--stdio", settings=SETTINGS)
    opened.open("a.yaml", SPEC % "")
    opened.open("b.yaml", SPEC % "")
    yield opened
    opened.close()


def test_the_lock_file_names_no_registry():
    packages = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert all("integrity" in package for name, package in packages.items() if name)


def test_bundled_specs_are_right(editor):
    names = [path.relative_to(bundled()).as_posix() for path in sorted(bundled().rglob("*.yaml"))]
    for name in names:
        depth = "../" * name.count("/")
        text = (bundled() / name).read_text(encoding="utf-8")
        editor.show(name, HEADER.replace("schema.json", f"{depth}schema.json") + text)
    found = {name: [d.message for d in editor.hear(name)] for name in names}
    assert {name: words for name, words in found.items() if words} == {}


WRONG = [  # the line, the words that are underlined, the message
    ("y: {linear: embed, out: 3, biass: true}", "biass", "Property biass is not allowed."),
    ("y: {rms_norm: embed, eps: true}", "true", "Incorrect type. Expected one of string, number."),
    ("y: {linear: embed, out: 3, contract: 9}", "9", "Value is above the maximum of 8."),
    ("y: {linear: embed}", "y", 'Missing property "out".'),
    ("y: {attention: {q: embed, k: embed}}", "attention", 'Missing property "v".'),
    ("y: {silu: 2nd}", "2nd", "String does not match the pattern"),
]


@pytest.mark.parametrize(("line", "guilty", "message"), WRONG, ids=[guilty for _, guilty, _ in WRONG])
def test_a_mistake_is_underlined(line, guilty, message, editor):
    text = SPEC % line
    (found,) = editor.type("a.yaml", text)
    start, end = found.range.start, found.range.end
    assert text.split("\n")[start.line][start.character : end.character] == guilty
    assert message in found.message


def offered(editor: Editor, line: str) -> list[str]:
    """The labels that are offered at the mark in a line."""
    text, *where = cursor(SPEC % line)
    editor.send("b.yaml", text)
    return editor.labels("b.yaml", *where)


def test_keys(editor):
    text, *where = cursor("# yaml-language-server: $schema=schema.json\nname: m\n|")
    editor.send("b.yaml", text)
    assert {"extends", "include", "config", "blocks", "graph", "loss", "init"} <= set(editor.labels("b.yaml", *where))


def test_ops_and_blocks_begin_a_line(editor):
    names = offered(editor, "y: {a|}")
    assert {*OPS, "mla", "moe", "decoder_layer", "mtp_layer"} <= set(names)


def test_attributes_of_an_op(editor):
    names = offered(editor, "y:\n      router: embed\n      |")
    assert {"experts", "top_k", "normalize", "repeat", "at"} <= set(names)
    assert "linear" not in names  # a line is one op


def test_arguments_of_a_block(editor):
    names = offered(editor, "y:\n      mla: embed\n      |")
    assert {"kv_lora_rank", "rope_theta", "repeat"} <= set(names)
    assert "experts" not in names


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("y: {router: embed, score: |}", ["sigmoid", "softmax"]),
        ("y: {rope: embed, interleave: |}", ["true", "false"]),
        ("y: {attention: {q|}}", ["q", "k", "v"]),
        ("y: {decoder_layer: embed, ffn: |}", ["mlp", "moe"]),
    ],
)
def test_values(line, names, editor):
    assert set(names) <= set(offered(editor, line))


def test_files(editor):
    text, *where = cursor(HEADER + "extends: |")
    editor.send("b.yaml", text)
    assert "deepseek_v3_tiny.yaml" in editor.labels("b.yaml", *where)
    text, *where = cursor(HEADER + "include: [|]")
    editor.send("b.yaml", text)
    assert "blocks/mla.yaml" in editor.labels("b.yaml", *where)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("y: {lin|ear: embed, out: 3}", "y = x weight^T + bias"),
        ("y: {ml|a: embed}", "Multi-head latent attention"),
        ("y: {mla: embed, rope_th|eta: 1e6}", "default `10000`"),
        ("y: {decoder_layer: embed, ff|n: mlp}", "Argument of `decoder_layer`, default `mlp`."),
        ("y: {linear: embed, out: 3, contr|act: 2}", "Whole number, at least 1 and at most 8."),
        ("y: {linear: embed, out: 3, rep|eat: 2}", "like a scan"),
    ],
)
def test_documentation(line, words, editor):
    text, *where = cursor(SPEC % line)
    editor.send("b.yaml", text)
    assert words in editor.words("b.yaml", *where)
