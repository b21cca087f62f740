"""Warnings of parts of a spec that nothing uses, beside those of training. None makes the model wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dsvgraph.build.decoding.state import Decoder, unneeded, written
from dsvgraph.codes import Code
from dsvgraph.errors import MAX_ERRORS, Diagnostic, Span
from dsvgraph.graph import Graph, Model, Node, walk
from dsvgraph.names import nearest
from dsvgraph.passes.graph.paths import weights
from dsvgraph.passes.lint.training import MAX_LENGTH, alignment_warnings, training_warnings
from dsvgraph.passes.text.show import names_in, used_blocks
from dsvgraph.patterns import fitting
from dsvgraph.spec import Spec, SpecPart

EXTERNAL_NAMES = (MAX_LENGTH,)  # no size depends on them, other libraries ask for them


def lint(model: Model, alignment: bool = False) -> list[Diagnostic]:
    """Return a warning for each part of the spec that has no effect, in the order of the text.

    With ``alignment`` also for sizes that tensor cores have no tiles for.

    >>> import dsvgraph
    >>> [str(warning.code) for warning in lint(dsvgraph.loads("extends: deepseek_v3_tiny.yaml\\nconfig: {unused: 1}"))]
    ['W0101']
    """
    found = [
        *_graphs(model),
        *_caches(model),
        *training_warnings(model),
        *(alignment_warnings(model) if alignment else ()),
    ]
    if model.spec is not None:
        found += [*_config(model.spec, model.config), *_blocks(model.spec, model.config), *_patterns(model)]
    unique = list({(d.message, d.span): d for d in found}.values())
    return sorted(unique, key=_position)


def _position(found: Diagnostic) -> tuple[str, int, int]:
    span = found.span
    return (span.source.name, span.line, span.column) if span else ("", 0, 0)


def _warning(code: Code, message: str, span: Span | None, hint: str = "") -> Diagnostic:
    return Diagnostic(message, span, hint=hint, severity="warning", code=code)


def _graphs(model: Model) -> Iterator[Diagnostic]:
    """Yield lines and inputs of every distinct graph that none of its outputs depends on."""
    for graph in model.graphs():
        used = graph.behind([*graph.outputs.values(), *graph.cache])
        if isinstance(graph, Model):
            used |= {loss.target for loss in graph.losses if loss.target}
        for node in graph.nodes.values():
            if node.name not in used:
                yield _warning(Code.UNUSED_NODE, f"nothing depends on `{node.name}`", node.span)
            elif node.name in graph.weight_only and not _weight_is_read(graph, node):
                hint = "what reads it does not run: only its weights are used"
                yield _warning(Code.UNUSED_NODE, f"nothing depends on `{node.name}`", node.span, hint)
        for name in graph.inputs:
            if name not in used and graph.outputs.keys() != {name}:
                span = _input(model, graph, name)
                yield _warning(Code.UNUSED_INPUT, f"nothing reads the input `{name}` of `{graph.name}`", span)


def _weight_is_read(graph: Graph, node: Node) -> bool:
    """Return whether something reads a weight of a line."""
    read = {use.port for use in graph.uses.get(node.name, ())}
    read |= {ref.port for ref in graph.outputs.values() if ref.node == node.name}
    return not read.isdisjoint(node.weights)


def _caches(model: Model) -> Iterator[Diagnostic]:
    """Yield values that a list `cache` names and no op below needs at earlier positions."""
    decoder = Decoder.of_model(model)
    for graph in model.graphs():
        part = model.spec and (model.spec.graph if graph is model else model.spec.blocks.get(graph.name))
        for i, ref in unneeded(decoder.of(graph)) if graph.cache else ():
            span = part.value("cache", i) if part else graph.span
            names_in = f"decoding needs no earlier positions of `{written(graph, ref)}`, so it keeps none"
            yield _warning(Code.UNUSED_CACHE, names_in, span)


def _input(model: Model, graph: Graph, name: str) -> Span | None:
    """Return where an input is declared."""
    part = model.spec and (model.spec.graph if graph is model else model.spec.blocks.get(graph.name))
    return part.key("in", name) if part else graph.span


def _config(spec: Spec, config: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield the config values of the spec's own file that no line, used block or other value reads."""
    parts = [spec.graph, *(spec.blocks[name] for name in used_blocks(spec, config))]
    used: set[str] = set().union(*(_names_in_part(part) for part in parts))
    for section in (spec.loss, spec.init):
        used |= names_in({name: part.model for name, part in section.items()})
    pending = used & spec.config.keys()
    while pending:
        more: set[str] = set().union(*(names_in(spec.config[name].value) for name in pending))
        pending = (more & spec.config.keys()) - used
        used |= more
    for name, entry in spec.config.items():
        if name not in used and name not in EXTERNAL_NAMES and not spec.inherits(entry.span):
            hint = nearest(name, used - spec.config.keys())
            yield _warning(Code.UNUSED_VALUE, f"nothing uses the config value `{name}`", entry.span, hint)


def _names_in_part(part: SpecPart) -> set[str]:
    model = part.model
    return names_in([dict(model.args), dict(model.inputs), dict(model.body)])


def _blocks(spec: Spec, config: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield blocks of a model's own file that it does not use; a library may hold more than one needs."""
    used = used_blocks(spec, config)
    for name, part in spec.blocks.items():
        if name not in used and not spec.inherits(part.key()):
            yield _warning(Code.UNUSED_BLOCK, f"nothing calls the block `{name}`", part.key())


def _patterns(model: Model) -> Iterator[Diagnostic]:
    """Yield path patterns of the spec's own file that fit no weight."""
    assert model.spec is not None
    sections = {"init": model.spec.init, "trained": model.spec.trained}
    paths = [owned.path for owned in weights(model)]
    empty = tuple(f"{visit.path}." for visit in walk(model) if visit.node.count == 0)
    reported = 0
    for section, parts in sections.items():
        fit = {number for path in paths for found, _ in fitting(parts, path) for number in found}
        for number, (pattern, part) in enumerate(parts.items()):
            if number in fit or pattern.startswith(empty) or model.spec.inherits(part.key()):
                continue  # no copies now, as of a chain of depth 0; or another spec's
            names_in = f"`{pattern}` in `{section}` fits no weight"
            reported += 1
            hint = nearest(pattern, paths) if reported <= MAX_ERRORS else ""  # to look for one takes a while
            yield _warning(Code.UNUSED_PATTERN, names_in, part.key(), hint)
