"""Bytes as formulas: a size, and weights that are read only if a token meets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from dsvgraph.codes import Code
from dsvgraph.dims import Size, total
from dsvgraph.errors import DsvError
from dsvgraph.graph import Node
from dsvgraph.ops.decoding import DecodingState, Past, State
from dsvgraph.ops.tape import FLOAT
from dsvgraph.passes.count.quantity import number


@dataclass(frozen=True)
class BytesMoved:
    """``always`` and, by the share s of tokens that meet them, bytes of which 1 - (1 - s)^n are read by n tokens."""

    always: Size = 0
    by_share: Mapping[Fraction, Size] = field(default_factory=dict)

    def __add__(self, other: BytesMoved) -> BytesMoved:
        shares = {**self.by_share, **other.by_share}
        return BytesMoved(
            self.always + other.always, {s: self.by_share.get(s, 0) + other.by_share.get(s, 0) for s in shares}
        )

    def __bool__(self) -> bool:
        return bool(self.always) or any(self.by_share.values())

    def times(self, factor: Size) -> BytesMoved:
        """Return the bytes of ``factor`` equal ops."""
        return BytesMoved(self.always * factor, {share: size * factor for share, size in self.by_share.items()})

    def value(self, values: Mapping[str, int], tokens: Size) -> float:
        """Return the bytes with numbers for the names, moved by ``tokens`` tokens."""
        n = float(number(tokens, values))
        parts = (float(number(size, values)) * (1 - (1 - float(share)) ** n) for share, size in self.by_share.items())
        return float(number(self.always, values)) + sum(parts, start=0.0)

    def formula(self, tokens: Size) -> str:
        """Return the formula of `value`, in Python's arithmetic."""
        parts = [
            f"{_factor(s)}*(1 - ({1 - share})**{_factor(tokens)})" for share, s in sorted(self.by_share.items()) if s
        ]
        return " + ".join([*([str(self.always)] if self.always or not parts else []), *parts])


def state_bytes(node: Node, state: DecodingState) -> Size:
    """Return the bytes of the states that an op reads and writes in a decoding step, in float32.

    Raise DsvError if the op reads earlier rows: what is computed over them is known of `attention` alone.
    """
    if any(isinstance(kept, Past) for kept in state.values()):
        words = f"what `{node.callee}` computes over earlier positions while decoding is not known"
        raise DsvError(words, node.span, code=Code.CACHE, hint="plan its training or a prefill")
    return 2 * FLOAT * total(kept.type.numel for kept in state.values() if isinstance(kept, State))


def _factor(size: Size) -> str:
    """Return a size as part of a product or a power."""
    return str(size) if str(size).isalnum() else f"({size})"


def total_bytes(parts: list[BytesMoved]) -> BytesMoved:
    """Return the sum of ``parts``."""
    found = BytesMoved()
    for part in parts:
        found = found + part
    return found
