"""What `dsvgraph cost` says of its conventions, and how `--verify` ends."""

from __future__ import annotations

import os
import subprocess

import pytest

from dsvgraph.ops import OPS


def test_conventions_are_said(dsv):
    out = dsv("cost", "deepseek_v3").out
    assert out.startswith("DeepSeek-V3: 1 x 4,096 tokens, causal attention, nothing recomputed\n")
    full = dsv("cost", "deepseek_v3", "--attention", "full", "--recompute", "full").out
    assert full.startswith("DeepSeek-V3: 1 x 4,096 tokens, full attention, the forward recomputed\n")
    for name in ("active", "active without embedding", "active without embedding and head", "active all outputs"):
        assert f"\nparameters, {name} " in out
    assert "\nparameters, routers " in out


def test_recomputation_is_one_more_forward(dsv):
    plain = dsv("cost", "deepseek_v3", "--json").json["flops"]
    again = dsv("cost", "deepseek_v3", "--recompute", "full", "--json").json["flops"]
    assert (plain["recompute"], again["recompute"]) == ("none", "full")
    assert again["train"] - plain["train"] == plain["forward"]
    assert plain["train"] == plain["forward"] + plain["backward"]
    assert {n: again[n] for n in ("forward", "backward")} == {n: plain[n] for n in ("forward", "backward")}


def test_formulas_that_are_not_shown_are_named(dsv):
    out = " ".join(dsv("cost", "deepseek_v3").out.split())
    assert "longer ones, sums of these, are in --json: dense (decoder_layer), sparse (decoder_layer), mtp" in out
    blocks = dsv("cost", "deepseek_v3", "--json").json["blocks"]
    assert all(block["formula"] for block in blocks if block["line"] == "dense")
    assert "key" not in blocks[0]


def test_counting_needs_no_torch(program):
    answer = program("cost", "deepseek_v3", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert answer.code == 0
    imported = {line.rpartition("|")[2].strip() for line in answer.err.splitlines()}
    assert "dsvgraph.passes.count.cost" in imported
    assert not {"torch", "numpy", "sympy"} & imported


def test_verify(dsv, small):
    torch = pytest.importorskip("torch")
    answer = dsv("cost", small(), "--verify", "--batch", 3, "--seq", 20)
    assert answer.code == 0
    assert "small: the compiled module under torch's FlopCounterMode, attention as whole squares" in answer.out
    assert "on the meta device  the spec's own sizes  3 x 20 tokens  2 blocks  equal" in answer.out
    assert "trunk.[0-1]" in answer.out
    assert "DIFFER" not in answer.out
    assert "aten.silu (" in answer.out  # counted by nobody
    found = dsv("cost", small(), "--verify", "--batch", 3, "--seq", 20, "--json").json
    assert found["equal"] is True
    first, real = found["runs"]
    linear, gains = 2 * 60 * (2 * 2 * 8 * 16 + 8 * 256), 2 * 60 * 2 * 8
    assert first["total"]["forward"] == {"ours": linear + gains, "torch": linear + gains}
    assert (real["device"], real["changed"]) == ("cpu", {})
    assert {u["op"] for u in first["uncounted"]} >= {"aten.silu", "aten.embedding"}
    assert found["step"]["forward"]["torch"] == linear + gains
    assert torch.is_grad_enabled()


def test_verify_knows_lines_of_files_with_spaces(dsv, small):
    pytest.importorskip("torch")
    assert dsv("cost", small(name="my own spec.yaml"), "--verify", "--seq", 20).code == 0


def test_verify_fails_on_a_difference(dsv, small, monkeypatch):
    pytest.importorskip("torch")
    right = OPS["linear"].flops
    monkeypatch.setattr(OPS["linear"], "flops", lambda *args: right(*args) + 1)
    answer = dsv("cost", small(), "--verify", "--seq", 20)
    assert answer.code == 1
    assert "\ndifferences on the meta device\n" in answer.out
    rows = [line.split() for line in answer.out.splitlines() if line.startswith("trunk.[0-1] (")]
    assert ["trunk.[0-1]", "(trunk,", "layer)", "forward", "21,124", "21,120", "-4"] in rows
    assert ["trunk.[0-1]", "(up,", "small.yaml:9)", "forward", "10,242", "10,240", "-2"] in rows
    found = dsv("cost", small(), "--verify", "--json")
    assert found.code == 1
    assert found.json["equal"] is False
    assert {line["line"] for line in found.json["runs"][0]["lines"]} == {"up", "down", "head"}


def test_verify_shows_what_it_does_on_a_terminal(program, small):
    pytest.importorskip("torch")
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    pipes = {"capture_output": False, "stdout": subprocess.PIPE, "stderr": theirs}
    answer = program("cost", small().resolve(), "--verify", "--seq", 20, env={"TERM": "xterm", "NO_COLOR": ""}, **pipes)
    shown = os.read(ours, 100_000).decode()
    assert answer.code == 0
    assert "running it" in shown
    assert "running it" not in answer.out


def test_verify_needs_something_that_can_be_compiled(dsv, small):
    pytest.importorskip("torch")
    answer = dsv("cost", small("int[B, T]", "int[B]"), "--verify")
    assert answer.code == 1
    assert "error[" in answer.err
