"""What a run refuses, how it stops and goes on, and that its folder never holds half a file."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from faults import largest_file
from runs import TEXT, checkpoint, plain, quiet, records, refused, run, small

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph_torch.runs.folder import default_folder
from dsvgraph_torch.runs.tensors import load_tensors, save_tensors
from dsvgraph_torch.training import loop, preflight
from dsvgraph_torch.training.options import TrainOptions

quick = pytest.fixture(autouse=True)(plain)


def signal_at(monkeypatch, number, *signals):
    """Sends this process ``signals`` within the optimizer step ``number``, counted from now."""
    original, count = loop.take_step, iter(range(1, 10**6))

    def step(*args):
        metrics = original(*args)
        if next(count) == number:
            for name in signals:
                signal.raise_signal(name)
        return metrics

    monkeypatch.setattr(loop, "take_step", step)


# -- refused before anything is written --------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(steps=0), "--steps: a number of at least 1 is expected, got 0"),
        (dict(seq=1), "--seq: "),
        (dict(lr=-1.0), "--lr: "),
        (dict(save_every=0), "--save-every: "),
        (
            dict(precision="float8"),
            "--precision: `float32`, `bfloat16`, `pure-bf16` or `fp8` is expected, got 'float8'",
        ),
        (dict(dtype="bfloat16"), "--dtype: training has --precision"),
        (dict(schedule="step"), "--schedule: `cosine`, `wsd` or `constant` is expected, got 'step'"),
        (dict(device="warp"), "--device: warp cannot be used"),
        (dict(device="meta"), "--device: meta cannot be used"),
        (dict(momentum=0.9), "--momentum: is no known name"),
        (dict(batch=1000), "--data: "),
        (dict(seq=2), "--seq: mtp.2 predicts token i + 3; a row of 2 tokens has none"),
    ],
)
def test_options_that_make_no_sense(tmp_path, options, words):
    assert words in refused(tmp_path, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there(tmp_path):
    assert "--device: cuda cannot be used" in refused(tmp_path, device="cuda")


def test_bytes_need_256_logits(tmp_path):
    message = refused(tmp_path, small(vocab_size=255))
    assert "`logits` has 255 logits, but text is read as bytes, which are 256" in message
    assert "--set vocab_size=256" in message and not (tmp_path / "run").exists()


def test_more_logits_than_bytes_train_and_are_never_sampled(tmp_path):
    assert run(tmp_path, small(vocab_size=300), steps=1).sample


def test_a_model_without_a_loss(tmp_path):
    text = dsvgraph.show(small())
    head = text[: text.index("\nloss:")]
    assert "has no loss that predicts a token" in refused(tmp_path, dsvgraph.loads(head))


def test_a_model_larger_than_memory_is_not_allocated(tmp_path):
    message = refused(tmp_path, dsvgraph.load("deepseek_v3"))
    assert "training DeepSeek-V3 takes 10,922.2 GB or more (682,636,487,424 parameters" in message
    assert not (tmp_path / "run").exists()


def test_memory_that_runs_out_is_told():
    with pytest.raises(DsvError, match="out of memory"), preflight.memory_errors():
        torch.empty(2**62, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="another"), preflight.memory_errors():
        raise RuntimeError("another")


# -- the folder --------------------------------------------------------------------------------------


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path, steps=1, out=tmp_path / "empty").step == 1


def test_a_folder_that_cannot_be_made(tmp_path):
    message = refused(tmp_path, out=tmp_path / "text" / "run")
    assert f"{tmp_path / 'text' / 'run'}" in message


def test_the_default_folder_is_the_name_of_the_model():
    assert str(default_folder("DeepSeek-V3 (tiny)/../x")) == "runs/deepseek-v3-tiny-..-x"
    assert str(default_folder("../..")) == str(default_folder("")) == "runs/model"


def test_nothing_to_resume(tmp_path):
    assert f"{tmp_path / 'run'} holds no run: there is no run.json in it" in refused(tmp_path, resume=True)
    assert "holds no run" in refused(tmp_path, resume=True, out=tmp_path / "text")


@pytest.fixture(scope="module")
def resumable(tmp_path_factory):
    """The folder of a run of four steps that was stopped after two."""
    folder = tmp_path_factory.mktemp("resumable")
    with pytest.MonkeyPatch.context() as patch:
        plain(patch)
        signal_at(patch, 1, signal.SIGINT)
        assert run(folder).step == 1
    return folder


def same_run(one, two):
    """Weights, moments and metrics are those of one and the same run, to the byte."""
    a, b = (checkpoint(folder / "run") for folder in (one, two))
    assert {p.name: p.read_bytes() for p in a.iterdir()} == {p.name: p.read_bytes() for p in b.iterdir()}
    assert a.name == b.name and records(one) == records(two)


def test_sigterm_stops_a_run_as_ctrl_c_does(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole")
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        signal_at(patch, 3, signal.SIGTERM)
        assert run(tmp_path).interrupted
    assert signal.getsignal(signal.SIGTERM) == before
    assert not run(tmp_path, resume=True).interrupted
    same_run(tmp_path, tmp_path / "whole")


def test_a_second_ctrl_c_ends_at_once_and_a_run_never_saved_starts_again(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        signal_at(patch, 1, signal.SIGINT, signal.SIGINT)
        run(tmp_path)
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    console = quiet()
    run(tmp_path, resume=True, console=console)
    assert "no checkpoint: the run was stopped before the first, and begins again" in console.file.getvalue()
    same_run(tmp_path, tmp_path / "whole")


def test_a_run_goes_on_from_another_folder_with_the_options_it_had(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    signal_at(monkeypatch, 2, signal.SIGINT)
    run(Path(), batch=2, seq=8)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    options = TrainOptions.given(out=tmp_path / "run", resume=True, steps=3)
    assert loop.train(small(), options, quiet()).step == 3
    assert [r["tokens"] for r in records(tmp_path)] == [16, 32, 48]


def test_the_way_to_go_on_can_be_pasted(tmp_path, monkeypatch):
    signal_at(monkeypatch, 1, signal.SIGINT)
    console = quiet()
    run(tmp_path, console=console, out=tmp_path / "my run")
    command = console.file.getvalue().splitlines()[-1]
    spec, folder = tmp_path / "my run" / "spec.yaml", tmp_path / "my run"
    wanted = ["dsvgraph", "compile", str(spec), "--train", "--out", str(folder), "--resume"]
    assert shlex.split(command) == wanted


def test_a_finished_run_may_be_measured_again_or_train_longer(tmp_path):
    first = run(tmp_path, steps=2)
    again = run(tmp_path, steps=2, resume=True)
    assert again.heldout == first.heldout and again.sample == first.sample
    assert run(tmp_path, steps=3, resume=True).step == 3 and len(records(tmp_path)) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(batch=8), "--batch: the run was started with 4, and 8 would be another run"),
        (dict(lr=0.5), f"--lr: the run was started with {TrainOptions().lr}, and 0.5 would be another run"),
        (dict(seed=3), "--seed: the run was started with 0"),
    ],
)
def test_a_resumed_run_stays_the_run_it_was(resumable, options, words):
    message = refused(resumable, resume=True, **options)
    assert words in message and "--out" in message


def test_a_resumed_run_needs_its_spec_and_its_text(resumable):
    assert "is of another spec" in refused(resumable, small(hidden_size=32), resume=True)
    (resumable / "more").write_bytes(TEXT + b"!")
    assert "is not the text that the run" in refused(resumable, resume=True, data=resumable / "more")
    (resumable / "moved").write_bytes(TEXT)
    assert run(resumable, resume=True, data=resumable / "moved").step == 4
    assert "--steps: the run has taken 4 steps, more than 3" in refused(resumable, resume=True, steps=3)


# -- failures on the way -----------------------------------------------------------------------------


def test_losses_that_are_no_numbers_end_a_run_and_spare_what_was_saved(tmp_path, monkeypatch):
    original = loop.learning_rate
    monkeypatch.setattr(loop, "learning_rate", lambda step, o: 1e38 if step == 3 else original(step, o))
    message = refused(tmp_path)
    assert "training diverged at step 4: " in message and "nan" in message and "--lr" in message
    tensors, step = load_tensors(checkpoint(tmp_path / "run") / "optimizer.safetensors")
    assert step == 2 and all(tensor.isfinite().all() for tensor in tensors.values())


def test_tensors_that_do_not_fit_leave_the_old_ones(tmp_path):
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"a": torch.ones(10)}, 1)
    with largest_file(4096), pytest.raises(DsvError, match=f"cannot write {path}"):
        save_tensors(path, {"a": torch.zeros(100_000)}, 2)
    tensors, step = load_tensors(path)
    assert step == 1 and torch.equal(tensors["a"], torch.ones(10)) and os.listdir(tmp_path) == [path.name]


def test_files_of_a_run_may_be_read_by_those_who_read_the_others(tmp_path):
    run(tmp_path, steps=1)
    assert len({p.stat().st_mode for p in (tmp_path / "run").rglob("*") if p.is_file()}) == 1


def test_options_that_were_not_given_are_not_set():
    options = TrainOptions.given(steps=3, lr=None)
    assert options.lr == TrainOptions().lr and options.model_fields_set == {"steps"}


def test_a_disk_without_room_is_told_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: SimpleNamespace(free=100_000))
    message = refused(tmp_path)
    assert f"--out: no room in {tmp_path / 'run'}: a run of DeepSeek-V3-tiny takes " in message
    assert "0.1 MB are free" in message and not (tmp_path / "run").exists()
