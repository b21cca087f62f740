"""A time budget of training: when it ends a run, how the learning rate falls by then, and how a run is resumed.

The clock is not the real one: each step takes ten seconds.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from runs import SEVEN_LINES, checkpoint, plain, quiet, records, refused, run

import dsvgraph
from dsvgraph_torch.training import loop, schedule
from dsvgraph_torch.training.options import TrainOptions
from dsvgraph_torch.training.schedule import Schedule, learning_rate

quick = pytest.fixture(autouse=True)(plain)
GRAPH = dsvgraph.loads(SEVEN_LINES)
STEP = 10.0


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that only training moves."""
    now = SimpleNamespace(seconds=1000.0)

    def timed(*args, **more):
        now.seconds += STEP
        return take(*args, **more)

    take = loop.take_step
    monkeypatch.setattr(loop, "take_step", timed)
    monkeypatch.setattr(schedule, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def said(folder, **options):
    """What a run prints, and its result."""
    console = quiet()
    options = dict(eval_every=None, save_every=None, lr=1.0) | options
    return console, run(folder, GRAPH, console=console, **options)


def test_time_ends_a_run_as_the_last_step_does(tmp_path):
    console, result = said(tmp_path, steps=400, minutes=2)
    assert (result.step, result.interrupted) == (12, False) and result.heldout and result.sample
    told = console.file.getvalue()
    assert "--minutes 2: ended after step 12 of 400" in told and "going on" not in told
    assert checkpoint(tmp_path / "run").name == "checkpoint-12"
    about = json.loads((tmp_path / "run/run.json").read_text())
    assert about["options"]["minutes"] == 2 and about["result"]["step"] == 12
    assert [r["seconds"] for r in records(tmp_path, timed=True)] == [STEP * n for n in range(1, 13)]


def test_steps_end_a_run_that_has_time_left(tmp_path):
    console, result = said(tmp_path, steps=6, minutes=60)
    said(tmp_path, steps=6, out=tmp_path / "other")
    assert result.step == 6 and "--minutes" not in console.file.getvalue()
    assert records(tmp_path) == records(tmp_path, "other")


def test_the_rate_goes_by_time_where_time_is_further(tmp_path):
    """Warm-up in the first twentieth of the time, then the cosine to a tenth of the peak."""
    said(tmp_path, steps=400, minutes=10)
    rates = [r["lr"] for r in records(tmp_path)]
    assert len(rates) == 60 and rates[0] == 1 / 20
    shares = [STEP * n / 600 for n in range(60)]
    assert rates[1:] == pytest.approx(
        [learning_rate(400 * share, TrainOptions(steps=400, lr=1.0)) for share in shares[1:]]
    )
    top = rates.index(max(rates))
    assert 0.05 <= shares[top] < 0.07 and rates[top:] == sorted(rates[top:], reverse=True)
    assert 0.1 < rates[-1] < 0.11


def test_a_run_is_measured_and_told_at_each_tenth_of_its_time(tmp_path):
    console, _ = said(tmp_path, steps=4000, minutes=5)
    measured = [r["step"] for r in records(tmp_path) if "heldout" in r]
    assert measured == [1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    lines = [line.split()[1] for line in console.file.getvalue().splitlines() if line.startswith("step ")]
    assert lines == [f"{step}/30" for step in measured]


def test_a_killed_run_goes_on_with_the_time_it_has_left(tmp_path, clock, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loop, "FINAL_TOKENS", None)  # no measure at the end: the process is gone by then
        with pytest.raises(TypeError):
            said(tmp_path, steps=400, minutes=1)
    assert len(records(tmp_path)) == 6
    clock.seconds += 3600  # until somebody looks
    console, result = said(tmp_path, resume=True, steps=None, lr=None, minutes=2)
    assert result.step == 12 and "going on after step 6" in console.file.getvalue()
    words = "since its schedule is over 400 steps or 2 minutes and was over 400 steps or 1 minutes"
    assert (
        f"--minutes: the learning rate goes from {records(tmp_path)[5]['lr']:.4g} at step 6" in console.file.getvalue()
    )
    assert words in console.file.getvalue()


def test_a_run_that_time_has_ended_is_finished(tmp_path):
    _, first = said(tmp_path, steps=400, minutes=1)
    before = (tmp_path / "run/run.json").read_bytes()
    _, again = said(tmp_path, resume=True, steps=None, lr=None)
    assert again == first and (tmp_path / "run/run.json").read_bytes() == before


def test_a_step_is_taken_however_short_the_time(tmp_path):
    _, result = said(tmp_path, steps=400, minutes=1e-9)
    assert result.step == 1 and not result.interrupted


def test_the_last_step_is_told_ahead():
    clock = Schedule(TrainOptions(steps=400, minutes=1), spent=15.0)
    assert (clock.last(10), clock.last(200)) == (40, 400)
    assert not clock.over(10) and clock.over(400) and not clock.over(0)


@pytest.mark.parametrize("minutes", [0, -1, float("inf"), float("nan")])
def test_minutes_that_are_no_time(tmp_path, minutes):
    assert refused(tmp_path, GRAPH, minutes=minutes).startswith("error: --minutes: ")
