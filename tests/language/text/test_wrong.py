"""Wrong specs: each file of tests/wrong says on the guilty lines what it must be refused with.

`# error[CODE] column+width: words` at the end of a line, once per mistake: exactly these mistakes are
told, with these codes, at these places, in words that hold these.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dsvgraph
from dsvgraph import DsvError

WRONG = Path(__file__).parents[2] / "wrong"
FILES = sorted(WRONG.rglob("*.yaml"))
MARK = re.compile(r"  # error\[(\w+)\] (\d+)\+(\d+): ")

Place = tuple[str, int, int, int]  # code, line, column, width


def expected(path: Path) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        _, *marks = MARK.split(line)
        for code, column, width, words in zip(*[iter(marks)] * 4, strict=True):
            found.append(((code, number, int(column), int(width)), words))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_wrong(path: Path) -> None:
    wanted = expected(path)
    assert (len(wanted) > 1) == (path.parent.name == "several")
    with pytest.raises(DsvError) as caught:
        dsvgraph.load(str(path))
    told = caught.value.diagnostics
    places = [(str(d.code), d.span.line, d.span.column, d.span.width) for d in told]
    assert places == [place for place, _ in wanted], str(caught.value)
    for (_, words), diagnostic in zip(wanted, told, strict=True):
        assert words in diagnostic.message
        assert diagnostic.span.source.name.endswith(path.name)
        assert diagnostic.severity == "error"


def test_there_are_enough() -> None:
    counts = [len(expected(path)) for path in FILES]
    assert sum(n == 1 for n in counts) >= 110
    assert sum(n in (2, 3) for n in counts) >= 15
