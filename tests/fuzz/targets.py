"""What the coverage-guided fuzzer runs, and the suite on the corpus: bytes go in, nothing but a DsvError comes out."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import judge

from dsvgraph import DsvError, expr, loader, spec
from dsvgraph.build.scope import BlockValue, Word
from dsvgraph.dims import Poly, floordiv, symbol
from dsvgraph.passes.text.layout import layout
from dsvgraph.types import as_size

WRITTEN = 10**40  # a number as written; what is computed is at most 1e30
NAMES: dict[str, Any] = {
    "B": symbol("B"), "T": symbol("T"), "p": symbol("B") * 2 + symbol("T"), "f": floordiv(symbol("T"), 3),
    "n": 3, "m": -7, "z": 0, "x": 2.5, "nan": math.nan, "big": 10**30, "yes": True, "none": None, "w": Word("w"),
    "l": [1, 2, [3, 4]], "r": {"a": 4, "s": {"b": 0.5}, "l": [5]}, "k": BlockValue("mlp"),
}  # fmt: skip


def loaded(raw: bytes) -> None:
    """Bytes as a spec: parsed, validated, merged with what it includes."""
    text = raw.decode("utf-8", "replace")
    loader.compose._composed.cache_clear()  # what is kept is no work
    try:
        doc = loader.parse(text)
    except DsvError as error:
        judge.refusal(error)
        return
    for span in (*doc.keys.values(), *doc.values.values()):
        judge.inside(span)
    try:
        spec.read_text(text)
    except DsvError as error:
        judge.refusal(error)


def laid_out(raw: bytes) -> None:
    """Bytes as a spec in the canonical style: the same data, and the same text again."""
    with suppress(DsvError):
        found = layout(raw.decode("utf-8", "replace"))
        assert layout(found) == found


def evaluated(raw: bytes) -> None:
    """Bytes as an expression: parsed, written out and parsed again, evaluated, taken as a size."""
    text = raw.decode("utf-8", "replace")
    expr.parse.cache_clear()
    try:
        tree = expr.parse(text)
    except ValueError as error:
        said(error)
        return
    with suppress(ValueError):  # parentheses that the text had not may be too many
        again = expr.parse(expr.to_text(tree))
        assert again == tree, f"{text} became {expr.to_text(again)}"
    try:
        value = expr.evaluate(tree, _named)
        _small(value)
        as_size(value)
    except (ValueError, DsvError) as error:
        said(error)


def _named(name: str) -> Any:
    if name not in NAMES:
        raise ValueError(f"there is no name `{name}` here")
    return NAMES[name]


def _small(value: Any) -> None:
    """A number is within bounds, a symbolic size short."""
    if isinstance(value, Poly):
        assert len(value.terms) <= expr.values.MAX_TERMS
    elif isinstance(value, (int, float)) and value == value:
        assert abs(value) < WRITTEN, value


def said(error: Exception) -> None:
    """It says something."""
    assert str(error).strip()


TARGETS: dict[str, Callable[[bytes], None]] = {"loader": loaded, "expr": evaluated, "layout": laid_out}
