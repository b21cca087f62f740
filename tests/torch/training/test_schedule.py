"""How long a run is and how its learning rate goes, judged by formulas of the papers and by counting."""

from __future__ import annotations

import json

import pytest
import typer
from runs import SEVEN_LINES, plain, records, refused, run, small

import dsvgraph
from dsvgraph.cli.make.training_options import amount
from dsvgraph_torch.training.options import STEPS, UNBOUNDED, TrainOptions
from dsvgraph_torch.training.schedule import learning_rate, rate_position

quick = pytest.fixture(autouse=True)(plain)
GRAPH = dsvgraph.loads(SEVEN_LINES)


def rates(**options):
    given = TrainOptions.given(steps=100, warmup=10, lr=1.0, **options)
    return [learning_rate(step, given) for step in range(1, 101)]


def test_warm_up_stable_decay():
    found = rates(schedule="wsd", decay=0.25, lr_end=0.2)
    assert found[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert found[10:75] == [1.0] * 65
    assert found[75:] == pytest.approx([1 - 0.8 * n / 25 for n in range(1, 26)])
    assert rates(schedule="wsd", decay=0)[-1] == 1.0 and rates(schedule="wsd")[79:81] == pytest.approx([1, 0.955])


def test_constant_stays():
    assert rates(schedule="constant")[9:] == [1.0] * 91


def test_cosine_ends_where_it_is_told_to():
    assert rates()[-1] == pytest.approx(0.1) and rates(lr_end=0)[-1] == pytest.approx(0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(decay=0.5), "--decay: goes with --schedule wsd"),
        (dict(schedule="constant", lr_end=0.5), "--lr-end: goes with --schedule cosine or --schedule wsd"),
        (dict(schedule="linear"), "--schedule: "),
        (dict(tokens=0), "--tokens: "),
        (dict(compile=True, checkpoint_activations=True), "--compile: "),
    ],
)
def test_options_without_a_meaning_are_refused(options, words, tmp_path):
    assert refused(tmp_path, GRAPH, **options).startswith(f"error: {words}")


def test_the_first_budget_ends_a_run():
    def length(**options):
        return TrainOptions.given(batch=4, seq=16, **options).length

    assert (length(), length(steps=7), length(tokens=640), length(tokens=641)) == (STEPS, 7, 10, 11)
    assert (length(steps=7, tokens=640), length(steps=12, tokens=640)) == (7, 10)
    assert length(minutes=3) == UNBOUNDED and length(minutes=3, steps=5) == 5


def test_a_run_ends_with_its_tokens_and_says_so(tmp_path):
    assert run(tmp_path, GRAPH, steps=None, tokens=300).step == 5
    assert run(tmp_path, GRAPH, out=tmp_path / "other", tokens=300).step == 4
    reasons = [json.loads((tmp_path / n / "run.json").read_text())["stopped"] for n in ("run", "other")]
    assert reasons == [{"reason": "tokens", "step": 5, "message": ""}, {"reason": "steps", "step": 4, "message": ""}]


def test_a_warm_up_in_steps_is_one_in_steps_though_time_ends_the_run():
    options = TrainOptions(minutes=1, warmup=4, lr=1.0)
    assert [learning_rate(rate_position(step, options, 2.0 * step), options) for step in (1, 4)] == [0.25, 1.0]
    assert learning_rate(rate_position(5, options, 30.0), options) == pytest.approx(0.55, abs=1e-6)


def test_flops_are_those_of_the_graph(tmp_path):
    model = small()
    run(tmp_path, model, steps=2, accumulate=3, batch=2)
    step = 3 * dsvgraph.cost(model, 2, 16).flops.train
    assert [record["flops"] for record in records(tmp_path)] == [step, 2 * step]
    timed = records(tmp_path, timed=True)
    assert 0 < timed[0]["train_seconds"] < timed[1]["train_seconds"] < timed[1]["seconds"]


def test_why_a_run_failed_is_written_down(tmp_path):
    words = refused(tmp_path, GRAPH, lr=1e30, steps=8)
    stopped = json.loads((tmp_path / "run/run.json").read_text())["stopped"]
    assert stopped["reason"] == "diverged" and f"error: {stopped['message']}" in words and stopped["step"] <= 8


@pytest.mark.parametrize(
    ("text", "number"), [("20M", 20_000_000), ("1.5b", 1_500_000_000), ("300k", 300_000), ("7", 7)]
)
def test_amounts(text, number):
    assert amount(text) == number


@pytest.mark.parametrize("text", ["", "M", "0", "-1M", "1.5", "20 apples", "nan", "infM"])
def test_what_is_no_amount(text):
    with pytest.raises(typer.BadParameter, match="no whole number above 0"):
        amount(text)
