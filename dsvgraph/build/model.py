"""From a spec to its model: the root graph, the losses, the sections by path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dsvgraph.build.body import Body
from dsvgraph.build.builder import Builder
from dsvgraph.build.checks.freezing import check_stacks
from dsvgraph.build.checks.inserted import check_inserted
from dsvgraph.build.checks.paths import check_paths
from dsvgraph.build.losses.lines import build_losses
from dsvgraph.build.ports import root_inputs
from dsvgraph.build.scope import Scope
from dsvgraph.build.state import BuildCache
from dsvgraph.codes import Code
from dsvgraph.dims import names
from dsvgraph.errors import DsvError, Fault
from dsvgraph.graph import Model
from dsvgraph.names import nearest
from dsvgraph.spec import Spec, SpecPart, WrittenLine
from dsvgraph.types import Init, InitKind, shown

MAX_PATTERNS = 500  # of one section


def build(spec: Spec, cache: BuildCache | None = None) -> Model:
    """Return the checked model of ``spec``. Raise DsvError with every independent mistake.

    ``cache`` holds blocks from builds of the same spec under other settings, which models then share.

    >>> from dsvgraph.spec import read
    >>> build(read("deepseek_v3_tiny")).name
    'DeepSeek-V3-tiny'
    """
    try:
        return _Building(spec, cache).run()
    except RecursionError:
        raise DsvError("the spec nests too deep", spec.graph.key(), code=Code.TOO_MUCH) from None


class _Building:
    """One model on its way, and the mistakes found so far."""

    def __init__(self, spec: Spec, cache: BuildCache | None) -> None:
        self.spec = spec
        self.errors: list[DsvError] = []
        self.builder = Builder(spec, cache)
        self.scope: Scope = self.builder.config

    def run(self) -> Model:
        for name in self.spec.config:
            self.guard(partial(self.builder.config.get, name))
        model: Model | None = self.guard(self.start)
        if model is None:
            raise DsvError.collect(self.errors)
        self.guard(Body(self.builder, model, self.spec.graph, self.scope).run)
        whole = not self.errors
        config = self.builder.config
        model.config = {name: config.done[name] for name in config.config if name in config.done}
        model.losses = build_losses(model, self.spec.loss, self.scope, self.errors, whole)
        model.init = self.by_path("init", self.spec.init, partial(init, scope=self.scope))
        model.trained = self.by_path("trained", self.spec.trained, lambda part: bool(part.model))
        self.stop()
        check_paths(model)
        check_stacks(model)
        if any("interleave_tokens" in {node.callee for node in graph.nodes.values()} for graph in model.graphs()):
            check_inserted(model)
        return model

    def by_path(self, section: str, parts: Mapping[str, SpecPart], value: Callable[[SpecPart], Any]) -> tuple[Any, ...]:
        """Return the patterns of a section with what they say."""
        if len(parts) > MAX_PATTERNS:
            words = f"`{section}` has at most {MAX_PATTERNS} patterns, found {len(parts):,}"
            raise DsvError(words, list(parts.values())[MAX_PATTERNS].key(), code=Code.TOO_MUCH)
        return tuple((pattern, self.guard(partial(value, part))) for pattern, part in parts.items())

    def guard(self, action: Callable[[], Any]) -> Any:
        """Return what ``action`` gives, or nothing where it finds a mistake."""
        try:
            return action()
        except DsvError as error:
            self.errors.append(error)
            return None

    def stop(self) -> None:
        if self.errors:
            raise DsvError.collect(self.errors)

    def start(self) -> Model:
        """Return the model with its inputs, still without nodes."""
        part = self.spec.graph
        if part.model.args:
            raise DsvError(
                "the graph has no arguments: its values stand in `config`", part.key("args"), code=Code.UNKNOWN_KEY
            )
        inputs = root_inputs(part, self.scope)
        running = [size for type_ in inputs.values() for size in type_.shape[:2]]
        self.builder.positions = frozenset[str]().union(*(names(size) for size in running))
        self.builder.lengths = tuple(dict.fromkeys(t.shape[1] for t in inputs.values() if t.rank > 1))
        return Model(self.spec.name, self.spec.doc, {}, inputs, spec=self.spec, span=part.key())


def init(part: SpecPart, scope: Scope) -> Init:
    """Return one initialisation: `zeros`, `ones`, {normal: std}. Raise DsvError if it is none."""
    raw = {part.model: None} if isinstance(part.model, str) else part.model
    line = WrittenLine.of(raw if isinstance(raw, dict) and len(raw) == 1 else {})
    kind = line.callee
    if kind not in [*InitKind]:
        hint = nearest(str(kind), [*InitKind]) or f"there are {', '.join(InitKind)}"
        raise DsvError(f"`{shown(part.model)}` is no initialisation", part.value(), code=Code.BAD_INIT, hint=hint)
    if not InitKind(kind).takes_number:
        if line.wired is not None:
            words = f"`{kind}` takes no number, found `{shown(line.wired)}`"
            raise DsvError(words, part.value(kind), code=Code.BAD_INIT)
        return Init(InitKind(kind))
    value = scope.value(line.wired, part.value(kind))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        words = f"`{kind}` needs a number of at least 0, found `{shown(value)}`"
        raise scope.fault(line.wired, value, part.value(kind), Fault(Code.BAD_INIT, words))
    return Init(InitKind(kind), float(value))
