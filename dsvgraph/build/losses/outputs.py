"""Losses over outputs: what is scored, against what, and that no prediction has seen its target."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from dsvgraph.build.horizons import slices
from dsvgraph.build.losses.formulas import Formula, number
from dsvgraph.build.losses.kinds import KINDS, constants
from dsvgraph.build.losses.predictions import seen
from dsvgraph.build.ports import unknown
from dsvgraph.build.refused import REVERSED
from dsvgraph.build.scope import Scope
from dsvgraph.codes import Code
from dsvgraph.dims import Poly
from dsvgraph.errors import DsvError, Span
from dsvgraph.graph import Loss, LossKind, Model, Node, Ref, walk
from dsvgraph.spec import SpecPart
from dsvgraph.types import ElementType, Type, shown

MAX_DEPTHS = 1000


def scored_output(
    name: str, part: SpecPart, model: Model, formula: dict[str, Formula], scope: Scope, whole: bool
) -> Loss | None:
    """Return the loss of a line over an output; None where a mistake in the graph hides what it names."""
    kind = LossKind(part.model.callee)
    keys = [kind, *[key for key in ("against", "draft") if key in KINDS[kind]]]
    target = _target(part.model.get("target"), model, part) if kind.scores_tokens else None
    if not whole and any(_hidden(part.model.get(key), model) for key in keys):
        return None
    refs = [_output(key, model, part) for key in keys]
    loss = Loss(
        name=name, kind=kind, output=part.model.wired, target=target, span=part.key(),
        against=part.model.get("against") if kind.compares else None,
        draft=part.model.get("draft"),
        depths=_depths(model, refs[0], _row(model, target, part), part),
        weight=formula["weight"].tree, shift=formula["shift"].tree, divide=formula["divide"].tree,
        stride=formula["stride"].tree if "stride" in part.model else None,
        **constants(part, scope),
    )  # fmt: skip
    _check_constants(loss, model, part)
    _check_stride(formula["stride"], part)
    for depth in loss.depths:
        _check_depth(loss, depth, model, refs[0], part, formula)
    return loss


# -- what a line names ------------------------------------------------------------------------


def _hidden(output: Any, model: Model) -> bool:
    """Return whether an output is declared, and has no type since the graph has a mistake."""
    out = model.spec.graph.model.out if model.spec else {}
    return output in (list(out) if isinstance(out, dict) else ["y"]) and output not in model.outputs


def _output(key: str, model: Model, part: SpecPart) -> Ref:
    name = part.model.get(key)
    if name is None:
        words = f"`{key}` is missing: the output that `{part.model.wired}` is compared with"
        words = f"`{key}` is missing: the logits whose drafts may be accepted" if key == "draft" else words
        raise DsvError(words, part.key(), code=Code.LOSS_NAMES)
    if not isinstance(name, str) or name not in model.outputs:
        message, hint = unknown("output", shown(name), model.outputs)
        raise DsvError(message, part.value(key), code=Code.LOSS_NAMES, hint=hint)
    return model.outputs[name]


def _target(name: Any, model: Model, part: SpecPart) -> str:
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


def _row(model: Model, target: str | None, part: SpecPart) -> tuple[str, Type]:
    """Return the input whose positions a loss scores: its target, or else the row of tokens."""
    if target is None:
        target = next((n for n, t in model.inputs.items() if t.dtype is ElementType.INT and t.rank == 2), None)
    if target is None:
        raise DsvError("a loss needs an input of token ids, int[B, T]", part.key(), code=Code.LOSS_SHAPE)
    return target, model.inputs[target]


def _depths(model: Model, ref: Ref, row: tuple[str, Type], part: SpecPart) -> tuple[int, ...]:
    """Return the depths that an output speaks of: 1, 2, ... of a stacked one, else 0."""
    found, (ids, type_), kind = model.type(ref), row, LossKind(part.model.callee)
    fits = found.rank in (3, 4) and found.shape[-3:-1] == type_.shape
    if not fits or found.dtype is not ElementType.FLOAT:
        what, last = ("logits", "V") if kind.of_logits else ("states", "H")
        what, last = ("confidences", "1") if kind is LossKind.CONFIDENCE else (what, last)
        words = f"`{part.model.wired}` is {found} and `{ids}` is {type_}: {what} are [B, T, {last}] or stacked"
        raise DsvError(f"{words} [D, B, T, {last}]", part.value(kind), code=Code.LOSS_SHAPE)
    if found.rank == 3:
        return (0,)
    count = found.shape[0] if isinstance(found.shape[0], int) else len(slices(model, ref)) or 1
    if count > MAX_DEPTHS:
        words = f"a loss has at most {MAX_DEPTHS} depths, found {count}"
        raise DsvError(words, part.value(kind), code=Code.TOO_MUCH)
    return tuple(range(1, count + 1))


# -- what does not fit ------------------------------------------------------------------------


def _check_constants(loss: Loss, model: Model, part: SpecPart) -> None:
    """Raise DsvError if two of the things that a line names do not fit together."""
    stacked = loss.depths != (0,)
    for key in ("end_to_end", "sample"):
        if getattr(loss, key) and not stacked:
            words = f"`{key}` speaks of depths, and `{loss.output}` is not stacked"
            raise DsvError(words, part.value(key), code=Code.LOSS_NUMBER)
    if loss.end_to_end and (loss.sample or loss.weight.names() & {"depth"}):
        words = "a loss that is `end_to_end` has one value for all depths: no `sample`, and no `depth` in its weight"
        raise DsvError(words, part.key(), code=Code.LOSS_NUMBER)
    if stacked and loss.depths and loss.sample > len(loss.depths):
        words = f"`sample` is at most the number of depths, {len(loss.depths)}, found {loss.sample}"
        raise DsvError(words, part.value("sample"), code=Code.LOSS_NUMBER)
    size = model.type(model.outputs[loss.draft or str(loss.output)]).shape[-1]
    ids = loss.vocabulary
    count = len(ids) if isinstance(ids, tuple) else ids
    if count is not None and isinstance(size, int) and count != size:
        words = f"`vocabulary` has {count:,} token ids, and `{loss.draft or loss.output}` {size:,} logits"
        raise DsvError(words, part.value("vocabulary"), code=Code.LOSS_SHAPE)
    if loss.draft:
        _check_draft(loss, model, part)
    if loss.against:
        _check_against(loss, model, part)


def _check_draft(loss: Loss, model: Model, part: SpecPart) -> None:
    """Raise DsvError unless there is one confidence for each draft."""
    one, draft = (model.type(model.outputs[str(name)]) for name in (loss.output, loss.draft))
    if one.shape[-1] != 1 or one.shape[:-1] != draft.shape[:-1]:
        words = f"`{loss.output}` is {one}, and the drafts of `{loss.draft}` are {draft}: each has one confidence"
        raise DsvError(words, part.key(), code=Code.LOSS_SHAPE, hint="`{linear: ..., out: 1, bias: true}`")


def _check_against(loss: Loss, model: Model, part: SpecPart) -> None:
    """Raise DsvError if what is compared with an output has another form."""
    name = loss.draft or str(loss.output)
    one, other = (model.type(model.outputs[output]) for output in (name, str(loss.against)))
    same = other.rank in (3, one.rank) and other.dtype is one.dtype and other.shape[-3:-1] == one.shape[-3:-1]
    same &= other.rank == 3 or other.shape == one.shape[:1] + other.shape[1:]
    same &= loss.vocabulary is not None or other.shape[-1] == one.shape[-1]
    if not same:
        words = f"`{name}` is {one}, and cannot be compared with `{loss.against}`, which is {other}"
        hint = "a `vocabulary` says which token ids the fewer logits stand for"
        hint = "" if loss.kind is LossKind.SMOOTH_L1 else hint
        raise DsvError(words, part.value("against"), code=Code.LOSS_SHAPE, hint=hint)
    last = other.shape[-1]
    if isinstance(last, int) and loss.vocabulary is not None and _largest(loss.vocabulary) >= last:
        words = f"`vocabulary` has the token id {_largest(loss.vocabulary)}, and `{loss.against}` {last:,} logits"
        raise DsvError(words, part.value("vocabulary"), code=Code.LOSS_SHAPE)


def _largest(vocabulary: int | tuple[int, ...]) -> int:
    return max(vocabulary) if isinstance(vocabulary, tuple) else vocabulary - 1


def _check_stride(formula: Formula, part: SpecPart) -> None:
    found = formula.check({})
    if not isinstance(found, (int, Poly)) or (isinstance(found, int) and found < 1):
        words = f"`stride` is a whole number of at least 1, found {found}"
        raise DsvError(words, part.value("stride"), code=Code.LOSS_NUMBER)


def _check_depth(loss: Loss, depth: int, model: Model, ref: Ref, part: SpecPart, formula: dict[str, Formula]) -> None:
    """Raise DsvError if a formula has no value at ``depth``, or if the prediction of a token has seen it."""
    at = {"depth": depth} if depth else {}
    if depth in (loss.depths[0], loss.depths[-1]):
        formula["weight"].check_schedule(at)
    else:
        formula["weight"].check({**at, "tokens": 0, "step": 0})
    formula["divide"].check({**at, "B": 2, "T": 4096, "valid": 4096})
    shift = formula["shift"].check(at)
    if isinstance(shift, Poly) or shift != shift:
        return  # a config name is symbolic here
    least = 0 if loss.kind.compares else 1
    if not isinstance(shift, int) or shift < least:
        words = f"`shift` is a whole number of at least {least}, found {shift}"
        backwards = isinstance(shift, int) and shift < 0 and not loss.kind.compares
        raise DsvError(words, part.value("shift"), code=Code.LOSS_NUMBER, hint=REVERSED if backwards else "")
    if loss.against == loss.output and not shift:
        words = f"`{loss.output}` is compared with itself, at the same position"
        raise DsvError(words, part.key(), code=Code.LOSS_NAMES, hint="`shift` says how far ahead it is compared")
    horizon = seen(model, ref, depth).ahead(loss.target or "")
    if shift <= horizon:
        notes = _looks_ahead(model, loss)
        raise DsvError(_leak(loss, depth, shift, horizon), part.key(), code=Code.LABEL_LEAK, notes=notes)


# -- leaks ------------------------------------------------------------------------------------


def check_leaks(model: Model, losses: list[Loss], lines: Mapping[str, SpecPart]) -> Iterator[DsvError]:
    """Yield comparisons of outputs in which one side has seen the token that the other predicts."""
    for loss in losses:
        for depth in loss.depths if loss.against else ():
            if words := _seen_by_one(model, loss, depth, losses):
                notes = _looks_ahead(model, loss)
                yield DsvError(words, lines[loss.name].key(), code=Code.LABEL_LEAK, notes=notes)
                break


def _seen_by_one(model: Model, loss: Loss, depth: int, losses: list[Loss]) -> str:
    """Return words for a leak: at i an output has seen the token that `against`, at i + shift, is trained to predict,
    or, where no loss trains it on tokens, one that `against` has not seen."""
    assert loss.output and loss.against and loss.shift
    shift = number(loss.shift, depth=depth)
    own = seen(model, model.outputs[loss.output], depth)
    other = seen(model, model.outputs[loss.against], depth)
    for name in own.by_input if isinstance(shift, int) else ():
        trained = [
            number(line.shift, depth=depth)
            for line in losses
            if line.shift and line.output == loss.against and line.target == name and line.kind.scores_tokens
        ]
        known = min((n for n in trained if isinstance(n, int)), default=other.ahead(name) + 1)
        if own.ahead(name) >= shift + known and math.isfinite(shift + known):
            return _comparison(loss, depth, shift, int(shift + known), own.ahead(name))
    return ""


def _comparison(loss: Loss, depth: int, shift: int, token: int, horizon: float) -> str:
    which = f"`{loss.output}` at depth {depth}" if depth else f"`{loss.output}`"
    place = f"i + {shift}" if shift else "i"
    words = f"label leak: {which} is compared with `{loss.against}` at {place}, which does not know token i + {token}"
    return f"{words}, but at position i it has already seen {_up_to(horizon)}"


def _leak(loss: Loss, depth: int, shift: int, horizon: float) -> str:
    which = f"`{loss.output}` at depth {depth}" if depth else f"`{loss.output}`"
    return f"label leak: {which} predicts token i + {shift}, but at position i it has already seen {_up_to(horizon)}"


def _up_to(horizon: float) -> str:
    return "the whole row" if horizon == float("inf") else f"tokens up to i + {int(horizon)}"


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
