"""Programs that tests start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a program, so that a checkout needs no installation."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, **(more or {})}
