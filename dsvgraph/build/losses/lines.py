"""The loss lines of a spec: what is scored, against what, and that no head sees its target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dsvgraph.build.horizons import slices
from dsvgraph.build.losses import formulas
from dsvgraph.build.losses.formulas import Formula, number
from dsvgraph.build.losses.predictions import predictions, seen, stride
from dsvgraph.build.ports import unknown
from dsvgraph.build.scope import Scope
from dsvgraph.codes import Code
from dsvgraph.dims import Poly
from dsvgraph.errors import DsvError, Span
from dsvgraph.graph import Loss, LossKind, Model, Node, Ref, walk
from dsvgraph.names import nearest
from dsvgraph.patterns import matches_some
from dsvgraph.spec import Part, WrittenLine
from dsvgraph.types import ElementType, shown

__all__ = ["KINDS", "build_losses", "number"]

KINDS = {
    LossKind.CROSS_ENTROPY: ("target", "shift", "stride", "weight", "divide"),
    LossKind.SEQUENCE_BALANCE: ("weight",),
    LossKind.BIAS_UPDATE: ("speed",),
}
MAX_DEPTHS = 1000


def build_losses(
    model: Model, lines: Mapping[str, Part], scope: Scope, errors: list[DsvError], whole: bool
) -> tuple[Loss, ...]:
    """Return the checked losses; mistakes, label leaks among them, are put into ``errors``.

    Where the graph is not ``whole``, only what does not depend on it is looked at.
    """
    found: list[Loss] = []
    for name, part in lines.items():
        try:
            loss = _line(name, part, model, scope, whole)
            found += [loss] if loss else []
            _check_target(found, part)
        except DsvError as error:
            follows = _follows(error, part, model, errors)
            errors += [] if follows else [error.on_line(scope.config_names(part.model.options))]
    if not errors:
        errors += _wrong_strides(model, found, lines)
    return tuple(found)


def _wrong_strides(model: Model, losses: list[Loss], lines: Mapping[str, Part]) -> Iterator[DsvError]:
    """Yield what a line says of its stride and is not so."""
    for heads in predictions(model, losses).values():
        for head in heads:
            found, said = stride(head, heads), head.loss.stride and number(head.loss.stride)
            if isinstance(said, int) and said != found:
                words = f"the stride is {said}, and {head}, {found:g} after what is predicted or seen before it"
                yield DsvError(words, lines[head.loss.name].value("stride"), code=Code.LOSS_NUMBER)
                break


def _follows(error: DsvError, part: Part, model: Model, errors: list[DsvError]) -> bool:
    """Return whether a target is no token ids, and the lines that read it have said so."""
    if error.diagnostics[0].code is not Code.LOSS_SHAPE or model.spec is None:
        return False
    reported = [d for e in errors for d in e.diagnostics if d.code is Code.NUMBER_KIND]
    where = model.spec.graph.key("in", part.model.get("target"))
    return any(span == where for d in reported for _, span in d.notes)


def _line(name: str, part: Part, model: Model, scope: Scope, whole: bool) -> Loss | None:
    line: WrittenLine = part.model
    kind = _kind(name, line, part)
    formula = {key: formulas.read(key, part, scope) for key in formulas.OPEN}
    if kind is LossKind.CROSS_ENTROPY:
        return _cross_entropy(name, part, model, formula, whole)
    pattern = line.wired
    weight = formula["speed" if kind is LossKind.BIAS_UPDATE else "weight"]
    weight.check_schedule({})
    if whole:
        _check_routers(pattern, model, part, kind)
    return Loss(name=name, kind=kind, weight=weight.tree, routers=pattern, span=part.key())


def _check_target(found: list[Loss], part: Part) -> None:
    """Raise DsvError if the last loss predicts another input than those before it."""
    targets = list(dict.fromkeys(loss.target for loss in found if loss.target))
    if len(targets) > 1:
        words = f"the losses of one model predict one input: `{targets[0]}`, and here `{targets[1]}`"
        raise DsvError(words, part.value("target"), code=Code.NOT_LOWERED)


def _kind(name: str, line: WrittenLine, part: Part) -> LossKind:
    """Return the kind of a line; raise DsvError if a key of it is not known."""
    if not line:
        raise DsvError(
            f"`{name}` says nothing", part.key(), code=Code.EMPTY_LINE, hint=f"losses are {', '.join(KINDS)}"
        )
    if line.callee not in KINDS:
        message, hint = unknown("loss", line.callee, KINDS)
        others = [k for k in line if k in KINDS]
        hint = f"the first key says what the line is: put `{others[0]}` first" if others else hint
        raise DsvError(message, part.key(line.callee) or part.key(), code=Code.LOSS_FORM, hint=hint)
    kind = LossKind(line.callee)
    for key in line.options:
        if key not in KINDS[kind]:
            message, hint = unknown("attribute", key, KINDS[kind], kind)
            raise DsvError(message, part.key(key), code=Code.LOSS_FORM, hint=hint)
    if name == "loss":
        raise DsvError("`loss` is the name of the sum; call the line something else", part.key(), code=Code.TAKEN)
    return kind


# -- cross-entropy ----------------------------------------------------------------------------


def _cross_entropy(name: str, part: Part, model: Model, formula: dict[str, Formula], whole: bool) -> Loss | None:
    output, target = part.model.wired, part.model.get("target")
    ids = _target(target, model, part)
    if not whole and output in _declared(model) and output not in model.outputs:
        return None
    ref = _output(output, model, part)
    depths = _depths(model, ref, ids, part)
    loss = Loss(
        name=name, kind=LossKind.CROSS_ENTROPY, output=output, target=ids, depths=depths, span=part.key(),
        weight=formula["weight"].tree, shift=formula["shift"].tree, divide=formula["divide"].tree,
        stride=formula["stride"].tree if "stride" in part.model else None,
    )  # fmt: skip
    _check_stride(formula["stride"], part)
    for depth in depths:
        _check_depth(loss, depth, model, ref, part, formula)
    return loss


def _check_stride(formula: Formula, part: Part) -> None:
    found = formula.check({})
    if not isinstance(found, (int, Poly)) or (isinstance(found, int) and found < 1):
        words = f"`stride` is a whole number of at least 1, found {found}"
        raise DsvError(words, part.value("stride"), code=Code.LOSS_NUMBER)


def _declared(model: Model) -> list[str]:
    out = model.spec.graph.model.out if model.spec else {}
    return list(out) if isinstance(out, dict) else ["y"]


def _output(name: Any, model: Model, part: Part) -> Ref:
    if not isinstance(name, str) or name not in model.outputs:
        message, hint = unknown("output", shown(name), model.outputs)
        raise DsvError(message, part.value("cross_entropy"), code=Code.LOSS_NAMES, hint=hint)
    return model.outputs[name]


def _target(name: Any, model: Model, part: Part) -> str:
    if name is None:
        hint = f"add `target: {next(iter(model.inputs))}`"
        words = "`target` is missing: the input whose tokens are predicted"
        raise DsvError(words, part.key(), code=Code.LOSS_NAMES, hint=hint)
    if not isinstance(name, str) or name not in model.inputs:
        message, hint = unknown("input", shown(name), model.inputs)
        raise DsvError(message, part.value("target"), code=Code.LOSS_NAMES, hint=hint)
    row = model.inputs[name]
    if row.dtype is not ElementType.INT or row.rank != 2:
        raise DsvError(
            f"a target is token ids, int[B, T]; `{name}` is {row}", part.value("target"), code=Code.LOSS_SHAPE
        )
    return name


def _depths(model: Model, ref: Ref, ids: str, part: Part) -> tuple[int, ...]:
    """Return the depths that an output speaks of: 1, 2, ... of a stacked one, else 0."""
    logits, row = model.type(ref), model.inputs[ids]
    stacked = logits.rank == row.rank + 2
    fits = logits.rank in (row.rank + 1, row.rank + 2) and logits.shape[-row.rank - 1 : -1] == row.shape
    if not fits or logits.dtype is not ElementType.FLOAT:
        output = part.model.wired
        words = f"`{output}` is {logits} and `{ids}` is {row}: logits are [B, T, V] or stacked [D, B, T, V]"
        raise DsvError(words, part.value("cross_entropy"), code=Code.LOSS_SHAPE)
    if not stacked:
        return (0,)
    count = logits.shape[0] if isinstance(logits.shape[0], int) else len(slices(model, ref)) or 1
    if count > MAX_DEPTHS:
        raise DsvError(
            f"a loss has at most {MAX_DEPTHS} depths, found {count}", part.value("cross_entropy"), code=Code.TOO_MUCH
        )
    return tuple(range(1, count + 1))


def _check_depth(loss: Loss, depth: int, model: Model, ref: Ref, part: Part, formula: dict[str, Formula]) -> None:
    """Raise DsvError if the prediction of ``depth`` has seen its target (a label leak)."""
    at = {"depth": depth} if depth else {}
    if depth in (loss.depths[0], loss.depths[-1]):
        formula["weight"].check_schedule(at)
    else:
        formula["weight"].check({**at, "tokens": 0})
    formula["divide"].check({**at, "B": 2, "T": 4096, "valid": 4096})
    shift = formula["shift"].check(at)
    if isinstance(shift, Poly) or shift != shift:
        return  # a config name is symbolic here
    if not isinstance(shift, int) or shift < 1:
        raise DsvError(
            f"`shift` is a whole number of at least 1, found {shift}", part.value("shift"), code=Code.LOSS_NUMBER
        )
    horizon = seen(model, ref, depth).ahead(loss.target or "")
    if shift <= horizon:
        notes = _looks_ahead(model, loss)
        raise DsvError(_leak(loss, depth, shift, horizon), part.key(), code=Code.LABEL_LEAK, notes=notes)


def _leak(loss: Loss, depth: int, shift: int, horizon: float) -> str:
    which = f"`{loss.output}` at depth {depth}" if depth else f"`{loss.output}`"
    seen = "the whole row" if horizon == float("inf") else f"tokens up to i + {int(horizon)}"
    return f"label leak: {which} predicts token i + {shift}, but at position i it has already seen {seen}"


def _looks_ahead(model: Model, loss: Loss) -> list[tuple[str, Span | None]]:
    """Return the lines that look ahead, in the parts that the output depends on."""
    notes = []
    for name in model.needed([loss.output or ""]):
        node = model.nodes.get(name)
        inner: list[Node] = [node] if node and node.op else []
        for copies in node.copies if node else ():
            inner += [visit.node for visit in walk(copies.graph)]
        notes += [("this looks ahead", n.span) for n in inner if n.op and n.op.shift() > 0]
    return list(dict.fromkeys(notes))[:4]


# -- routers ----------------------------------------------------------------------------------


def _check_routers(pattern: Any, model: Model, part: Part, kind: str) -> None:
    if not isinstance(pattern, str):
        raise DsvError(f"`{kind}` names routers by a path pattern", part.value(kind), code=Code.NO_ROUTER)

    if not any(matches_some(pattern, path) for path in model.routers):
        hint = nearest(pattern, model.routers) or f"routers are {', '.join(model.routers[:4]) or 'none'}"
        raise DsvError(f"no router matches `{pattern}`", part.value(kind), code=Code.NO_ROUTER, hint=hint)
