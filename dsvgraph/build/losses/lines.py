"""The loss lines of a spec: their kinds, and what they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dsvgraph.build.losses import formulas
from dsvgraph.build.losses.formulas import number
from dsvgraph.build.losses.kinds import KINDS
from dsvgraph.build.losses.outputs import check_leaks, scored_output
from dsvgraph.build.losses.predictions import predictions, stride
from dsvgraph.build.ports import unknown
from dsvgraph.build.scope import Scope
from dsvgraph.codes import Code
from dsvgraph.errors import DsvError
from dsvgraph.graph import Loss, LossKind, Model
from dsvgraph.names import nearest
from dsvgraph.patterns import matches_some
from dsvgraph.spec import SpecPart, WrittenLine

__all__ = ["KINDS", "build_losses", "number"]


def build_losses(
    model: Model, lines: Mapping[str, SpecPart], scope: Scope, errors: list[DsvError], whole: bool
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
        errors += [*check_leaks(model, found, lines), *_wrong_strides(model, found, lines)]
    return tuple(found)


def _wrong_strides(model: Model, losses: list[Loss], lines: Mapping[str, SpecPart]) -> Iterator[DsvError]:
    """Yield what a line says of its stride and is not so."""
    for heads in predictions(model, losses).values():
        for head in heads:
            found, said = stride(head, heads), head.loss.stride and number(head.loss.stride)
            if isinstance(said, int) and said != found:
                words = f"the stride is {said}, and {head}, {found:g} after what is predicted or seen before it"
                yield DsvError(words, lines[head.loss.name].value("stride"), code=Code.LOSS_NUMBER)
                break


def _follows(error: DsvError, part: SpecPart, model: Model, errors: list[DsvError]) -> bool:
    """Return whether a target is no token ids, and the lines that read it have said so."""
    if error.diagnostics[0].code is not Code.LOSS_SHAPE or model.spec is None:
        return False
    reported = [d for e in errors for d in e.diagnostics if d.code is Code.NUMBER_KIND]
    where = model.spec.graph.key("in", part.model.get("target"))
    return any(span == where for d in reported for _, span in d.notes)


def _line(name: str, part: SpecPart, model: Model, scope: Scope, whole: bool) -> Loss | None:
    line: WrittenLine = part.model
    kind = _kind(name, line, part)
    formula = {key: formulas.read(key, part, scope, kind) for key in formulas.OPEN}
    if not kind.of_routers:
        return scored_output(name, part, model, formula, scope, whole)
    pattern = line.wired
    weight = formula["speed" if kind is LossKind.BIAS_UPDATE else "weight"]
    weight.check_schedule({})
    if whole:
        _check_routers(pattern, model, part, kind)
    return Loss(name=name, kind=kind, weight=weight.tree, routers=pattern, span=part.key())


def _check_target(found: list[Loss], part: SpecPart) -> None:
    """Raise DsvError if the last loss predicts another input than those before it."""
    targets = list(dict.fromkeys(loss.target for loss in found if loss.target))
    if len(targets) > 1:
        words = f"the losses of one model predict one input: `{targets[0]}`, and here `{targets[1]}`"
        raise DsvError(words, part.value("target"), code=Code.NOT_LOWERED)


def _kind(name: str, line: WrittenLine, part: SpecPart) -> LossKind:
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


# -- routers ----------------------------------------------------------------------------------


def _check_routers(pattern: Any, model: Model, part: SpecPart, kind: str) -> None:
    if not isinstance(pattern, str):
        raise DsvError(f"`{kind}` names routers by a path pattern", part.value(kind), code=Code.NO_ROUTER)

    if not any(matches_some(pattern, path) for path in model.routers):
        hint = nearest(pattern, model.routers) or f"routers are {', '.join(model.routers[:4]) or 'none'}"
        raise DsvError(f"no router matches `{pattern}`", part.value(kind), code=Code.NO_ROUTER, hint=hint)
