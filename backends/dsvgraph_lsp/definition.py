"""Where what a word means was written: a line, an input, a block, an argument, a config value, a file."""

from __future__ import annotations

from dsvgraph import loader
from dsvgraph.errors import DsvError, Source, Span
from dsvgraph_lsp.cursor import NAME
from dsvgraph_lsp.scope import Scene, mapping


def definition(scene: Scene) -> Span | None:
    """The place that the word under the cursor leads to; of a config value, what it stands over."""
    wanted = scene.wanted
    if wanted == "file":
        return _file(scene)
    if wanted == "reference":
        return reference(scene, *parts(scene))
    if wanted in ("callee", "attribute", "port", "input"):
        return _of_call(scene, wanted)
    if wanted == "config":
        entry = scene.config.get(identifier(scene))
        return next((span for span in entry.overrides if span), None) if entry else None
    if wanted in ("output", "target"):
        graph = scene.spec and scene.fresh(scene.spec.graph)
        return graph.key("out" if wanted == "output" else "in", scene.place.word) if graph else None
    if wanted in ("value", "size") or scene.inside[:1] == ("args",):
        return named(scene, identifier(scene))
    return None


def identifier(scene: Scene) -> str:
    """The name under the cursor, without what follows a dot."""
    return parts(scene)[0]


def parts(scene: Scene) -> tuple[str, str]:
    """The name under the cursor and the port after its dot, where the cursor is on that."""
    place = scene.place
    for match in NAME.finditer(place.line):
        if match.start() <= place.column <= match.end():
            name, dot, port = match[0].partition(".")
            return name, port if dot and place.column > match.start() + len(name) else ""
    return "", ""


def reference(scene: Scene, name: str, port: str) -> Span | None:
    """The line or the input that a reference names; with a port of a block, the port there."""
    if name in scene.inputs:
        return scene.key_span("in", name)
    line = scene.line_of(name)
    block = scene.blocks.get(scene.called(next(iter(line), "")))
    if block and port in mapping(block.model.out):
        return block.key("out", port)
    if block and port in block.model.inputs:
        return block.key("in", port)
    return scene.key_span("body", name) if line else None


def _of_call(scene: Scene, wanted: str) -> Span | None:
    """The block that is called, the argument or the input of it that a key gives."""
    word = scene.place.word
    if wanted == "callee":
        return named(scene, word)
    block = scene.blocks.get(scene.callee)
    section = "args" if wanted == "attribute" else "in"
    known = (block.model.args if wanted == "attribute" else block.model.inputs) if block else {}
    return block.key(section, word) if block and word in known else None


def named(scene: Scene, name: str) -> Span | None:
    """The place of a name's value: the argument of this block, the config value, or the block."""
    declares = scene.inside[:1] == ("args",) and scene.place.is_key
    if name in mapping(scene.raw.get("args")) and not declares:
        return scene.key_span("args", name)
    if name in scene.config and (declares or scene.owner in ((), ("graph",))):
        return scene.config[name].span
    return scene.blocks[name].key() if name in scene.blocks else None


def _file(scene: Scene) -> Span | None:
    start, end = scene.place.text
    try:
        found = loader.find(scene.place.line[start:end].strip("\"'"), scene.file.parent)
    except (DsvError, OSError, ValueError):
        return None
    return Span(Source(str(found), ("",)), 1, 1)
