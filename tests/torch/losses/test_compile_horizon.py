"""No head sees its target: what the graph says of horizons, found again by changing tokens one by one."""

from pathlib import Path

import pytest

import dsvgraph

torch = pytest.importorskip("torch")

from helpers import SMALL, built, small, tokens  # noqa: E402

T = 9
ROUNDING = 1e-5  # of logits near 1: experts that receive other rows add up in another order


def seen(read, ids):
    """The largest j - i over all changes of token j that reach position i of read(ids), [rows, T, ...]."""
    before, furthest = read(ids), None
    for j in range(ids.shape[1]):
        changed = ids.clone()
        changed[:, j] = (changed[:, j] + 1) % 61
        far = (read(changed) - before).abs().amax(-1).amax(0) > ROUNDING
        moved = far.nonzero().flatten().tolist()
        ahead = max((j - i for i in moved), default=None)
        furthest = ahead if furthest is None else max(furthest, ahead if ahead is not None else furthest)
    return furthest


def outputs(module):
    """How to read every output, the stacked ones by depth."""
    for name, value in module(tokens(1, T)).items():
        if value.dim() == 3:
            yield name, 0, lambda ids, name=name: module(ids)[name]
        for k in range(len(value) if value.dim() == 4 else 0):
            yield name, k + 1, lambda ids, name=name, k=k: module(ids)[name][k]


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL, ids=lambda name: Path(name).stem)
def test_heads_see_as_far_as_the_graph_says_and_never_their_target(name):
    graph, checked = small(name), set()
    module = built(graph).eval()
    for loss in (loss for loss in graph.losses if loss.kind == "cross_entropy"):
        horizons = {0: graph.horizons_of(graph.outputs[loss.output])}
        node = graph.nodes[graph.outputs[loss.output].node]
        horizons.update(enumerate(node.copy_horizons.get(graph.outputs[loss.output].port, []), 1))
        for output, depth, read in outputs(module):
            if output == loss.output:
                horizon = horizons[depth].ahead("input_ids")
                assert seen(read, tokens(2, T)) == horizon  # it sees that far, so the test can fail
                assert horizon < depth + 1  # what it predicts
                checked.add((output, depth))
    assert len(checked) == 1 + graph.config.get("num_nextn_predict_layers", 0)
    assert seen(module.predict, tokens(2, T)) == 0


@torch.no_grad()
def test_changes_reach_a_position_and_none_before_it():
    """The issue's words, plainly, for the chain of the released weights."""
    module, ids = built("deepseek_v3").eval(), tokens(2, T)
    before = module(ids)
    for j in range(T):
        changed = ids.clone()
        changed[:, j] = (ids[:, j] + 7) % 61
        after = module(changed)
        for depth, name in enumerate(["logits", "mtp_logits", "mtp_logits"]):
            old, new = (v[name] if depth == 0 else v[name][depth - 1] for v in (before, after))
            moved = (new - old).abs().amax((0, 2))
            assert (moved[: max(0, j - depth)] < ROUNDING).all()
            assert j < depth or moved[j - depth] > 1000 * ROUNDING


LEAKS = {
    "target within the horizon": ("shift: depth + 1", "shift: depth", "mtp:"),
    "a shift too many": ("{shift: ids, by: 1}", "{shift: ids, by: 2}", "mtp:"),
    "attention that is not causal": ("scale: 0.5}", "scale: 0.5, causal: false}", "next:"),
}
SPEC = """
config: {V: 61, d: 8}
blocks:
  layer:
    in: {x: "[B, T, d]"}
    body:
      q:   {linear: x, out: [2, 4]}
      mix: {attention: {q: q, k: q, v: q}, scale: 0.5}
      o:   {linear: mix, contract: 2, out: 8}
      y:   {add: [x, o]}
    out: {x: y}
  ahead:
    in: {x: "[B, T, d]", ids: "int[B, T]", table: "[V, d]"}
    body:
      next:   {shift: ids, by: 1}
      embed:  {embedding: next, weight: table}
      sum:    {add: [x, embed]}
      layer:  {layer: sum}
      logits: {linear: layer, out: 61, weight: table}
    out: {x: layer, ids: next, logits: logits}
graph:
  in: {ids: "int[B, T]"}
  body:
    embed: {embedding: ids, num: V, dim: d}
    trunk: {layer: embed, repeat: 2}
    head:  {linear: trunk, out: V}
    mtp:   {ahead: {x: trunk, ids: ids, table: embed.weight}, repeat: 2}
  out: {logits: head, further: mtp.logits}
loss:
  next: {cross_entropy: logits, target: ids, shift: 1}
  mtp:  {cross_entropy: further, target: ids, shift: depth + 1}
"""


@torch.no_grad()
def test_a_wiring_of_ones_own_has_its_horizons():
    module = built(dsvgraph.loads(SPEC)).eval()
    assert {(n, d): seen(read, tokens(2, T)) for n, d, read in outputs(module)} == {
        ("logits", 0): 0, ("further", 1): 1, ("further", 2): 2,
    }  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_refused_at_its_line_and_is_a_leak(leak):
    old, new, line = LEAKS[leak]
    wrong = SPEC.replace(old, new)
    assert wrong != SPEC
    with pytest.raises(dsvgraph.DsvError, match="label leak") as caught:
        dsvgraph.loads(wrong)
    numbers = [d.span.line for d in caught.value.diagnostics]
    assert numbers[0] == 1 + wrong.splitlines().index(next(t for t in wrong.splitlines() if t.startswith(f"  {line}")))
    if "horizon" not in leak:  # the module, built without the loss that is refused, does look there
        module = built(dsvgraph.loads(wrong[: wrong.index("loss:")])).eval()
        far = {(n, d): seen(read, tokens(2, T)) for n, d, read in outputs(module)}
        assert far["further", 1] >= 2 and (far["logits", 0] > 0) == ("causal" in leak)
