"""From a spec to its model: the root graph, the losses, the sections by path."""

from __future__ import annotations

from typing import Any

from dsvgraph.build import losses
from dsvgraph.build.body import Body
from dsvgraph.build.builder import Builder
from dsvgraph.build.ports import root_type
from dsvgraph.build.scope import BlockValue, Scope
from dsvgraph.dims import names
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model, Node, join, walk
from dsvgraph.spec import Part, Spec
from dsvgraph.types import Init

INITS = {"normal": 1, "zeros": 0, "ones": 0}


def build(spec: Spec) -> Model:
    """The checked model of ``spec``; raises DsvError with every independent mistake."""
    builder = Builder(spec)
    part = spec.graph
    if part.model.args:
        raise DsvError("the graph has no arguments: its values stand in `config`", part.key("args"))
    scope: Scope = builder.config
    inputs = {n: root_type(raw, scope, part.value("in", n)) for n, raw in part.model.inputs.items()}
    for type_ in inputs.values():
        builder.positions |= {n for s in type_.shape[:2] for n in names(s)} - set(spec.config)
    builder.length = next((t.shape[1] for t in inputs.values() if t.rank > 1), None)
    model = Model(spec.name, spec.doc, {}, inputs, spec=spec, span=part.key())
    for name in spec.config:
        builder.config.get(name)
    Body(builder, model, part, Scope(builder.config.values, builder.library)).run()
    model.config = dict(builder.config.values)
    check_paths(model)
    model.losses = losses.build(model, spec.loss, scope)
    model.init = tuple((p, _init(v, scope)) for p, v in spec.init.items())
    model.trained = tuple((p, bool(v.model)) for p, v in spec.trained.items())
    return model


def _init(part: Part, scope: Scope) -> Init:
    """One initialisation: `zeros`, `ones`, {normal: std}."""
    raw: Any = part.model
    if isinstance(raw, str):
        raw = {raw: None}
    kind = next(iter(raw), "") if isinstance(raw, dict) and len(raw) == 1 else ""
    if kind not in INITS:
        raise DsvError(f"`{part.model}` is no initialisation", part.value(), hint=f"there are {', '.join(INITS)}")
    if not INITS[kind]:
        return Init(kind)
    value = scope.value(raw[kind], part.value(kind))
    if isinstance(value, (str, BlockValue)) or not isinstance(value, (int, float)) or value < 0:
        words = scope.blame(value) or f"`{kind}` needs a number of at least 0, found `{value}`"
        raise DsvError(words, part.value(kind), hint=scope.near(value))
    return Init(kind, float(value))


def check_paths(model: Model) -> None:
    """Raises DsvError where two weights would have one name."""
    owners: dict[str, Node] = {}
    for visit in walk(model):
        for weight in visit.node.weights:
            path = join(visit.path, weight)
            if path in owners:
                notes = [("and of this", owners[path].span)]
                words = f"`{path}` would be the name of two weights, of this line"
                raise DsvError(words, visit.node.span, notes=notes, hint="give one of them another `at`")
            owners[path] = visit.node
