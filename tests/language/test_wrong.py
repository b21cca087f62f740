"""Wrong specs: each file of tests/wrong says on the guilty lines what it must be refused with.

`# error: words` at the end of a line: exactly these mistakes are told, at these lines, in these words.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import dsvgraph
from dsvgraph import DsvError

WRONG = Path(__file__).parents[1] / "wrong"
FILES = sorted(WRONG.rglob("*.yaml"))
MARK = "  # error: "


def expected(path: Path) -> list[tuple[int, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(i, line.split(MARK)[1]) for i, line in enumerate(lines, 1) if MARK in line]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_wrong(path: Path) -> None:
    wanted = expected(path)
    assert len(wanted) == (2 if path.parent.name == "two" else 1)
    with pytest.raises(DsvError) as caught:
        dsvgraph.load(str(path))
    found = [(d.span.line if d.span else None, d.message) for d in caught.value.diagnostics]
    assert [line for line, _ in found] == [line for line, _ in wanted], str(caught.value)
    for (_, words), diagnostic in zip(wanted, caught.value.diagnostics):
        assert words in diagnostic.message
        assert diagnostic.span.source.name.endswith(path.name)


def test_there_are_enough() -> None:
    assert sum(len(expected(path)) == 1 for path in FILES) >= 45
    assert sum(len(expected(path)) == 2 for path in FILES) >= 8
