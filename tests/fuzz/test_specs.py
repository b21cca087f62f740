"""Good specs at random: what `check` passes compiles, trains a step, is written and drawn. `make fuzz` makes 500."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from specs import spec
from whole import judged

from dsvgraph import loads
from dsvgraph.graph import walk
from dsvgraph.ops import OPS

pytestmark = pytest.mark.usefixtures("timed")

RUNS, PIECE = 40, 10


@pytest.mark.parametrize("first", range(0, RUNS, PIECE))
def test_what_checks_compiles_trains_and_is_drawn(first: int) -> None:
    for seed in range(first, first + PIECE):
        try:
            judged(spec(seed))
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


def test_nearly_all_check_and_reach_every_op() -> None:
    ops, wrong = set(), 0
    for seed in range(200):
        try:
            ops |= {visit.node.callee for visit in walk(loads(spec(seed))) if visit.node.op}
        except Exception:  # noqa: BLE001 - what is refused is counted
            wrong += 1
    assert wrong <= 10
    assert ops == set(OPS)
    assert spec(3) == spec(3) != spec(4)


def test_every_construct_is_reached() -> None:
    texts = "\n".join(spec(seed) for seed in range(200))
    words = ["repeat", "each", "tied", "at", "weight", "divide", "**", "h", "init", "trained"]
    assert [word for word in words if f'"{word}": ' not in texts] == []
    assert all(word in texts for word in ("index + 2", "tokens <", "depth + 1", "[depth - 1]"))
