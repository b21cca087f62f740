"""What a model is, in a few lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from dsvgraph.build.losses.lines import number
from dsvgraph.build.losses.schedules import TIMES
from dsvgraph.errors import DsvError
from dsvgraph.graph import Loss, LossKind, Mode, Model, Node
from dsvgraph.graph.signature import expression
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.graph.paths import copy_paths
from dsvgraph.passes.text.aims import aim


def summary(model: Model) -> list[tuple[str, str]]:
    """Return labels and values: sizes, layers, parameters, what is predicted with which weight, cache.

    >>> import dsvgraph
    >>> summary(dsvgraph.load("deepseek_v3_tiny"))[0]
    ('model', 'DeepSeek-V3-tiny')
    """
    return [
        ("model", model.name),
        *([("what", " ".join(model.doc.split()))] if model.doc else []),
        *_ports(model),
        *_layers(model),
        *_counts(model),
        *_published(model),
        *_losses(model),
        ("graph", _graph(model)),
    ]


def _ports(model: Model) -> Iterator[tuple[str, str]]:
    yield "in", ", ".join(f"{name} {type_}" for name, type_ in model.inputs.items())
    yield "out", ", ".join(f"{name} {model.type(ref)}" for name, ref in model.outputs.items())


def _layers(model: Model) -> Iterator[tuple[str, str]]:
    """Yield every group of equal copies on the first page."""
    for node in model.nodes.values():
        if node.mode is not Mode.CALL:
            yield node.name, ", ".join(_runs(node)) or "none"


def _runs(node: Node) -> Iterator[str]:
    for graph, (path, count) in copy_paths(node, node.at).items():
        inner = [n.callee for n in graph.nodes.values() if n.copies]
        made = f"{graph.name} ({', '.join(inner)})" if inner else graph.name
        yield f"{count} x {made} at {path}" + (", one set of weights" if node.reused else "")


def _counts(model: Model) -> Iterator[tuple[str, str]]:
    try:
        found = cost(model, formulas=False)
    except DsvError as error:
        yield "parameters", str(error.diagnostics[0].message)
        return
    counts = found.parameters
    yield "parameters", f"{counts.total:,}"
    if counts.inference != counts.total:
        yield "at inference", f"{counts.inference:,}"
    yield "active", f"{counts.active:,} per token ({counts.active_without_embedding:,} without the embedding)"
    fixed = f", {found.kv_cache.elements_per_row:,} per row" if found.kv_cache.elements_per_row else ""
    yield "cache", f"{found.kv_cache.elements_per_token:,} numbers per token{fixed}"


def _published(model: Model) -> Iterator[tuple[str, str]]:
    """Yield what others say of the same counts."""
    part = model.spec.published if model.spec else None
    if part is not None:
        figures = part.model
        active = f", {figures.active} active ({figures.active_counts.replace('_', ' ')})" if figures.active else ""
        yield "published", f"{figures.parameters}{active}: {figures.source}"


def _losses(model: Model) -> Iterator[tuple[str, str]]:
    for loss in model.losses:
        for depth in loss.depths[-1:] if loss.end_to_end else loss.depths:
            name = f"{loss.name} {depth}" if depth and not loss.end_to_end else loss.name
            yield name, _predicts(loss, depth)


def _predicts(loss: Loss, depth: int) -> str:
    """Return what one loss scores, and its weight at the first token."""
    weight = expression(loss.weight)
    scheduled = " at first" if TIMES & loss.weight.names() else ""
    with suppress(ValueError, TypeError):
        weight = f"{number(loss.weight, depth=depth, tokens=0, step=0):g}{scheduled}"
    if loss.output is None or loss.shift is None:
        what = "speed" if loss.kind is LossKind.BIAS_UPDATE else "weight"
        return f"{loss.kind} of {loss.routers}, {what} {weight}"
    drawn = f", {loss.sample} of {len(loss.depths)} depths in a batch" if loss.sample else ""
    return f"{aim(loss, depth)}, weight {weight}{drawn}"


def _graph(model: Model) -> str:
    graphs = model.graphs()
    return f"{len(graphs)} distinct graphs, {sum(len(graph.nodes) for graph in graphs)} nodes"
