"""`dsvgraph probe` on a trained run."""

from __future__ import annotations

import json

import pytest
import torch
from runs import newest, plain, run
from typer.testing import CliRunner

from dsvgraph.backends.probes import ProbeOptions
from dsvgraph.cli import app
from dsvgraph.errors import DsvError
from dsvgraph_torch.data.tokens import BYTES
from dsvgraph_torch.probing.heads import heads_of
from dsvgraph_torch.probing.passage import passage, windows
from dsvgraph_torch.probing.prober import probe
from dsvgraph_torch.probing.recording import recorded
from dsvgraph_torch.probing.subject import opened
from dsvgraph_torch.runs.folder import Run


@pytest.fixture(scope="module")
def found(trained):
    return probe(trained, ProbeOptions(mtp_matrix=True, measured=3000, device="cpu"))


def test_the_declared_wiring_wins(found):
    assert found.matrix.wirings[0].declared and len(found.matrix.wirings) == 16
    assert found.matrix.margin > 10
    for control in found.matrix.controls.values():
        for right, wrong in zip(found.matrix.declared.agreement, control):
            assert right.value - wrong.value > 10 * (right.error + wrong.error)


def test_numbers_are_the_run_s(trained, found):
    """The losses of the probe are those that training measured at its end, on the same rows."""
    about = json.loads((trained / "run.json").read_text())
    measured = probe(trained, ProbeOptions(measured=65536, gradients=False, device="cpu")).newest
    assert {row.name: row.loss.value for row in measured.scores} == pytest.approx(
        {name: about["result"]["heldout"][name] for name in ("next_token", "mtp.1", "mtp.2")}, rel=1e-4
    )
    assert not measured.gradients and found.newest.gradients
    assert found.newest.step == 80 and found.newest.tokens == 80 * 8 * 48


def test_a_text_longer_than_a_row_is_read_in_windows(trained):
    """Each token as one row of its own that ends there would have it, where the window begins at the same place."""
    subject = opened(trained, ProbeOptions(measured=100, device="cpu"))
    subject.load(subject.stages[-1])
    module, context = subject.module, subject.row_tokens
    ids = list(b"72 bottles of beer on the wall, 72 bottles.\n4 bottles of beer on the wall, 4 bottles.\n1 bott")
    said = passage(module, heads_of(subject.graph), ids, BYTES, context)
    assert "".join(said.tokens) == bytes(ids).decode()
    starts = [start for start, _ in windows(len(ids), context)]
    assert starts == [0, 24, 48] and len(ids) > 24 + context
    for place in (1, 20, *range(46, 52), *range(70, 76), len(ids) - 1):
        start = max(s for s in starts if s == 0 or place - 1 - s >= context // 2)
        with torch.no_grad():
            p = module(torch.tensor([ids[start:place]]))["logits"][0, -1].softmax(-1)
        assert said.probability["next_token"][place] == pytest.approx(float(p[ids[place]]), rel=1e-3, abs=1e-6)
        assert said.confidence["next_token"][place] == pytest.approx(float(p.max()), rel=1e-3)
        assert said.likeliest["next_token"][place] == chr(int(p.argmax()))
    assert said.probability["mtp.2"][:3] == (None, None, None) and None not in said.probability["mtp.2"][3:]


def test_the_command_says_what_the_probe_says(trained, found, tmp_path):
    args = ["probe", str(trained), "--measure", "3000", "--device", "cpu", "--text", "7 bottles of beer on the wall"]
    shown = CliRunner().invoke(app, args)
    assert shown.exit_code == 0, shown.output
    row = found.newest.acceptance[0]
    assert f"{100 * row.agreement.value:.1f} ± {100 * row.agreement.error:.1f} %" in shown.output
    assert "7 bottles of beer on the wall" in shown.output
    told = json.loads(CliRunner().invoke(app, [*args, "--json", "--no-gradients"]).output)
    assert told["newest"]["acceptance"][0]["agreement"]["value"] == row.agreement.value
    assert told["passage"]["tokens"] == list("7 bottles of beer on the wall")


def test_what_cannot_be_probed_is_said(trained, tmp_path):
    for folder, options, words in [
        (tmp_path / "no", {}, "is no folder"),
        (tmp_path, {}, "holds neither a run (run.json) nor a config.json"),
        (trained, {"text": "a"}, "1 tokens predict nothing"),
    ]:
        with pytest.raises(DsvError, match=words.replace("(", r"\(").replace(")", r"\)")):
            probe(folder, ProbeOptions(device="cpu", measured=100, gradients=False, **options))


def test_a_run_is_followed_on_the_same_rows(tmp_path, monkeypatch):
    """What is recorded on the way is what a probe measures of the checkpoint; it changes nothing, and is rewound."""
    plain(monkeypatch)
    options = dict(steps=4, save_every=2, keep=2, seq=16, batch=4)
    run(tmp_path, **options)
    alone = newest(tmp_path / "run") / "model.safetensors"
    measured = probe(tmp_path / "run", ProbeOptions(over_training=True, measured=100, device="cpu"))
    assert [one.step for one in measured.history] == [2, 4] and measured.history_rows > 0
    (tmp_path / "again").mkdir()
    run(tmp_path / "again", **options, probe_every=2)
    found = recorded(Run(tmp_path / "again/run"))
    assert [*found] == [2, 4]
    assert (newest(tmp_path / "again/run") / "model.safetensors").read_bytes() == alone.read_bytes()
    for one in measured.history:
        assert one.scores[1].loss.value == pytest.approx(found[one.step].scores[1].loss.value, rel=1e-5)
        for mine, theirs in zip(one.gradients, found[one.step].gradients):
            assert mine.norms["mtp.1"].value == pytest.approx(theirs.norms["mtp.1"].value, rel=1e-3)
    Run(tmp_path / "again/run").rewind(3)
    assert [*recorded(Run(tmp_path / "again/run"))] == [2]
    with Run(tmp_path / "again/run").probes.open("a") as file:
        file.write('{"step": 3}\n')
    with pytest.raises(DsvError, match=r"probes\.jsonl:2 is damaged"):
        recorded(Run(tmp_path / "again/run"))
