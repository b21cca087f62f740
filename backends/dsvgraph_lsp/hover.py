"""textDocument/hover: the documentation of the word under the cursor, as Markdown."""

from __future__ import annotations

from typing import Any

from dsvgraph.errors import Span
from dsvgraph.ops import OPS
from dsvgraph.passes.text.reference import ops
from dsvgraph.passes.text.reference.entries import written
from dsvgraph.passes.text.reference.markdown import block_markdown, op_markdown
from dsvgraph.passes.text.schema.lines import KEYS
from dsvgraph.passes.text.schema.spec import LOSS_KEYS, LOSS_WORDS
from dsvgraph.spec import BlockModel, ConfigEntry, PublishedModel, SpecModel
from dsvgraph.types import shown
from dsvgraph_lsp.cursor import NAME
from dsvgraph_lsp.definition import identifier, name_and_port
from dsvgraph_lsp.node_info import node_info
from dsvgraph_lsp.scope import Scope, SyntaxKind, mapping
from dsvgraph_lsp.workspace import file_of

Section = type[SpecModel | BlockModel | PublishedModel]
SECTIONS: dict[SyntaxKind, Section] = {
    SyntaxKind.SECTION: SpecModel,
    SyntaxKind.BLOCK_SECTION: BlockModel,
    SyntaxKind.PUBLISHED: PublishedModel,
}


def hover(scope: Scope) -> str:
    """Return the documentation, the shapes or the value of the word under the cursor; empty if there is none."""
    kind, word = scope.kind, scope.cursor.word
    if not word:
        return ""
    if scope.inside == ("body",) and scope.cursor.is_key:
        return node_documentation(scope, word)
    if kind is SyntaxKind.REFERENCE:
        return _reference(scope, *name_and_port(scope))
    if kind is SyntaxKind.CALLEE:
        return call_documentation(scope, scope.called(word))
    if kind is SyntaxKind.ATTRIBUTE:
        return attribute_documentation(scope, word)
    if kind is SyntaxKind.LOSS:
        words = LOSS_WORDS.get(word) or LOSS_KEYS.get(word, {}).get("description", "")
        return f"**{word}**: {words}" if words else ""
    if kind in SECTIONS:
        return _section(word, SECTIONS[kind])
    if kind in (SyntaxKind.VALUE, SyntaxKind.SIZE, SyntaxKind.CONFIG) or scope.inside[:1] == ("args",):
        return _name(scope, identifier(scope))
    return ""


def node_documentation(scope: Scope, name: str) -> str:
    """Return the properties of the node that a line became; empty for an unfinished line."""
    built = list(scope.nodes(name))
    callee = built[0][2].callee if built else scope.called(scope.line_of(name).callee)
    if not callee:
        return ""
    head = f"**{name}**: `{callee}`" + (f" in `{scope.owner[-1]}`" if scope.owner != ("graph",) else "")
    others = f"\n\n{len(built) - 1} more calls of the block have other sizes." if len(built) > 1 else ""
    return "\n".join([head, "", *(node_info(*built[0]) if built else [])]) + others


def _reference(scope: Scope, name: str, port: str) -> str:
    if name in scope.inputs:
        declared = written(scope.inputs[name])
        types = {str(graph.inputs[name]) for _, graph in scope.graphs if name in graph.inputs}
        return f"**{name}**: input `{declared}`" + "".join(f" = `{t}`" for t in sorted(types - {declared})[:3])
    return node_documentation(scope, name)


def call_documentation(scope: Scope, name: str) -> str:
    """Return the documentation of an op or a block; empty if there is none of this name."""
    if name in OPS:
        return f"**{name}**: op\n\n{op_markdown(ops()[name])}"
    if name not in scope.blocks:
        return ""
    part = scope.blocks[name]
    model = part.model
    origin = f"block of {file_of(span.source).name}" if (span := part.key()) else "block"
    return f"**{name}**: {origin}\n\n{block_markdown(model.doc, model.args, model.inputs, model.out)}"


def attribute_documentation(scope: Scope, key: str) -> str:
    """Return the type and the default of an attribute of an op or an argument of a block."""
    callee = scope.callee
    if callee in OPS:
        for found in ops()[callee].attributes:
            if found.name == key:
                kind = ", ".join(filter(None, [found.kind, found.limits]))
                default = "required" if found.default is None else f"default `{found.default}`"
                return f"**{key}** of `{callee}`: {kind}; {default}"
    elif callee in scope.blocks and key in scope.blocks[callee].model.args:
        return f"**{key}**: argument of `{callee}`, {_default(scope.blocks[callee].model.args[key])}"
    return f"**{key}**: {KEYS[key]['description']}" if key in KEYS else ""


def _default(value: Any) -> str:
    return "required" if value is None else f"default `{written(value)}`"


def _section(word: str, model: Section) -> str:
    for name, field in model.model_fields.items():
        if word == (field.alias or name):
            return f"**{word}**: {field.description}"
    return ""


def _name(scope: Scope, name: str) -> str:
    """Return the value of a name, and where it was set."""
    args = mapping(scope.raw.get("args"))
    if name in args:
        found = [shown(graph.args[name]) for _, graph in scope.graphs if name in graph.args]
        values = f", here `{', '.join(dict.fromkeys(found))}`" if found else ""
        return f"**{name}**: argument of `{scope.owner[-1]}`, {_default(args[name])}{values}"
    if name in scope.config and scope.owner in ((), ("graph",)):
        return config_documentation(scope, name, scope.config[name])
    return call_documentation(scope, name) if NAME.fullmatch(name) else ""


def config_documentation(scope: Scope, name: str, entry: ConfigEntry) -> str:
    """Return a config value, the line that set it, and the lines that it overrides."""
    models = scope.workspace.models(scope.file)
    value = written(models[0].config[name]) if models and name in models[0].config else ""
    raw = written(entry.value)
    lines = [f"**{name}**: `{raw}`" + (f" = `{value}`" if value and value != raw else "")]
    lines += [f"- set in {link(entry.span)}"] if entry.span else []
    lines += [f"- overrides {link(span)}" for span in entry.overrides if span]
    return "\n".join(lines)


def link(span: Span) -> str:
    """Return a Markdown link to a line."""
    path = file_of(span.source)
    return f"[{path.name}:{span.line}]({path.as_uri()}#L{span.line})"
