"""Small models given by the lines of their body, for tests of what each line does."""

from __future__ import annotations

import torch
from helpers import randomised, tokens

import dsvgraph
from dsvgraph_torch import compile, emit, prove
from dsvgraph_torch.module import load_source

V, D = 13, 8
NEXT = "next: {cross_entropy: logits, target: ids, shift: 1}"


def loaded(body, blocks="", out="logits: y", loss=NEXT, more="", **config):
    """The graph of a body that starts from `e`, the embedded ids."""
    return dsvgraph.loads(f"""
config: {{V: 13, d: 8, n: 3}}
{"blocks:" if blocks else ""}
{blocks}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: V, dim: d}}
    {body.strip()}
  out: {{{out}}}
loss:
  {loss.strip()}
{more}
""", config)  # fmt: skip


def model(body, blocks="", out="logits: y", **given):
    """The module of a body, its weights by name, and ids; the emitted file gives the same."""
    graph = loaded(body, blocks, out, **given)
    module = randomised(compile(graph))
    prove(module, graph)
    ids = tokens(2, 5, V)
    alone = load_source(emit(graph), "alone")
    twin = getattr(alone, type(module).__name__)()
    twin.load_state_dict(module.state_dict())
    with torch.no_grad():
        first = next(iter(graph.outputs))
        assert torch.equal(twin.eval().predict(ids), module.eval()(ids)[first])
        assert torch.equal(module.predict(ids), module(ids)[first])
    module.train()(ids, tokens(2, 5, V, seed=1))["loss"].backward()
    module.zero_grad()
    return module, module.state_dict(), ids


def logits(module, ids):
    return module(ids)["logits"]


def close(got, want):
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


LAYER = """
  layer:
    in: {x: "[B, T, d]"}
    body:
      up: {linear: x, out: d}
      y:  {add: [x, up]}
    out: {x: y}
"""
