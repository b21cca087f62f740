"""The primitive ops by name."""

from __future__ import annotations

from dsvgraph.ops import joined, pointwise, routing, sequence, weighted
from dsvgraph.ops.base import Op

__all__ = ["OPS", "Op"]


def _public(module: object) -> list[type[Op]]:
    found = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Op)]
    return [c for c in found if c.op and c.__module__ == module.__name__]  # type: ignore[attr-defined]


OPS: dict[str, type[Op]] = {
    cls.op: cls for module in (weighted, sequence, pointwise, joined, routing) for cls in _public(module)
}
