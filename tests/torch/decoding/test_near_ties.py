"""Logits as close as rounding: where text with drafts leaves the text without, and how it does not."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path

import pytest

import dsvgraph
from dsvgraph.errors import DsvError

torch = pytest.importorskip("torch")

from test_decoding import small  # noqa: E402

import dsvgraph_torch  # noqa: E402
from dsvgraph.loader import bundled  # noqa: E402
from dsvgraph_torch.data.tokens import BYTES  # noqa: E402
from dsvgraph_torch.decoding import generation  # noqa: E402
from dsvgraph_torch.decoding.source import TextModel  # noqa: E402

BENCHMARK = importlib.util.spec_from_file_location("near_ties", Path("benchmarks/near_ties.py"))
assert BENCHMARK and BENCHMARK.loader
near_ties = sys.modules["near_ties"] = importlib.util.module_from_spec(BENCHMARK)
BENCHMARK.loader.exec_module(near_ties)


@functools.cache
def models(dtype):
    return near_ties.flat_model(near_ties.MODELS["experts"], dtype)


def compared(dtype, widths, prompts=16, length=8, drafts=(1, 4)):
    """What the judge, in float64, says of rows with and without drafts."""
    module, exact = models(dtype)
    found = near_ties.Comparison(near_ties.epsilon(exact, dtype), drafts)
    found.add(module, exact, near_ties.random_prompts(prompts, 0), length, widths)
    return found


def test_texts_part_at_near_ties_alone():
    found = compared(torch.float32, (None, None))
    assert len(found.gaps) > 5
    assert max(found.gaps) < found.epsilon < 4e-6
    assert any(gap > found.epsilon for gap in found.all_gaps)


def test_in_bfloat16_texts_part_at_near_ties_alone():
    found = compared(torch.bfloat16, (None, None))
    assert max(found.gaps, default=0.0) < found.epsilon < 0.25


def test_steps_of_equal_width_part_at_the_same_places_or_nowhere():
    """Against plain steps of one position the number of drafts does not matter; against equal ones nothing does."""
    found = compared(torch.float32, (None, near_ties.WIDTH))
    assert found.at_one_place == len(found.parted) > 2
    assert not compared(torch.float32, (near_ties.WIDTH, near_ties.WIDTH)).parted


LOOKS_AHEAD = """
graph:
  in: {ids: "int[B, T]"}
  body:
    far: {shift: ids, by: 1}
    e: {embedding: far, num: 256, dim: 8}
    y: {linear: e, out: 256}
  out: {logits: y}
"""


def text_model(model):
    return TextModel(model, dsvgraph_torch.compile(model, kernels="decoding").eval(), BYTES, 8, ())


def tiny():
    return text_model(small(bundled() / "deepseek_v3_tiny.yaml", vocab_size=BYTES.size))


def test_the_width_is_an_option_that_outlasts_a_full_context():
    """Rows that are full at other steps than others are read again alone."""
    source, texts = tiny(), []
    for more in ({}, {"draft": "mtp"}, {"draft": "mtp", "drafts": 4, "reuse_last": True}):
        asked = generation.GenerateOptions.given({"tokens": 9, "temperature": 0, "step_width": 6, **more})
        made = generation.Generation(source, ["text", "9"], asked, print)
        assert len(list(made)) > 9
        texts.append(made.texts)
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (tiny, {"draft": "mtp", "drafts": 2, "step_width": 2}, "checks 2 drafts .* at least 3"),
        (tiny, {"step_width": 0}, "--step-width: must be at least 1, got 0"),
        (lambda: text_model(dsvgraph.loads(LOOKS_AHEAD)), {"step_width": 4}, "looks ahead.* no place for positions"),
    ],
)
def test_widths_that_cannot_be_are_refused(model, options, words):
    with pytest.raises(DsvError, match=words):
        generation.Generation(model(), [""], generation.GenerateOptions.given(options), print)
