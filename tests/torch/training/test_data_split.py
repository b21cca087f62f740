"""How a text is split and cut to rows, whatever its size."""

from __future__ import annotations

import itertools
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsvgraph_torch.data.stream import BLOCK, TextCorpus, split
from dsvgraph_torch.data.text import load_corpus


def corpus(total: int, batch: int = 2, seq: int = 8) -> TextCorpus:
    """A corpus of ``total`` bytes, a to z over and over."""
    alphabet = bytes(range(97, 123))
    return split((alphabet * (total // 26 + 1))[:total], "text", batch, seq)


@given(st.integers(1, 9), st.integers(2, 60), st.integers(0, 10**5))
def test_two_splits_share_no_byte_and_leave_none_out(batch: int, seq: int, more: int) -> None:
    total = 2 * (batch + 1) * (seq + 1) + more
    found = corpus(total, batch, seq)
    spans = sorted(found.train.spans + found.heldout.spans)
    assert spans[0][0] == 0 and spans[-1][1] == total
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(spans))
    assert found.train.rows(seq + 1) > 0 and found.heldout.rows(seq + 1) > 0


def test_a_long_text_is_held_out_in_blocks_all_over_it() -> None:
    found = corpus(10 * 25 * BLOCK)
    starts = [start for start, _ in found.heldout.spans]
    assert len(starts) == 10 and len(found.heldout) == pytest.approx(0.04 * 250 * BLOCK, rel=0.01)
    assert max(starts) - min(starts) > 0.8 * 250 * BLOCK


def test_each_number_is_a_row_of_its_own() -> None:
    found = split(os.urandom(5000), "text", 2, 8).train
    rows = found._gather(list(range(found.rows(9))), 9)
    starts = [s for start, stop in found.spans for s in range(start, stop - 8)]
    assert torch.equal(rows, torch.stack([found.ids_N[s : s + 9].long() for s in starts]))


def test_a_prompt_starts_a_line() -> None:
    text = b"".join(b"line %d of the text\n\n" % i for i in range(900))
    prompt = bytes(split(text, "text", 2, 8).prompt(20))
    assert len(prompt) == 20 and prompt.startswith(b"line ")


def test_a_file_may_be_given_by_a_link(tmp_path) -> None:
    (tmp_path / "text").write_bytes(b"some text\n" * 50)
    (tmp_path / "link").symlink_to("text")
    assert load_corpus(tmp_path / "link", 2, 8).digest == load_corpus(tmp_path / "text", 2, 8).digest


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path) -> None:
    from dsvgraph.errors import DsvError

    (tmp_path / "text").write_bytes(b"some text\n" * 50)
    (tmp_path / "text").chmod(0)
    for path in (tmp_path / "text", tmp_path):
        with pytest.raises(DsvError, match=f"cannot read {tmp_path / 'text'}: Permission denied"):
            load_corpus(path, 2, 8)
