"""What `dsvgraph runs` reports of a training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class RunState(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"  # somebody asked it to stop: it can be resumed
    KILLED = "killed"  # its process is gone: it can be resumed
    DIVERGED = "diverged"
    FAILED = "failed"
    DAMAGED = "damaged"  # its files cannot be read


@dataclass(frozen=True)
class RunSummary:
    """One run. Numbers are None where they are not known: ``steps``, where time alone ends it, is one of them.

    ``loss`` is the last training loss, ``heldout`` the last held-out loss of the first prediction, in nats;
    ``words`` says why a run failed or cannot be read.
    """

    path: Path
    state: RunState
    spec: str = ""
    step: int | None = None
    steps: int | None = None
    tokens: int | None = None
    loss: float | None = None
    heldout: float | None = None
    seconds: float | None = None
    words: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "path": str(self.path)}
