"""Five hundred mutants of good specs: a model or an error, at once, in little memory. `make fuzz` judges 20,000.

A third of those that still check are also counted, shown and drawn here, and all of them by `make fuzz`.
"""

from __future__ import annotations

import pytest
from judge import judged
from mutants import DATA, TEXT, mutant

pytestmark = pytest.mark.usefixtures("timed")

RUNS, PIECE = 500, 50
SMALL = 1_800  # bytes of a file, so that they take seconds


@pytest.mark.parametrize("first", range(0, RUNS, PIECE))
def test_mutants_are_models_or_errors(first: int) -> None:
    for seed in range(first, first + PIECE):
        made = mutant(seed, SMALL)
        try:
            judged(made, passes=seed % 3 == 0)
        except Exception as error:
            error.add_note(f"seed {seed}: {made.file.name} in {made.top.name}, {', '.join(made.kinds)}")
            raise


def test_a_mutant_is_known_by_its_seed() -> None:
    assert mutant(7) == mutant(7)
    assert mutant(7) != mutant(8)


def test_every_kind_of_change_is_made() -> None:
    made = {kind for seed in range(RUNS) for kind in mutant(seed, SMALL).kinds}
    assert made == {*(f"data.{kind}" for kind in DATA), *(f"text.{kind}" for kind in TEXT)}
