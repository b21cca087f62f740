"""The losses of a model as its methods: `losses`, which adds them up, and `after_step`, which moves router biases."""

from __future__ import annotations

import ast
from functools import reduce

from dsvgraph.expr import Expr
from dsvgraph.graph import Loss, LossKind, Model, walk
from dsvgraph.passes.graph.optional import optional_losses
from dsvgraph.patterns import matches_all, regex
from dsvgraph_torch.lowering.losses.calls import LossCall
from dsvgraph_torch.lowering.losses.formulas import formula
from dsvgraph_torch.lowering.names import reserved, variable, where
from dsvgraph_torch.lowering.source import block, expression, function, literal, noted, path, statement


def losses_method(model: Model) -> list[ast.stmt]:
    if not model.losses:
        return []
    taken = reserved() | {"B", "T", "losses", "loss", "total", "depth", "valid", "shares", "copy", "weight", "weights"}
    names = {o: variable(o, taken) for o in scored_outputs(model)}
    optional = {loss.name for loss in optional_losses(model)}
    body = [line for loss in model.losses for line in _loss(loss, names, model, loss.name in optional)]
    sizes = [statement("B, T = targets.shape")] if {"B", "T"} & _open_names(model) else []
    begin, end = statement("losses, loss = {}, 0.0"), statement("return {'loss': loss, **losses}")
    doc = 'The weighted sum under "loss", and each by name.'
    head = "def losses(self, targets, ctx, weights):" if optional else "def losses(self, targets, ctx):"
    return [function(head, [*sizes, begin, *body, end], names.values(), doc)]


def loss_weights_method(model: Model) -> list[ast.stmt]:
    """Return the method with the weights of the losses that may weigh nothing."""
    found = {loss.name: _weights(loss) for loss in optional_losses(model)}
    doc = "Weights of the losses that may weigh nothing, by depth: while training, one of weight 0 is left out."
    lines = [statement("return found", found=found)]
    return [function("def loss_weights(self):", lines, doc=doc)] if found else []


def _weights(loss: Loss) -> ast.expr:
    if loss.end_to_end or loss.depths == (0,):
        return formula(loss, "weight")
    count, value = len(loss.depths), formula(loss, "weight")
    if not loss.sample:
        return expression("[value for depth in range(1, end)]", value=value, end=count + 1)
    shares = expression("drawn(self, depths, count)", depths=count, count=loss.sample)
    if loss.weight == Expr("number", (1,)):
        return shares
    return expression("[value * share for depth, share in enumerate(shares, 1)]", value=value, shares=shares)


def scored_outputs(model: Model) -> list[str]:
    """Return the outputs that the losses read, in their order."""
    read = [name for loss in model.losses if loss.depths for name in (loss.output, loss.draft, loss.against) if name]
    return list(dict.fromkeys(read))


def _open_names(model: Model) -> set[str]:
    trees = [t for loss in model.losses for t in (loss.weight, loss.shift, loss.divide) if t]
    return {name for tree in trees for name in tree.names()}


def _loss(loss: Loss, names: dict[str, str], model: Model, optional: bool) -> list[ast.stmt]:
    if loss.kind is LossKind.SEQUENCE_BALANCE:
        return [noted(_balance(loss, model), _place(loss)), _added(loss, literal(loss.name))]
    if loss.kind.of_routers or not loss.depths:
        return []
    call = LossCall(loss, names, model)
    if loss.end_to_end or loss.depths == (0,):
        value = call.of_all_depths() if loss.end_to_end else call.of(path(names[loss.output or ""]))
        return _single(loss, value, optional)
    key = ast.JoinedStr([ast.Constant(f"{loss.name}."), ast.FormattedValue(path("depth"), -1)])
    value = path(names[loss.output or ""])
    if optional:
        lines = [block("if skips(self, weight):", [ast.Continue()])]
        lines += _scored(loss, key, call.of(path("copy")), path("weight"))
        over = "for depth, (copy, weight) in enumerate(zip(value, weights[name]), 1):"
        return [block(over, lines, _place(loss), value=value, name=loss.name)]
    lines = _scored(loss, key, call.of(path("copy")))
    loop = block("for depth, copy in enumerate(value, 1):", lines, _place(loss), value=value)
    if not loss.sample:
        return [loop]
    return [statement("shares = drawn(self, depths, count)", depths=len(loss.depths), count=loss.sample), loop]


def _single(loss: Loss, call: ast.expr, optional: bool) -> list[ast.stmt]:
    """Return the lines of a loss that has one value."""
    key = literal(loss.name)
    if not optional:
        return _with_note(_scored(loss, key, call), loss)
    weight = expression("weights[key]", key=key)
    lines = _scored(loss, key, call, weight)
    return [block("if not skips(self, weight):", lines, _place(loss), weight=weight)]


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


def _scored(loss: Loss, key: ast.expr, call: ast.expr, weight: ast.expr | None = None) -> list[ast.stmt]:
    assert loss.divide is not None
    count = "valid" if "valid" in loss.divide.names() else "_"
    return [
        statement("total, count = call", count=path(count), call=call),
        statement("losses[key] = total / count", key=key, count=formula(loss, "divide")),
        _added(loss, key) if weight is None else _weighted(key, weight),
    ]


def _weighted(key: ast.expr, weight: ast.expr) -> ast.stmt:
    return statement("loss = loss + weight * losses[key]", weight=weight, key=key)


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
