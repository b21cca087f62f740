"""The corpus of the coverage-guided fuzzer, replayed: each input once, without atheris."""

from __future__ import annotations

from pathlib import Path

import pytest
from judge import bounded
from targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
HELD = {"layout": "loader"}  # where another target's inputs do


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_an_error_comes_out(name: str) -> None:
    found = sorted((CORPUS / HELD.get(name, name)).iterdir())
    assert len(found) >= 20
    for path in found:
        try:
            with bounded(name):
                TARGETS[name](path.read_bytes())
        except Exception as error:
            error.add_note(f"{name}/{path.name}")
            raise
