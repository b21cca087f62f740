"""Readings between evaluations, places for processes, identities, and what `--drop` leaves of a spec."""

from __future__ import annotations

import math

import numpy as np
import pytest
from variants import variant

import dsvgraph
from dsvgraph.backends import BudgetKind
from dsvgraph.errors import DsvError
from dsvgraph.passes.compare.variants import features, without
from dsvgraph_testbed import devices
from dsvgraph_testbed.curves import curve_of, records_of
from dsvgraph_testbed.identity import data_digest, run_identity
from dsvgraph_testbed.measures import losses_of


def records(seconds, values):
    """A run of one token and two FLOPs a step; ``values`` are held-out losses by step."""
    found = [{"step": i, "tokens": i, "train_seconds": s} for i, s in enumerate(seconds, 1)]
    for step, value in values.items():
        found[step - 1]["heldout"] = {"next": value}
    return found


def test_a_loss_is_read_at_a_measurement_or_between_two() -> None:
    curve = curve_of(records(np.arange(1, 101) * 6.0, {1: 5.0, 40: 2.0, 80: 1.0, 100: 0.9}), 2)
    assert curve.step_at(BudgetKind.TOKENS, 40) == 40 and curve.step_at(BudgetKind.FLOPS, 81) == 40.5
    assert curve.step_at(BudgetKind.MINUTES, 5) == 50 and curve.step_at(BudgetKind.MINUTES, 11) == pytest.approx(110)
    assert curve.read("next", 40.4) == (2.0, True)
    value, exact = curve.read("next", 60)
    assert not exact and value == pytest.approx(2 - math.log(60 / 40) / math.log(80 / 40))
    assert curve.read("next", 100.5) == (0.9, True) and curve.read("next", 101) is None
    assert curve.read("mtp.1", 40) is None


def test_the_first_step_of_a_process_counts_as_the_median_step() -> None:
    seconds = np.cumsum([9.0, 1, 1, 1, 7, 1, 1, 3])
    used = curve_of(records(seconds, {}), 1, starts=[0, 4]).used[BudgetKind.MINUTES] * 60
    assert np.diff(used, prepend=0) == pytest.approx([1, 1, 1, 1, 1, 1, 1, 3])
    kept = curve_of(records(seconds, {}), 1).used[BudgetKind.MINUTES] * 60
    assert kept == pytest.approx(seconds)


def test_damaged_metrics_are_told_and_an_unfinished_line_is_not_read(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    line = '{"step": 1, "tokens": 5, "train_seconds": 0.1}\n'
    path.write_text(line + '{"step": 2, "to')
    assert len(records_of(path)) == 1 and records_of(tmp_path / "none.jsonl") == []
    path.write_text(line + line)
    with pytest.raises(DsvError, match=r"metrics.jsonl:2 is damaged: it is of step 1"):
        records_of(path)


def test_processes_are_spread_over_free_gpus(monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_memory_used", lambda: {"0": 40_000, "1": 3, "2": 3})
    found = devices.places(None)
    assert [e["CUDA_VISIBLE_DEVICES"] for e in found.environments] == ["1", "2"] and not found.contended
    found = devices.places(3)
    assert [e["CUDA_VISIBLE_DEVICES"] for e in found.environments] == ["1", "2", "1"]
    assert found.contended == "3 processes share 2 GPUs"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert devices.free_gpus() == ["2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert devices.free_gpus() == ["0"]  # in use, but there is no other


def test_without_gpus_the_cores_are_shared(monkeypatch) -> None:
    monkeypatch.setattr(devices, "_memory_used", dict)
    monkeypatch.setattr(devices, "cores", lambda: 8)
    assert devices.places(None).environments == ({},) and not devices.places(1).contended
    found = devices.places(3, "cpu")
    assert [e["OMP_NUM_THREADS"] for e in found.environments] == ["2", "2", "2"]
    assert found.contended == "3 processes share the processor"


def test_an_identity_follows_the_content_of_the_data(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    options = {"data": folder, "lr": 0.1}
    first = data_digest(options)
    assert data_digest(options) == first and run_identity("s", options, first) == run_identity("s", options, first)
    (folder / "a.txt").write_text("two")
    second = data_digest(options)
    others = [("s", options, second), ("t", options, first), ("s", {"data": folder, "lr": 0.2}, first)]
    monkeypatch.setattr("dsvgraph_testbed.identity.version", lambda name: "1")
    assert second != first
    known = run_identity("s", options, first)
    assert known not in {run_identity(*other) for other in others}
    monkeypatch.setattr("dsvgraph_testbed.identity.version", lambda name: "2")
    assert run_identity("s", options, first) != known


def test_dropping_a_loss_leaves_the_model_that_one_would_write() -> None:
    tiny = dsvgraph.load("deepseek_v3_tiny")
    assert features(tiny) == ["mtp", "balance", "bias"]
    dropped, plain = without(tiny, "mtp"), dsvgraph.load("deepseek_v3_tiny", {"num_nextn_predict_layers": 0})
    cost, wanted = (dsvgraph.cost(model, formulas=False) for model in (dropped, plain))
    assert (cost.parameters, cost.flops) == (wanted.parameters, wanted.flops)
    assert list(dropped.outputs) == ["logits"] and [loss.name for loss in dropped.losses] == [
        "next_token", "balance", "bias",
    ]  # fmt: skip
    kept = without(tiny, "balance")
    assert list(kept.outputs) == list(tiny.outputs) and len(kept.losses) == 3
    with pytest.raises(DsvError, match="has no loss `mtb` to leave out"):
        without(tiny, "mtb")


def test_losses_are_named_by_what_they_predict() -> None:
    names = {measure.label: name for measure, name in losses_of(dsvgraph.load("deepseek_v3_tiny")).items()}
    assert names == {"next token": "next_token", "token i + 2": "mtp.1", "token i + 3": "mtp.2"}
    assert [m.label for m in losses_of(variant("a").model)] == ["next token"]
    paper = dsvgraph.load("deepseek_v3_paper")  # equation 24 divides by T, where depth 1 has T - 1 targets
    assert [m.label for m in losses_of(paper)] == ["next token", "token i + 2 (divide B * T)"]
    assert next(m.label for m in losses_of(paper, whole_rows=False)) == "next token (divide B * T)"
