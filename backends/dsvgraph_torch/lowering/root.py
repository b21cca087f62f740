"""The class of the whole model: forward with losses, predict without the heads."""

from __future__ import annotations

import ast

from dsvgraph.graph import Mode, Model, Node, Ref, join, walk
from dsvgraph.passes.graph.instances import fills
from dsvgraph.passes.graph.optional import optional_losses, skippable_lines
from dsvgraph.patterns import matches_all, ranged, regex
from dsvgraph.types import Init, InitKind
from dsvgraph_torch.lowering.analysis import shared
from dsvgraph_torch.lowering.body import GraphWriter
from dsvgraph_torch.lowering.forms import inputs, numbered
from dsvgraph_torch.lowering.losses.methods import (
    after_step_method,
    loss_weights_method,
    losses_method,
    scored_outputs,
)
from dsvgraph_torch.lowering.names import document, reserved
from dsvgraph_torch.lowering.sharing import ClassSource
from dsvgraph_torch.lowering.source import assign, block, expression, function, literal, path, statement, tree
from dsvgraph_torch.lowering.units import Class, Lowering
from dsvgraph_torch.lowering.writer import place, returning

Rule = tuple[str, float, float]

TARGETS = "targets are the token after each position: row[:, 1:] for row[:, :-1]"


def write(lowering: Lowering) -> ClassSource:
    """Return the root class, after the classes that it uses."""
    model = lowering.model
    lowering.skippable = skippable_lines(model)
    source = ClassSource(lowering.names[model], "", 0, {}, doc=document(model), base="Model")
    losses = [*losses_method(model), *loss_weights_method(model), *after_step_method(model)]
    source.body = [*_methods(lowering, source), *losses]
    source.constants = [assign("init", init_rules(model))]
    if lowering.ahead:
        source.constants.append(assign("looks_ahead", _reason(lowering.ahead)))
    source.init += [assign(f"self.{place}.fill", fill) for place, fill in fills(model).items()]
    if model.trained:
        rules = tuple((regex(p), t) for p, t in model.trained)
        source.init.append(statement("freeze(self, rules)", rules=rules))
    return source


def _reason(ahead: Node) -> str:
    """Return why a model cannot be decoded step by step."""
    words = "looks ahead, so the model cannot be decoded step by step, only by whole rows"
    return f"`{ahead.name}` ({place(ahead)}) {words}"


def init_rules(model: Model) -> tuple[tuple[str, float, float], ...]:
    """(pattern, mean, std): what ops say of weights that the spec does not name, then the spec."""
    rules = []
    for visit in walk(model):
        for name, weight in visit.node.weights.items():
            place = join(visit.path, name)
            if not any(matches_all(p, place) for p, _ in model.init):
                rules.append((place, *_init(weight.init)))
    rules = _grouped(rules) + [(regex(p), *_init(i)) for p, i in model.init]
    return tuple(dict.fromkeys(rules))


def _grouped(rules: list[Rule]) -> list[Rule]:
    """Return rules of folded paths as patterns; one for all paths of one end, where the end tells them apart."""
    ends: dict[str, set[tuple[float, float]]] = {}
    for owner, mean, std in rules:
        ends.setdefault(_end(owner), set()).add((mean, std))
    return [(rf"(.*\.)?{ranged(_end(p))}" if len(ends[_end(p)]) == 1 else ranged(p), a, b) for p, a, b in rules]


def _end(place: str) -> str:
    return ".".join(place.split(".")[-2:])


def _init(init: Init) -> tuple[float, float]:
    """Return mean and std of a weight's beginning."""
    return {InitKind.ZEROS: (0.0, 0.0), InitKind.ONES: (1.0, 0.0)}.get(init.kind, (0.0, init.value))


def _methods(lowering: Lowering, source: ClassSource) -> list[ast.stmt]:
    """_trunk: up to the first output; forward: everything; predict: the first output alone."""
    model = lowering.model
    first = next(iter(model.outputs))
    needed = model.needed([first])
    taken = reserved() | {"positions", "documents", "labels", "cache", "weights"}
    out = Class(source, taken=taken, shared=shared(model))
    writer = GraphWriter(lowering, out, lowering.root())
    args = inputs(writer)
    heads = [n for n in model.nodes.values() if n.name not in needed]
    trunk = [n for n in model.nodes.values() if n.name in needed]
    writer.nodes(trunk)
    trunk_lines, source.body = source.body, []
    writer.nodes(heads)
    values = passed(model, writer, trunk, heads, first)
    lines = [function("def _trunk(self, ctx):", returning(trunk_lines, values), args)]
    handed = assign(values, expression("self._trunk(*args, ctx)", args=[path(a) for a in args]))
    lines.append(_forward(lowering, args, [handed, *source.body, *_results(model, writer)]))
    source.body = []
    return [*lines, _predict(lowering, writer, args, len(values))]


def _forward(lowering: Lowering, args: list[str], body: list[ast.stmt]) -> ast.stmt:
    model = lowering.model
    types = {name: model.type(ref) for name, ref in model.outputs.items()}
    outs = ", ".join(f"{name} {type_}" for name, type_ in types.items() if 0 not in type_.shape)
    known = _context(lowering)
    if not model.losses:
        ctx = statement("ctx = Context(*known)", known=[*map(path, known)])
        return function("def forward(self):", [ctx, *body], args, f"{outs}.", known)
    doc = f"{outs}; losses, given targets (the token after each position"
    doc += ") or labels (the tokens)." if lowering.full else "; values are not checked)."
    ctx = statement("ctx = Context(*known, collect=targets is not None)", known=[*map(path, known)])
    given = _given(lowering, args, known)
    if optional_losses(model):
        given.append(statement("weights = self.loss_weights() if targets is not None else None"))
    options = ["targets", *known, *(["labels"] if lowering.full else [])]
    return function("def forward(self):", [*given, ctx, *body], args, doc, options)


def _context(lowering: Lowering) -> tuple[str, ...]:
    """Return what a caller may say of positions: nothing where rows have lengths of their own."""
    if len(lowering.model.lengths) > 1:
        return ()
    return ("positions", "documents") if lowering.full else ("positions",)


def _given(lowering: Lowering, args: list[str], known: tuple[str, ...]) -> list[ast.stmt]:
    """Return what makes or checks the targets, if a line of the loss has some: nobody trains on the ids themselves."""
    model = lowering.model
    row = dict(zip(model.inputs, args, strict=True)).get(model.target or "")
    if not row:
        return []
    if not lowering.full:
        test = "if targets is row or (targets is not None and targets.shape != row.shape):"
        return [block(test, [statement("raise ValueError(words)", words=literal(TARGETS))], row=path(row))]
    documents = path("documents") if "documents" in known else literal(None)
    given = "targets = next_tokens(row, targets, labels, documents_)"
    return [statement(given, row=path(row), documents_=documents)]


def _results(model: Model, writer: GraphWriter) -> list[ast.stmt]:
    """Return the end of forward: the losses, or the outputs."""
    returned = statement("return found", found=_returned(model, writer))
    if not model.losses:
        return [returned]
    outputs = [tree(writer.value(model.outputs[o])) for o in scored_outputs(model)]
    more = [path("weights")] if optional_losses(model) else []
    losses = statement("return self.losses(*outputs, targets, ctx, *more)", outputs=outputs, more=more)
    return [block("if targets is not None:", [losses]), returned]


def passed(model: Model, writer: GraphWriter, trunk: list[Node], heads: list[Node], first: str) -> list[str]:
    """Return what the trunk hands on: values that heads or outputs read, the first output last."""
    read = [r for n in heads for r in n.sources.values()] + list(model.outputs.values())
    made = {n.name for n in trunk}
    values = [name for r in read if r.node in made and (name := writer.forms.text(r, False))]
    last = writer.value(model.outputs[first])
    return [*[v for v in dict.fromkeys(values) if v != last], last]


def _predict(lowering: Lowering, writer: GraphWriter, args: list[str], handed: int) -> ast.stmt:
    model, first = lowering.model, list[ast.stmt]()
    doc = f"{next(iter(model.outputs))} alone, without the heads that only train"
    row = next((a for a, t in zip(args, model.inputs.values(), strict=True) if t.rank > 1), args[0])
    more = {"numbered": True} if numbered(lowering.root()) else {}
    known = _context(lowering)
    given = [path(name) for name in known]
    context = expression("Context(*known, cache=cache, row=row, **more)", known=given, row=path(row), more=more)
    options = ("cache", *known) if known else ()
    if not known:
        context, doc = expression("Context()"), f"{doc}."
    elif lowering.ahead:
        context = expression("Context(*known)", known=given)
        first = [block("if cache is not None:", [statement("raise ValueError(self.looks_ahead)")])]
        doc = f"{doc}; no cache, since it looks ahead."
    else:
        doc = f"{doc}; a dict as cache decodes step by step."
        if writer.contexts:  # inserted tokens are left out where there is a cache
            first = [block("if cache is None:", [statement("cache = {}")])]
    value = expression("self._trunk(*args, context)", args=[path(a) for a in args], context=context)
    result = value if handed == 1 else expression("value[-1]", value=value)
    if _in_list(model, next(iter(model.outputs.values()))):
        result = expression("torch.stack(result)", result=result)
    return function("def predict(self):", [*first, statement("return result", result=result)], args, doc, options)


def _returned(model: Model, writer: GraphWriter) -> dict[str, ast.expr]:
    """Return the outputs by name; a stacked one without copies is left out."""
    found = {}
    for name, ref in model.outputs.items():
        if 0 in model.type(ref).shape:
            continue
        template = "torch.stack(value)" if _in_list(model, ref) else "value"
        found[name] = expression(template, value=path(writer.value(ref)))
    return found


def _in_list(model: Model, ref: Ref) -> bool:
    """Return whether what copies make is still a list of their values: nothing in the model reads it stacked."""
    node = model.nodes.get(ref.node)
    listed = node is not None and node.mode is Mode.REPEAT and ref.port not in node.carried
    return listed and not any(ref in n.sources.values() for n in model.nodes.values())
