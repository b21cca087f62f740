"""Which gradients a loss has: at trunk, embedding, head and the depth before, detached or not, kind by kind."""

import pytest

torch = pytest.importorskip("torch")

from helpers import randomised, tokens  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph_torch import compile  # noqa: E402

PARTS = ("trunk", "embedding", "head", "previous")
SUBSETS = [(), *((part,) for part in PARTS), PARTS]
KINDS = {
    "cross_entropy": "target: ids, shift: depth + 1",
    "kl": "against: logits, shift: depth",
    "total_variation": "against: logits, shift: depth",
    "binary_cross_entropy": "target: ids, shift: depth + 1, window: 2",
}
SPEC = """
name: parts
blocks:
  step:
    in: {{h: "[B, T, 8]", ids: "int[B, T]", table: "[13, 8]", head: "[13, 8]"}}
    body:
      n: {{shift: ids, by: 1}}
      e: {{embedding: n, weight: table}}
      p: {{{previous}}}
      s: {{add: [p, e]}}
      m: {{linear: s, out: 8}}
      o: {{linear: m, out: 13, weight: head}}
    out: {{h: m, ids: n, o: o}}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: 13, dim: 8}}
    t: {{linear: e, out: 8}}
    l: {{linear: t, out: 13}}
    apart: {{embedding: ids, num: 13, dim: 8}}       # what the depths read, so that the trunk's own is told apart
    table: {{{embedding}}}
    trunk: {{{trunk}}}
    m: {{step: {{h: trunk, ids: ids, table: table, head: l.weight}}, repeat: 2}}
  out: {{logits: l, deep: m.o}}
loss:
  main: {{cross_entropy: logits, target: ids}}
  deep: {{{kind}: deep, {rest}{head}}}
"""


def spec(kind, detached):
    """The text; a line that detaches nothing multiplies by one."""
    wires = {"previous": "h", "embedding": "apart.weight", "trunk": "t"}
    lines = {p: f"detach: {w}" if p in detached else f"times: {w}, by: 1" for p, w in wires.items()}
    lines |= {"head": ", detach: head" if "head" in detached else ""}
    return SPEC.format(kind=kind, rest=KINDS[kind], **lines)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_zero_where_they_are_detached_and_nowhere_else(kind):
    ids = tokens(2, 9, 13)
    for detached in SUBSETS:
        made = randomised(compile(dsvgraph.loads(spec(kind, detached)))).double()
        losses = made(ids[:, :-1], ids[:, 1:])
        # the second depth: its own module, and through the depth before everything else
        losses["deep.2"].backward()
        moved = {name for name, weight in made.named_parameters() if weight.grad is not None and weight.grad.any()}
        want = {"m.1.m.weight"}
        want |= {"l.weight"} if "head" not in detached else set()
        want |= {"apart.weight"} if "embedding" not in detached else set()
        through = "previous" not in detached
        want |= {"m.0.m.weight"} if through else set()
        want |= {"t.weight", "e.weight"} if through and "trunk" not in detached else set()
        assert moved == want, detached


@pytest.mark.parametrize("kind", ["kl", "total_variation", "soft_cross_entropy"])
@pytest.mark.parametrize("moved", [False, True])
def test_what_is_compared_with_gets_a_gradient_where_the_line_says_so(kind, moved):
    text = (
        spec("kl", PARTS)
        .replace("{kl: deep", f"{{{kind}: deep")
        .replace("detach: head", f"detach: head, target_gradient: {str(moved).lower()}")
    )
    made, ids = randomised(compile(dsvgraph.loads(text))).double(), tokens(2, 9, 13)
    made(ids[:, :-1], ids[:, 1:])["deep.1"].backward()
    found = {name for name, weight in made.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert found == {"m.0.m.weight"} | ({"l.weight", "t.weight", "e.weight"} if moved else set())
