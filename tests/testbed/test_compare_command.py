"""`dsvgraph compare` as it is called: its variants, its usage errors, and the training that it starts."""

from __future__ import annotations

import json
import subprocess

import pytest
from typer.testing import CliRunner
from variants import SPEC, variant

import dsvgraph
from dsvgraph import backends
from dsvgraph.cli import app


class Asked(Exception):
    pass


@pytest.fixture
def question(tmp_path, monkeypatch):
    """``question("a.yaml", ...)`` is what the command asks of the testbed."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(SPEC.format(name=name, width=4))

    class Testbed:
        def compare(self, comparison, console, progress):
            raise Asked(comparison)

    monkeypatch.setattr(backends, "testbed", lambda name: Testbed())

    def ask(*words):
        result = CliRunner().invoke(app, ["compare", *words], prog_name="dsvgraph")
        return result.exception.args[0] if isinstance(result.exception, Asked) else (result.exit_code, result.output)

    return ask


def test_variants_are_named_by_what_tells_them_apart(question) -> None:
    def names(*words):
        return [v.name for v in question(*words, "--budget", "tokens=1K").variants]

    assert names("a.yaml", "b.yaml") == ["a", "b"]
    assert names("a.yaml", "--over", "d=2,3") == ["d=2", "d=3"]
    assert names("a.yaml", "b.yaml", "--over", "d=2,3") == ["a d=2", "a d=3", "b d=2", "b d=3"]
    assert names("a.yaml", "a.yaml") == ["a (1)", "a (2)"]


def test_features_are_dropped_one_at_a_time(question) -> None:
    words = ["deepseek_v3_tiny", "--feature", "num_nextn_predict_layers=0", "--budget", "flops=1e12"]
    found = question(*words, "--drop", "each")
    names = ["num_nextn_predict_layers", "mtp", "balance", "bias"]
    assert [v.name for v in found.variants] == ["deepseek_v3_tiny", *(f"without {name}" for name in names)]
    assert found.pairs is backends.Pairs.FIRST and found.variants[1].model.config["num_nextn_predict_layers"] == 0
    assert [v.name for v in question(*words, "--drop", "bias").variants][1:] == ["without bias"]


def test_options_of_training_are_passed_on(question) -> None:
    found = question("a.yaml", "b.yaml", "--budget", "minutes=1.5", "--lr", "0.01", "--batch", "4", "--seeds", "1,4")
    assert found.training == {"lr": 0.01, "batch": 4} and found.seeds == (1, 4)
    assert (found.budget.kind, found.budget.amount) == ("minutes", 1.5)
    assert found.command.startswith("dsvgraph compare a.yaml b.yaml --budget minutes=1.5")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.yaml", "--budget", "tokens=1K"], "give two specs"),
        (["a.yaml", "b.yaml", "--budget", "steps=5"], "is not tokens=N"),
        (["a.yaml", "b.yaml", "--budget", "tokens=1K", "--seeds", "0"], "at least one seed"),
        (["a.yaml", "b.yaml", "--budget", "tokens=1K", "--seeds", "1,1"], "each once"),
        (["a.yaml", "b.yaml", "--budget", "tokens=1K", "--schedule", "cosine"], "goes with --anneal"),
        (["a.yaml", "b.yaml", "--budget", "tokens=1K", "--drop", "each"], "goes with one SPEC"),
        (["a.yaml", "b.yaml", "--budget", "tokens=1K", "--feature", "d=1"], "goes with --drop"),
        (["a.yaml", "b.yaml", "--budget", "tokens=1K", "--steps", "5"], "No such option"),
    ],
)
def test_usage_errors(question, words, said) -> None:
    code, output = question(*words)
    assert code == 2 and said in " ".join(output.replace("│", " ").split())


@pytest.mark.torch
def test_what_it_starts_trains_and_is_read(tmp_path, monkeypatch, unplotted) -> None:
    """The trainer of the torch backend, in this process: its options, run.json and metrics are those that are read."""
    runs = pytest.importorskip("runs")
    runs.plain(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_bytes(runs.TEXT)
    for name, width in (("a", 4), ("b", 6)):
        (tmp_path / f"{name}.yaml").write_text(SPEC.format(name=name, width=width))

    class Process:
        """A process that is over when it begins."""

        def __init__(self, command, stdout, **_):
            result = CliRunner().invoke(app, command[3:], prog_name="dsvgraph")
            stdout.write(result.stdout.encode())
            self.code = result.exit_code

        def poll(self):
            return self.code

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr("dsvgraph_testbed.training.POLL", 0)
    words = ["a.yaml", "b.yaml", "--budget", "tokens=640", "--seeds", "1", "--batch", "4", "--seq", "16"]
    more = ["--data", "text.txt", "--device", "cpu", "--eval-tokens", "64", "--out", "compared", "--json"]
    result = CliRunner().invoke(app, ["compare", *words, *more], prog_name="dsvgraph")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["complete"] and {b["kind"] for b in data["budgets"]} == {"tokens", "flops", "minutes"}
    exact = [r for b in data["budgets"] if b["kind"] != "minutes" for r in b["readings"]]
    assert len(exact) == 4 and all(r["exact"] and 4 < r["value"] < 6 for r in exact)
    assert data["data"]["source"].endswith("text.txt") and len(data["data"]["sha256"]) == 64
    flops = dsvgraph.cost(variant("a").model, 4, 16, formulas=False).flops.train
    assert data["budgets"][1]["amount"] == 10 * flops
    run = data["runs"][0]
    last = json.loads((tmp_path / "compared" / run["folder"] / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["flops"] == run["flops"] == run["steps"] * flops
