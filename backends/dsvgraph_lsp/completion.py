"""What may be written at the cursor: keys, ops and blocks, references in scope, names, files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin

from dsvgraph.build.losses.lines import KINDS
from dsvgraph.build.model import INITS
from dsvgraph.expr.syntax import FUNCTIONS
from dsvgraph.loader import bundled
from dsvgraph.ops import OPS
from dsvgraph.passes.graph.paths import weights
from dsvgraph.passes.text.reference import ops
from dsvgraph.passes.text.reference.rows import first_sentence, written
from dsvgraph.passes.text.schema.lines import KEYS
from dsvgraph.spec import BlockModel, Convention, PublishedModel, SpecModel
from dsvgraph_lsp.hover import attribute_words, call_words
from dsvgraph_lsp.scope import Scene, mapping
from dsvgraph_lsp.workspace import place_of

LOSS_NAMES = ("depth", "tokens", "valid")
MAX_PATTERNS = 200


class Offer(NamedTuple):
    """One thing that may be written: its kind for the editor's icon, a few words, and more on demand."""

    label: str
    kind: str  # field, op, block, node, input, weight, port, value, choice, file
    detail: str = ""
    words: str = ""
    is_key: bool = False


def completion(scene: Scene) -> list[Offer]:
    """Everything that may be written at the cursor, the likeliest first."""
    makers = {
        "section": _sections, "part": _parts, "callee": _callees, "attribute": _attributes, "port": _ports,
        "input": _inputs, "reference": _references, "value": _values, "size": _sizes, "file": _files, "loss": _losses,
        "output": _outputs, "target": _targets, "router": _routers, "pattern": _patterns, "config": _config,
        "published": _figures, "convention": _conventions, "init value": _inits, "trained value": _booleans,
    }  # fmt: skip
    make = makers.get(scene.wanted)
    found = list(make(scene)) if make else []
    taken = set(scene.place.siblings) - {scene.place.word}
    return [offer for offer in found if not (offer.is_key and offer.label in taken)]


# -- keys ---------------------------------------------------------------------------------------


def _sections(scene: Scene) -> Iterator[Offer]:
    yield from _fields(SpecModel)


def _parts(scene: Scene) -> Iterator[Offer]:
    yield from _fields(BlockModel)


def _figures(scene: Scene) -> Iterator[Offer]:
    yield from _fields(PublishedModel)


def _conventions(scene: Scene) -> Iterator[Offer]:
    yield from (Offer(word, "choice") for word in get_args(Convention))


def _fields(model: type[SpecModel | BlockModel | PublishedModel]) -> Iterator[Offer]:
    for name, field in model.model_fields.items():
        yield Offer(field.alias or name, "field", field.description or "", is_key=True)


def _callees(scene: Scene) -> Iterator[Offer]:
    """The arguments that hold blocks, the blocks, the ops."""
    for name, default in mapping(scene.raw.get("args")).items():
        if scene.called(name) in scene.blocks and isinstance(default, (str, dict)):
            yield Offer(name, "block", f"the block that `{name}` holds", is_key=True)
    yield from _blocks(scene, True)
    for name, page in ops().items():
        yield Offer(name, "op", page.summary, call_words(scene, name), is_key=True)


def _blocks(scene: Scene, is_key: bool = False) -> Iterator[Offer]:
    for name, part in scene.blocks.items():
        if ("blocks", name) != scene.owner:
            yield Offer(name, "block", first_sentence(part.model.doc), call_words(scene, name), is_key)


def _attributes(scene: Scene) -> Iterator[Offer]:
    callee = scene.callee
    if callee in OPS:
        names = dict.fromkeys([*OPS[callee].model_fields, *OPS[callee].wired_weights])
    else:
        names = dict.fromkeys(scene.blocks[callee].model.args if callee in scene.blocks else ())
    for name in names:
        yield Offer(name, "field", "", attribute_words(scene, name), is_key=True)
    yield from (Offer(name, "field", found["description"], is_key=True) for name, found in KEYS.items())


def _ports(scene: Scene) -> Iterator[Offer]:
    for port in scene.callee_ports(scene.callee):
        declared = scene.blocks[scene.callee].model.inputs[port] if scene.callee in scene.blocks else ""
        yield Offer(port, "port", written(declared), is_key=True)


def _inputs(scene: Scene) -> Iterator[Offer]:
    yield from (Offer(port, "port") for port in scene.callee_ports(scene.callee))


def _losses(scene: Scene) -> Iterator[Offer]:
    given = [kind for kind in KINDS if kind in scene.place.siblings]
    keys = KINDS[given[0]] if given else (*KINDS, *dict.fromkeys(k for keys in KINDS.values() for k in keys))
    yield from (Offer(key, "field", is_key=True) for key in keys)


def _config(scene: Scene) -> Iterator[Offer]:
    """Values of the specs that this one extends, then arguments of blocks that nothing gives yet."""
    known = scene.config
    for name, entry in known.items():
        if entry.span and place_of(entry.span) != scene.file:
            yield Offer(name, "value", f"{written(entry.value)}, of {place_of(entry.span).name}", is_key=True)
    for name, part in scene.blocks.items():
        for argument, default in part.model.args.items():
            if default is None and argument not in known:
                yield Offer(argument, "value", f"argument of `{name}`", is_key=True)


def _patterns(scene: Scene) -> Iterator[Offer]:
    yield Offer('"**"', "value", "every weight", is_key=True)
    for model in scene.desk.models(scene.file)[:1]:
        ends = dict.fromkeys(owned.path.rpartition("].")[2] or owned.path for owned in weights(model))
        for end in list(ends)[:MAX_PATTERNS]:
            yield Offer(f'"**{end}"' if "." not in end else f'"**.{end}"', "weight", is_key=True)


# -- values -------------------------------------------------------------------------------------


def _references(scene: Scene) -> Iterator[Offer]:
    """Lines above and inputs; after a dot the ports of the line before it."""
    name, dot, _ = scene.place.typed.partition(".")
    if dot:
        yield from _of_node(scene, name)
        return
    for line in reversed(scene.above()):
        types = [str(t) for _, _, node in scene.nodes(line) for t in list(node.outputs.values())[:1]]
        yield Offer(line, "node", types[0] if types else next(iter(scene.line_of(line)), ""))
    yield from (Offer(name, "input", written(raw)) for name, raw in scene.inputs.items())


def _of_node(scene: Scene, name: str) -> Iterator[Offer]:
    """The outputs and weights of a line, and what is wired into it."""
    for _, _, node in scene.nodes(name):
        yield from (Offer(port, "port", str(type_)) for port, type_ in node.outputs.items())
        yield from (Offer(port, "weight", str(weight.type)) for port, weight in node.weights.items())
        yield from (Offer(port, "port", f"wired from {ref}") for port, ref in node.sources.items())
        return
    line = scene.line_of(name)
    callee = scene.called(next(iter(line), ""))
    yield from (Offer(port, "port") for port in scene.outputs_of(callee, line))
    if callee in OPS:
        yield from (Offer(port, "port", type_) for port, type_ in ops()[callee].outputs.items() if callee != "split")
        yield from (Offer(w.name, "weight", w.shape) for w in ops()[callee].weights)


def _values(scene: Scene) -> Iterator[Offer]:
    """Choices of the attribute, names that may be read, blocks, functions."""
    key = str(scene.inside[2]) if scene.inside[:1] == ("body",) and len(scene.inside) > 2 else ""
    yield from _choices(scene, key)
    if _holds_block(scene, key):
        yield from _blocks(scene)
    yield from _names(scene)
    if scene.inside[:1] == ("loss",):
        yield from (Offer(name, "value") for name in LOSS_NAMES)
    if "repeat" in scene.line or "each" in scene.line:
        yield Offer("index", "value", "the number of the copy")
    if scene.callee not in OPS or not key:
        yield from _blocks(scene)
    yield from (Offer(name, "choice", "function") for name in FUNCTIONS)


def _holds_block(scene: Scene, key: str) -> bool:
    """Whether a key is an argument whose default is a block."""
    args = scene.blocks[scene.callee].model.args if scene.callee in scene.blocks else {}
    return isinstance(args.get(key), str) and args[key] in scene.blocks


def _choices(scene: Scene, key: str) -> Iterator[Offer]:
    field = OPS[scene.callee].model_fields.get(key) if scene.callee in OPS else None
    if field is not None:
        yield from (Offer(word, "choice") for word in _words(field.annotation))
    elif scene.callee in scene.blocks and isinstance(scene.blocks[scene.callee].model.args.get(key), bool):
        yield from _booleans(scene)


def _words(annotation: Any) -> Iterable[str]:
    if annotation is bool:
        return "true", "false"
    return [str(word) for word in get_args(annotation)] if get_origin(annotation) is Literal else []


def _names(scene: Scene) -> Iterator[Offer]:
    """The arguments of a block, or the config; after a dot what a value holds."""
    name, dot, _ = scene.place.typed.partition(".")
    if dot:
        held = scene.config[name].value if name in scene.config else None
        yield from (Offer(key, "port", written(value)) for key, value in mapping(held).items())
        return
    args = mapping(scene.raw.get("args"))
    yield from (Offer(name, "value", _held(scene, name, args[name])) for name in args)
    if scene.owner in ((), ("graph",)):
        for name, entry in scene.config.items():
            yield Offer(name, "value", written(entry.value))


def _held(scene: Scene, name: str, default: Any) -> str:
    values = [written(graph.args[name]) for _, graph in scene.graphs if name in graph.args]
    return values[0] if values else "" if default is None else written(default)


def _sizes(scene: Scene) -> Iterator[Offer]:
    yield from _names(scene)
    yield from (Offer(name, "value", "rows" if name == "B" else "positions") for name in "BT")


def _booleans(scene: Scene) -> Iterator[Offer]:
    yield from (Offer(word, "choice") for word in ("true", "false"))


def _inits(scene: Scene) -> Iterator[Offer]:
    yield from (Offer(f"{{{kind}: 0.02}}" if values else kind, "choice") for kind, values in INITS.items())


def _files(scene: Scene) -> Iterator[Offer]:
    """Bundled files and those below the spec's folder; libraries to include, models to extend."""
    home, wanted = bundled(), "blocks/**/*.yaml" if scene.inside[0] == "include" else "*.yaml"
    for path in sorted(home.glob(wanted)):
        yield Offer(path.relative_to(home).as_posix(), "file", "bundled")
    for pattern in ("*.yaml", "*/*.yaml"):
        for path in sorted(scene.file.parent.glob(pattern))[:MAX_PATTERNS]:
            if path.resolve() != scene.file and not path.is_relative_to(home):
                yield Offer(path.relative_to(scene.file.parent).as_posix(), "file")


# -- losses -------------------------------------------------------------------------------------


def _outputs(scene: Scene) -> Iterator[Offer]:
    graph = scene.spec.graph.model if scene.spec else None
    yield from (Offer(name, "node") for name in mapping(graph.out if graph else None))


def _targets(scene: Scene) -> Iterator[Offer]:
    graph = scene.spec.graph.model if scene.spec else None
    yield from (Offer(name, "input", written(raw)) for name, raw in mapping(graph.inputs if graph else None).items())


def _routers(scene: Scene) -> Iterator[Offer]:
    found = [n for m in scene.desk.models(scene.file)[:1] for g in m.graphs() for n in g.nodes.values()]
    names = dict.fromkeys(node.name for node in found if node.callee == "router")
    yield from (Offer(f'"**.{name}"', "value") for name in names)
