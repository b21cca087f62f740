"""What one sees of a run: lines, a bar, a table, a plot, and which token each depth predicts."""

from __future__ import annotations

import pytest
import torch
from runs import plain, quiet, run, small

import dsvgraph
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.training.predictions import accuracy, predictions_of
from dsvgraph_torch.training.progress import plot_losses, smoothed
from dsvgraph_torch.training.step import balance

quick = pytest.fixture(autouse=True)(plain)


def test_lines_tell_of_every_depth_and_a_table_ends_them(tmp_path):
    console = quiet()
    run(tmp_path, console=console, steps=20)
    text = console.file.getvalue()
    line = next(line for line in text.splitlines() if line.startswith("step 20/20"))
    assert all(f"{name} " in line for name in ("loss", "next_token", "mtp.1", "mtp.2", "load max/mean"))
    assert "tok/s" in line and "held-out" in line
    assert "balance" not in line  # of another scale than the others
    rows = {line.split()[0]: line.split() for line in text.splitlines() if "byte i +" in line}
    assert {name: (row[4], row[-1]) for name, row in rows.items()} == {
        "next_token": ("1", "1"), "mtp.1": ("2", "0.15"), "mtp.2": ("3", "0.15"),
    }  # fmt: skip
    assert "sample" in text and f"saved in {tmp_path / 'run'}" in text


def test_a_long_run_is_told_in_few_lines(tmp_path):
    console = quiet()
    run(tmp_path, console=console, steps=30, eval_every=10)
    told = [line.split("/")[0] for line in console.file.getvalue().splitlines() if line.startswith("step ")]
    assert [int(line.split()[1]) for line in told] == [1, 3, 6, 9, 10, 12, 15, 18, 20, 21, 24, 27, 30]


def test_a_terminal_gets_a_bar_and_another_plain_lines(tmp_path):
    bar, plain_lines = quiet(force_terminal=True), quiet(force_terminal=True, no_color=True)
    run(tmp_path, console=bar)
    assert "━" in bar.file.getvalue() and "4/4" in bar.file.getvalue()
    assert "step 2  held-out  next_token" in bar.file.getvalue()
    run(tmp_path, console=plain_lines, out=tmp_path / "other")
    assert "━" not in plain_lines.file.getvalue().split("held-out     ")[0]


def test_a_diagram_that_cannot_be_drawn_is_told_and_the_run_goes_on(tmp_path, monkeypatch):
    console = quiet()
    run(tmp_path, console=console, steps=1, out=tmp_path / "other")
    assert "no diagram: no graphviz [here]" in console.file.getvalue()
    assert not (tmp_path / "other" / "diagram.svg").exists()
    monkeypatch.setattr(dsvgraph, "render", lambda graph, path: path.write_text("<svg/>"))
    run(tmp_path, steps=1)
    assert (tmp_path / "run" / "diagram.svg").read_text() == "<svg/>"


def test_the_plot_draws_every_depth(tmp_path):
    steps = [{"tokens": 10**i, "losses": {"a": 5 - i, "b": 4.0}, "heldout": {"a": 5 - i}} for i in range(7)]
    plot_losses(steps, ["a", "b"], "title", tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text().count("<path") > 10
    plot_losses([], ["a"], "nothing yet", tmp_path / "empty.png")
    assert (tmp_path / "empty.png").read_bytes().startswith(b"\x89PNG")
    assert smoothed([4.0, 2.0, 0.0, 2.0], share=0.5) == [4.0, 3.0, 1.0, 1.0]


def test_balance_is_the_busiest_expert_over_the_mean():
    assert balance({"a": [4, 4], "b": [6, 2]}) == (1 + 1.5) / 2
    assert balance({}) is None and balance({"a": [0, 0]}) is None


def test_heads_know_which_token_they_predict():
    heads = predictions_of(small())
    found = [(h.name, h.depth, h.shift) for h in heads]
    assert found == [("next_token", 0, 1), ("mtp.1", 1, 2), ("mtp.2", 2, 3)]
    assert [h.weight(0, 0) for h in heads] == ["1", "0.15", "0.15"]
    assert heads[1].weight(11 * 10**12, 1) == "0.05"
    assert [h.name for h in predictions_of(small(num_nextn_predict_layers=0))] == ["next_token"]


def test_accuracy_compares_with_the_token_that_is_meant():
    class Oracle(torch.nn.Module):
        def forward(self, ids):
            ahead = [torch.nn.functional.one_hot((ids + n) % 50, 50).float() for n in (1, 2, 4)]
            return {"logits": ahead[0], "mtp_logits": torch.stack(ahead[1:])}

    row = torch.arange(12)[None]
    right = accuracy(Oracle(), predictions_of(small()), [Batch(ids, ids + 1) for ids in (row, row + 20)])
    assert right == {"next_token": 1.0, "mtp.1": 1.0, "mtp.2": 0.0}
