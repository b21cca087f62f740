"""What a verifier reports: the FLOPs of the cost beside those that were counted while the compiled model ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Pair:
    """FLOPs as the cost has them, and as they were counted."""

    ours: int
    counted: int

    @property
    def difference(self) -> int:
        """How many more were counted."""
        return self.counted - self.ours


@dataclass(frozen=True)
class Block:
    """One row of the cost, or one line of the spec, both ways."""

    path: str
    line: str
    block: str
    depth: int
    copies: int
    forward: Pair
    backward: Pair

    @property
    def equal(self) -> bool:
        """Whether both passes are equal to the unit."""
        return not (self.forward.difference or self.backward.difference)


@dataclass(frozen=True)
class Uncounted:
    """An op without a formula: its name, how often it ran, how many numbers it made."""

    op: str
    calls: int
    elements: int


@dataclass(frozen=True)
class Measurement:
    """One run of the compiled model: where, in which sizes, and what was counted.

    ``changed`` holds the config values of a reduced model that ran in place of the spec's own sizes. ``lines`` are
    the lines of the spec that differ, ``by_op`` all FLOPs that were counted, ``registered`` those of its ops for
    which the counter has no formula of its own. ``padding`` are products with zeros that a kernel needs, and
    ``recomputed`` work of the forward that the backward repeats: both are part of ``by_op`` and not of the cost.
    """

    device: str
    batch: int
    seq: int
    changed: Mapping[str, int]
    total: Block
    blocks: tuple[Block, ...]
    lines: tuple[Block, ...]
    by_op: Mapping[str, int]
    registered: tuple[str, ...]
    padding: int
    recomputed: int
    uncounted: tuple[Uncounted, ...]

    @property
    def equal(self) -> bool:
        """Whether the whole and every block are equal, forward and backward."""
        return self.total.equal and all(block.equal for block in self.blocks) and not self.lines


@dataclass(frozen=True)
class Step:
    """A training step with its losses, on the meta device, in the sizes of the first run.

    ``without_target`` are FLOPs of the forward that the cost counts and no loss needs, ``recomputed`` those of
    logits that the backward makes again, a chunk at a time.
    """

    forward: Pair
    backward: Pair
    without_target: int
    recomputed: int

    @property
    def equal(self) -> bool:
        """Whether both passes are equal to the unit."""
        return not (self.forward.difference or self.backward.difference)


@dataclass(frozen=True)
class Verification:
    """All runs of one model. ``backend`` and ``counter`` say in reports who counted: `torch`, `torch's ...`.

    ``step`` is None if the spec has no losses or freezes weights; ``skipped`` says why a run was left out.
    """

    name: str
    backend: str
    counter: str
    runs: tuple[Measurement, ...]
    step: Step | None = None
    skipped: str = ""

    @property
    def equal(self) -> bool:
        """Whether every run was equal to the cost."""
        return all(run.equal for run in self.runs) and (self.step is None or self.step.equal)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data; what was counted has the name of the backend."""
        runs = [{"equal": run.equal, **self._plain(run)} for run in self.runs]
        skipped = {"skipped": self.skipped} if self.skipped else {}
        step = self._plain(self.step) if self.step else None
        return {"name": self.name, "equal": self.equal, "attention": "square", **skipped, "runs": runs, "step": step}

    def _plain(self, record: Measurement | Step) -> dict[str, Any]:
        def named(fields: list[tuple[str, Any]]) -> dict[str, Any]:
            return {self.backend if name == "counted" else name: value for name, value in fields}

        return asdict(record, dict_factory=named)
