"""The command line knows the op: it explains, checks, draws, trains and samples from it."""

from __future__ import annotations

from pathlib import Path

from click.testing import Result
from typer.testing import CliRunner

from dsvgraph.cli import app

SPEC = Path(__file__).parents[1] / "specs/gated_delta.yaml"


def run(*args: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in args], prog_name="dsvgraph")
    assert result.exit_code == 0, result.output
    return result


def test_it_is_explained_and_checked() -> None:
    assert "gated delta rule" in run("ops", "gated_delta").stdout.lower()
    run("check", "--strict", SPEC)


def test_it_is_drawn(tmp_path: Path) -> None:
    run("render", SPEC, "-o", tmp_path / "a.svg", "--depth", 3)
    assert "gated delta rule" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_it_is_trained_and_sampled(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run("compile", SPEC, "--train", "--steps", 2, "--seq", 16, "--batch", 2, "--out", out)
    assert run("generate", out, "--prompt", "def ", "--tokens", 4, "--temperature", 0).stdout
