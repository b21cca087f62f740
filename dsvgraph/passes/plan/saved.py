"""What autograd keeps of each op's forward for its backward, op by op, as the compiled module runs it.

Values share storages where torch makes views, so that what two ops keep is counted once. Under
autocast matrix products read copies in 16 bits: weights are copied once, values at each use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dsvgraph.dims import Size
from dsvgraph.ops.base import rows
from dsvgraph.passes.plan.tape import BYTE, FLOAT, HALF, LONG, Site, Storage, Tape, Value

Rule = Callable[[Tape, Site], "dict[str, Value] | Value"]


def run(tape: Tape, site: Site) -> dict[str, Value]:
    """Runs one op on the tape; returns its outputs."""
    found = RULES.get(site.node.callee, _pointwise)(tape, site)
    return found if isinstance(found, dict) else {site.node.first: found}


def _pointwise(tape: Tape, s: Site) -> Value:
    """Sums and products with numbers: nothing is kept."""
    return tape.fresh(s.out.numel, max(v.width for v in s.ins.values()), s.grad)


def _embedding(tape: Tape, s: Site) -> Value:
    if s.ins["weight"].grad:
        tape.keep(s.x)
    return tape.fresh(s.out.numel, FLOAT, s.ins["weight"].grad)


def _linear(tape: Tape, s: Site) -> Value:
    weight, x = s.ins["weight"], s.x
    if s.op.contract > 1 and x.strided:
        x = tape.fresh(x.numel, x.width, x.grad)
    if s.ahead > 1 and tape.batch > 1:  # positions without a target are cut off each row
        x = tape.fresh(x.numel, x.width, x.grad)
    if s.head == "chunks":
        tape.keep(x)
    else:
        x = tape.cast(x, tape.low)
        tape.product(x, tape.cast(weight, tape.low))
    if s.head:  # the loss makes the logits
        tape.lend(x)
        return tape.fresh(0, tape.low, s.grad)
    return tape.fresh(s.out.numel, tape.low, s.grad)


def _norm(tape: Tape, s: Site) -> Value:
    x = tape.cast(s.x, FLOAT)
    if x.grad or (tape.fused and s.grad):
        tape.keep(x)
        tape.keep_new(rows(s.node.ins["x"]), FLOAT)
    if s.ins["weight"].grad and not tape.fused:
        tape.keep_new(x.numel, FLOAT)
    if s.grad and s.side_by_side:  # the gains are gathered row by row
        tape.keep_new(x.numel, FLOAT)
        tape.keep_new(x.numel, FLOAT)
    return tape.fresh(s.out.numel, FLOAT, s.grad)


def _layer_norm(tape: Tape, s: Site) -> Value:
    x = tape.cast(s.x, FLOAT)
    if s.grad:
        tape.keep(x)
        tape.keep_new(rows(s.node.ins["x"]), 2 * FLOAT)
    return tape.fresh(s.out.numel, FLOAT, s.grad)


def _rope(tape: Tape, s: Site) -> Value:
    if s.x.width == HALF and s.grad:  # cosines and sines in 16 bits; in 32 all layers share them
        tape.keep_new(s.out.shape[1] * s.out.shape[-1], s.x.width)
    return tape.fresh(s.out.numel, s.x.width, s.grad)


def _attention(tape: Tape, s: Site) -> Value:
    """A fused kernel keeps queries, keys, values, the result and a number per row, at one width of heads."""
    q, v = s.node.ins["q"], s.node.ins["v"]
    batch, length, heads, wide = *q.shape[:3], _wider(q.shape[-1], v.shape[-1])
    extra = 8 if s.op.sinks else 0
    if s.grad:
        for port in s.node.ins:
            groups = s.node.ins[port].shape[2]
            tape.keep_new(batch * length * groups * (wide + extra), tape.low)
        tape.keep_new(batch * length * heads, FLOAT)
        if s.op.sinks or s.op.window:  # a mask that is written out
            tape.keep_new(length * length, tape.low)
    whole = tape.fresh(batch * length * heads * (wide + extra), tape.low, s.grad)
    if s.grad:
        tape.keep(whole)
    cut = bool(extra) or wide != v.shape[-1]
    return replace(whole, numel=s.out.numel, strided=cut)


def _wider(a: Size, b: Size) -> Size:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else a


def _router(tape: Tape, s: Site) -> dict[str, Value]:
    """In float32 whatever the precision: x, the scores of all experts, the chosen ones and their sum."""
    x, chosen = tape.cast(s.x, FLOAT), s.node.outputs["index"].numel
    index = Value(Storage(chosen, LONG), chosen, LONG, False)
    every = rows(s.node.ins["x"]) * s.op.experts
    if s.ins["weight"].grad:
        tape.keep(x)
    if s.grad:
        tape.keep(index)
        tape.keep_new(every, FLOAT)
        if s.op.normalize:
            tape.keep_new(chosen + rows(s.node.ins["x"]), FLOAT)
        if tape.balanced:
            tape.keep_new(chosen, LONG)
            tape.keep_new(rows(s.node.ins["x"]) + s.node.ins["x"].shape[0] * s.op.experts, FLOAT)
    return {"index": index, "score": tape.fresh(chosen, FLOAT, s.grad)}


def _dispatch(tape: Tape, s: Site) -> Value:
    if s.ins["x"].grad:
        tape.keep_new(s.ins["index"].numel, LONG)
    return tape.fresh(s.out.numel, s.ins["x"].width, s.ins["x"].grad)


def _combine(tape: Tape, s: Site) -> Value:
    x, score = s.ins["x"], s.ins["score"]
    if x.grad:
        tape.keep_new(s.ins["index"].numel, LONG)
    tape.product(tape.fresh(x.numel, x.width, x.grad), tape.cast(score, x.width))
    tape.fresh(x.numel, x.width)  # weighed, before it is summed
    return tape.fresh(s.out.numel, x.width, s.grad)


def _mul(tape: Tape, s: Site) -> Value:
    first, *others = s.ins.values()
    for other in others:
        tape.product(first, other)
        first = tape.fresh(s.out.numel, max(first.width, other.width), first.grad or other.grad)
    return first


def _einsum(tape: Tape, s: Site) -> Value:
    first, *others = (tape.cast(v, tape.low) for v in s.ins.values())
    for other in others:
        tape.product(first, other)
        first = tape.fresh(s.out.numel, tape.low, first.grad or other.grad)
    return first


def _keeps_input(tape: Tape, s: Site) -> Value:
    if s.grad:
        tape.keep(s.x)
    return tape.fresh(s.out.numel, s.x.width, s.grad)


def _keeps_output(tape: Tape, s: Site) -> Value:
    found = tape.fresh(s.out.numel, s.x.width, s.grad)
    if s.grad:
        tape.keep(found)
    return found


def _dropout(tape: Tape, s: Site) -> Value:
    if not s.op.p:
        return s.x
    if s.grad:
        tape.keep_new(s.out.numel, BYTE if tape.fused else s.x.width)
    return tape.fresh(s.out.numel, s.x.width, s.grad)


def _affine(tape: Tape, s: Site) -> Value:
    tape.product(s.x, s.ins["weight"])
    return tape.fresh(s.out.numel, max(s.x.width, FLOAT), s.grad)


def _shift(tape: Tape, s: Site) -> Value:
    return tape.fresh(s.out.numel, s.x.width, s.grad)


def _views(tape: Tape, s: Site) -> dict[str, Value]:
    """Parts of the input, or the input again: no memory of their own."""
    return {p: replace(s.x, numel=t.numel, strided=True) for p, t in s.node.outputs.items()}


def _detach(tape: Tape, s: Site) -> Value:
    return replace(s.x, grad=False)


RULES: dict[str, Rule] = {
    "embedding": _embedding,
    "linear": _linear,
    "affine": _affine,
    "rms_norm": _norm,
    "layer_norm": _layer_norm,
    "rope": _rope,
    "attention": _attention,
    "shift": _shift,
    "router": _router,
    "dispatch": _dispatch,
    "combine": _combine,
    "mul": _mul,
    "einsum": _einsum,
    "silu": _keeps_input,
    "gelu": _keeps_input,
    "clamp": _keeps_input,
    "relu": _keeps_output,
    "sigmoid": _keeps_output,
    "tanh": _keeps_output,
    "dropout": _dropout,
    "split": _views,
    "expand": _views,
    "detach": _detach,
}
