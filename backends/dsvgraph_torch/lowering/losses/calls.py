"""The call that computes one loss of an output: its function, and what is passed to it."""

from __future__ import annotations

import ast
from typing import Any

from dsvgraph.build.losses.formulas import number
from dsvgraph.build.losses.predictions import seen
from dsvgraph.codes import Code
from dsvgraph.errors import DsvError
from dsvgraph.graph import Loss, LossKind, Model
from dsvgraph_torch.lowering.analysis import linears_behind
from dsvgraph_torch.lowering.losses.formulas import arithmetic
from dsvgraph_torch.lowering.source import expression, literal, path

OPTIONS = {
    LossKind.BINARY_CROSS_ENTROPY: ("window", "decay"),
    LossKind.LISTNET: ("window",),
    LossKind.KL: ("vocabulary", "temperature"),
    LossKind.SOFT_CROSS_ENTROPY: ("vocabulary", "temperature"),
    LossKind.TOTAL_VARIATION: ("vocabulary", "temperature"),
    LossKind.SMOOTH_L1: ("beta",),
    LossKind.CONFIDENCE: ("vocabulary", "temperature"),
}
"""Attributes that the function of a kind takes, where they have no default."""


class LossCall:
    """Writes the call of a loss; ``names`` are the variables of the outputs."""

    def __init__(self, loss: Loss, names: dict[str, str], model: Model) -> None:
        assert loss.output and loss.shift
        self.loss, self.names, self.model = loss, names, model
        self.chunked = bool(linears_behind(model, model, model.outputs[loss.output]))
        if loss.detach and not self.chunked:
            words = (
                f"`detach: head` needs `{loss.output}` to be what a linear line without a bias gives, read by no other"
            )
            raise DsvError(words, loss.span, code=Code.NOT_LOWERED, hint="a line `{detach: ...}` cuts a gradient too")

    def of(self, value: ast.expr) -> ast.expr:
        """Return the call for one depth, whose output is ``value``."""
        loss = self.loss
        assert loss.shift is not None
        others = [name for name in (loss.draft, loss.against) if name]
        sides = [self._value(value), *(self._other(name) for name in others)]
        args = [*sides, self._targets(), arithmetic(loss.shift), path("ctx"), *self._fill()]
        return expression("function(*args, **more)", function=path(self._function()), args=args, more=self._options())

    def of_all_depths(self) -> ast.expr:
        """Return the call of a loss over the depths together."""
        loss, value = self.loss, path(self.names[self.loss.output or ""])
        assert loss.shift is not None
        shifts = [int(number(loss.shift, depth=depth)) for depth in loss.depths]
        if loss.detach:
            value = expression("[fixed_head(copy) for copy in value]", value=value)
        fill = max((self._filled(depth) for depth in loss.depths), default=0)
        more = {"fill": fill} if fill > max(shifts) else {}
        call = "accepted(value, against, targets, shifts, ctx, **more)"
        return expression(call, value=value, against=self._others(), shifts=shifts, more={**more, **self._options()})

    def _function(self) -> str:
        """Return the function of a kind; that of a cross-entropy depends on what is special about it."""
        loss = self.loss
        if loss.kind is not LossKind.CROSS_ENTROPY:
            return loss.kind
        if loss.smoothing:
            return "smoothed_cross_entropy"
        return "head_cross_entropy" if self.chunked else "cross_entropy"

    def _value(self, value: ast.expr) -> ast.expr:
        return expression("fixed_head(value)", value=value) if self.loss.detach else value

    def _deep(self, name: str) -> bool:
        return self.model.type(self.model.outputs[name]).rank == 4

    def _other(self, name: str) -> ast.expr:
        """Return what an output is compared with at one depth, without its gradient unless it is wanted."""
        other = path(self.names[name])
        other = expression("other[depth - 1]", other=other) if self._deep(name) else other
        return other if self.loss.target_gradient else expression("fixed(other)", other=other)

    def _others(self) -> ast.expr:
        """Return the other side of all depths."""
        loss, name = self.loss, self.loss.against or ""
        other = path(self.names[name])
        if not self._deep(name):
            other = other if loss.target_gradient else expression("fixed(other)", other=other)
            return expression("[other] * depths", other=other, depths=len(loss.depths))
        return other if loss.target_gradient else expression("[fixed(copy) for copy in other]", other=other)

    def _targets(self) -> ast.expr:
        loss = self.loss
        if loss.vocabulary is None or not loss.kind.scores_tokens:
            return path("targets")
        return expression("mapped(targets, vocabulary)", vocabulary=loss.vocabulary)

    def _options(self) -> dict[str, Any]:
        loss = self.loss
        names = ("smoothing",) if loss.smoothing else OPTIONS.get(loss.kind, ())
        default = Loss.__dataclass_fields__
        return {name: value for name in names if (value := getattr(loss, name)) != default[name].default}

    def _filled(self, depth: int) -> int:
        """Return how many tokens ahead of a position the prediction, or what it is compared with, has read."""
        loss, model = self.loss, self.model
        read = [name for name in (loss.output, loss.draft) if name]
        fill = max(seen(model, model.outputs[name], depth).fill for name in read)
        if loss.against is None:
            return fill
        assert loss.shift is not None
        return max(fill, int(number(loss.shift, depth=depth)) + seen(model, model.outputs[loss.against], depth).fill)

    def _fill(self) -> list[ast.expr]:
        """Return fill positions that the shift does not leave out already."""
        loss = self.loss
        assert loss.shift is not None
        least = 0 if loss.against else 1
        found = []
        for depth in loss.depths:
            fill, shift = self._filled(depth), number(loss.shift, depth=depth)
            found.append(fill if fill > shift - least else 0)
        if not any(found):
            return []
        return [literal(found[0]) if loss.depths == (0,) else expression("fills[depth - 1]", fills=found)]
