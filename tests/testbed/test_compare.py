"""Comparisons from the question to the report, with processes whose losses a table gives."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from trained import loss
from variants import asking, quiet, scheduled, stand_in, variant

import dsvgraph
import dsvgraph_testbed
from dsvgraph.backends import Budget, BudgetKind, Pairs
from dsvgraph.errors import DsvError

NOISE = 0.0015
"""Of a variant's loss between seeds, beside the 2 % that seeds move all variants alike."""


def compare(comparison):
    result = dsvgraph_testbed.compare(comparison, quiet(), quiet())
    return result, result.as_dict()


def verdicts(data, kind="tokens"):
    found = next(budget for budget in data["budgets"] if budget["kind"] == kind)
    return {(v["first"], v["second"], v["measure"]): v for v in found["verdicts"]}


def processes(comparison) -> Counter[str]:
    text = (comparison.folder / "runs" / "processes.txt").read_text()
    return Counter(line.split()[0] for line in text.splitlines())


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A baseline, a variant that is the same but for chance, and one whose loss is 1 % lower: 5 seeds."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("planted")
        use = stand_in(folder, patch)
        use(base={"noise": NOISE}, noop={"noise": NOISE}, better={"noise": NOISE, "ratio": 0.99, "speed": 0.02})
        comparison = asking(folder)(variant("base"), variant("noop"), variant("better", 8), seeds=5)
        return comparison, *compare(comparison)


@pytest.mark.parametrize("first", ["base", "later"])
def test_equal_flops_are_those_of_the_steps_that_were_taken(first, tmp_path, monkeypatch) -> None:
    """`later` leaves a loss out at half the FLOPs for 50 steps: it has used those of 100 whole steps after 125."""
    both = {"base": variant("base"), "later": scheduled("later")}
    whole = int(dsvgraph.cost(both["base"].model, 4, 16, formulas=False).flops.train)
    stand_in(tmp_path, monkeypatch)(later={"flops": [whole // 2, whole]})
    asked = {"base": Budget(BudgetKind.TOKENS, 6400), "later": Budget(BudgetKind.FLOPS, 100 * whole)}[first]
    variants = [both.pop(first), *both.values()]
    _, data = compare(asking(tmp_path)(*variants, seeds=1, budget=asked))
    budgets = {budget["kind"]: budget for budget in data["budgets"]}
    assert data["complete"] and budgets["flops"]["amount"] == 100 * whole
    assert budgets["tokens"]["amount"] == (6400 if first == "base" else 125 * 64)
    read = {r["variant"]: r["value"] for r in budgets["flops"]["readings"] if r["seed"] == 0}
    assert read["later"] / read["base"] == pytest.approx(loss(125) / loss(100), rel=1e-3)


def test_annealed_runs_need_to_know_how_many_steps_a_budget_of_flops_is(tmp_path, monkeypatch) -> None:
    stand_in(tmp_path, monkeypatch)()
    asked = asking(tmp_path)(scheduled("later"), variant("base"), budget=Budget(BudgetKind.FLOPS, 1e9), anneal=True)
    with pytest.raises(DsvError, match="--anneal: the steps of `later` leave out losses that weigh nothing"):
        compare(asked)


def test_a_planted_improvement_is_found_and_a_planted_no_op_is_not(planted) -> None:
    _, _, data = planted
    found = verdicts(data)
    assert found["base", "noop", "next token"]["verdict"] == "not significant"
    better = found["base", "better", "next token"]
    assert better["verdict"] == "better" and better["percent"] == pytest.approx(-1, abs=0.2)
    low, high = better["interval"]
    truth = -0.01 * loss(100)
    assert low < truth < high < 0 and better["corrected_for"] == 3
    assert found["noop", "better", "next token"]["verdict"] == "better"


def test_the_three_budgets_are_read_where_the_baseline_stands(planted) -> None:
    """Twice as dear in FLOPs and in time, `better` is read at half the steps, and judged worse there."""
    _, _, data = planted
    amounts = {budget["kind"]: budget["amount"] for budget in data["budgets"]}
    flops = data["variants"][0]["cost"]["train_flops_per_token"], data["variants"][2]["cost"]["train_flops_per_token"]
    assert amounts == pytest.approx({"tokens": 6400, "flops": 6400 * flops[0], "minutes": 100 * 0.01 / 60})
    assert flops[1] == 2 * flops[0]
    for kind in ("flops", "minutes"):
        values = [r for b in data["budgets"] if b["kind"] == kind for r in b["readings"] if r["variant"] == "better"]
        ratio = np.mean([r["value"] for r in values]) / np.mean(
            [r["value"] for r in data["budgets"][0]["readings"] if r["variant"] == "better"]
        )
        assert ratio == pytest.approx(loss(50) / loss(100), rel=1e-4)
        assert verdicts(data, kind)["base", "better", "next token"]["verdict"] == "worse"


def test_no_run_that_has_ended_is_trained_again(planted) -> None:
    comparison, _, data = planted
    assert set(processes(comparison).values()) == {1}
    again = compare(comparison)[1]
    assert set(processes(comparison).values()) == {1} and again["budgets"] == data["budgets"]


def test_the_page_is_whole_without_a_network(planted) -> None:
    comparison, result, _ = planted
    page, markdown, data = result.files
    text = page.read_text()
    parser = HTMLParser()
    parser.feed(text)
    assert "<script" not in text and "@import" not in text
    addresses = {part.split('"')[0] for part in text.split('="http')[1:]}
    assert all("w3.org" in address for address in addresses)  # names of formats, which nobody loads
    assert text.count("<svg") >= 2 and "data:image/svg+xml" in text
    assert "not significant" in markdown.read_text() and json.loads(data.read_text())["format"] == 1
    assert all((comparison.folder / p).exists() for p in ("plots/differences-losses.svg", "diffs/2.svg"))


def test_more_seeds_train_what_is_new(trained, asked) -> None:
    trained(a={"noise": NOISE})
    compare(asked(variant("a"), variant("b"), seeds=1))
    before = processes(asked(variant("a")))
    data = compare(asked(variant("a"), variant("b"), seeds=2))[1]
    after = processes(asked(variant("a")))
    assert len(before) == 2 and len(after) == 4 and {after[name] for name in before} == {1}
    assert data["seeds"] == [0, 1] and len(data["runs"]) == 4


def test_one_seed_gives_no_verdict(trained, asked) -> None:
    trained(b={"ratio": 0.5})
    comparison = asked(variant("a"), variant("b"), seeds=1)
    _, data = compare(comparison)
    found = verdicts(data)["a", "b", "next token"]
    assert found["verdict"] == "no verdict" and found["percent"] == pytest.approx(-50) and found["p"] is None
    assert any("One seed" in note for note in data["notes"])
    assert "−50.00 %<br>a test needs 2 seeds" in (comparison.folder / "report.md").read_text()


def test_a_diverged_run_stays_and_is_not_tried_again(trained, asked) -> None:
    trained(b={"diverges": 30, "ratio": 0.9})
    comparison = asked(variant("a"), variant("b"), variant("c"), seeds=2)
    _, data = compare(comparison)
    stopped = [run["stopped"] for run in data["runs"] if run["variant"] == "b"]
    assert [s["step"] for s in stopped] == [30, 30] and all(s["diverged"] for s in stopped)
    found = verdicts(data)
    assert found["a", "b", "next token"]["verdict"] == "no verdict"
    assert "diverged with 2 of 2 seeds (seed 0, step 30)" in found["a", "b", "next token"]["note"]
    assert found["a", "c", "next token"]["verdict"] == "not significant"
    before = processes(comparison)
    compare(comparison)
    assert processes(comparison) == before


def test_what_keeps_a_run_from_its_first_step_is_an_error(trained, asked) -> None:
    trained(b={"refuses": "--lr: a number is expected"})
    with pytest.raises(DsvError, match=r"`b` cannot be trained: --lr: a number is expected"):
        compare(asked(variant("a"), variant("b"), seeds=1))


def test_runs_of_different_data_are_not_compared(trained, asked) -> None:
    trained(b={"data": "e" * 64})
    with pytest.raises(DsvError, match="read different data"):
        compare(asked(variant("a"), variant("b"), seeds=1))


def test_ctrl_c_ends_the_processes_and_the_next_call_goes_on(trained, asked) -> None:
    trained(a={"wait": 0.02}, b={"wait": 0.02})
    comparison = asked(variant("a"), variant("b"), seeds=1, jobs=2)
    timer = threading.Timer(0.9, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    result, data = compare(comparison)
    timer.join()
    assert result.interrupted and not data["complete"] and any("Not all runs" in note for note in data["notes"])
    trained()
    result, data = compare(comparison)
    assert not result.interrupted and data["complete"]
    assert verdicts(data)["a", "b", "next token"]["effect"] == 0
    for run in data["runs"]:
        lines = (comparison.folder / run["folder"] / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(1, run["steps"] + 1))


def test_a_budget_of_time_is_what_the_baseline_takes_in_it(trained, asked) -> None:
    trained(a={"speed": 0.03}, b={"speed": 0.06})
    _, data = compare(asked(variant("a"), variant("b"), seeds=1, budget=Budget(BudgetKind.MINUTES, 3 / 60)))
    amounts = {budget["kind"]: budget["amount"] for budget in data["budgets"]}
    assert amounts["tokens"] == 100 * 64 and amounts["minutes"] == 3 / 60
    at = {r["variant"]: r for b in data["budgets"] if b["kind"] == "minutes" for r in b["readings"]}
    assert at["a"]["value"] / at["b"]["value"] == pytest.approx(loss(100) / loss(50), rel=1e-4)


def test_with_anneal_each_budget_has_runs_that_end_there(trained, asked) -> None:
    trained(a={"speed": 0.01}, b={"speed": 0.04})
    _, data = compare(asked(variant("a"), variant("b", 8), seeds=1, anneal=True))
    steps = {name: sorted(r["steps"] for r in data["runs"] if r["variant"] == name) for name in "ab"}
    assert steps == {"a": [100], "b": [25, 50, 100]}
    assert all("--schedule cosine" in run["command"] for run in data["runs"])


def test_farther_tokens_have_a_table_of_their_own_and_accuracy_counts_upwards(trained, asked) -> None:
    trained(**{n: {"measured": {"accuracy": {"next_token.free_running": x}}} for n, x in (("a", 0.5), ("b", 0.75))})
    comparison = asked(variant("a"), variant("b"), variant("c"), seeds=2, pairs=Pairs.FIRST)
    found = verdicts(compare(comparison)[1])
    assert found["a", "b", "accuracy"]["verdict"] == "better" and found["a", "b", "accuracy"]["effect"] == 0.25
    assert ("b", "c", "next token") not in found and ("a", "c", "accuracy") not in found
    assert "+25.00 points" in (comparison.folder / "report.md").read_text()
