"""What a phase runs, and the records of what each op of it computes and moves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from dsvgraph.dims import Size
from dsvgraph.passes.estimate.bytes_moved import BytesMoved
from dsvgraph.passes.options import AttentionMode, Phase


class Role(StrEnum):
    """What an op does in a model; in this order parts are listed."""

    EMBEDDING = "embedding"
    ATTENTION = "attention"
    DENSE = "dense"
    EXPERTS = "experts"
    ROUTER = "router"
    NORMS = "norms"
    OUTPUT_LAYER = "head"
    EXTRA_HEADS = "extra heads"  # all that only other outputs than the first depend on


@dataclass(frozen=True)
class Workload:
    """What is run: ``batch`` rows of ``seq`` tokens, or of one (``queries``) behind ``context`` cached ones."""

    phase: Phase
    batch: int
    seq: int
    context: int
    attention: AttentionMode
    width: int  # bytes of a number
    all_outputs: bool  # whether what only other outputs need runs too
    queries: int = 1

    @property
    def rows(self) -> int:
        """New tokens of a row."""
        return self.queries if self.phase == Phase.DECODE else self.seq


class OpSizes(NamedTuple):
    """What an op takes in all its copies, as sizes in the names of the workload."""

    forward: Size = 0
    backward: Size = 0
    read: BytesMoved = BytesMoved()
    cache: Size = 0  # numbers kept for the whole context, with what windows forget left out
    kept: Size = 0  # bytes from a training step's forward to its backward


class OpCost(NamedTuple):
    """One op with all its copies: its path, and what its forward and backward compute and move."""

    path: str
    block: str
    role: Role
    op: str
    parameters: int = 0
    trained: int = 0  # of them, by gradients
    forward: float = 0  # FLOPs
    backward: float = 0
    read: float = 0  # bytes that the forward moves
    sizes: OpSizes = OpSizes()
