"""Runs that go wrong: spikes are told, nothing good is overwritten, and what does not end is ended."""

from __future__ import annotations

import json
import random

import pytest
from runs import SEVEN_LINES, plain, quiet, records, refused, run

import dsvgraph
from dsvgraph_torch.training import guard, heldout, loop
from dsvgraph_torch.training.guard import LEAST, WINDOW, Guard

quick = pytest.fixture(autouse=True)(plain)
GRAPH = dsvgraph.loads(SEVEN_LINES)


def judged(losses, norms=None, limit=8.0):
    found = Guard(limit)
    norms = norms or [1.0] * len(losses)
    return [bool(found.judge(loss, norm)) for loss, norm in zip(losses, norms)]


def test_noise_is_no_spike_and_a_spike_is_one():
    chance = random.Random(0)
    usual = [5 * 0.99**n + chance.gauss(0, 0.05) for n in range(300)]
    assert not any(judged(usual))
    spiked = [*usual[:200], usual[199] * 3, *usual[200:]]
    assert [n for n, bad in enumerate(judged(spiked)) if bad] == [200]
    assert not any(judged(spiked, limit=0))


def test_gradients_out_of_proportion_are_told():
    norms = [1.0] * 40 + [25.0] + [1.0] * 10
    assert [n for n, bad in enumerate(judged([2.0] * 51, norms)) if bad] == [40]


def test_the_first_steps_are_not_judged_and_a_spike_is_no_measure():
    assert not any(judged([1.0] * (LEAST - 1) + [9.0]))
    assert judged([1.0] * WINDOW + [9.0] * 10)[-10:] == [True] * 10


@pytest.fixture
def spiking(monkeypatch):
    """Takes steps whose loss is ten times as high where it is asked to be."""
    original, steps = loop.take_step, set()

    def step(*args):
        taken = original(*args)
        if int(args[6].split()[-1]) in steps:
            taken.values = {name: x if name in ("loss", "grad_norm") else 10 * x for name, x in taken.values.items()}
        return taken

    monkeypatch.setattr(loop, "take_step", step)
    monkeypatch.setattr(guard, "LEAST", 3)
    return steps


def saved(folder):
    return sorted(int(path.name.split("-")[1]) for path in (folder / "run").glob("checkpoint-*"))


def test_no_checkpoint_is_saved_in_a_spike(tmp_path, spiking, monkeypatch):
    spiking.update({6, 7, 8})
    seen, console = [], quiet()
    take = loop.Trainer.run_step
    monkeypatch.setattr(loop.Trainer, "run_step", lambda *args: (take(*args), seen.append(saved(tmp_path))))
    run(tmp_path, GRAPH, steps=10, save_every=1, console=console)
    assert seen == [[], [1], [2], [3], [4], [5], [5], [5], [5], [9]] and saved(tmp_path) == [10]
    told = [line for line in console.file.getvalue().splitlines() if "no checkpoint is saved" in line]
    assert len(told) == 1 and told[0].startswith("step 6: the loss is ")
    assert [r["step"] for r in records(tmp_path) if "spike" in r] == [6, 7, 8]


def test_a_run_that_ends_in_a_spike_keeps_the_good_checkpoint(tmp_path, spiking):
    spiking.add(8)
    run(tmp_path, GRAPH, steps=8, save_every=1)
    assert saved(tmp_path) == [7, 8]


def test_a_spike_without_end_ends_the_run(tmp_path, spiking, monkeypatch):
    monkeypatch.setattr(guard, "PATIENCE", 4)
    spiking.update(range(6, 99))
    words = refused(tmp_path, GRAPH, steps=99, save_every=1)
    assert words.startswith("error: training diverged at step 9: the loss is ") and saved(tmp_path) == [5]
    stopped = json.loads((tmp_path / "run/run.json").read_text())["stopped"]
    assert (stopped["reason"], stopped["step"]) == ("diverged", 9)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path, monkeypatch):
    """The step that broke them had a finite loss: they were found before they replaced what was saved."""
    original = loop.learning_rate
    monkeypatch.setattr(loop, "learning_rate", lambda position, o: 1e39 if position == 3 else original(position, o))
    words = refused(tmp_path, GRAPH, steps=4, save_every=1, eval_every=100)
    assert "training diverged at step 3: " in words and "is no number" in words and saved(tmp_path) == [2]


# -- which checkpoints stay --------------------------------------------------------------------------


def test_the_newest_stay_and_the_best(tmp_path, monkeypatch):
    losses = iter([9, 5, 4, 3, 6, 7, 8, 8])
    monkeypatch.setattr(heldout, "evaluate", lambda *args: {"loss": 0.0, "next_token": float(next(losses, 9))})
    run(tmp_path, GRAPH, steps=6, save_every=1, eval_every=100, keep=2, keep_best=True)
    assert saved(tmp_path) == [4, 5, 6]
    found = [json.loads((tmp_path / f"run/checkpoint-{n}/checkpoint.json").read_text())["heldout"] for n in (4, 5, 6)]
    assert found == [3, 6, 7]


def test_how_many_stay_may_change(tmp_path):
    run(tmp_path, GRAPH, steps=3, save_every=1, keep=3)
    assert saved(tmp_path) == [1, 2, 3]
    run(tmp_path, GRAPH, steps=5, keep=2, resume=True)
    assert saved(tmp_path) == [4, 5]
