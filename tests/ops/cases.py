"""A small language model around each op: what goes in is `e`, [B, T, 8], what comes out is `y`, [B, T, 8]."""

from __future__ import annotations

from pathlib import Path

import dsvgraph
from dsvgraph.ops import OPS

ROOT = Path(__file__).parents[2]
MODEL = """
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: 16, dim: 8}}
    {lines}
    head: {{linear: y, out: 16}}
  out: {{logits: head{outputs}}}
loss: {{next: {{cross_entropy: logits, target: ids, shift: 1}}{losses}}}
"""
QKV = ["qkv: {linear: e, out: [2, 12]}", "s: {split: qkv, into: {q: 4, k: 4, v: 4}}"]
ROUTED = [
    "g: {router: e, experts: 4, top_k: 2}",
    "sent: {dispatch: {x: e, index: g.index}, experts: 4}",
    "each: {expert: sent, each: 4}",
    "y: {combine: {x: each, index: g.index, score: g.score}}",
]
MORE = [
    "more: {tap: e, repeat: 1}",
    "rows: {interleave_tokens: {x: e, inserted: more.here}, ahead: lane}",
    *[line.replace(": e", ": rows") for line in QKV],
    "r: {rope: s.q, theta: 100}",
    "a: {attention: {q: r, k: s.k, v: s.v}, mask: key % 2 == 0 or key == query}",
    "o: {linear: a, contract: 2, out: 8}",
    "t: {separate_tokens: o}",
    "y: {add: [t.own, e]}",
    "more_head: {linear: t.inserted, out: 16}",
]
FURTHER = ", more: more_head", ", more: {cross_entropy: more, target: ids, shift: depth}"
"""The output and the loss of tokens that are inserted behind the others."""
TAP = "blocks: {tap: {in: {x: [B, T, d]}, body: {before: {shift: x, by: -1}}, out: {x: before, here: x}}}\n"
EXPERT = "blocks: {expert: {in: {x: [..., 8]}, body: {up: {linear: x, out: 8}}, out: {x: up}}}\n"
LINES = {
    "embedding": ["again: {embedding: ids, num: 16, dim: 8}", "y: {add: [e, again]}"],
    "linear": ["y: {linear: e, out: 8}"],
    "affine": ["y: {affine: e}"],
    "rms_norm": ["y: {rms_norm: e}"],
    "layer_norm": ["y: {layer_norm: e}"],
    "rope": ["y: {rope: e, theta: 100}"],
    "attention": [*QKV, "a: {attention: {q: s.q, k: s.k, v: s.v}}", "y: {linear: a, contract: 2, out: 8}"],
    "stack_attention": [
        "s: {tap: e, repeat: 3}",
        "qkv: {linear: s.here, out: [2, 10]}",
        "p: {split: qkv, into: {q: 4, k: 4, v: 2}}",
        "a: {stack_attention: {q: p.q, k: p.k, v: p.v}}",
        "o: {linear: a, contract: 2, out: 8}",
        'y: {einsum: o, equation: "n b t d -> b t d"}',
    ],
    "interleave_tokens": MORE,
    "separate_tokens": MORE,
    "overwrite": ["late: {overwrite: e, start: 5, value: 1}", "y: {add: [e, late]}"],
    "shift": ["before: {shift: e, by: -1}", "y: {add: [e, before]}"],
    "router": ROUTED,
    "dispatch": ROUTED,
    "combine": ROUTED,
    "einsum": [
        "w: {linear: e, out: [8, 2]}",
        'v: {einsum: [e, w], equation: "btd,btdk->btk"}',
        "y: {linear: v, out: 8}",
    ],
    "split": ["s: {split: e, into: {a: 3, b: 5}}", "y: {concat: [s.b, s.a]}"],
    "concat": ["s: {silu: e}", "c: {concat: [e, s]}", "y: {linear: c, out: 8}"],
    "expand": ["x: {expand: e, size: 2}", "y: {linear: x, contract: 2, out: 8}"],
    "add": ["y: {add: [e, e]}"],
    "mul": ["g: {sigmoid: e}", "y: {mul: [e, g]}"],
    "times": ["y: {times: e, by: 3.0}"],
    "clamp": ["y: {clamp: e, min: -0.5, max: 0.5}"],
    "dropout": ["y: {dropout: e, p: 0.5}"],
    "detach": ["d: {detach: e}", "y: {add: [e, d]}"],
    "silu": ["y: {silu: e}"],
    "gelu": ["y: {gelu: e}"],
    "relu": ["y: {relu: e}"],
    "sigmoid": ["y: {sigmoid: e}"],
    "tanh": ["y: {tanh: e}"],
}
PACKAGES = {path.stem: path for path in ROOT.glob("examples/*/specs/*.yaml")}
"""Specs of ops that the packages in `examples` bring; they are tested where the package is installed."""


def text_of(op: str) -> str:
    """The spec of an op as YAML."""
    if op in PACKAGES:
        return PACKAGES[op].read_text(encoding="utf-8")
    lines = LINES[op]
    outputs, losses = FURTHER if lines is MORE else ("", "")
    return (EXPERT if lines is ROUTED else TAP if lines is MORE or op == "stack_attention" else "") + MODEL.format(
        lines="\n    ".join(lines), outputs=outputs, losses=losses
    )


def model_of(op: str) -> dsvgraph.Model:
    """The checked model of an op."""
    return dsvgraph.loads(text_of(op))


def present() -> list[str]:
    """The ops that are installed, each of which has a case."""
    return list(OPS)
