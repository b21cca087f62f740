"""The class of the whole model: forward with losses, predict without the heads."""

from __future__ import annotations

from dsvgraph import expr
from dsvgraph.errors import DsvError
from dsvgraph.expr import Expr
from dsvgraph.graph import Loss, Model, Ref
from dsvgraph.patterns import regex
from dsvgraph_torch.instances import aliases, tails
from dsvgraph_torch.lower import Class, Lowering, Writer, reserved
from dsvgraph_torch.names import variable


def write(lowering: Lowering) -> Class:
    """The root class, after the classes that it uses."""
    model = lowering.model
    out = Class(lowering.names[model], taken=set(reserved()))
    out.body += _forward(lowering, out) + _predict(lowering) + _losses(model) + _after_step(model)
    out.init += ["self.finish()"]
    return out


def constants(model: Model) -> list[str]:
    """What the graph knows of single copies and patterns, as class attributes."""
    init = tuple((regex(p), i.kind, i.value) for p, i in model.init)
    frozen = tuple((regex(p), t) for p, t in model.trained)
    found = {"aliases": aliases(model), "init": init, "frozen": frozen, "tails": tails(model)}
    lines = [f"{name} = {value!r}" for name, value in found.items() if value]
    balanced = any(loss.kind == "sequence_balance" for loss in model.losses)
    return lines + (["wants_balance = True"] if balanced else [])


def _forward(lowering: Lowering, out: Class) -> list[str]:
    model = lowering.model
    writer = Writer(lowering, out, model)
    args = _inputs(writer)
    targets = "targets=None, " if model.losses else ""
    wired = "targets, " if model.losses else "None, "
    out.body = []
    writer.nodes(model.nodes.values())
    lines = [
        f"def forward(self, {', '.join(args)}, {targets}positions=None, documents=None):",
        f'    """{_signature(model)}"""',
        f"    ctx = self.context({wired}positions, documents)",
        *out.body,
    ]
    out.body = []
    if model.losses:
        lines += ["    if targets is not None:", f"        return self.losses({_loss_arguments(model, writer)})"]
    return [*lines, f"    return {{{', '.join(_returned(model, writer))}}}"]


def _inputs(writer: Writer) -> list[str]:
    for name in writer.graph.inputs:
        writer.vars[Ref(name, name)] = writer.new(name)
    return list(writer.vars.values())


def _signature(model: Model) -> str:
    ins = ", ".join(f"{n} {t}" for n, t in model.inputs.items())
    outs = ", ".join(f"{n} {model.type(r)}" for n, r in model.outputs.items())
    return f"{ins} -> {outs}; with targets (the token after each position) the losses."


def _returned(model: Model, writer: Writer) -> list[str]:
    """The outputs by name; a stacked one without copies is left out."""
    found = []
    for name, ref in model.outputs.items():
        value, node = writer.value(ref), model.nodes.get(ref.node)
        listed = node and node.mode == "repeat" and node.roles.get(ref.port) == "stacked"
        if listed and not node.runs:  # type: ignore[union-attr]
            continue
        consumed = any(ref in n.sources.values() for n in model.nodes.values())
        found.append(f'"{name}": torch.stack({value})' if listed and not consumed else f'"{name}": {value}')
    return found


def _loss_arguments(model: Model, writer: Writer) -> str:
    refs = dict.fromkeys(loss.output for loss in model.losses if loss.output and loss.depths)
    return ", ".join([*(f"{writer.value(model.outputs[o])}" for o in refs), "targets", "ctx"])


def _predict(lowering: Lowering) -> list[str]:
    """Forward cut down to what the first output depends on."""
    model = lowering.model
    first = next(iter(model.outputs))
    needed = model.needed([first])
    scratch = Class("", taken=set(reserved()))
    writer = Writer(lowering, scratch, model)
    args = _inputs(writer)
    for node in model.nodes.values():
        if node.name in needed:
            writer.nodes([node])
    return [
        "",
        f"def predict(self, {', '.join(args)}, cache=None, positions=None, documents=None):",
        f'    """{first} alone, without the heads that only train; a dict as cache decodes step by step."""',
        "    ctx = self.context(None, positions, documents, cache)",
        *scratch.body,
        f"    return {writer.value(model.outputs[first])}",
    ]


# -- losses ----------------------------------------------------------------------------------------


def _losses(model: Model) -> list[str]:
    if not model.losses:
        return []
    if len({loss.target for loss in model.losses if loss.target}) > 1:
        raise DsvError("the losses of one model predict one input", model.losses[0].span)
    outputs = list(dict.fromkeys(loss.output for loss in model.losses if loss.output and loss.depths))
    taken = set(reserved()) - {"targets", "ctx"} | {"B", "T", "tokens", "losses", "total", "depth", "valid"}
    names = {o: variable(o, taken) for o in outputs}
    lines = [
        "",
        f"def losses(self, {', '.join([*names.values(), 'targets', 'ctx'])}):",
        '    """The weighted sum under "loss", and each loss by name."""',
    ]
    body = [line for loss in model.losses for line in _loss(loss, names, model)]
    used = "\n".join(body)
    if "B *" in used or "T" in used:
        lines.append("    B, T = targets.shape")
    if "tokens" in used:
        lines.append("    tokens = self.tokens_seen")
    return [*lines, "    losses, loss = {}, 0.0", *body, '    return {"loss": loss, **losses}']


def _loss(loss: Loss, names: dict[str, str], model: Model) -> list[str]:
    place = f"  # {loss.span}" if loss.span else ""
    place = place.replace(loss.span.source.name, loss.span.source.name.rsplit("/", 1)[-1]) if loss.span else ""
    if loss.kind == "sequence_balance":
        return [
            f'    losses["{loss.name}"] = self.balance(ctx, {regex(loss.routers or "")!r}){place}',
            f'    loss = loss + {_python(loss.weight)} * losses["{loss.name}"]',
        ]
    if loss.kind != "cross_entropy" or not loss.depths:
        return []
    value, tail = names[loss.output or ""], _tail(loss, model)
    if loss.depths == (0,):
        return _scored(loss, f'"{loss.name}"', value, tail, "    ", place)
    head = f"    for depth, copy in enumerate({value}, 1):{place}"
    return [head, *_scored(loss, f'f"{loss.name}.{{depth}}"', "copy", tail, "        ", "")]


def _scored(loss: Loss, key: str, value: str, tail: str, indent: str, place: str) -> list[str]:
    assert loss.shift is not None and loss.divide is not None
    divide = _python(loss.divide)
    return [
        f"{indent}total, valid = cross_entropy({value}, targets, {_python(loss.shift)}{tail}){place}",
        f"{indent}losses[{key}] = total / {divide}",
        f"{indent}loss = loss + {_python(loss.weight)} * losses[{key}]",
    ]


def _tail(loss: Loss, model: Model) -> str:
    """Fill positions that the shift does not leave out already."""
    ref = model.outputs[loss.output or ""]
    assert loss.shift is not None
    node, found = model.nodes.get(ref.node), []
    for depth in loss.depths:
        reach = node.copies[ref.port][depth - 1] if depth and node else model.reach_of(ref)
        shift = expr.evaluate(loss.shift, lambda name, d=depth: {"depth": d}[name])  # type: ignore[misc]
        found.append(reach.tail if reach.tail > shift - 1 else 0)
    if not any(found):
        return ""
    return f", {found[0]}" if loss.depths == (0,) else f", {found!r}[depth - 1]"


def _python(tree: Expr) -> str:
    text = expr.to_text(tree)
    return text[1:-1] if tree.op == "if" and False else text


def _after_step(model: Model) -> list[str]:
    updates = [loss for loss in model.losses if loss.kind == "bias_update"]
    if not updates:
        return []
    lines = ["", "def after_step(self):", '    """Once per optimizer step: the biases of the routers move."""']
    if any("tokens" in loss.weight.names() for loss in updates):
        lines.append("    tokens = self.tokens_seen")
    for loss in updates:
        lines.append(f"    for router in self.routers({regex(loss.routers or '')!r}).values():")
        lines.append(f"        router.update_bias({_python(loss.weight)})")
    return [*lines, "    super().after_step()"]
