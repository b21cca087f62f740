"""The limits that docs/language.md states are those that hold: each is met, and passed by one."""

from __future__ import annotations

import re
from collections.abc import Callable

import pages
import pytest

from dsvgraph import DsvError, errors, loads
from dsvgraph.build import builder, context, copies, model, nodes, scope, state
from dsvgraph.build.losses.kinds import MAX_WINDOW
from dsvgraph.build.losses.outputs import MAX_DEPTHS as MAX_LOSS_DEPTHS
from dsvgraph.expr import syntax, values
from dsvgraph.loader import compose
from dsvgraph.spec.read import MAX_CHARACTERS, MAX_FILES, MAX_VALUES

SPEC = """
{top}
config: {{{config}}}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    x: {{embedding: ids, num: 9, dim: 4}}
    {name}: {line}
  out: {{logits: {name}}}
{rest}
"""
NEST = "({})"
DEEP = syntax.MAX_DEPTH


def spec(
    line: str = "{silu: x}", config: str = "a: 1", name: str = "y", rest: str = "", top: str = "name: limits"
) -> str:
    return SPEC.format(line=line, config=config, name=name, rest=rest, top=top)


def nested(depth: int) -> str:
    text = "1"
    for _ in range(depth):
        text = NEST.format(text)
    return text


CASES: dict[str, tuple[list[int | float], Callable[[int], str] | None]] = {
    "one file": ([compose.MAX_BYTES, compose.MAX_ROWS], lambda n: spec(rest="# ").rstrip("\n").ljust(n, "x")),
    "files of one spec": ([MAX_FILES], None),
    "all files of one spec": ([MAX_CHARACTERS, MAX_VALUES], None),
    "values in a file, aliases followed": ([compose.MAX_VALUES], None),
    "nesting of values, aliases followed": ([compose.MAX_DEPTH], None),
    "a key": ([200], None),
    "a name": ([64], lambda n: spec(name="y" * n)),
    "a path (`at`)": ([200], lambda n: spec(f"{{linear: x, out: 9, at: {(('p' * 63 + '.') * 4)[:n]}}}")),
    "a number as written": ([40], None),
    "an expression": ([syntax.MAX_LENGTH, syntax.MAX_TOKENS, syntax.MAX_DEPTH], None),
    "an exponent": ([values.MAX_POWER], lambda n: spec(config=f"a: 1 ** {n}")),
    "any number on the way": ([1e30], None),
    "a size": ([2, 50, 12], None),
    "numbers of one weight": ([2, 44], None),
    "config values in terms of each other": (
        [scope.MAX_CHAIN],
        lambda n: spec(config="c0: 1, " + ", ".join(f"c{i}: c{i - 1} + 1" for i in reversed(range(1, n + 1)))),
    ),
    "axes of a value": ([nodes.MAX_AXES], lambda n: spec(f"{{linear: x, out: [{', '.join('2' * (n - 2))}]}}")),
    "copies of one line": ([copies.MAX_COPIES], lambda n: spec(f"{{linear: x, out: 4, repeat: {n}}}")),
    "copies, those inside of copies counted for each": ([state.MAX_COPIES], None),
    "inputs of one line": ([context.MAX_INPUTS], lambda n: spec(f"{{add: [{', '.join(['x'] * n)}]}}")),
    "blocks inside blocks": ([builder.MAX_CALLS], None),
    "lines of distinct blocks, together": ([state.MAX_LINES], None),
    "nodes, equal copies of a line counted once": ([state.MAX_NODES], None),
    "depths of one loss": ([MAX_LOSS_DEPTHS], None),
    "`window` of a loss": ([MAX_WINDOW], None),
    "`by` of a shift": ([1024], lambda n: spec(f"{{shift: x, by: {n}}}")),
    "patterns of one section": (
        [model.MAX_PATTERNS],
        lambda n: spec("{linear: x, out: 9}", rest="init: {" + ", ".join(f"'{i}': ones" for i in range(n)) + "}"),
    ),
    "errors told at once": ([errors.MAX_ERRORS], None),
}


def table() -> dict[str, list[float]]:
    """The rows of the table of limits: what, and every number in the cell."""
    text = (pages.DOCS / "language.md").read_text(encoding="utf-8").partition("## Limits")[2]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    return {what: [float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:e\d+)?", cell)] for what, cell in rows}


def test_the_table_has_the_numbers_of_the_code() -> None:
    assert table() == {what: [float(n) for n in numbers] for what, (numbers, _) in CASES.items()}


BUILT = [(what, numbers[0], make) for what, (numbers, make) in CASES.items() if make]


@pytest.mark.parametrize(("what", "most", "make"), BUILT, ids=[what for what, _, _ in BUILT])
def test_a_limit_may_be_met_and_not_passed(what: str, most: int, make: Callable[[int], str]) -> None:
    loads(make(most))
    with pytest.raises(DsvError):
        loads(make(most + 1))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (spec(config="a: " + "9" * 30), spec(config="a: " + "9" * 41)),
        (spec(config=f"a: {{{'k' * 200}: 1}}"), spec(config=f"a: {{{'k' * 201}: 1}}")),
        (spec("{linear: x, out: " + "1+" * 99 + "1}"), spec("{linear: x, out: " + "1+" * 100 + "1}")),
        (spec(f"{{linear: x, out: {nested(DEEP)}}}"), spec(f"{{linear: x, out: {nested(DEEP + 1)}}}")),
        (spec(config="a: 10 ** 30"), spec(config="a: 10 ** 31")),
        (spec("{expand: x, size: 2 ** 50}"), spec("{expand: x, size: 2 ** 50 + 1}")),
        (spec("{linear: x, out: 1}"), spec("{linear: x, out: 0}")),
        (spec("{expand: x, size: 4}", config="a: 10 ** 30"), spec("{expand: x, size: 4}", config="a: 1" + "0" * 31)),
        (spec("{linear: x, out: [2 ** 22, 2 ** 20]}"), spec("{linear: x, out: [2 ** 22, 2 ** 21]}")),
        (spec(config="a: 1e-300"), spec(config="a: 1e-400")),
        (spec("{linear: x, out: 4, repeat: 0}"), spec("{linear: x, out: 4, repeat: -1}")),
    ],
    ids=[
        "digits",
        "key",
        "words and signs",
        "levels",
        "magnitude",
        "size",
        "least size",
        "whole magnitude",
        "weight",
        "least magnitude",
        "least copies",
    ],
)
def test_limits_of_values(right: str, wrong: str) -> None:
    loads(right)
    with pytest.raises(DsvError):
        loads(wrong)
