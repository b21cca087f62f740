"""A run's folder is input like any other: what is damaged, changed, or no file is refused at once, with words."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from runs import SEVEN_LINES, checkpoint, plain, refused, run
from typer.testing import CliRunner

import dsvgraph
from dsvgraph.cli import app
from dsvgraph_torch.runs.schema import CheckpointAbout
from dsvgraph_torch.runs.tensors import load_tensors, save_tensors
from dsvgraph_torch.training import loop

quick = pytest.fixture(autouse=True)(plain)
GRAPH = dsvgraph.loads(SEVEN_LINES)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a run of two steps, and its text."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        plain(patch)
        run(folder, GRAPH, steps=2, save_every=1)
    return folder


@pytest.fixture
def folder(base, tmp_path):
    shutil.copytree(base, tmp_path / "copy")
    return tmp_path / "copy" / "run"


def told(*command: object) -> str:
    """The words with which a command ends: exit code 1, one error, and nothing of ours behind it."""
    result = CliRunner().invoke(app, [str(word) for word in command], prog_name="dsvgraph")
    assert result.exit_code == 1 and result.stderr.startswith("error"), (result.exit_code, result.output)
    assert result.stderr.count("error") == 1 and "internal" not in result.stderr
    return result.stderr


def both(folder: Path) -> str:
    """What both readers of a run say of it; they agree."""
    words = told("compile", folder / "spec.yaml", "--train", "--resume", "--steps", 3, "--out", folder)
    assert told("generate", folder) == words
    return words


def edited(folder: Path, change) -> None:
    """run.json after ``change``."""
    about = json.loads((folder / "run.json").read_text())
    change(about)
    (folder / "run.json").write_text(json.dumps(about))


# -- run.json ----------------------------------------------------------------------------------------

WRONG = {
    "another seed": (lambda a: a["options"].update(seed=7), "was changed since the run was started"),
    "another rate": (lambda a: a["options"].update(lr=0.5), "was changed since the run was started"),
    "another text": (lambda a: a["data"].update(sha256="0" * 64), "was changed since the run was started"),
    "a word for a number": (lambda a: a["options"].update(steps="4"), "options.steps: a whole number is expected"),
    "a list for a number": (lambda a: a["options"].update(seed=[1]), "options.seed: a whole number is expected"),
    "a number for a path": (lambda a: a["options"].update(data=3), "options.data: "),
    "an unknown option": (lambda a: a["options"].update(momentum=1), "options.momentum: is no known name"),
    "no options": (lambda a: a.pop("options"), "options: is missing"),
    "a list of options": (lambda a: a.update(options=[]), "options: "),
    "no data": (lambda a: a.pop("data"), "data: is missing"),
    "a result that is none": (lambda a: a.update(result={"step": "2"}), "result.step: a whole number is expected"),
    "a loss that is none": (lambda a: a["result"]["heldout"].update(loss=float("nan")), "result.heldout.loss: "),
    "an unknown key": (lambda a: a.update(more=1), "more: is no known name"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_run_json_may_not_say(case, folder):
    change, words = WRONG[case]
    edited(folder, change)
    assert words in both(folder) and str(folder / "run.json") in both(folder).replace("\n", "")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff", "[" * 100_000, '{"options": 1' + "0" * 9999])
def test_a_run_json_that_is_none(text, folder):
    (folder / "run.json").write_bytes(text.encode("latin-1"))
    assert f"{folder / 'run.json'} is damaged" in both(folder)


def test_a_spec_that_was_changed_is_not_that_of_the_weights(folder):
    """A number that no shape depends on: strict loading would not see it."""
    text = (folder / "spec.yaml").read_text()
    (folder / "spec.yaml").write_text(text.replace("name: ", "name: another "))
    assert "spec.yaml was changed since the run was started" in told("generate", folder)
    (spec := folder.parent / "spec.yaml").write_text(text)
    assert "spec.yaml was changed since" in told("compile", spec, "--weights", folder).replace("\n", " ")


# -- checkpoints -------------------------------------------------------------------------------------


def resaved(folder: Path, name: str, change) -> None:
    """A file of the checkpoint after ``change``, by somebody who makes the digests fit."""
    path = checkpoint(folder) / name
    tensors, step = load_tensors(path)
    save_tensors(path, *(change(tensors, step) or (tensors, step)))
    redigested(path.parent)


def redigested(path: Path) -> None:
    about = CheckpointAbout.model_validate_json((path / "checkpoint.json").read_bytes())
    digests = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in about.sha256}
    (path / "checkpoint.json").write_text(about.model_copy(update={"sha256": digests}).model_dump_json())


MOMENTS = {
    "missing": (lambda t, s: t.pop("head.weight.exp_avg") is None or None, "lack `head.weight.exp_avg`"),
    "all of one weight": (
        lambda t, s: [t.pop(f"head.weight.{k}") for k in ("step", "exp_avg", "exp_avg_sq")] and None,
        "lack `head.weight.exp_avg`, `head.weight.exp_avg_sq`, `head.weight.step`",
    ),
    "a name that is none": (lambda t, s: t.update({"a.b.c.d": torch.ones(1)}), "have unknown `a.b.c.d`"),
    "of another shape": (lambda t, s: t.update({"head.weight.exp_avg": torch.ones(2)}), "torch.float32 [2], and"),
    "of other numbers": (
        lambda t, s: t.update({"head.weight.exp_avg": t["head.weight.exp_avg"].int()}),
        "is torch.int32 [256, 4], and the optimizer's is torch.float32 [256, 4]",
    ),
    "of another step": (lambda t, s: (t, 1), "is of step 1, and its checkpoint of step 2"),
}


@pytest.mark.parametrize("case", MOMENTS)
def test_moments_that_are_not_the_optimizers(case, folder):
    change, words = MOMENTS[case]
    resaved(folder, "optimizer.safetensors", change)
    message = refused(folder.parent, GRAPH, resume=True, steps=3)
    assert words in message and "optimizer.safetensors" in message


def test_weights_that_are_not_the_specs(folder):
    resaved(folder, "model.safetensors", lambda t, s: t.pop("head.weight") is None or None)
    assert "are not those of its spec" in both(folder) and "head.weight" in both(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "nonsense", "folder", "pipe", "loop"])
def test_a_checkpoint_that_is_not_whole(name, damage, folder):
    path = checkpoint(folder) / name
    damaged(path, damage)
    assert str(checkpoint(folder)) in both(folder)


def damaged(path: Path, damage: str) -> None:
    whole = path.read_bytes()
    path.unlink()
    {
        "gone": lambda: None,
        "empty": lambda: path.write_bytes(b""),
        "cut": lambda: path.write_bytes(whole[: len(whole) // 2]),
        "nonsense": lambda: path.write_bytes(b"\xff" * len(whole)),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "loop": lambda: path.symlink_to(path.name),
    }[damage]()


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"step": 9}, "it is of step 9"),
        ({"step": "2"}, "step: a whole number is expected"),
        ({"run": "0" * 64}, "belongs to another run"),
        ({"sha256": {}}, "sha256: "),
        ({"sha256": {"../../text": "0" * 64, "model.safetensors": "0" * 64}}, "sha256.../../text"),
    ],
)
def test_what_checkpoint_json_may_not_say(about, words, folder):
    path = checkpoint(folder) / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | about))
    assert words in both(folder).replace("\n", " ")


def test_a_checkpoint_that_is_gone_is_missed(folder):
    shutil.rmtree(checkpoint(folder))
    assert "holds no checkpoint, and run.json says that there was one" in both(folder)
    (folder / "checkpoint-2").write_text("no folder")
    assert "checkpoint-2 is no folder" in both(folder)


# -- metrics and other files -------------------------------------------------------------------------

LINES = {
    "no JSON": ("{", "this is not JSON"),
    "not an object": ("[1]", " is expected"),
    "a step that is none": ('{"step": "1"}', "step: a whole number is expected"),
    "no losses": ('{"step": 1, "tokens": 1, "lr": 1.0}', "losses: is missing"),
    "a loss that is none": ('{"step": 1, "tokens": 1, "lr": 1.0, "losses": {"next_token": null}}', "losses.next_token"),
    "another loss": ('{"step": 1, "tokens": 1, "lr": 1.0, "losses": {"b": 1.0}}', "it has no loss `next_token`"),
    "another step": ('{"step": 2, "tokens": 1, "lr": 1.0, "losses": {"next_token": 1.0}}', "it is of step 2"),
    "no text": ("\xff", "this is not JSON"),
}


@pytest.mark.parametrize("case", LINES)
def test_a_line_of_metrics_that_is_broken(case, folder):
    line, words = LINES[case]
    path = folder / "metrics.jsonl"
    path.write_bytes(line.encode("latin-1") + b"\n" + path.read_bytes().split(b"\n", 1)[1])
    message = refused(folder.parent, GRAPH, resume=True, steps=3)
    assert f"{path}:1 is damaged" in message and words in message


def test_metrics_that_end_before_the_checkpoint(folder):
    (folder / "metrics.jsonl").unlink()
    assert "ends with step 0, and the checkpoint is of step 2" in refused(folder.parent, GRAPH, resume=True, steps=3)


@pytest.mark.parametrize("name", ["spec.yaml", "run.json", "metrics.jsonl", "losses.png", "diagram.svg", ".lock"])
@pytest.mark.parametrize("damage", ["pipe", "folder", "loop"])
def test_what_is_no_file_is_refused_and_not_waited_for(name, damage, folder):
    (folder / name).touch()
    damaged(folder / name, damage)
    message = refused(folder.parent, GRAPH, resume=True, steps=3)
    assert str(folder / name) in message and ("regular file" in message or "symbolic links" in message)
    if name in ("spec.yaml", "run.json"):
        assert str(folder / name) in told("generate", folder).replace("\n", "")


def test_what_a_new_run_writes_is_never_a_pipe(tmp_path, monkeypatch):
    """Somebody puts one there while it trains."""
    original = loop.take_step

    def step(*args):
        if not (tmp_path / "run/losses.png").exists():
            os.mkfifo(tmp_path / "run/losses.png")
        return original(*args)

    monkeypatch.setattr(loop, "take_step", step)
    assert "losses.png is not a regular file" in refused(tmp_path, GRAPH, steps=1)
    assert checkpoint(tmp_path / "run").name == "checkpoint-1"
