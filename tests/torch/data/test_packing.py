"""Pieces as rows: every token is there, each row once an epoch, and no target of another document."""

from __future__ import annotations

from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from dsvgraph.backends.training import Packing  # noqa: E402
from dsvgraph.errors import DsvError  # noqa: E402
from dsvgraph_torch.data.batch import IGNORED, Batch  # noqa: E402
from dsvgraph_torch.data.rows.packed import PackedCorpus  # noqa: E402
from dsvgraph_torch.data.rows.packing import rows_of  # noqa: E402
from dsvgraph_torch.data.rows.pieces import Encoder, Pieces, encoded  # noqa: E402
from dsvgraph_torch.data.tokens import BYTES  # noqa: E402

lengths = st.lists(st.integers(1, 30), min_size=1, max_size=40)
few = settings(max_examples=60, deadline=None)


def corpus(sizes: list[int], packing: Packing) -> PackedCorpus:
    """Documents of these sizes, whose tokens are 0, 1, 2, ...; the last one is held out."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    held = np.arange(len(sizes)) == len(sizes) - 1
    return PackedCorpus("numbers", "0" * 64, BYTES, Pieces(np.arange(starts[-1]), starts, held), packing)


def epoch(data: PackedCorpus, seq: int) -> Batch:
    rows = data.rows(False, seq)
    return data._batch([rows.segments(i) for i in range(len(rows))], seq)


def pairs(batch: Batch) -> list[tuple[int, int]]:
    """Every token that has a target, with it."""
    counted = batch.targets != IGNORED
    return sorted(zip(batch.inputs[counted].tolist(), batch.targets[counted].tolist(), strict=True))


def both(batch: Batch) -> list[tuple[int, ...]]:
    """Inputs and targets of every row."""
    return [tuple(row) for row in torch.cat([batch.inputs, batch.targets], 1).tolist()]


@few
@given(lengths, st.integers(2, 20), st.sampled_from([Packing.CUT, Packing.WHOLE]))
def test_packed_rows_have_the_pairs_of_the_documents_alone(sizes: list[int], seq: int, packing: Packing) -> None:
    data = corpus([*sizes, 1], packing)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    alone = [(i, i + 1) for a, b in pairwise(starts) for i in range(a, b - 1)]
    found = epoch(data, seq)
    if not len(data.rows(False, seq)):
        return
    assert pairs(found) == alone
    same = found.documents[:, :-1] == found.documents[:, 1:]
    assert (found.inputs.diff()[same & (found.targets[:, :-1] != IGNORED)] == 1).all()


@few
@given(lengths, st.integers(2, 20))
def test_rows_that_run_on_have_every_token_as_target_once(sizes: list[int], seq: int) -> None:
    found, total = epoch(corpus([*sizes, 1], Packing.NONE), seq), sum(sizes)
    rows = (total - 1) // seq
    assert found.documents is None and pairs(found) == [(i, i + 1) for i in range(rows * seq)]


@few
@given(lengths, st.integers(2, 20))
def test_no_document_that_fits_is_cut(sizes: list[int], seq: int) -> None:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows = rows_of(starts[:-1], starts[1:], seq + 1, Packing.WHOLE)
    segments = {segment for i in range(len(rows)) for segment in rows.segments(i)}
    assert all((a, b) in segments for a, b in pairwise(starts.tolist()) if b - a <= seq + 1)
    filled = [sum(b - a for a, b in rows.segments(i)) for i in range(len(rows))]
    assert all(size <= seq + 1 for size in filled)
    assert sum(size <= (seq + 1) // 2 for size in filled) <= 1  # two half empty rows would have been one


@few
@given(lengths, st.integers(2, 12), st.integers(1, 5), st.integers(0, 3), st.sampled_from(list(Packing)))
def test_an_epoch_visits_every_row_once(sizes: list[int], seq: int, batch: int, seed: int, packing: Packing) -> None:
    data = corpus([*sizes, 40], packing)
    count = len(data.rows(False, seq))
    if not count:
        return
    batches = [data.batch(batch, seq, seed, i) for i in range(-(-2 * count // batch))]
    rows = [row for found in batches for row in both(found)]
    every = sorted(both(epoch(data, seq)))
    assert sorted(rows[:count]) == every == sorted(rows[count : 2 * count])
    again = corpus([*sizes, 40], packing).batch(batch, seq, seed, len(batches) - 1)
    assert torch.equal(again.inputs, batches[-1].inputs)  # no state is needed to go on


def test_orders_differ_between_epochs_and_seeds() -> None:
    data = corpus([20] * 50, Packing.NONE)
    first, second, other = (data.batch(50, 19, *at).inputs for at in ((0, 0), (0, 1), (1, 0)))
    assert not torch.equal(first, second) and not torch.equal(first, other)


def test_the_held_out_rows_are_the_held_out_documents() -> None:
    data = corpus([30, 30, 30], Packing.CUT)
    held = torch.cat([b.inputs for b in data.heldout_batches(1, 9, 100)])
    again = torch.cat([b.inputs for b in data.heldout_batches(2, 9, 100)])
    assert held[held > 0].min() == 60 and torch.equal(held, again)
    assert data.prompt(5) == [60, 61, 62, 63, 64]


def test_less_than_a_row() -> None:
    with pytest.raises(DsvError, match="numbers has 3 held-out tokens; a row takes 10"):
        corpus([30, 3], Packing.NONE).check(9)


# -- what is held out ---------------------------------------------------------------------------------


def test_documents_are_held_out_by_their_text() -> None:
    """Equal texts are in one split; about one in 25 is held out, and whole."""
    texts = [f"text number {i % 400}\n" for i in range(800)]
    pieces, digest = encoded(texts, BYTES)
    starts, stops = pieces.part(True)
    held = {pieces.ids_N[a:b].tobytes().decode() for a, b in zip(starts, stops)}
    assert held < set(texts) and 0.02 < len(held) / 400 < 0.07 and len(starts) == 2 * len(held)
    starts, stops = pieces.part(False)
    assert not held & {pieces.ids_N[a:b].tobytes().decode() for a, b in zip(starts, stops)}
    assert digest == encoded(texts, BYTES)[1] != encoded(texts[::-1], BYTES)[1]


@pytest.mark.parametrize("sizes", [[100_000], [50_000, 3, 2_000_000], [200]])
def test_of_few_documents_blocks_are_held_out(sizes: list[int]) -> None:
    encoder = Encoder(BYTES)
    for _ in encoder.encode("x" * (size - 1) + "\n" for size in sizes):
        pass
    starts, held = encoder.cut()
    assert starts[0] == 0 and starts[-1] == sum(sizes) and (np.diff(starts) > 0).all()
    assert set(np.cumsum(sizes)) <= set(starts.tolist())
    assert np.diff(starts)[held].sum() / sum(sizes) == pytest.approx(0.04, rel=0.02)


def test_a_document_ends_in_a_line_break_where_no_token_ends_it() -> None:
    pieces, _ = encoded(["a", "b\n", "c"], BYTES)
    assert pieces.ids_N.tobytes() == b"a\nb\nc\n"
