"""`dsvgraph compile --weights`: what it tells, what it trains from, what it refuses."""

import io
import json
import shutil

import pytest
from typer.testing import CliRunner

from dsvgraph.cli import app, progress
from dsvgraph.errors import DsvError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from folders import randomised, same, tensors, write  # noqa: E402
from runs import QUICK, TEXT, plain, quiet, run, small  # noqa: E402

import dsvgraph_hf  # noqa: E402
import dsvgraph_torch  # noqa: E402
from dsvgraph.passes.text.show import show  # noqa: E402


def dsv(*args):
    result = CliRunner().invoke(app, [str(arg) for arg in args], prog_name="dsvgraph")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def spec(tmp_path):
    """A small spec as a file."""
    (tmp_path / "spec.yaml").write_text(show(small()))
    return tmp_path / "spec.yaml"


@pytest.fixture
def hub(tmp_path):
    """A folder with the weights of the spec, and its tensors."""
    state = randomised(dsvgraph_torch.compile(small())).state_dict()
    found = {name: weight.clone() for name, weight in state.items()}
    return write(tmp_path / "hub", found, num_hidden_layers=2), found


def test_what_was_loaded_is_told(spec, hub):
    folder, found = hub
    told = json.loads(dsv("compile", spec, "--weights", folder, "--json").stdout)
    assert told["loaded"] == {
        "folder": str(folder), "files": 1, "tensors": len(found), "bytes": sum(t.nbytes for t in found.values()),
        "dtypes": "F32", "dequantised": 0, "copies": 0, "left_out": 0,
    }  # fmt: skip
    assert told["parameters"] == sum(t.numel() for t in found.values())
    lines = dsv("compile", spec, "--weights", folder).stdout.splitlines()
    assert [line.split()[0] for line in lines[-8:]] == [
        "folder", "files", "tensors", "bytes", "dtypes", "dequantised", "copies", "left",
    ]  # fmt: skip


def test_a_folder_of_another_model_is_an_error_in_words(spec, hub):
    folder, _ = hub
    answer = dsv("compile", spec, "--weights", folder, "--set", "n_routed_experts=6")
    assert answer.exit_code == 1 and answer.stdout == ""
    assert "missing: model.layers.[1-3].mlp.experts.[4-5].** (18)" in answer.stderr
    asked = dsv("compile", spec, "--weights", folder, "--set", "n_routed_experts=6", "--json")
    assert json.loads(asked.stdout)["errors"][0]["notes"][0]["message"].startswith("missing: ")


def test_mtp_modules_are_left_out_on_request(spec, hub):
    folder, _ = hub
    less = ("compile", spec, "--weights", folder, "--set", "num_nextn_predict_layers=0")
    assert "--drop-mtp" in dsv(*less).stderr
    assert json.loads(dsv(*less, "--drop-mtp", "--json").stdout)["loaded"]["left_out"] > 10
    assert dsv("compile", spec, "--drop-mtp").exit_code == 2


def begun(folder):
    """The weights after one step that is too small to see, but for the selection bias, which has its own speed."""
    return {name: t for name, t in tensors(folder).items() if not name.endswith("e_score_correction_bias")}


def test_training_begins_with_them(spec, hub, tmp_path, monkeypatch):
    plain(monkeypatch)
    folder, found = hub
    (tmp_path / "text").write_bytes(TEXT)
    options = ("--steps", 1, "--lr", 1e-20, "--batch", 2, "--seq", 16, "--data", tmp_path / "text", "--device", "cpu")
    answer = dsv("compile", spec, "--weights", folder, "--train", *options, "--out", tmp_path / "run")
    assert answer.exit_code == 0, answer.stderr
    (tmp_path / "weights").mkdir()
    shutil.copy(tmp_path / "run" / "checkpoint-1" / "model.safetensors", tmp_path / "weights")
    after = begun(tmp_path / "weights")
    assert same(after, {name: found[name] for name in after})
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["options"]["weights"] == str(folder)


def test_a_run_may_begin_where_another_ended(hub, tmp_path, monkeypatch):
    """A run's folder is a folder of weights; a resumed run needs the one that it began with no more."""
    plain(monkeypatch)
    folder, _ = hub
    run(tmp_path, steps=2, weights=folder, lr=1e-20)
    first = tmp_path / "first"
    (tmp_path / "run").rename(first)
    run(tmp_path, steps=2, weights=first, lr=1e-20, save_every=1)
    shutil.rmtree(first)
    resumed = run(tmp_path, steps=3, resume=True)
    assert resumed.step == 3
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "run" / "checkpoint-3" / "model.safetensors", tmp_path / "copy")
    assert same(begun(tmp_path / "copy"), begun(folder))


def test_a_wrong_folder_is_refused_before_a_run_has_one(hub, tmp_path):
    folder, found = hub
    write(folder, {**found, "extra": torch.zeros(1)})
    options = QUICK | dict(weights=folder, out=tmp_path / "run")
    with pytest.raises(DsvError, match="1 unexpected"):
        dsvgraph_torch.train(small(), options, quiet())
    assert not (tmp_path / "run").exists()


def test_a_bar_is_drawn_where_there_is_a_terminal(hub, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    folder, found = hub
    seen = {}
    for terminal in (True, False):
        stream = io.StringIO()
        stream.isatty = lambda answer=terminal: answer
        with progress.bytes_done("loading", stream) as advance:
            dsvgraph_hf.fill(dsvgraph_torch.compile(small()), small(), folder, progress=advance)
        seen[terminal] = stream.getvalue()
    total = sum(t.nbytes for t in found.values())
    assert seen[False] == "" and "loading" in seen[True]
    assert f"{total / 1000:.1f}/{total / 1000:.1f} kB" in seen[True]
