"""The losses of a model as its methods: `losses`, which adds them up, and `after_step`, which moves router biases."""

from __future__ import annotations

import ast
from functools import reduce

from dsvgraph.expr import Expr
from dsvgraph.graph import Loss, LossKind, Model, walk
from dsvgraph.patterns import matches_all, regex
from dsvgraph_torch.lowering.losses.calls import LossCall
from dsvgraph_torch.lowering.losses.formulas import formula
from dsvgraph_torch.lowering.names import reserved, variable, where
from dsvgraph_torch.lowering.source import block, expression, function, literal, noted, path, statement


def losses_method(model: Model) -> list[ast.stmt]:
    if not model.losses:
        return []
    taken = reserved() | {"B", "T", "losses", "loss", "total", "depth", "valid", "shares", "copy"}
    names = {o: variable(o, taken) for o in scored_outputs(model)}
    body = [line for loss in model.losses for line in _loss(loss, names, model)]
    sizes = [statement("B, T = targets.shape")] if {"B", "T"} & _open_names(model) else []
    begin, end = statement("losses, loss = {}, 0.0"), statement("return {'loss': loss, **losses}")
    doc = 'The weighted sum under "loss", and each by name.'
    return [function("def losses(self, targets, ctx):", [*sizes, begin, *body, end], names.values(), doc)]


def scored_outputs(model: Model) -> list[str]:
    """Return the outputs that the losses read, in their order."""
    read = [name for loss in model.losses if loss.depths for name in (loss.output, loss.draft, loss.against) if name]
    return list(dict.fromkeys(read))


def _open_names(model: Model) -> set[str]:
    trees = [t for loss in model.losses for t in (loss.weight, loss.shift, loss.divide) if t]
    return {name for tree in trees for name in tree.names()}


def _loss(loss: Loss, names: dict[str, str], model: Model) -> list[ast.stmt]:
    if loss.kind is LossKind.SEQUENCE_BALANCE:
        return [noted(_balance(loss, model), _place(loss)), _added(loss, literal(loss.name))]
    if loss.kind.of_routers or not loss.depths:
        return []
    call = LossCall(loss, names, model)
    if loss.end_to_end:
        return _with_note(_scored(loss, literal(loss.name), call.of_all_depths()), loss)
    if loss.depths == (0,):
        return _with_note(_scored(loss, literal(loss.name), call.of(path(names[loss.output or ""]))), loss)
    key = ast.JoinedStr([ast.Constant(f"{loss.name}."), ast.FormattedValue(path("depth"), -1)])
    lines, value = _scored(loss, key, call.of(path("copy"))), path(names[loss.output or ""])
    loop = block("for depth, copy in enumerate(value, 1):", lines, _place(loss), value=value)
    if not loss.sample:
        return [loop]
    return [statement("shares = drawn(self, depths, count)", depths=len(loss.depths), count=loss.sample), loop]


def _with_note(lines: list[ast.stmt], loss: Loss) -> list[ast.stmt]:
    return [noted(lines[0], _place(loss)), *lines[1:]]


def _place(loss: Loss) -> str:
    return where(loss.span) if loss.span else ""


def _balance(loss: Loss, model: Model) -> ast.stmt:
    """Return the line that adds up what the routers of a loss line found."""
    if chosen := _chosen(loss, model):
        template = (
            "losses[name] = sum(ctx.balance[r] for p, r in self.named_modules()"
            " if r in ctx.balance and re.fullmatch(chosen, p))"
        )
        return statement(template, name=loss.name, chosen=chosen)
    return statement("losses[name] = sum(ctx.balance.values())", name=loss.name)


def _chosen(loss: Loss, model: Model) -> str:
    """Return a regular expression for the routers of a line, or nothing where it means all."""
    return "" if all(matches_all(loss.routers or "", p) for p in model.routers) else regex(loss.routers or "")


def _scored(loss: Loss, key: ast.expr, call: ast.expr) -> list[ast.stmt]:
    assert loss.divide is not None
    count = "valid" if "valid" in loss.divide.names() else "_"
    return [
        statement("total, count = call", count=path(count), call=call),
        statement("losses[key] = total / count", key=key, count=formula(loss, "divide")),
        _added(loss, key),
    ]


def _added(loss: Loss, key: ast.expr) -> ast.stmt:
    one = loss.weight == Expr("number", (1,))
    factors = [*([] if one else [formula(loss, "weight")]), *([expression("shares[depth - 1]")] if loss.sample else [])]
    value = reduce(lambda a, b: expression("a * b", a=a, b=b), [*factors, expression("losses[key]", key=key)])
    return statement("loss = loss + value", value=value)


def after_step_method(model: Model) -> list[ast.stmt]:
    """Once per optimizer step: biases move, counts begin anew."""
    updates = [loss for loss in model.losses if loss.kind is LossKind.BIAS_UPDATE]
    if not any(v.node.callee == "router" for v in walk(model)):
        return []
    lines = [_update(loss, _chosen(loss, model)) for loss in updates]
    if not updates or any(_chosen(loss, model) for loss in updates):
        lines.append(
            statement(
                "for router in self.modules():\n    if isinstance(router, Router):\n"
                "        router.tokens_per_expert.zero_()"
            )
        )
    doc = "Once per optimizer step, after it: biases move, counts begin anew."
    return [function("def after_step(self):", lines, doc=doc)]


def _update(loss: Loss, chosen: str) -> ast.stmt:
    """Return the loop that moves the biases of the routers that a line names, or of all."""
    speed = statement("router.update_bias(speed)", speed=formula(loss, "speed"))
    if not chosen:
        return block("for router in (m for m in self.modules() if isinstance(m, Router)):", [speed])
    test = block("if isinstance(router, Router) and re.fullmatch(chosen, path):", [speed], chosen=chosen)
    return block("for path, router in self.named_modules():", [test])
