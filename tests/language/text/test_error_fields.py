"""What an error knows beside its words: the config names that it is about, and those that its line depends on."""

from __future__ import annotations

import pytest

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.errors import Diagnostic

TEXT = """
config: {{wide: 6, parts: 4, theta: 10000.0, other: 5, base: 100}}
blocks:
  choice:
    args: {{experts, groups}}
    in: {{x: [...]}}
    body:
      gate: {{router: x, experts: experts, top_k: 1, groups: groups, top_groups: 1}}
    out: gate.score
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: 9, dim: 4}}
    y: {line}
  out: y
"""


def refused(line: str, symbolic: list[str]) -> Diagnostic:
    with pytest.raises(DsvError) as error:
        model = dsvgraph.loads(TEXT.format(line=line))
        assert model.spec is not None
        dsvgraph.build(dsvgraph.spec.with_settings(model.spec, {}, frozenset(symbolic)))
    (found,) = error.value.diagnostics
    return found


def test_names_that_a_line_depends_on_are_those_of_the_config() -> None:
    """Through the arguments of a block and arithmetic on the line that calls it."""
    found = refused("{choice: e, experts: wide + 0, groups: parts}", [])
    assert found.span is not None and found.span.text == "gate"
    assert (found.names, found.reads) == (frozenset(), {"wide", "parts"})


def test_symbolic_names_that_a_mistake_is_about() -> None:
    found = refused("{rope: e, theta: base}", ["base", "wide"])
    assert (found.names, found.reads) == ({"base"}, {"base"})


def test_names_of_an_expression_without_a_result() -> None:
    found = refused("{silu: e} \n    z: {linear: e, out: wide if other > base else parts}", ["base"])
    assert found.names == {"base", "other", "parts", "wide"}
