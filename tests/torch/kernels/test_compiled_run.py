"""`--compile`: a run through torch.compile is the run without it, and what torch.compile says is told in one line."""

from __future__ import annotations

import functools
import logging.handlers

import pytest
import torch
from runs import plain, quiet, records, run, small

from dsvgraph_torch.kernels.messages import CompilerMessages

quick = pytest.fixture(autouse=True)(plain)


def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile that traces, guards and recompiles, and leaves out code for the processor, which takes minutes."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))


def test_a_compiled_run_is_the_run_without(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With experts, of which each step gives each another number of rows; nothing is compiled after the first step."""
    traced(monkeypatch)
    model, console = small(num_nextn_predict_layers=0), quiet()
    for folder, compiled in (("plain", False), ("compiled", True)):
        (tmp_path / folder).mkdir()
        run(tmp_path / folder, model, console, compile=compiled, steps=3)
    for one, other in zip(records(tmp_path / "plain"), records(tmp_path / "compiled"), strict=True):
        assert one["losses"] == pytest.approx(other["losses"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
    assert "--compile" not in console.file.getvalue()


def test_what_torch_compile_says_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    traced(monkeypatch)
    logged = logging.handlers.BufferingHandler(1000)
    logged.setLevel(logging.WARNING)
    monkeypatch.setattr(logging.getLogger("torch._dynamo"), "handlers", [logged])
    monkeypatch.delenv("TORCH_LOGS", raising=False)
    times, messages, told = torch.compile(lambda x, n: x * n, dynamic=False), CompilerMessages(), []
    for step in range(1, 6):
        with messages.of_step(), torch._dynamo.config.patch(recompile_limit=3):
            times(torch.ones(step), step)
            logging.getLogger("torch._dynamo").error("an error is logged as ever")
        told += messages.lines(step)
    late = "compiled 1 more graphs, for layers that ran the first time or inputs of another shape"
    gave_up = (
        "torch compiled `<lambda>` 3 times, for inputs that differ (the last time: n == 3), and runs it uncompiled"
    )
    assert told == [f"--compile: step 3: {late}", f"--compile: step 4: {gave_up} from now on"]
    with messages.of_step():
        for _ in range(2):
            logging.getLogger("torch._inductor.utils").warning("Not enough SMs\n to use")
    assert [*messages.lines(7)] == ["--compile: step 7: Not enough SMs (2 times)"]
    assert [record.levelname for record in logged.buffer] == ["ERROR"] * 5
