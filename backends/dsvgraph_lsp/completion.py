"""textDocument/completion: the keys, ops, blocks, references, names and files that may be written at the cursor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any, Literal, NamedTuple, get_args, get_origin

from dsvgraph.build.losses.kinds import KINDS
from dsvgraph.expr.syntax import FUNCTIONS
from dsvgraph.loader import bundled
from dsvgraph.ops import OPS
from dsvgraph.passes.graph.paths import weights
from dsvgraph.passes.text.reference import ops
from dsvgraph.passes.text.reference.entries import first_sentence, written
from dsvgraph.passes.text.schema.lines import KEYS
from dsvgraph.spec import BlockModel, Convention, PublishedModel, SpecModel
from dsvgraph.types import InitKind
from dsvgraph_lsp.hover import attribute_documentation, call_documentation
from dsvgraph_lsp.scope import Scope, SyntaxKind, mapping
from dsvgraph_lsp.workspace import file_of

LOSS_NAMES = ("depth", "tokens", "step", "valid")
MAX_PATTERNS = 200


class ItemKind(StrEnum):
    """What a completion stands for."""

    FIELD = "field"
    OP = "op"
    BLOCK = "block"
    NODE = "node"
    INPUT = "input"
    WEIGHT = "weight"
    PORT = "port"
    VALUE = "value"
    CHOICE = "choice"
    FILE = "file"


class CompletionItem(NamedTuple):
    """One completion: its kind (the editor's icon), a short detail, and its documentation as Markdown."""

    label: str
    kind: ItemKind
    detail: str = ""
    documentation: str = ""
    is_key: bool = False


def completion(scope: Scope) -> list[CompletionItem]:
    """Return everything that may be written at the cursor, the likeliest first."""
    make = MAKERS.get(scope.kind)
    found = list(make(scope)) if make else []
    taken = set(scope.cursor.siblings) - {scope.cursor.word}
    return [item for item in found if not (item.is_key and item.label in taken)]


# -- keys ---------------------------------------------------------------------------------------


def _sections(scope: Scope) -> Iterator[CompletionItem]:
    yield from _fields(SpecModel)


def _block_sections(scope: Scope) -> Iterator[CompletionItem]:
    yield from _fields(BlockModel)


def _published(scope: Scope) -> Iterator[CompletionItem]:
    yield from _fields(PublishedModel)


def _conventions(scope: Scope) -> Iterator[CompletionItem]:
    yield from (CompletionItem(word, ItemKind.CHOICE) for word in get_args(Convention))


def _fields(model: type[SpecModel | BlockModel | PublishedModel]) -> Iterator[CompletionItem]:
    for name, field in model.model_fields.items():
        yield CompletionItem(field.alias or name, ItemKind.FIELD, field.description or "", is_key=True)


def _callees(scope: Scope) -> Iterator[CompletionItem]:
    """Yield the arguments that hold blocks, the blocks, and the ops."""
    for name, default in mapping(scope.raw.get("args")).items():
        if scope.called(name) in scope.blocks and isinstance(default, (str, dict)):
            yield CompletionItem(name, ItemKind.BLOCK, f"the block that `{name}` holds", is_key=True)
    yield from _blocks(scope, True)
    for name, page in ops().items():
        yield CompletionItem(
            name, ItemKind.OP, page.summary, documentation=call_documentation(scope, name), is_key=True
        )


def _blocks(scope: Scope, is_key: bool = False) -> Iterator[CompletionItem]:
    for name, part in scope.blocks.items():
        if ("blocks", name) != scope.owner:
            yield CompletionItem(
                name,
                ItemKind.BLOCK,
                first_sentence(part.model.doc),
                documentation=call_documentation(scope, name),
                is_key=is_key,
            )


def _attributes(scope: Scope) -> Iterator[CompletionItem]:
    callee = scope.callee
    if callee in OPS:
        names = dict.fromkeys([*OPS[callee].model_fields, *OPS[callee].wired_weights])
    else:
        names = dict.fromkeys(scope.blocks[callee].model.args if callee in scope.blocks else ())
    for name in names:
        yield CompletionItem(name, ItemKind.FIELD, documentation=attribute_documentation(scope, name), is_key=True)
    yield from (CompletionItem(name, ItemKind.FIELD, found["description"], is_key=True) for name, found in KEYS.items())


def _ports(scope: Scope) -> Iterator[CompletionItem]:
    for port in scope.callee_ports(scope.callee):
        declared = scope.blocks[scope.callee].model.inputs[port] if scope.callee in scope.blocks else ""
        yield CompletionItem(port, ItemKind.PORT, written(declared), is_key=True)


def _inputs(scope: Scope) -> Iterator[CompletionItem]:
    yield from (CompletionItem(port, ItemKind.PORT) for port in scope.callee_ports(scope.callee))


def _losses(scope: Scope) -> Iterator[CompletionItem]:
    given = [kind for kind in KINDS if kind in scope.cursor.siblings]
    keys = KINDS[given[0]] if given else (*KINDS, *dict.fromkeys(k for keys in KINDS.values() for k in keys))
    yield from (CompletionItem(key, ItemKind.FIELD, is_key=True) for key in keys)


def _config(scope: Scope) -> Iterator[CompletionItem]:
    """Yield config names of the specs that this one extends, then required arguments of blocks without a value."""
    known = scope.config
    for name, entry in known.items():
        if entry.span and file_of(entry.span.source) != scope.file:
            detail = f"{written(entry.value)}, of {file_of(entry.span.source).name}"
            yield CompletionItem(name, ItemKind.VALUE, detail, is_key=True)
    for name, part in scope.blocks.items():
        for argument, default in part.model.args.items():
            if default is None and argument not in known:
                yield CompletionItem(argument, ItemKind.VALUE, f"argument of `{name}`", is_key=True)


def _patterns(scope: Scope) -> Iterator[CompletionItem]:
    yield CompletionItem('"**"', ItemKind.VALUE, "every weight", is_key=True)
    for model in scope.workspace.models(scope.file)[:1]:
        ends = dict.fromkeys(owned.path.rpartition("].")[2] or owned.path for owned in weights(model))
        for end in list(ends)[:MAX_PATTERNS]:
            yield CompletionItem(f'"**{end}"' if "." not in end else f'"**.{end}"', ItemKind.WEIGHT, is_key=True)


# -- values -------------------------------------------------------------------------------------


def _references(scope: Scope) -> Iterator[CompletionItem]:
    """Yield the lines before this one and the inputs; after a dot the ports of the line before the dot."""
    name, dot, _ = scope.cursor.prefix.partition(".")
    if dot:
        yield from _of_node(scope, name)
        return
    for line in reversed(scope.lines_before()):
        types = [str(t) for _, _, node in scope.nodes(line) for t in list(node.outputs.values())[:1]]
        yield CompletionItem(line, ItemKind.NODE, types[0] if types else scope.line_of(line).callee)
    yield from (CompletionItem(name, ItemKind.INPUT, written(raw)) for name, raw in scope.inputs.items())


def _of_node(scope: Scope, name: str) -> Iterator[CompletionItem]:
    """Yield the outputs, weights and inputs of a line."""
    for _, _, node in scope.nodes(name):
        yield from (CompletionItem(port, ItemKind.PORT, str(type_)) for port, type_ in node.outputs.items())
        yield from (CompletionItem(port, ItemKind.WEIGHT, str(weight.type)) for port, weight in node.weights.items())
        yield from (CompletionItem(port, ItemKind.PORT, f"wired from {ref}") for port, ref in node.sources.items())
        return
    line = scope.line_of(name)
    callee = scope.called(line.callee)
    yield from (CompletionItem(port, ItemKind.PORT) for port in scope.outputs_of(callee, line))
    if callee in OPS:
        outputs = ops()[callee].outputs if callee != "split" else {}
        yield from (CompletionItem(port, ItemKind.PORT, type_) for port, type_ in outputs.items())
        yield from (CompletionItem(w.name, ItemKind.WEIGHT, w.shape) for w in ops()[callee].weights)


def _values(scope: Scope) -> Iterator[CompletionItem]:
    """Yield the choices of the attribute, the visible names, blocks, and functions."""
    key = str(scope.inside[2]) if scope.inside[:1] == ("body",) and len(scope.inside) > 2 else ""
    yield from _choices(scope, key)
    if _holds_block(scope, key):
        yield from _blocks(scope)
    yield from _names(scope)
    if scope.inside[:1] == ("loss",):
        yield from (CompletionItem(name, ItemKind.VALUE) for name in LOSS_NAMES)
    if "repeat" in scope.line or "each" in scope.line:
        yield CompletionItem("index", ItemKind.VALUE, "the number of the copy")
    if scope.callee not in OPS or not key:
        yield from _blocks(scope)
    yield from (CompletionItem(name, ItemKind.CHOICE, "function") for name in FUNCTIONS)


def _holds_block(scope: Scope, key: str) -> bool:
    """Return whether a key is an argument whose default is a block."""
    args = scope.blocks[scope.callee].model.args if scope.callee in scope.blocks else {}
    return isinstance(args.get(key), str) and args[key] in scope.blocks


def _choices(scope: Scope, key: str) -> Iterator[CompletionItem]:
    field = OPS[scope.callee].model_fields.get(key) if scope.callee in OPS else None
    if field is not None:
        yield from (CompletionItem(word, ItemKind.CHOICE) for word in _choices_of(field.annotation))
    elif scope.callee in scope.blocks and isinstance(scope.blocks[scope.callee].model.args.get(key), bool):
        yield from _booleans(scope)


def _choices_of(annotation: Any) -> Iterable[str]:
    if annotation is bool:
        return "true", "false"
    return [str(word) for word in get_args(annotation)] if get_origin(annotation) is Literal else []


def _names(scope: Scope) -> Iterator[CompletionItem]:
    """Yield the arguments of a block, or the config; after a dot the keys of the value before the dot."""
    name, dot, _ = scope.cursor.prefix.partition(".")
    if dot:
        held = scope.config[name].value if name in scope.config else None
        yield from (CompletionItem(key, ItemKind.PORT, written(value)) for key, value in mapping(held).items())
        return
    args = mapping(scope.raw.get("args"))
    yield from (CompletionItem(name, ItemKind.VALUE, _value_of(scope, name, args[name])) for name in args)
    if scope.owner in ((), ("graph",)):
        for name, entry in scope.config.items():
            yield CompletionItem(name, ItemKind.VALUE, written(entry.value))


def _value_of(scope: Scope, name: str, default: Any) -> str:
    values = [written(graph.args[name]) for _, graph in scope.graphs if name in graph.args]
    return values[0] if values else "" if default is None else written(default)


def _sizes(scope: Scope) -> Iterator[CompletionItem]:
    yield from _names(scope)
    yield from (CompletionItem(name, ItemKind.VALUE, "rows" if name == "B" else "positions") for name in "BT")


def _booleans(scope: Scope) -> Iterator[CompletionItem]:
    yield from (CompletionItem(word, ItemKind.CHOICE) for word in ("true", "false"))


def _inits(scope: Scope) -> Iterator[CompletionItem]:
    for kind in InitKind:
        yield CompletionItem(f"{{{kind}: 0.02}}" if kind.takes_number else kind, ItemKind.CHOICE)


def _files(scope: Scope) -> Iterator[CompletionItem]:
    """Yield bundled files and those below the spec's folder: libraries to include, or models to extend."""
    home, pattern = bundled(), "blocks/**/*.yaml" if scope.inside[0] == "include" else "*.yaml"
    for path in sorted(home.glob(pattern)):
        yield CompletionItem(path.relative_to(home).as_posix(), ItemKind.FILE, "bundled")
    for pattern in ("*.yaml", "*/*.yaml"):
        for path in sorted(scope.file.parent.glob(pattern))[:MAX_PATTERNS]:
            if path.resolve() != scope.file and not path.is_relative_to(home):
                yield CompletionItem(path.relative_to(scope.file.parent).as_posix(), ItemKind.FILE)


# -- losses -------------------------------------------------------------------------------------


def _outputs(scope: Scope) -> Iterator[CompletionItem]:
    outputs = scope.spec.graph.model.out if scope.spec else None
    yield from (CompletionItem(name, ItemKind.NODE) for name in mapping(outputs))


def _targets(scope: Scope) -> Iterator[CompletionItem]:
    inputs = scope.spec.graph.model.inputs if scope.spec else None
    yield from (CompletionItem(name, ItemKind.INPUT, written(raw)) for name, raw in mapping(inputs).items())


def _routers(scope: Scope) -> Iterator[CompletionItem]:
    found = [n for m in scope.workspace.models(scope.file)[:1] for g in m.graphs() for n in g.nodes.values()]
    names = dict.fromkeys(node.name for node in found if node.callee == "router")
    yield from (CompletionItem(f'"**.{name}"', ItemKind.VALUE) for name in names)


MAKERS: dict[SyntaxKind, Callable[[Scope], Iterator[CompletionItem]]] = {
    SyntaxKind.SECTION: _sections,
    SyntaxKind.BLOCK_SECTION: _block_sections,
    SyntaxKind.CALLEE: _callees,
    SyntaxKind.ATTRIBUTE: _attributes,
    SyntaxKind.PORT: _ports,
    SyntaxKind.INPUT: _inputs,
    SyntaxKind.REFERENCE: _references,
    SyntaxKind.VALUE: _values,
    SyntaxKind.SIZE: _sizes,
    SyntaxKind.FILE: _files,
    SyntaxKind.LOSS: _losses,
    SyntaxKind.OUTPUT: _outputs,
    SyntaxKind.TARGET: _targets,
    SyntaxKind.ROUTER: _routers,
    SyntaxKind.PATTERN: _patterns,
    SyntaxKind.CONFIG: _config,
    SyntaxKind.PUBLISHED: _published,
    SyntaxKind.CONVENTION: _conventions,
    SyntaxKind.INIT_VALUE: _inits,
    SyntaxKind.TRAINED_VALUE: _booleans,
}
