"""Lowering of each primitive op to one line of torch: one small function per op."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dsvgraph.graph import Node
from dsvgraph_torch.refusal import refusal


@dataclass
class Site:
    """An op where it stands: Python texts of its inputs and of its own weights.

    ``module`` is the text of the submodule that owns the weights, or None where the op has none
    or must be written as a function (tied weights, or weights on the class itself).
    ``sent`` is the text of the tokens' order where copies run side by side.
    """

    node: Node
    args: dict[str, str]
    module: str | None
    weights: dict[str, str] = field(default_factory=dict)
    sent: str | None = None
    copies: int = 0
    deferred: bool = False
    balanced: bool = False
    turns: bool = False

    @property
    def op(self) -> Any:
        return self.node.op

    @property
    def x(self) -> str:
        return next(iter(self.args.values()))


@dataclass
class Code:
    """``value`` is an expression; ``module`` constructs the submodule; several outputs unpack."""

    value: str
    module: str | None = None


Lowering = Callable[[Site], Code]
LOWERINGS: dict[str, Lowering] = {}


def lowers(name: str) -> Callable[[Lowering], Lowering]:
    """Registers the lowering of op ``name``."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS[name] = function
        return function

    return register


def lower(site: Site) -> Code:
    """The code of one op; raises DsvError where it cannot run here."""
    return LOWERINGS[site.node.callee](site)


def options(**values: Any) -> str:
    """Keyword arguments that differ from None."""
    return "".join(f", {k}={v!r}" for k, v in values.items() if v is not None)


@lowers("embedding")
def embedding(s: Site) -> Code:
    if s.module is None:
        return Code(f"F.embedding({s.x}, {s.weights['weight']})")
    num, dim = s.node.weights["weight"].shape
    return Code(f"{s.module}({s.x})", f"nn.Embedding({num}, {dim})")


@lowers("linear")
def linear(s: Site) -> Code:
    x = s.x if s.op.contract == 1 else f"{s.x}.flatten({-s.op.contract})"
    code = _grouped_linear(s, x) if s.sent else _plain_linear(s, x)
    if len(s.op.out) > 1:
        code.value += f".unflatten(-1, {tuple(s.op.out)})"
    return code


def _plain_linear(s: Site, x: str) -> Code:
    if s.module is None or s.deferred:
        weight = s.weights["weight"]
        bias = f", {s.weights['bias']}" if "bias" in s.weights else ""
        stacked = s.node.outputs[s.node.first].rank > 3
        made = "heads" if stacked else "head"
        value = f"{made}({x}, {weight}, ctx)" if s.deferred else f"F.linear({x}, {weight}{bias})"
        return Code(value, _linear_module(s) if s.module else None)
    return Code(f"{s.module}({x})", _linear_module(s))


def _linear_module(s: Site) -> str:
    rows, width = s.node.weights["weight"].shape
    return f"nn.Linear({width}, {rows}, bias={s.op.bias})"


def _grouped_linear(s: Site, x: str) -> Code:
    rows, width = s.node.weights["weight"].shape
    bias = ", bias=True" if s.op.bias else ""
    return Code(f"{s.module}({x}, {s.sent})", f"Linears({s.copies}, {width}, {rows}{bias})")


@lowers("rms_norm")
def rms_norm(s: Site) -> Code:
    if s.module is None:
        weight = s.weights["weight"]
        return Code(f"F.rms_norm({s.x}.to({weight}.dtype), {weight}.shape, {weight}, {s.op.eps!r})")
    (width,) = s.node.weights["weight"].shape
    if s.sent:
        return Code(f"{s.module}({s.x}, {s.sent})", f"Norms({s.copies}, {width}, {s.op.eps!r})")
    return Code(f"{s.module}({s.x})", f"RMSNorm({width}, eps={s.op.eps!r})")


@lowers("layer_norm")
def layer_norm(s: Site) -> Code:
    (width,) = s.node.ins["x"].shape[-1:]
    if s.module is None:
        weights = f"{s.weights['weight']}, {s.weights['bias']}"
        return Code(f"F.layer_norm({s.x}, ({width},), {weights}, {s.op.eps!r})")
    return Code(f"{s.module}({s.x})", f"nn.LayerNorm({width}, eps={s.op.eps!r})")


ROPE = {  # what each rope_scaling of a config.json needs, and what else it may say
    "linear": (["factor"], []),
    "llama3": (["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"], []),
    "yarn": (
        ["factor", "original_max_position_embeddings"],
        ["beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate"],
    ),
}


def rope_scaling(s: Site) -> dict[str, Any] | None:
    """The scaling with nothing in it but its type and numbers; raises DsvError where there is no such."""
    given = {k: v for k, v in (s.op.scaling or {}).items() if v is not None}
    kind = given.pop("rope_type", given.pop("type", None))
    if kind == "default" or not (kind or given):
        return None
    needed, others = ROPE.get(kind, ([], []))
    missing, unknown = [k for k in needed if k not in given], [k for k in given if k not in needed + others]
    if kind not in ROPE:
        words = f"`type` of rope scaling is {', '.join(ROPE)} or default, found `{kind or 'nothing'}`"
        raise refusal(s.node, words)
    if missing or unknown:
        words = f"needs `{missing[0]}`" if missing else f"has no `{unknown[0]}`"
        raise refusal(s.node, f"rope scaling `{kind}` {words}", f"it has {', '.join(needed + others)}")
    wrong = [k for k, v in given.items() if not isinstance(v, (int, float)) or (k in needed and v <= 0)]
    if wrong:
        raise refusal(s.node, f"`{wrong[0]}` of rope scaling is `{given[wrong[0]]}`, a number is expected")
    return {"type": str(kind), **given}


@lowers("rope")
def rope(s: Site) -> Code:
    scaling = rope_scaling(s)
    more = options(interleave=s.op.interleave or None, scaling=scaling)
    return Code(f"rope({s.x}, ctx, theta={s.op.theta!r}{more})")


@lowers("attention")
def attention(s: Site) -> Code:
    scale = s.op.scale if s.op.scale is not None else s.node.ins["q"].shape[-1] ** -0.5
    more = options(causal=None if s.op.causal else False, window=s.op.window)
    sinks = f", sinks={s.weights['sinks']}" if s.op.sinks else ""
    return Code(f"attention({', '.join(s.args.values())}, ctx, scale={scale!r}{more}{sinks})")


@lowers("shift")
def shift(s: Site) -> Code:
    return Code(f"shift({s.x}, by={s.op.by}{options(fill=s.op.fill or None)})")


@lowers("router")
def router(s: Site) -> Code:
    o = s.op
    experts, width = s.node.weights["weight"].shape
    more = options(
        groups=o.groups if o.groups != 1 else None,
        top_groups=o.top_groups if o.groups != 1 else None,
        score=o.score,
        normalize=o.normalize,
        scaling=o.scaling,
        correction_bias=o.correction_bias,
        bias=o.bias or None,
        group_score=o.group_score if o.group_score != "top2_sum" else None,
        balanced=s.balanced,
        turns=s.turns or None,
    )
    if s.module is None:
        raise refusal(s.node, "a router owns its weights and has an address of its own")
    return Code(f"{s.module}({s.x}, ctx)", f"Router({width}, {experts}, top_k={o.top_k}{more})")


@lowers("dispatch")
def dispatch(s: Site) -> Code:
    return Code(f"dispatch({s.args['x']}, {s.args['index']}, {s.op.experts})")


@lowers("combine")
def combine(s: Site) -> Code:
    return Code(f"combine({s.args['x']}, {s.args['index']}, {s.args['score']})")


@lowers("add")
def add(s: Site) -> Code:
    return Code(" + ".join(s.args.values()))


@lowers("mul")
def mul(s: Site) -> Code:
    return Code(" * ".join(s.args.values()))


@lowers("times")
def times(s: Site) -> Code:
    return Code(f"{s.x} * {s.op.by!r}")


@lowers("clamp")
def clamp(s: Site) -> Code:
    return Code(f"{s.x}.clamp({options(min=s.op.min, max=s.op.max)[2:]})")


@lowers("silu")
def silu(s: Site) -> Code:
    return Code(f"F.silu({s.x})")


@lowers("gelu")
def gelu(s: Site) -> Code:
    return Code(f"F.gelu({s.x})")


@lowers("relu")
def relu(s: Site) -> Code:
    return Code(f"F.relu({s.x})")


@lowers("sigmoid")
def sigmoid(s: Site) -> Code:
    return Code(f"torch.sigmoid({s.x})")


@lowers("tanh")
def tanh(s: Site) -> Code:
    return Code(f"torch.tanh({s.x})")


@lowers("affine")
def affine(s: Site) -> Code:
    bias = f" + {s.weights['bias']}" if s.op.bias else ""
    return Code(f"{s.weights['weight']} * {s.x}{bias}")


@lowers("einsum")
def einsum(s: Site) -> Code:
    equation = s.op.equation.replace(" ", "")
    return Code(f'torch.einsum("{equation}", {", ".join(s.args.values())})')


@lowers("dropout")
def dropout(s: Site) -> Code:
    return Code(f"F.dropout({s.x}, {s.op.p!r}, self.training)")


@lowers("detach")
def detach(s: Site) -> Code:
    return Code(f"{s.x}.detach()")


@lowers("concat")
def concat(s: Site) -> Code:
    return Code(f"torch.cat([{', '.join(s.args.values())}], -1)")


@lowers("split")
def split(s: Site) -> Code:
    return Code(f"{s.x}.split({tuple(s.op.into.values())}, -1)")


@lowers("expand")
def expand(s: Site) -> Code:
    rank = s.node.ins["x"].rank
    sizes = ", ".join(["-1"] * (rank - 1) + [str(s.op.size), "-1"])
    return Code(f"{s.x}.unsqueeze(-2).expand({sizes})")


def finite(value: float) -> bool:
    """Whether a number can stand in emitted source."""
    return not (math.isnan(value) or math.isinf(value))
