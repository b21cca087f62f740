"""The losses of a model as its methods: `losses`, which adds them up, and `after_step`, which moves router biases.

Every operator and function in a weight, a shift or a divisor has its own in Python.
"""

from __future__ import annotations

import ast
from typing import Any

from dsvgraph import expr
from dsvgraph.build.losses.predictions import seen
from dsvgraph.build.losses.schedules import has_value
from dsvgraph.expr import Expr
from dsvgraph.graph import Loss, LossKind, Model, walk
from dsvgraph.patterns import matches_all, regex
from dsvgraph_torch.lowering.analysis import linears_behind
from dsvgraph_torch.lowering.names import reserved, variable, where
from dsvgraph_torch.lowering.source import block, expression, function, literal, noted, path, statement

FUNCTIONS = {
    "min": "min", "max": "max", "abs": "abs", "int": "int", "sqrt": "math.sqrt", "log": "math.log",
    "exp": "math.exp", "cos": "math.cos", "floor": "math.floor", "ceil": "math.ceil",
}  # fmt: skip
OPERATORS = {
    **{sign: f"a {sign} b" for sign in ("+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!=")},
    "neg": "-a", "pos": "+a", "not": "not a", "if": "a if b else c", "and": "a and b", "or": "a or b",
}  # fmt: skip
TRUTHS = {"<", "<=", ">", ">=", "==", "!=", "not", "and", "or"}


def losses_method(model: Model) -> list[ast.stmt]:
    if not model.losses:
        return []
    outputs = list(dict.fromkeys(loss.output for loss in model.losses if loss.output and loss.depths))
    taken = reserved() | {"B", "T", "losses", "loss", "total", "depth", "valid"}
    names = {o: variable(o, taken) for o in outputs}
    body = [line for loss in model.losses for line in _loss(loss, names, model)]
    sizes = [statement("B, T = targets.shape")] if {"B", "T"} & _open_names(model) else []
    begin, end = statement("losses, loss = {}, 0.0"), statement("return {'loss': loss, **losses}")
    doc = 'The weighted sum under "loss", and each by name.'
    return [function("def losses(self, targets, ctx):", [*sizes, begin, *body, end], names.values(), doc)]


def _open_names(model: Model) -> set[str]:
    trees = [t for loss in model.losses for t in (loss.weight, loss.shift, loss.divide) if t]
    return {name for tree in trees for name in tree.names()}


def _loss(loss: Loss, names: dict[str, str], model: Model) -> list[ast.stmt]:
    if loss.kind is LossKind.SEQUENCE_BALANCE:
        return [noted(_balance(loss, model), _place(loss)), _added(loss, literal(loss.name))]
    if loss.kind is not LossKind.CROSS_ENTROPY or not loss.depths:
        return []
    value, fill = path(names[loss.output or ""]), _fill(loss, model)
    chunked = bool(linears_behind(model, model, model.outputs[loss.output or ""]))
    function_ = path("head_cross_entropy" if chunked else "cross_entropy")
    if loss.depths == (0,):
        first, *rest = _scored(loss, literal(loss.name), value, fill, function_)
        return [noted(first, _place(loss)), *rest]
    key = ast.JoinedStr([ast.Constant(f"{loss.name}."), ast.FormattedValue(path("depth"), -1)])
    lines = _scored(loss, key, path("copy"), fill, function_)
    return [block("for depth, copy in enumerate(value, 1):", lines, _place(loss), value=value)]


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


def _scored(loss: Loss, key: ast.expr, value: ast.expr, fill: list[ast.expr], function_: ast.expr) -> list[ast.stmt]:
    assert loss.shift is not None and loss.divide is not None
    args = [value, path("targets"), arithmetic(loss.shift), path("ctx"), *fill]
    count = "valid" if "valid" in loss.divide.names() else "_"
    return [
        statement("total, count = function(*args)", count=path(count), function=function_, args=args),
        statement("losses[key] = total / count", key=key, count=formula(loss, "divide")),
        _added(loss, key),
    ]


def _added(loss: Loss, key: ast.expr) -> ast.stmt:
    if loss.weight == Expr("number", (1,)):
        return statement("loss = loss + losses[key]", key=key)
    return statement("loss = loss + weight * losses[key]", key=key, weight=formula(loss, "weight"))


def _fill(loss: Loss, model: Model) -> list[ast.expr]:
    """Fill positions that the shift does not leave out already."""
    ref = model.outputs[loss.output or ""]
    assert loss.shift is not None
    found = []
    for depth in loss.depths:
        horizons = seen(model, ref, depth)
        shift = expr.evaluate(loss.shift, lambda name, d=depth: {"depth": d}[name])  # type: ignore[misc]
        found.append(horizons.fill if horizons.fill > shift - 1 else 0)
    if not any(found):
        return []
    return [literal(found[0]) if loss.depths == (0,) else expression("fills[depth - 1]", fills=found)]


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
        return block("for router in self.modules():", [block("if isinstance(router, Router):", [speed])])
    test = block("if isinstance(router, Router) and re.fullmatch(chosen, path):", [speed], chosen=chosen)
    return block("for path, router in self.named_modules():", [test])


# -- formulas --------------------------------------------------------------------------------------


def formula(loss: Loss, key: str) -> ast.expr:
    """Return the ``weight``, ``speed`` or ``divide`` of a loss line, checked while it runs if it may have no value."""
    tree = loss.divide if key == "divide" else loss.weight
    assert tree is not None
    value = arithmetic(tree)
    if has_value(key, tree, loss.depths):
        return value
    words = f"`{key}` of `{loss.name}`{f' ({where(loss.span)})' if loss.span else ''}"
    more = {"positive": True} if key == "divide" else {}
    return expression("real(lambda: value, words, self.tokens_seen, **more)", value=value, words=words, more=more)


def arithmetic(tree: Expr) -> ast.expr:
    """Return an expression of a loss line, its config values filled in, as it stands in the emitted file."""
    if tree.op == "number":
        return literal(tree.args[0])
    if tree.op == "name":
        return path("self.tokens_seen" if tree.args[0] == "tokens" else tree.args[0])
    if tree.op == "call":
        return expression("f(*args)", f=path(FUNCTIONS[tree.args[0]]), args=[arithmetic(a) for a in tree.args[1:]])
    operands: list[Any] = [arithmetic(a) for a in tree.args]
    if tree.op in ("and", "or"):  # truths, where Python gives an operand
        operands = [o if _is_truth(a) else expression("bool(a)", a=o) for a, o in zip(tree.args, operands, strict=True)]
    return expression(OPERATORS[tree.op], **dict(zip("abc", operands, strict=False)))


def _is_truth(tree: Expr) -> bool:
    return tree.op in TRUTHS or (tree.op == "number" and isinstance(tree.args[0], bool))
