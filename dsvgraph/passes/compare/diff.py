"""What differs between two models, line by line, and what that changes in parameters and FLOPs.

Lines are compared block by block and by name, copies folded, so 61 against 62 layers is one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import Any, NamedTuple

from dsvgraph.build import build
from dsvgraph.dims import Size
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Model
from dsvgraph.graph.signature import loss_parts
from dsvgraph.passes.compare.lines import Change, ChangeKind, compare
from dsvgraph.passes.count.cost import Cost, cost
from dsvgraph.passes.count.generic import numeric_model
from dsvgraph.passes.graph.paths import SPAN, weights
from dsvgraph.spec import with_settings
from dsvgraph.types import AttentionPairs, shown

DEPTH = "num_nextn_predict_layers"  # Hugging Face's name for the depth of the MTP chain


@dataclass(frozen=True)
class ValueChange:
    """A config value, a loss's part or a pattern that differs; None where one side has none."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.name}: {self.after}"
        if self.after is None:
            return f"- {self.name}: {self.before}"
        return f"{self.name}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class Diff:
    """The differences between the models ``a`` and ``b``, and what each of the two costs."""

    a: str
    b: str
    changes: tuple[Change, ...]
    config: tuple[ValueChange, ...]
    losses: tuple[ValueChange, ...]
    sections: tuple[ValueChange, ...]  # init and trained, by path pattern
    costs: tuple[Cost, Cost]
    shared: int  # elements of the weights with one path and one shape in both

    def __bool__(self) -> bool:
        """Return whether anything differs but the names."""
        return bool(self.changes or self.config or self.losses or self.sections)

    def of(self, kind: str) -> tuple[Change, ...]:
        """Return the changes of one kind, a word of ChangeKind."""
        return tuple(c for c in self.changes if c.kind == kind)

    def deltas(self) -> dict[str, dict[str, float]]:
        """Return what the change adds to parameters, FLOPs and cache (negative: takes away)."""
        before, after = self.costs
        return {s: _minus(getattr(after, s), getattr(before, s)) for s in ("parameters", "flops", "kv_cache")}

    def as_dict(self) -> dict[str, Any]:
        """Return the diff as plain data, for ``--json``."""
        found: dict[str, Any] = {"a": self.a, "b": self.b}
        found.update({kind: [c.as_dict() for c in self.of(kind)] for kind in ChangeKind})
        for name in ("config", "losses", "sections"):
            found[name] = [vars(setting) for setting in getattr(self, name)]
        costs = {side: c.as_dict() for side, c in zip("ab", self.costs, strict=True)}
        for side in costs.values():
            del side["blocks"], side["symbolic"]
        return {**found, "shared": self.shared, "cost": {**costs, "delta": self.deltas()}}


def diff(a: Model, b: Model, batch: int = 1, seq: int = 4096, attention: str = AttentionPairs.CAUSAL) -> Diff:
    """Return what changes from ``a`` to ``b``, with the costs of both on ``batch`` rows of ``seq`` tokens.

    Raise DsvError if a cost cannot be counted.

    >>> import dsvgraph
    >>> before, after = (dsvgraph.load("deepseek_v3_tiny", {"num_hidden_layers": n}) for n in (2, 3))
    >>> [(str(change.kind), change.path) for change in diff(before, after).changes]
    [('resized', 'model.layers')]
    """
    a, b = numeric_model(a), numeric_model(b)
    costs = (
        cost(a, batch, seq, attention, formulas=False),
        cost(b, batch, seq, attention, formulas=False),
    )
    return Diff(
        a=a.name,
        b=b.name,
        changes=tuple(compare(a, b)),
        config=tuple(_settings(_texts(a.config), _texts(b.config))),
        losses=tuple(_losses(a, b)),
        sections=tuple(_settings(_sections(a), _sections(b))),
        costs=costs,
        shared=shared_parameters(a, b),
    )


def depths(
    model: Model,
    values: Iterable[int],
    batch: int = 1,
    seq: int = 4096,
    attention: str = AttentionPairs.CAUSAL,
    name: str = DEPTH,
    *,
    formulas: bool = True,
) -> list[Cost]:
    """Return what ``model`` costs at each depth of its MTP chain, the config value ``name``.

    Raise DsvError if the model's spec has no such value.

    >>> import dsvgraph
    >>> [cost.parameters.total for cost in depths(dsvgraph.load("deepseek_v3_tiny"), [0, 1])]
    [1678896, 2183456]
    """
    if model.spec is None or name not in model.spec.config:
        raise DsvError(f"`{model.name}` has no config value `{name}`, so its depth cannot be set")
    found = (build(with_settings(model.spec, {name: depth})) for depth in values)
    return [cost(m, batch, seq, attention, formulas=formulas) for m in found]


def _settings(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[ValueChange]:
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            yield ValueChange(name, before.get(name), after.get(name))


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: shown(v) for name, v in values.items()}


def _losses(a: Model, b: Model) -> Iterator[ValueChange]:
    """Yield lines that one side lacks, and the parts of the others that differ."""
    before, after = ({loss.name: loss_parts(loss) for loss in m.losses} for m in (a, b))
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            yield ValueChange(name, _joined(old), _joined(new))
        else:
            shared = {"depths"} if "none" in (old.get("depths"), new.get("depths")) else {*old, *new}
            sides = [{f"{name}.{p}": t for p, t in s.items() if p in shared} for s in (old, new)]
            yield from _settings(*sides)


def _joined(parts: Mapping[str, str] | None) -> str | None:
    return None if parts is None else ", ".join(f"{part} {text}" for part, text in parts.items())


def _sections(model: Model) -> dict[str, str]:
    inits = {f"init {pattern}": str(init) for pattern, init in model.init}
    return {**inits, **{f"trained {pattern}": shown(yes) for pattern, yes in model.trained}}


def _minus(after: Any, before: Any) -> dict[str, float]:
    numbers = {f.name: getattr(after, f.name) for f in fields(after)}
    return {n: v - getattr(before, n) for n, v in numbers.items() if isinstance(v, (int, float))}


# -- shared parameters --------------------------------------------------------------------------


class _Box(NamedTuple):
    """The numbers in a folded path, axis by axis, from and to; and the elements of one weight."""

    axes: tuple[tuple[int, int], ...]
    numel: int


_Key = tuple[str, tuple[Size, ...]]


def shared_parameters(a: Graph, b: Graph) -> int:
    """Return the elements of the weights that both models have at the same path and with the same shape.

    Copies are counted without writing them out.
    """
    ours, theirs = _boxes(a), _boxes(b)
    return sum(
        _common(one, other) * one.numel
        for key, boxes in ours.items()
        for one in boxes
        for other in theirs.get(key, ())
    )  # fmt: skip


def _boxes(model: Graph) -> dict[_Key, list[_Box]]:
    found: dict[_Key, list[_Box]] = {}
    for path, weight, _ in weights(model):
        axes = tuple((int(m[1]), int(m[2] or m[1])) for m in SPAN.finditer(path))
        box = _Box(axes, int(weight.numel))  # type: ignore[arg-type]
        found.setdefault((SPAN.sub("{}", path), weight.shape), []).append(box)
    return found


def _common(a: _Box, b: _Box) -> int:
    """Return how many paths two boxes have in common."""
    spans = zip(a.axes, b.axes, strict=True)
    return prod(max(0, min(x[1], y[1]) - max(x[0], y[0]) + 1) for x, y in spans)
