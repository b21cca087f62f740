"""What the tests of `cost --verify` share."""

from __future__ import annotations

from typing import Any

import dsvgraph
from dsvgraph.backends.verification import Verification
from dsvgraph_torch import verify


def verified(model: dsvgraph.Model, batch: int = 1, seq: int = 40) -> Verification:
    """The model verified; its blocks are all told apart."""
    found = verify(model, batch, seq)
    assert [run.device for run in found.runs] == ["meta", "cpu"]
    assert all(run.blocks and run.total.forward.ours > 0 for run in found.runs)
    return found


def differences(found: Verification) -> list[Any]:
    return [b for run in found.runs for b in (run.total, *run.blocks, *run.lines) if not b.equal]


FLOWS = """
config: {d: 16, vocab: 24}
blocks:
  mixer:
    in: {x: [B, T, d]}
    body:
      norm: {NORM: x}
      q:    {linear: norm, out: [2, 8]}
      k:    {linear: norm, out: [1, 8]}
      v:    {linear: norm, out: [1, 4]}
      attn: {attention: {q: q, k: KEY, v: v}}
      o:    {linear: attn, contract: 2, out: d}
      y:    {add: [x, o]}
    out: {x: y}
graph:
  in: INPUTS
  body:
    embed: {embedding: ids, num: vocab, dim: d}
    start: START
    trunk: {mixer: start, at: layers, repeat: 3}
    idle:  {linear: trunk, out: 4}
    held:  {detach: trunk}
    side:  {linear: held, out: vocab}
    head:  {linear: trunk, out: vocab, weight: embed.weight}
  out: {logits: head, side: side}
"""


def flows(norm: str = "rms_norm", key: str = "k", start: str = "{times: embed, by: 2.0}", **sections: str) -> str:
    inputs = "{ids: 'int[B, T]', x: [B, T, d]}" if "x" in start.split(":")[1] else "{ids: 'int[B, T]'}"
    text = FLOWS.replace("NORM", norm).replace("KEY", key).replace("START", start).replace("INPUTS", inputs)
    return text + "".join(f"\n{name}: {value}" for name, value in sections.items())
