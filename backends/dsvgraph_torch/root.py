"""The class of the whole model: forward with losses, predict without the heads."""

from __future__ import annotations

import re
from typing import Any

from dsvgraph import expr
from dsvgraph.build.losses import seen
from dsvgraph.codes import Code
from dsvgraph.errors import DsvError
from dsvgraph.expr import Expr
from dsvgraph.graph import Loss, Model, Node, Ref, join, walk
from dsvgraph.patterns import matches_all, ranged, regex
from dsvgraph.types import Init
from dsvgraph_torch.deferred import behind
from dsvgraph_torch.instances import tails
from dsvgraph_torch.lower import Class, Lowering, Writer, document, where
from dsvgraph_torch.names import reserved, variable
from dsvgraph_torch.sharing import Text

Rule = tuple[str, float, float]


def write(lowering: Lowering) -> Text:
    """The root class, after the classes that it uses."""
    model = lowering.model
    text = Text(lowering.names[model], "", 0, {}, doc=document(model), base="Model")
    methods = _methods(lowering, text) + _losses(model) + _after_step(model)
    text.body = methods
    text.constants = constants(model)
    text.init += [f"self.{path}.tail = {tail}" for path, tail in _indexed(tails(model)).items()]
    if model.trained:
        rules = repr(tuple((regex(p), t) for p, t in model.trained))
        text.init.append(f"freeze(self, {rules})".replace("<", r"\x3c"))  # "<0>" would stand for a class
    return text


def _indexed(paths: dict[str, Any]) -> dict[str, Any]:
    """Paths as Python reads them: model.layers[61].mlp."""
    return {re.sub(r"\.(\d+)", r"[\1]", path): tail for path, tail in paths.items()}


def constants(model: Model) -> list[str]:
    """What the graph knows of names and beginnings, as class attributes."""
    return [f"init = {init_rules(model)!r}"]


def init_rules(model: Model) -> tuple[tuple[str, float, float], ...]:
    """(pattern, start, spread): what ops say of weights that the spec does not name, then the spec."""
    rules = []
    for visit in walk(model):
        for name, weight in visit.node.weights.items():
            path = join(visit.path, name)
            if not any(matches_all(p, path) for p, _ in model.init):
                rules.append((path, *_init(weight.init)))
    rules = _grouped(rules) + [(regex(p), *_init(i)) for p, i in model.init]
    return tuple(dict.fromkeys(rules))


def _grouped(rules: list[Rule]) -> list[Rule]:
    """Rules of folded paths as patterns; one for all paths of one end, where the end tells them apart."""
    ends: dict[str, set[tuple[float, float]]] = {}
    for path, start, spread in rules:
        ends.setdefault(_end(path), set()).add((start, spread))
    return [(rf"(.*\.)?{ranged(_end(p))}" if len(ends[_end(p)]) == 1 else ranged(p), a, b) for p, a, b in rules]


def _end(path: str) -> str:
    return ".".join(path.split(".")[-2:])


def _init(init: Init) -> tuple[float, float]:
    """Start and spread of a weight's beginning."""
    return {"zeros": (0.0, 0.0), "ones": (1.0, 0.0)}.get(init.kind, (0.0, init.value))


def _methods(lowering: Lowering, text: Text) -> list[str]:
    """_trunk: up to the first output; forward: everything; predict: the first output alone."""
    model = lowering.model
    first = next(iter(model.outputs))
    needed = model.needed([first])
    out = Class(text, taken=reserved() | {"positions", "documents", "cache"})
    writer = Writer(lowering, out, model)
    args = _inputs(writer)
    trunk = [n for n in model.nodes.values() if n.name in needed]
    heads = [n for n in model.nodes.values() if n.name not in needed]
    writer.nodes(trunk)
    trunk_lines, text.body = text.body, []
    writer.nodes(heads)
    passed = _passed(model, writer, trunk, heads, first)
    ins, values = ", ".join(args), ", ".join(passed)
    lines = [f"def _trunk(self, {ins}, ctx):", *trunk_lines, f"    return {values}", ""]
    lines += _forward_head(model, ins)
    lines += [f"    {values} = self._trunk({ins}, ctx)", *text.body]
    if model.losses:
        lines += [
            "    if targets is not None:",
            f"        return self.losses({_loss_arguments(model, writer)})",
        ]
    lines += [f"    return {{{', '.join(_returned(model, writer))}}}", ""]
    text.body = []
    return lines + _predict(ins, first, passed, writer.value(model.outputs[first]))


def _forward_head(model: Model, ins: str) -> list[str]:
    types = {name: model.type(ref) for name, ref in model.outputs.items()}
    outs = ", ".join(f"{name} {type_}" for name, type_ in types.items() if 0 not in type_.shape)
    if not model.losses:
        return [
            f"def forward(self, {ins}, positions=None, documents=None):",
            f'    """{outs}."""',
            "    ctx = Context(positions, documents)",
        ]
    return [
        f"def forward(self, {ins}, targets=None, positions=None, documents=None):",
        f'    """{outs}; given targets (the token after each position) the losses."""',
        "    ctx = Context(positions, documents, collect=targets is not None)",
    ]


def _passed(model: Model, writer: Writer, trunk: list[Node], heads: list[Node], first: str) -> list[str]:
    """What the trunk hands on: values that heads or outputs read, the first output last."""
    read = [r for n in heads for r in n.sources.values()] + list(model.outputs.values())
    made = {n.name for n in trunk}
    values = [writer.vars[r] for r in read if r.node in made and r in writer.vars]
    last = writer.value(model.outputs[first])
    return [*[v for v in dict.fromkeys(values) if v != last], last]


def _predict(ins: str, first: str, passed: list[str], last: str) -> list[str]:
    pick = "" if len(passed) == 1 else "[-1]"
    return [
        f"def predict(self, {ins}, cache=None, positions=None, documents=None):",
        f'    """{first} alone, without the heads that only train; a dict as cache decodes step by step."""',
        f"    return self._trunk({ins}, Context(positions, documents, cache)){pick}",
    ]


def _inputs(writer: Writer) -> list[str]:
    for name in writer.graph.inputs:
        writer.vars[Ref(name, name)] = writer.new(name)
    return list(writer.vars.values())


def _returned(model: Model, writer: Writer) -> list[str]:
    """The outputs by name; a stacked one without copies is left out."""
    found = []
    for name, ref in model.outputs.items():
        value, node = writer.value(ref), model.nodes.get(ref.node)
        listed = node and node.mode == "repeat" and node.roles.get(ref.port) != "carried"
        if 0 in model.type(ref).shape:
            continue
        consumed = any(ref in n.sources.values() for n in model.nodes.values())
        found.append(f'"{name}": torch.stack({value})' if listed and not consumed else f'"{name}": {value}')
    return found


def _loss_arguments(model: Model, writer: Writer) -> str:
    refs = dict.fromkeys(loss.output for loss in model.losses if loss.output and loss.depths)
    return ", ".join([*(f"{writer.value(model.outputs[o])}" for o in refs), "targets", "ctx"])


# -- losses ----------------------------------------------------------------------------------------


def _losses(model: Model) -> list[str]:
    if not model.losses:
        return []
    if len({loss.target for loss in model.losses if loss.target}) > 1:
        raise DsvError("the losses of one model predict one input", model.losses[0].span, code=Code.NOT_LOWERED)
    outputs = list(dict.fromkeys(loss.output for loss in model.losses if loss.output and loss.depths))
    taken = reserved() | {"B", "T", "losses", "loss", "total", "depth", "valid"}
    names = {o: variable(o, taken) for o in outputs}
    body = [line for loss in model.losses for line in _loss(loss, names, model)]
    sizes = ["    B, T = targets.shape"] if {"B", "T"} & _open_names(model) else []
    return [
        "",
        f"def losses(self, {', '.join([*names.values(), 'targets', 'ctx'])}):",
        '    """The weighted sum under "loss", and each by name."""',
        *sizes,
        "    losses, loss = {}, 0.0",
        *body,
        '    return {"loss": loss, **losses}',
    ]


def _open_names(model: Model) -> set[str]:
    trees = [t for loss in model.losses for t in (loss.weight, loss.shift, loss.divide) if t]
    return {name for tree in trees for name in tree.names()}


def _loss(loss: Loss, names: dict[str, str], model: Model) -> list[str]:
    place = f"  # {where(loss.span)}" if loss.span else ""
    if loss.kind == "sequence_balance":
        chosen = _chosen(loss, model)
        wanted = f"r in ctx.balance and re.fullmatch({chosen!r}, p)"
        some = f"sum(ctx.balance[r] for p, r in self.named_modules() if {wanted})"
        value = some if chosen else "sum(ctx.balance.values())"
        return [f'    losses["{loss.name}"] = {value}{place}', _added(loss, f'"{loss.name}"', "    ")]
    if loss.kind != "cross_entropy" or not loss.depths:
        return []
    value, tail = names[loss.output or ""], _tail(loss, model)
    deferred = bool(behind(model, model, model.outputs[loss.output or ""]))
    if loss.depths == (0,):
        return _scored(loss, f'"{loss.name}"', value, tail, deferred, "    ", place)
    head = f"    for depth, copy in enumerate({value}, 1):{place}"
    return [head, *_scored(loss, f'f"{loss.name}.{{depth}}"', "copy", tail, deferred, "        ", "")]


def _chosen(loss: Loss, model: Model) -> str:
    """A regular expression for the routers of a line, or nothing where it means all."""
    return "" if all(matches_all(loss.routers or "", p) for p in model.routers) else regex(loss.routers or "")


def _scored(loss: Loss, key: str, value: str, tail: str, deferred: bool, indent: str, place: str) -> list[str]:
    assert loss.shift is not None and loss.divide is not None
    function = "head_cross_entropy" if deferred else "cross_entropy"
    return [
        f"{indent}total, valid = {function}({value}, targets, {_python(loss.shift)}{tail}){place}",
        f"{indent}losses[{key}] = total / {_python(loss.divide, inside=True)}",
        _added(loss, key, indent),
    ]


def _added(loss: Loss, key: str, indent: str) -> str:
    weight = _python(loss.weight, inside=True)
    return f"{indent}loss = loss + {weight} * losses[{key}]".replace("+ 1 * ", "+ ")


def _tail(loss: Loss, model: Model) -> str:
    """Fill positions that the shift does not leave out already."""
    ref = model.outputs[loss.output or ""]
    assert loss.shift is not None
    found = []
    for depth in loss.depths:
        reach = seen(model, ref, depth)
        shift = expr.evaluate(loss.shift, lambda name, d=depth: {"depth": d}[name])  # type: ignore[misc]
        found.append(reach.tail if reach.tail > shift - 1 else 0)
    if not any(found):
        return ""
    return f", {found[0]}" if loss.depths == (0,) else f", {found!r}[depth - 1]"


def _python(tree: Expr, inside: bool = False) -> str:
    """An expression as Python; ``inside`` a product it keeps its parentheses."""
    text = expr.to_text(tree, lambda name: "self.tokens_seen" if name == "tokens" else name)
    bare = text.startswith("(") and tree.op not in ("name", "number", "call")
    return text[1:-1] if bare and not inside else text


def _after_step(model: Model) -> list[str]:
    """Once per optimizer step: biases move, counts begin anew."""
    updates = [loss for loss in model.losses if loss.kind == "bias_update"]
    if not any(v.node.callee == "router" for v in walk(model)):
        return []
    lines = [
        "",
        "def after_step(self):",
        '    """Once per optimizer step, after it: biases move, counts begin anew."""',
    ]
    for loss in updates:
        chosen = _chosen(loss, model)
        some = f" and re.fullmatch({chosen!r}, path)" if chosen else ""
        lines += [
            "    for path, router in self.named_modules():" if chosen else "    for router in self.modules():",
            f"        if isinstance(router, Router){some}:",
            f"            router.update_bias({_python(loss.weight)})",
        ]
    if not updates or any(_chosen(loss, model) for loss in updates):
        lines += [
            "    for router in self.modules():",
            "        if isinstance(router, Router):",
            "            router.tokens_per_expert.zero_()",
        ]
    return lines
