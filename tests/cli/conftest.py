"""Runs the command line, in this process or as a program of its own, on a spec that is small."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from processes import environment
from typer.testing import CliRunner

SMALL = """\
name: small
config: {d: 8, vocab: 256, layers: 2}
blocks:
  layer:
    args: {d, width: d * 2}
    in: {x: [B, T, d]}
    body:
      norm: {rms_norm: x}
      up:   {linear: norm, out: width}
      act:  {silu: up}
      down: {linear: act, out: d}
      y:    {add: [x, down]}
    out: {x: y}
graph:
  in:
    ids: int[B, T]
  body:
    embed: {embedding: ids, num: vocab, dim: d}
    trunk: {layer: embed, repeat: layers}
    head:  {linear: trunk, out: vocab}
  out: {logits: head}
loss:
  next: {cross_entropy: logits, target: ids, shift: 1}
"""


class Answer:
    """What a command said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        assert "Traceback" not in out + err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def dsv() -> Callable[..., Answer]:
    """``dsv("check", "deepseek_v3")``, in this process."""
    from dsvgraph.cli import app

    def run(*args: object) -> Answer:
        result = CliRunner().invoke(app, [str(a) for a in args], prog_name="dsvgraph")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Answer]:
    """``program("check", "deepseek_v3")``, as a process in an empty folder."""

    def run(*args: object, env: Mapping[str, str] | None = None, **options: Any) -> Answer:
        command = [sys.executable, "-m", "dsvgraph", *map(str, args)]
        options = {"capture_output": True, "cwd": tmp_path} | options
        done = subprocess.run(command, env=environment(env), timeout=60, **options)
        return Answer(done.returncode, *((s or b"").decode() for s in (done.stdout, done.stderr)))

    return run


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``small(old, new)`` writes the small spec with one text replaced; the folder is the current one."""
    monkeypatch.chdir(tmp_path)

    def write(old: str = "", new: str = "", name: str = "small.yaml") -> Path:
        assert old in SMALL
        Path(name).write_text(SMALL.replace(old, new, 1) if old else SMALL, encoding="utf-8")
        return Path(name)

    return write
