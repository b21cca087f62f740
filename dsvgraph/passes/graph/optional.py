"""What a training step may leave out: losses that weigh nothing in it, and repeated lines that only they read."""

from __future__ import annotations

from dsvgraph.build.losses.schedules import RANGES
from dsvgraph.expr import bounds
from dsvgraph.graph import Loss, LossKind, Mode, Model, Node, join, walk
from dsvgraph.patterns import matches_all, matches_some


def optional_losses(model: Model) -> tuple[Loss, ...]:
    """Return the losses of outputs that may weigh nothing in a training step, by their `weight` or by `sample`.

    The first cross-entropy is never one: a run is judged by it. Nor is one whose weight is always 0, which is there to
    be watched, nor one whose depths cannot be told apart.
    """
    first = next((loss for loss in model.losses if loss.kind is LossKind.CROSS_ENTROPY), None)
    return tuple(loss for loss in model.losses if loss is not first and _is_optional(loss, model))


def outputs_read(loss: Loss) -> list[str]:
    """Return the outputs that a loss reads."""
    return [name for name in (loss.output, loss.draft, loss.against) if name]


def _is_optional(loss: Loss, model: Model) -> bool:
    if loss.kind.of_routers or not loss.depths:
        return False
    lines = [line for name in outputs_read(loss) for line in _lines(name, model)]
    return _may_be_zero(loss) and all(line is not None and not _partly_balanced(line, model) for line in lines)


def _may_be_zero(loss: Loss) -> bool:
    if loss.sample:
        return True
    if not loss.weight.names() - {"depth"}:
        return False
    found = bounds(loss.weight, {**RANGES, "depth": (1, max(1, *loss.depths))})
    return found is None or found[0] <= 0 <= found[1]


def _lines(name: str, model: Model) -> list[Node | None]:
    """Return the line that gives a stacked output, or None where that is no repeated one; nothing if not stacked."""
    node = model.nodes.get(model.outputs[name].node)
    if node is None or model.type(model.outputs[name]).rank < 4:
        return []
    return [node if node.mode is Mode.REPEAT else None]


def _partly_balanced(node: Node, model: Model) -> bool:
    """Return whether a balance loss is over some routers of a line and not over others."""
    patterns = [str(loss.routers) for loss in model.losses if loss.kind is LossKind.SEQUENCE_BALANCE]
    inside = routers(node)
    whole = [all(matches_all(pattern, path) for path in inside) for pattern in patterns]
    some = [any(matches_some(pattern, path) for path in inside) for pattern in patterns]
    return any(some) and not any(whole)


def routers(node: Node) -> list[str]:
    """Return the paths of the routers of a line of a model: in its copies, or the line itself."""
    if node.callee == "router":
        return [node.at]
    return [
        visit.path
        for numbers, copies in node.numbered()
        for visit in walk(copies.graph, join(node.at, numbers))
        if visit.node.callee == "router"
    ]


def balanced(node: Node, model: Model) -> bool:
    """Return whether a balance loss is over some router of a line."""
    return any(
        matches_some(str(loss.routers), path)
        for loss in model.losses if loss.kind is LossKind.SEQUENCE_BALANCE for path in routers(node)
    )  # fmt: skip


def skippable_lines(model: Model) -> dict[str, tuple[Loss, ...]]:
    """Return the repeated lines of which copies need not run where no loss weighs their depth, with these losses.

    Nothing else reads such a line, and no balance loss or bias update is over its routers.
    """
    optional = optional_losses(model)
    found = {node.name: readers(node, model) for node in model.nodes.values() if _may_skip(node, model)}
    return {
        name: losses for name, losses in found.items() if losses and all(_by_depth(one, optional) for one in losses)
    }


def readers(node: Node, model: Model) -> tuple[Loss, ...]:
    """Return the losses that read an output of a line of a model."""
    outputs = {name for name, ref in model.outputs.items() if ref.node == node.name}
    return tuple(loss for loss in model.losses if loss.depths and outputs & {*outputs_read(loss)})


def _by_depth(loss: Loss, optional: tuple[Loss, ...]) -> bool:
    return any(loss is one for one in optional) and not loss.end_to_end and loss.depths != (0,)


def _may_skip(node: Node, model: Model) -> bool:
    if node.mode is not Mode.REPEAT or not node.copies or model.uses.get(node.name):
        return False
    refs = [*model.outputs.values()]
    if refs[0].node == node.name or any(ref.node == node.name and ref.port in node.carried for ref in refs):
        return False
    patterns = [str(loss.routers) for loss in model.losses if loss.kind.of_routers]
    return not any(matches_some(pattern, path) for pattern in patterns for path in routers(node))
