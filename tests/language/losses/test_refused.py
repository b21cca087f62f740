"""What papers on multi-token prediction do and no lines say is refused with what there is in its place."""

from __future__ import annotations

import pytest

import dsvgraph
from dsvgraph.build.refused import REFUSED
from dsvgraph.errors import DsvError

SPEC = """
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: 9, dim: 4}}
    {line}
    y: {{linear: e, out: 9}}
  out: {{logits: y}}
loss:
  next: {{cross_entropy: logits, target: ids, shift: {shift}}}
  bag: {{binary_cross_entropy: logits, target: ids, shift: 2{more}}}
"""


def hint_of(line: str = "x: {silu: e}", shift: int = 1, more: str = "") -> str:
    with pytest.raises(DsvError) as error:
        dsvgraph.loads(SPEC.format(line=line, shift=shift, more=more))
    return error.value.diagnostics[0].hint


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_is_refused_with_its_reason(name: str) -> None:
    assert hint_of(f"x: {{{name}: e}}") == REFUSED[name]
    assert hint_of(f"x: {{overwrite: e, start: 3, {name}: 2}}") == REFUSED[name]
    assert hint_of(more=f", {name}: 2") == REFUSED[name]


def test_no_loss_predicts_what_is_behind() -> None:
    assert hint_of(shift=-1) == REFUSED["reverse"]
