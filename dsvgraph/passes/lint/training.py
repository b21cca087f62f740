"""Warnings about training: what a loss never reaches, or reaches in vain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from dsvgraph.build.losses.lines import number
from dsvgraph.build.losses.predictions import Gap, Prediction, at, gaps, predictions, stride
from dsvgraph.codes import Code
from dsvgraph.errors import Diagnostic, Note, Span
from dsvgraph.expr import Expr
from dsvgraph.graph import Graph, Loss, LossKind, Model, Node, join, walk
from dsvgraph.graph.dependencies import DependencyAnalysis, Ports
from dsvgraph.passes.graph.paths import last_matches

MAX_LENGTH = "max_position_embeddings"  # the config value that limits the length of a row
TILE = 8  # tensor cores take 16-bit matrices whose sizes are its multiples (Nvidia, matrix multiplication guide)


def training_warnings(model: Model) -> Iterator[Diagnostic]:
    """Yield what no loss reaches or predicts, losses that weigh nothing, depths longer than a row."""
    if any(loss.output for loss in model.losses):
        yield from _unread(model)
    yield from _gaps(model)
    for loss in model.losses:
        yield from _weightless(loss)
        yield from _deep(loss, model.config.get(MAX_LENGTH))


def alignment_warnings(model: Model) -> Iterator[Diagnostic]:
    """Yield matrices with a size that tensor cores have no tiles for."""
    for graph in model.graphs():
        for node in graph.nodes.values():
            for name, weight in node.weights.items():
                odd = [size for size in weight.shape if isinstance(size, int) and size % TILE]
                if len(weight.shape) == 2 and odd:
                    words = f"`{name}` of `{node.name}` is {weight.type}: {odd[0]} is no multiple of {TILE}"
                    yield _warning(Code.ALIGNMENT, f"{words}, as tensor cores want", node.span)


def _warning(code: Code, message: str, span: Span | None, notes: Iterable[Note] = (), hint: str = "") -> Diagnostic:
    return Diagnostic(message, span, notes=tuple(notes), severity="warning", code=code, hint=hint)


# -- outputs ------------------------------------------------------------------------------------


def _unread(model: Model) -> Iterator[Diagnostic]:
    """Yield outputs that no loss reads, or rather the lines with weights that only these need."""
    trained = [(loss.output, loss.against if loss.target_gradient else None) for loss in model.losses]
    read = frozenset(name for names in trained for name in names if name)
    compared = {name for loss in model.losses for name in (loss.against, loss.draft)}
    scored = computed_nodes(model, read)
    for name in (name for name in model.outputs if name not in read):
        span = model.spec.graph.key("out", name) if model.spec else model.span
        lost = (computed_nodes(model, frozenset([name])) - scored) & trained_nodes(model)
        if not lost and name not in compared:
            yield _warning(Code.UNUSED_OUTPUT, f"no loss reads the output `{name}`", span)
        for node in lost:
            why = "no loss sends this output a gradient" if name in compared else "no loss reads this output"
            words, notes = f"no loss reaches the weights of `{node.name}`", [(why, span)]
            yield _warning(Code.UNTRAINED, words, node.span, notes)


def trained_nodes(model: Model) -> set[Node]:
    """Return the nodes with a weight that is trained, somewhere."""
    found: set[Node] = set()
    for visit in walk(model):
        paths = [join(visit.path, name) for name, weight in visit.node.weights.items() if weight.trained]
        every = (trained for path in paths for trained, _ in last_matches(path, model.trained))
        found |= {visit.node} if any(trained is not False for trained in every) else set()
    return found


def computed_nodes(model: Model, outputs: Ports) -> set[Node]:
    """Return the ops, and those whose weights they borrow, that ``outputs`` depend on, in every distinct graph."""
    found: set[Node] = set()
    dependence, seen = DependencyAnalysis(), set[tuple[Graph, Ports]]()
    pending: list[tuple[Graph, Ports]] = [(model, outputs)]
    while pending:
        graph, wanted = pending.pop()
        if (graph, wanted) in seen:
            continue
        seen.add((graph, wanted))
        needed = dependence.of(graph, wanted)
        for name in needed.ports:
            node = graph.nodes[name]
            found |= {node} if node.op else set()
            pending += [
                (copies.graph, given) for copies, given in zip(node.copies, needed.copies.get(name, ()), strict=False)
            ]
    return found


# -- losses -------------------------------------------------------------------------------------


def _weightless(loss: Loss) -> Iterator[Diagnostic]:
    """Yield a loss whose weight is zero for good, or at some depths."""
    zero = [depth for depth in loss.depths if _at(loss.weight, depth) == 0]
    if not zero or loss.kind is LossKind.BIAS_UPDATE:
        return
    if len(zero) == len(loss.depths):
        yield _warning(Code.ZERO_WEIGHT, f"the weight of `{loss.name}` is zero, so it trains nothing", loss.span)
    else:
        depths = ", ".join(map(str, zero[:4]))
        yield _warning(Code.ZERO_WEIGHT, f"the weight of `{loss.name}` is zero at depth {depths}", loss.span)


def _at(tree: Expr, depth: int) -> Any:
    """Return a formula's value at one depth; None where it depends on what training will know."""
    known = {"depth": depth} if depth else {}
    return number(tree, **known) if tree.names() <= known.keys() else None


def _gaps(model: Model) -> Iterator[Diagnostic]:
    """Yield tokens that no loss predicts though one predicts a later token, once a line without `stride`."""
    reported = set()
    for heads in predictions(model, model.losses).values():
        for gap in gaps(heads):
            loss = gap.prediction.loss
            if loss.stride is None and loss.name not in reported:
                reported.add(loss.name)
                yield _warning(Code.GAP, str(gap), loss.span, hint=_remedy(gap, heads))


def _remedy(gap: Gap, heads: list[Prediction]) -> str:
    """Return what to write: a target nearer, or, where all depths have one stride, that it is meant."""
    loss, missing = gap.prediction.loss, gap.last - gap.first + 1
    strides = {stride(head, heads) for head in heads if head.loss is loss}
    meant = f"; where it is meant, say it: `stride: {strides.pop():g}`" if len(strides) == 1 else ""
    return f"a `shift` that is {missing} less predicts {at(gap.prediction.ahead - missing)} there{meant}"


def _deep(loss: Loss, length: object) -> Iterator[Diagnostic]:
    """Yield a loss of a depth that predicts tokens beyond the longest row."""
    if loss.shift is None or not isinstance(length, int):
        return
    for depth in loss.depths:
        shift = _at(loss.shift, depth)
        if isinstance(shift, int) and shift >= length:
            which = f"depth {depth} of `{loss.name}`" if depth else f"`{loss.name}`"
            words = f"{which} predicts token i + {shift}, and a row has at most {length} tokens ({MAX_LENGTH})"
            yield _warning(Code.DEEP, words, loss.span)
            return
