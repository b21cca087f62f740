"""Logits are scored wherever a wiring makes them, and chains of heads wherever they stand."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from bodies import NEXT, V, close, model  # noqa: E402
from helpers import tokens  # noqa: E402

CHAIN = """
  step:
    in: {x: "[B, T, d]", ids: "int[B, T]", table: "[V, d]"}
    args: {V}
    body:
      ahead: {shift: ids}
      f: {embedding: ahead, weight: table}
      g: {add: [x, f]}
      h: {linear: g, out: d}
      z: {linear: h, out: V, weight: table}
    out: {x: h, ids: ahead, z: z}
  chain:
    in: {x: "[B, T, d]", ids: "int[B, T]", table: "[V, d]"}
    args: {n}
    body: {s: {step: {x: x, ids: ids, table: table}, repeat: n, at: s}}
    out: {z: s.z}
"""
FURTHER = f"{NEXT}\n  more: {{cross_entropy: more, target: ids, shift: depth + 1}}"


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("at", ["", ", at: ."])
def test_a_chain_inside_a_block_is_the_chain(at, n):
    start = "h: {linear: e, out: d}\n    y: {linear: h, out: V}\n    "
    wire = "{x: h, ids: ids, table: y.weight}"
    flat = model(f"{start}c: {{step: {wire}, repeat: n, at: s}}", CHAIN, "logits: y, more: c.z", loss=FURTHER, n=n)
    deep = model(f"{start}c: {{chain: {wire}{at}}}", CHAIN, "logits: y, more: c.z", loss=FURTHER, n=n)
    prefix = "" if at else "c."
    deep[0].load_state_dict({prefix + k if k[0] == "s" else k: w for k, w in flat[1].items()})
    ids, targets = tokens(2, 6, V), tokens(2, 6, V, seed=1)
    one, other = flat[0](ids, targets), deep[0](ids, targets)
    assert len(one) == 2 + n and one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert all(torch.equal(v, deep[0](ids)[k]) for k, v in flat[0](ids).items())


@pytest.mark.parametrize(
    "body, block, out",
    [
        ("y: {b: e}", "y", "logits: y"),
        ("y: {b: e, at: .}", "y", "logits: y"),
        ("y: {b: e}\n    z: {b: y}", "y", "logits: y, again: z"),
        ("y: {b: e}\n    z: {b: y}", "y", "logits: z, inner: y"),
        ("y: {b: e}", "{a: y, b: y}", "logits: y.a, again: y.b"),
        ("y: {b: e}", "{a: y, b: n1}", "normed: y.b, logits: y.a"),
        ("z: {b: e}\n    y: {times: z, by: 0.1}", "y", "logits: y"),
        ("y: {b: e}\n    z: {silu: y}", "y", "logits: y, z: z"),
    ],
)
def test_logits_are_scored_wherever_they_are_made(body, block, out):
    blocks = f"""
  b:
    in: {{x: "[B, T, d]"}}
    body: {{n1: {{rms_norm: x}}, y: {{linear: n1, out: d}}}}
    out: {block}
"""
    loss = f"{NEXT}\n  second: {{cross_entropy: logits, target: ids, shift: 2, weight: 0.5}}"
    module, _, ids = model(body, blocks, out, loss=loss, d=V)
    targets = tokens(2, 5, V, seed=1)
    logits, losses = module(ids)["logits"], module(ids, targets)
    close(losses["next"], F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    close(losses["second"], F.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten()))
    close(losses["loss"], losses["next"] + 0.5 * losses["second"])
