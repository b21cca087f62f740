"""What an editor shows for the word under the cursor, as Markdown."""

from __future__ import annotations

from typing import Any

from dsvgraph.errors import Span
from dsvgraph.ops import OPS
from dsvgraph.passes.text.reference import ops
from dsvgraph.passes.text.reference.rows import written
from dsvgraph.passes.text.schema.lines import KEYS
from dsvgraph.passes.text.schema.spec import LOSS_KEYS, LOSS_WORDS
from dsvgraph.passes.text.schema.words import block_words, op_words
from dsvgraph.spec import BlockModel, Entry, PublishedModel, SpecModel
from dsvgraph.types import shown
from dsvgraph_lsp.cursor import NAME
from dsvgraph_lsp.definition import identifier, parts
from dsvgraph_lsp.facts import facts
from dsvgraph_lsp.scope import Scene, mapping
from dsvgraph_lsp.workspace import place_of

Section = type[SpecModel | BlockModel | PublishedModel]
SECTIONS: dict[str, Section] = {"section": SpecModel, "part": BlockModel, "published": PublishedModel}


def hover(scene: Scene) -> str:
    """The documentation, the shapes or the value of what the cursor is on; empty where it is on nothing."""
    wanted, word = scene.wanted, scene.place.word
    if not word:
        return ""
    if scene.inside == ("body",) and scene.place.is_key:
        return node_words(scene, word)
    if wanted == "reference":
        return _reference(scene, *parts(scene))
    if wanted == "callee":
        return call_words(scene, scene.called(word))
    if wanted == "attribute":
        return attribute_words(scene, word)
    if wanted == "loss":
        words = LOSS_WORDS.get(word) or LOSS_KEYS.get(word, {}).get("description", "")
        return f"**{word}**: {words}" if words else ""
    if wanted in SECTIONS:
        return _section(word, SECTIONS[wanted])
    if wanted in ("value", "size", "config") or scene.inside[:1] == ("args",):
        return _name(scene, identifier(scene))
    return ""


def node_words(scene: Scene, name: str) -> str:
    """What a line became: shapes, weights, parameters, FLOPs, path."""
    built = list(scene.nodes(name))
    line = scene.line_of(name)
    callee = built[0][2].callee if built else scene.called(next(iter(line), ""))
    if not callee:
        return ""
    head = f"**{name}**: `{callee}`" + (f" in `{scene.owner[-1]}`" if scene.owner != ("graph",) else "")
    others = f"\n\n{len(built) - 1} more calls of the block have other sizes." if len(built) > 1 else ""
    return "\n".join([head, "", *(facts(*built[0]) if built else [])]) + others


def _reference(scene: Scene, name: str, port: str) -> str:
    if name in scene.inputs:
        declared = written(scene.inputs[name])
        types = {str(graph.inputs[name]) for _, graph in scene.graphs if name in graph.inputs}
        return f"**{name}**: input `{declared}`" + "".join(f" = `{t}`" for t in sorted(types - {declared})[:3])
    return node_words(scene, name)


def call_words(scene: Scene, name: str) -> str:
    """The documentation of an op or a block."""
    if name in OPS:
        return f"**{name}**: op\n\n{op_words(ops()[name])}"
    if name not in scene.blocks:
        return ""
    part = scene.blocks[name]
    model = part.model
    place = f"block of {place_of(span).name}" if (span := part.key()) else "block"
    return f"**{name}**: {place}\n\n{block_words(model.doc, model.args, model.inputs, model.out)}"


def attribute_words(scene: Scene, key: str) -> str:
    """What an attribute of an op or an argument of a block may hold."""
    callee = scene.callee
    if callee in OPS:
        for found in ops()[callee].attributes:
            if found.name == key:
                told = ", ".join(filter(None, [found.kind, found.limits]))
                default = "required" if found.default is None else f"default `{found.default}`"
                return f"**{key}** of `{callee}`: {told}; {default}"
    elif callee in scene.blocks and key in scene.blocks[callee].model.args:
        return f"**{key}**: argument of `{callee}`, {_default(scene.blocks[callee].model.args[key])}"
    return f"**{key}**: {KEYS[key]['description']}" if key in KEYS else ""


def _default(value: Any) -> str:
    return "required" if value is None else f"default `{written(value)}`"


def _section(word: str, model: Section) -> str:
    for name, field in model.model_fields.items():
        if word == (field.alias or name):
            return f"**{word}**: {field.description}"
    return ""


def _name(scene: Scene, name: str) -> str:
    """The value of a name, and where it was set."""
    args = mapping(scene.raw.get("args"))
    if name in args:
        held = [shown(graph.args[name]) for _, graph in scene.graphs if name in graph.args]
        told = f", here `{', '.join(dict.fromkeys(held))}`" if held else ""
        return f"**{name}**: argument of `{scene.owner[-1]}`, {_default(args[name])}{told}"
    if name in scene.config and scene.owner in ((), ("graph",)):
        return config_words(scene, name, scene.config[name])
    return call_words(scene, name) if NAME.fullmatch(name) else ""


def config_words(scene: Scene, name: str, entry: Entry) -> str:
    """A config value, the line that set it, and those that it overrides."""
    models = scene.desk.models(scene.file)
    value = written(models[0].config[name]) if models and name in models[0].config else ""
    raw = written(entry.value)
    lines = [f"**{name}**: `{raw}`" + (f" = `{value}`" if value and value != raw else "")]
    lines += [f"- set in {link(entry.span)}"] if entry.span else []
    lines += [f"- overrides {link(span)}" for span in entry.overrides if span]
    return "\n".join(lines)


def link(span: Span) -> str:
    """A place that can be clicked."""
    path = place_of(span)
    return f"[{path.name}:{span.line}]({path.as_uri()}#L{span.line})"
