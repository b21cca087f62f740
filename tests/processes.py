"""Programs that tests start."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a program, so that a checkout needs no installation."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, **(more or {})}


def with_package(example: Path, place: Path) -> dict[str, str]:
    """The environment of a program that has the wheel of the package ``example``, unpacked in ``place``."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=example, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(place)
    return {**os.environ, "PYTHONPATH": str(place), "NO_COLOR": "1", "COLUMNS": "100"}


def run_module(env: Mapping[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    """Run a module of Python from the root of the repository."""
    return subprocess.run([sys.executable, "-m", *args], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
