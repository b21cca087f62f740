"""Which weights of a run are read: the newest, their average, or those of the lowest held-out loss."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from runs import SEVEN_LINES, plain, run
from safetensors.torch import load_file
from typer.testing import CliRunner

import dsvgraph
from dsvgraph.backends import ProbeOptions
from dsvgraph.backends.training import RunWeights
from dsvgraph.cli import app
from dsvgraph.errors import DsvError
from dsvgraph_torch.decoding.source import read_source
from dsvgraph_torch.probing.subject import opened

FILES = {
    RunWeights.LAST: "checkpoint-6/model.safetensors",
    RunWeights.EMA: "checkpoint-6/ema.safetensors",
    RunWeights.BEST: "checkpoint-4/model.safetensors",
}


def trained(folder, **options):
    with pytest.MonkeyPatch.context() as patch:
        plain(patch)
        run(folder, dsvgraph.loads(SEVEN_LINES), steps=6, lr=1e-2, **options)
    return folder / "run"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run whose checkpoint of step 4 has the lowest held-out loss."""
    found = trained(tmp_path_factory.mktemp("ema"), ema=0.9, keep=3)
    for step, loss in ((2, 5.0), (4, 1.0), (6, 3.0)):
        path = found / f"checkpoint-{step}" / "checkpoint.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"heldout": loss}))
    return found


def same(module, path):
    want = load_file(path)
    return all(torch.equal(weight, want[name]) for name, weight in module.state_dict().items())


@pytest.mark.parametrize("weights", RunWeights)
def test_generate_and_probe_read_what_is_asked_for(folder, weights):
    assert same(read_source(folder, weights=weights).module, folder / FILES[weights])
    subject = opened(folder, ProbeOptions(weights=weights))
    subject.load(subject.stages[-1])
    assert same(subject.module, folder / FILES[weights])
    assert subject.stages[-1].step == (4 if weights is RunWeights.BEST else 6)
    assert [w for w in RunWeights if same(subject.module, folder / FILES[w])] == [weights]


def said(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert "Traceback" not in done.output
    return done.exit_code, " ".join(done.output.split())


def test_the_commands_take_it(folder):
    texts = {
        said("generate", folder, "--tokens", 9, "--temperature", 0, "--weights", weights) for weights in RunWeights
    }
    assert {code for code, _ in texts} == {0}
    short = ["--measure", 64, "--no-gradients", "--json"]
    steps = [json.loads(said("probe", folder, *short, "--weights", w)[1])["newest"]["step"] for w in RunWeights]
    assert steps == [6, 6, 4]
    assert said("generate", folder, "--weights", "first")[0] == 2


def test_what_is_not_there_is_refused(folder, tmp_path):
    other = trained(tmp_path, eval_every=100)
    with pytest.raises(DsvError, match="holds no average of the weights"):
        read_source(other, weights=RunWeights.EMA)
    path = other / "checkpoint-6" / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"heldout": None}))
    with pytest.raises(DsvError, match=r"no checkpoint in .* has a held-out loss"):
        read_source(other, weights=RunWeights.BEST)
    with pytest.raises(DsvError, match="all checkpoints, not --weights ema"):
        opened(folder, ProbeOptions(weights=RunWeights.EMA, over_training=True))
    weights = tmp_path / "weights"
    shutil.copytree(folder / "checkpoint-6", weights)
    assert "--weights best:" in said("probe", weights, "--weights", "best", "--text", "abc")[1]
    (weights / "config.json").write_text("{}")
    assert "is no run: it holds the weights of one moment" in said("generate", weights, "--weights", "ema")[1]
