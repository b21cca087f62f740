"""A checkpoint is there whole or not at all, whatever happens while it is written; one training holds a run."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
from faults import at_call, largest_file, trained
from processes import environment
from runs import SEVEN_LINES, checkpoint, plain, quiet, records, refused, run, untimed
from safetensors import safe_open

import dsvgraph
import dsvgraph_torch
from dsvgraph.errors import DsvError
from dsvgraph_torch.runs import checkpoint as checkpoints
from dsvgraph_torch.runs.files import locked
from dsvgraph_torch.runs.folder import Run
from dsvgraph_torch.runs.tensors import save_tensors
from dsvgraph_torch.training import loop
from dsvgraph_torch.training.options import TrainOptions

HERE = Path(__file__).parents[1]
IDENTITY = "0" * 64
quick = pytest.fixture(autouse=True)(plain)


@pytest.fixture(scope="module")
def graph():
    return dsvgraph.loads(SEVEN_LINES)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- whole or not at all -----------------------------------------------------------------------------


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_at_any_call_leaves_the_checkpoint_before(tmp_path):
    """An error is told, or the new one is there: never both, never neither."""
    checkpoints.save(tmp_path, *trained(1.0), 1, IDENTITY)
    before, told = files(tmp_path), 0
    for number in count(1):
        try:
            with at_call(number, full):
                checkpoints.save(tmp_path, *trained(2.0), 2, IDENTITY)
        except DsvError as error:
            told += 1
            assert "No space left on device" in str(error)
            assert checkpoints.latest(tmp_path, IDENTITY).step in (1, 2)
            if (tmp_path / "checkpoint-2").exists():  # its name is there, and what failed is to wait for the disk
                checkpoints._remove(tmp_path / "checkpoint-2")
            assert files(tmp_path) == before
        else:
            break
    assert told > 12 and checkpoints.latest(tmp_path, IDENTITY).step == 2


@pytest.mark.parametrize("size", [0, 64, 400])
def test_a_file_that_does_not_fit_leaves_the_checkpoint_before(size, tmp_path):
    checkpoints.save(tmp_path, *trained(1.0), 1, IDENTITY)
    before = files(tmp_path)
    with largest_file(size), pytest.raises(DsvError, match=f"cannot write {tmp_path / 'checkpoint-2'}: File too large"):
        checkpoints.save(tmp_path, *trained(2.0), 2, IDENTITY)
    assert files(tmp_path) == before and os.listdir(tmp_path) == ["checkpoint-1"]


def test_a_run_whose_disk_fills_ends_with_an_error_and_goes_on(graph, tmp_path, monkeypatch):
    """At the last step too: the weights that are then used are those of the last step."""
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole", graph, steps=3, save_every=1)
    rename = os.rename

    def failing(source, target):
        if Path(target).name == "checkpoint-3":
            full()
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        assert "No space left" in refused(tmp_path, graph, steps=3, save_every=1)
    assert checkpoint(tmp_path / "run").name == "checkpoint-2"
    assert run(tmp_path, graph, resume=True, steps=3).step == 3
    assert files(checkpoint(tmp_path / "run")) == files(checkpoint(tmp_path / "whole/run"))


def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path):
    env = environment({"OMP_NUM_THREADS": "1"})
    env["PYTHONPATH"] += os.pathsep + os.pathsep.join([str(HERE), str(HERE.parent)])
    command = [sys.executable, str(HERE / "killing.py"), str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    saving, moments = map(int, done.stdout.split())
    assert saving > 12 and moments >= 8


def test_equal_runs_write_equal_bytes(graph, tmp_path):
    """The header too, which safetensors themselves would order by chance."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(tmp_path / name, graph, steps=1)
    one, two = (checkpoint(tmp_path / name / "run") for name in ("one", "two"))
    assert files(one) == files(two)
    with safe_open(one / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "step": "1"}


def test_any_kind_of_number_is_written_as_safetensors_read_it(tmp_path):
    kinds = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)
    tensors = {f"{i}": torch.tensor([[1, 0, 3]], dtype=kind) for i, kind in enumerate(kinds)}
    tensors |= {"scalar": torch.tensor(2.5), "none": torch.zeros(0, 4), "turned": torch.arange(6.0).reshape(2, 3).T}
    save_tensors(tmp_path / "a.safetensors", tensors, 7)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[n], t) and found[n].dtype == t.dtype for n, t in tensors.items())


# -- one training at a time --------------------------------------------------------------------------


def test_a_folder_that_is_trained_into_is_refused_and_left_alone(graph, tmp_path):
    run(tmp_path, graph, steps=2)
    before = files(tmp_path / "run")
    with locked(tmp_path / "run"):
        words = refused(tmp_path, graph, resume=True, steps=3)
    assert words.startswith(f"error: --out: process {os.getpid()} is training into {tmp_path / 'run'}")
    assert files(tmp_path / "run") == before
    assert run(tmp_path, graph, resume=True, steps=3).step == 3  # nobody holds it any more


def test_two_trainings_that_begin_at_once(graph, tmp_path, monkeypatch):
    """The second finds no folder, and is refused all the same."""
    second = []

    def step(*args):
        if not second:
            second.append(refused(tmp_path, graph))
            (tmp_path / "other").mkdir()
            second.append(refused(tmp_path, graph, resume=True))
        return original(*args)

    original = loop.take_step
    monkeypatch.setattr(loop, "take_step", step)
    run(tmp_path, graph, steps=2)
    assert "exists and is not empty" in second[0] and "is training into" in second[1]
    assert [record["step"] for record in records(tmp_path)] == [1, 2]


def test_a_new_folder_is_held_before_anything_is_in_it(tmp_path):
    run = Run(tmp_path / "run")
    with run.created(), pytest.raises(DsvError, match="is training into"), run.created():
        pytest.fail("two hold one folder")
    assert os.listdir(tmp_path / "run") == [".lock"]
    with run.created():  # a process that is gone holds nothing
        pass


def test_a_lock_of_a_process_that_is_gone_holds_nobody(graph, tmp_path):
    run(tmp_path, graph, steps=1)
    (tmp_path / "run/.lock").write_text("1")
    assert run(tmp_path, graph, resume=True, steps=2).step == 2


# -- a run that has ended ----------------------------------------------------------------------------


def test_a_finished_run_is_left_as_it_is(graph, tmp_path):
    first = run(tmp_path, graph, steps=2)
    before = files(tmp_path / "run")
    console = quiet()
    again = run(tmp_path, graph, steps=2, resume=True, console=console)
    assert (again.step, again.heldout, again.sample) == (2, first.heldout, first.sample)
    assert files(tmp_path / "run") == before and "held-out" in console.file.getvalue()


SCHEDULED = SEVEN_LINES.replace("shift: 1}", 'shift: 1, weight: "1 if tokens < 96 else 3"}')


def test_a_run_that_was_killed_before_its_result_is_measured_as_one_that_was_not(tmp_path, monkeypatch):
    """The loss is weighted as it is after the last step, and not as it is before the first."""
    graph = dsvgraph.loads(SCHEDULED)
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole", graph, steps=2)
    assert whole.heldout["loss"] == pytest.approx(3 * whole.heldout["next_token"])

    def killed(self, step):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Trainer, "finish", killed)
        run(tmp_path, graph, steps=2)
    assert run(tmp_path, graph, steps=2, resume=True).heldout == whole.heldout
    assert untimed(tmp_path / "run") == untimed(tmp_path / "whole/run")


def test_a_run_that_trains_longer_keeps_its_new_length(graph, tmp_path, monkeypatch):
    run(tmp_path, graph, steps=2, save_every=1)

    def killed(self, *args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Trainer, "finish", killed)
        run(tmp_path, graph, resume=True, steps=4)
    again = loop.train(graph, TrainOptions(out=tmp_path / "run", resume=True), quiet())
    assert again.step == 4


# -- who reads it ------------------------------------------------------------------------------------


def test_readers_take_the_newest_checkpoint_and_prove_it(graph, tmp_path):
    run(tmp_path, graph, steps=2, save_every=1)
    folder = tmp_path / "run"
    assert dsvgraph_torch.checkpoint(folder) == folder / "checkpoint-2"
    assert dsvgraph_torch.checkpoint(tmp_path) is None
    (folder / "checkpoint-1").mkdir()  # what a kill may leave of an old one
    assert dsvgraph_torch.checkpoint(folder) == folder / "checkpoint-2"
    (folder / "checkpoint-9").mkdir()
    for read in (dsvgraph_torch.checkpoint, dsvgraph_torch.generate):
        with pytest.raises(DsvError, match=r"cannot read .*checkpoint-9/checkpoint\.json: No such file"):
            read(folder)


def test_weights_of_another_step_are_no_part_of_a_checkpoint(graph, tmp_path):
    (tmp_path / "other").mkdir()
    run(tmp_path / "other", graph, steps=1)
    run(tmp_path, graph, steps=2)
    weights = tmp_path / "run/checkpoint-2/model.safetensors"
    weights.write_bytes((tmp_path / "other/run/checkpoint-1/model.safetensors").read_bytes())
    words = f"{weights} is damaged: it is not what was saved after step 2"
    assert words in refused(tmp_path, graph, resume=True, steps=3)
    with pytest.raises(DsvError, match="is not what was saved"):
        dsvgraph_torch.generate(tmp_path / "run")


def test_a_checkpoint_of_another_run_is_refused(graph, tmp_path):
    (tmp_path / "other").mkdir()
    run(tmp_path / "other", graph, steps=2, seed=1)
    run(tmp_path, graph, steps=1)
    (tmp_path / "other/run/checkpoint-2").rename(tmp_path / "run/checkpoint-2")
    assert "checkpoint-2 belongs to another run" in refused(tmp_path, graph, resume=True, steps=3)
