"""Where drafting breaks even: the acceptance beside the roots of its polynomial, the batches beside a search of all."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace

import pytest

import dsvgraph
from dsvgraph.passes.estimate import PlanOptions, device, plan
from dsvgraph.passes.estimate.drafting import break_even_acceptance, estimated, paying_batches, tokens_per_step

numpy = pytest.importorskip("numpy")
MOST = 4096


@pytest.mark.parametrize("drafts", [1, 2, 3, 7])
@pytest.mark.parametrize("ratio", [0.9, 1.0, 1.01, 1.5, 1.999, 2.0, 3.3, 7.9, 8.5])
def test_the_acceptance_is_a_root(drafts, ratio):
    roots = numpy.roots([1.0] * drafts + [1 - ratio])  # of 1 + a + ... + a^K = r
    want = [x.real for x in roots if abs(x.imag) < 1e-9 and 0 <= x.real <= 1 + 1e-9]
    found = break_even_acceptance(ratio, drafts)
    if ratio <= 1:
        assert found == 0
    elif ratio > drafts + 1:
        assert found is None and not want
    else:
        assert found == pytest.approx(max(want), abs=2e-6)


def roofline(chance, experts, flops, weights, expert_weights):
    """Seconds of a step of ``tokens`` a row: of computing, or of reading caches and the weights that tokens meet."""

    def seconds(rows, tokens):
        met = experts * (1 - (1 - chance) ** (rows * tokens))
        return max(rows * tokens * flops, weights + met * expert_weights + rows * 1e-3)

    return seconds


def ranges_of(pays):
    """The first and the last of each run of numbers for which ``pays``, by looking at all of them."""
    found = []
    for rows in range(1, MOST + 1):
        if pays(rows) and found and found[-1][1] == rows - 1:
            found[-1][1] = rows
        elif pays(rows):
            found.append([rows, rows])
    return tuple((first, None if last == MOST else last) for first, last in found)


def test_the_batches_are_those_of_a_search_of_all(monkeypatch):
    monkeypatch.setattr(sys.modules[paying_batches.__module__], "MOST_ROWS", MOST)
    numbers, kinds = random.Random(0), set()
    for _ in range(40):
        drafts, a = numbers.choice([1, 2, 4]), numbers.uniform(0.05, 0.95)
        seconds = roofline(
            numbers.choice([0.02, 0.1, 0.4]), numbers.choice([0, 64, 256]), 10 ** numbers.uniform(-5, -1),
            10 ** numbers.uniform(-1, 1), 10 ** numbers.uniform(-3, -1),
        )  # fmt: skip
        tokens = tokens_per_step([a] * drafts)

        def times(rows, seconds=seconds, drafts=drafts):
            both = seconds(rows, 1 + drafts), seconds(rows, 1)
            return tuple(SimpleNamespace(best=SimpleNamespace(value=s, formula="s")) for s in both)

        want = ranges_of(lambda rows, s=seconds, d=drafts, t=tokens: t * s(rows, 1) > s(rows, 1 + d))
        assert paying_batches(times, tokens) == want
        estimate = estimated(drafts, (a,), 1, times)
        assert estimate.break_even_batch == (want[-1][1] if want else 0)
        kinds.add((len(want), bool(want) and want[0][0] == 1, bool(want) and want[-1][1] is None))
    assert len(kinds) > 3


def test_of_a_model_with_experts_drafts_do_not_pay_for_few_rows():
    """Beside the speed-up of each batch alone."""
    model = dsvgraph.load("deepseek_v3_tiny")

    def estimate(rows):
        options = PlanOptions(
            phase="decode", batch=rows, context=512, dtype="bfloat16", drafting=True, drafts=1, acceptance=(0.5,),
            device=device("h200"),
        )  # fmt: skip
        return plan(model, options).drafting_estimate

    five, six = estimate(5), estimate(6)
    assert five.paying_batches == six.paying_batches == ((6, None),) and six.break_even_batch is None
    assert five.speedup.value < 1 < six.speedup.value
