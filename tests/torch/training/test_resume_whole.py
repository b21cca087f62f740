"""A run with all that training keeps goes on bit for bit, and its metrics go to other places too."""

from __future__ import annotations

import io
import signal

import pytest
from rich.console import Console
from runs import checkpoint, plain, records, refused, run, small
from test_run_folder import same_run, signal_at

from dsvgraph.backends.training import MetricLog
from dsvgraph_torch.training import logs

quick = pytest.fixture(autouse=True)(plain)
ALL = dict(
    optimizer="muon", ema=0.9, accumulate=2, schedule="wsd", decay=0.5, checkpoint_activations=True,
    lr_for=(("**.experts.**", 0.5),), lr=0.02, save_every=100,
)  # fmt: skip


def test_a_run_of_everything_goes_on_bit_for_bit(tmp_path, monkeypatch):
    model = small()
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole", model, **ALL)
    for number, name in ((1, signal.SIGHUP), (2, signal.SIGTERM)):
        with monkeypatch.context() as patch:
            signal_at(patch, number, name)
            assert run(tmp_path, model, resume=number > 1, **ALL).interrupted
    assert not run(tmp_path, model, resume=True, **ALL).interrupted
    same_run(tmp_path, tmp_path / "whole")
    assert {path.name for path in checkpoint(tmp_path / "run").iterdir()} == {
        "model.safetensors", "optimizer.safetensors", "ema.safetensors", "checkpoint.json",
    }  # fmt: skip


class Unread(io.StringIO):
    """Output whose reader is gone after the first line."""

    def write(self, text):
        if self.getvalue():
            raise BrokenPipeError
        return super().write(text)


def test_output_that_nobody_reads_ends_a_run_that_is_saved(tmp_path):
    model, console = small(num_nextn_predict_layers=0), Console(file=Unread(), width=200)
    assert run(tmp_path, model, console, steps=9, save_every=9).interrupted
    step = len(records(tmp_path))
    assert step < 9 and (tmp_path / f"run/checkpoint-{step}").is_dir()
    assert not run(tmp_path, model, resume=True).interrupted


# -- TensorBoard, Weights & Biases, trackio ----------------------------------------------------------


def test_tensorboard_reads_what_the_json_lines_say(tmp_path, monkeypatch):
    """After a resume too: what was taken again is there once."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model = small()
    with monkeypatch.context() as patch:
        signal_at(patch, 3, signal.SIGINT)
        run(tmp_path, model, log=["tensorboard"])
    run(tmp_path, model, resume=True)
    found = events.EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    lines = records(tmp_path, timed=True)
    for tag, values in {
        "loss": [(r["step"], r["loss"]) for r in lines],
        "losses/mtp.2": [(r["step"], r["losses"]["mtp.2"]) for r in lines],
        "heldout/next_token": [(r["step"], r["heldout"]["next_token"]) for r in lines if "heldout" in r],
    }.items():
        scalars = [(e.step, e.value) for e in found.Scalars(tag)]
        assert [step for step, _ in scalars] == [step for step, _ in values]
        assert [value for _, value in scalars] == pytest.approx([value for _, value in values], rel=1e-6)


def test_a_logger_that_is_not_installed_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(logs.MODULES, MetricLog.TRACKIO, "no_such_library")
    words = refused(tmp_path, log=["trackio"])
    assert "--log trackio: `no_such_library` is not installed" in words and "dsvgraph[trackio]" in words
    assert not (tmp_path / "run").exists()
