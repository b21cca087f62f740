"""Lowering of each primitive op to one line of torch: one small function per op."""

from __future__ import annotations

import ast
import math
from functools import reduce
from typing import Any

from dsvgraph.expr import Expr
from dsvgraph.ops import masks
from dsvgraph.ops.routing import GroupScore
from dsvgraph_torch.lowering.registry import Code, Site, code, lowers
from dsvgraph_torch.lowering.source import expression, literal, path

ON_TENSORS = {
    "and": "a & b", "or": "a | b", "not": "~a", "neg": "-a", "pos": "+a", "+": "a + b", "-": "a - b", "*": "a * b",
    "//": "a // b", "%": "a % b", "<": "a < b", "<=": "a <= b", ">": "a > b", ">=": "a >= b", "==": "a == b",
    "!=": "a != b",
}  # fmt: skip
FEW = 20  # inputs of a sum that is written with signs


def options(**values: Any) -> dict[str, Any]:
    """Return keyword arguments that differ from None."""
    return {k: v for k, v in values.items() if v is not None}


@lowers("embedding")
def embedding(s: Site) -> Code:
    if s.module is None:
        return code("F.embedding(x, weight)", x=s.x, weight=s.weights["weight"])
    num, dim = s.node.weights["weight"].shape
    return _called(s, expression("nn.Embedding(num, dim)", num=num, dim=dim))


def _called(s: Site, module: ast.expr, x: ast.expr | None = None) -> Code:
    """Return a submodule called with the input, and with the tokens' order where copies run side by side."""
    args = [x or s.x] + ([s.sent] if s.sent else [])
    return Code(expression("module(*args)", module=s.module, args=args), module)


@lowers("linear")
def linear(s: Site) -> Code:
    x = s.x if s.op.contract == 1 else expression("x.flatten(first)", x=s.x, first=-s.op.contract)
    found = _grouped_linear(s, x, s.sent) if s.sent else _plain_linear(s, x)
    if len(s.op.out) > 1:
        found.value = expression("y.unflatten(-1, sizes)", y=found.value, sizes=tuple(s.op.out))
    return found


def _plain_linear(s: Site, x: ast.expr) -> Code:
    if s.module is not None and not s.chunked:
        return _called(s, _linear_module(s), x)
    weight, module = s.weights["weight"], _linear_module(s) if s.module else None
    if s.chunked:
        stacked = s.node.outputs[s.node.first].rank > 3
        head = expression("heads" if stacked else "head")
        return Code(expression("head(x, weight, ctx)", head=head, x=x, weight=weight), module)
    args = [x, weight, *([s.weights["bias"]] if "bias" in s.weights else [])]
    return Code(expression("F.linear(*args)", args=args), module)


def _linear_module(s: Site) -> ast.expr:
    rows, width = s.node.weights["weight"].shape
    return expression("nn.Linear(width, rows, bias=bias)", width=width, rows=rows, bias=s.op.bias)


def _grouped_linear(s: Site, x: ast.expr, sent: ast.expr) -> Code:
    """Return a product for the rows of each expert; axes between rows and contracted ones are rows as well."""
    between = s.node.input_types["x"].shape[1 : s.node.input_types["x"].rank - s.op.contract]
    if between:
        x = expression("x.flatten(0, last)", x=x, last=len(between))
        times = expression("sent.offsets * times", sent=sent, times=math.prod(between))
        sent = expression("sent._replace(offsets=times)", sent=sent, times=times)
    found = _linears(s, x, sent) if s.module else _grouped(s, x, sent)
    if between:
        found.value = expression("y.unflatten(0, sizes)", y=found.value, sizes=(-1, *between))
    return found


def _linears(s: Site, x: ast.expr, sent: ast.expr) -> Code:
    rows, width = s.node.weights["weight"].shape
    more = options(bias=s.op.bias or None)
    made = expression("Linears(copies, width, rows, **more)", copies=s.copies, width=width, rows=rows, more=more)
    return Code(expression("module(x, sent)", module=s.module, x=x, sent=sent), made)


def _grouped(s: Site, x: ast.expr, sent: ast.expr) -> Code:
    """With weights that are tied, or the class's own."""
    value = expression("grouped(x, weight, sent.offsets)", x=x, weight=s.weights["weight"], sent=sent)
    return code("y + own", y=value, own=_own(s, "bias", x, sent)) if s.op.bias else Code(value)


def _own(s: Site, weight: str, x: ast.expr | None = None, sent: ast.expr | None = None) -> ast.expr:
    """Return a weight; where copies run side by side, each row's own entry of it."""
    if not s.sent:
        return s.weights[weight]
    return expression("per_row(weight, sent, x)", weight=s.weights[weight], sent=sent or s.sent, x=x or s.x)


@lowers("rms_norm")
def rms_norm(s: Site) -> Code:
    if s.module is None and s.sent:
        normed = expression("F.rms_norm(x.float(), x.shape[-1:], eps=number)", x=s.x, number=s.op.eps)
        return code("normed * own", normed=normed, own=_own(s, "weight"))
    if s.module is None:
        w = s.weights["weight"]
        return code("F.rms_norm(x.to(w.dtype), w.shape, w, eps)", x=s.x, w=w, eps=s.op.eps)
    (width,) = s.node.weights["weight"].shape
    if s.sent:
        return _called(s, expression("Norms(copies, width, eps)", copies=s.copies, width=width, eps=s.op.eps))
    return _called(s, expression("RMSNorm(width, eps=number)", width=width, number=s.op.eps))


@lowers("layer_norm")
def layer_norm(s: Site) -> Code:
    (width,) = s.node.input_types["x"].shape[-1:]
    if s.sent:
        normed = expression("F.layer_norm(x, (width,), eps=number)", x=s.x, width=width, number=s.op.eps)
        return code("normed * weight + bias", normed=normed, weight=_own(s, "weight"), bias=_own(s, "bias"))
    if s.module is None:
        more = dict(weight=s.weights["weight"], bias=s.weights["bias"], number=s.op.eps)
        return code("F.layer_norm(x, (width,), weight, bias, number)", x=s.x, width=width, **more)
    return _called(s, expression("nn.LayerNorm(width, eps=number)", width=width, number=s.op.eps))


@lowers("rope")
def rope(s: Site) -> Code:
    more = options(interleave=s.op.interleave or None, scaling=s.op.scaled)
    return code("rope(x, ctx, theta=base, **more)", x=s.x, base=s.op.theta, more=more)


@lowers("attention")
def attention(s: Site) -> Code:
    scale = s.op.scale if s.op.scale is not None else s.node.input_types["q"].shape[-1] ** -0.5
    sinks = s.weights["sinks"] if s.op.sinks else None
    seen = _condition(s.op.mask) if s.op.mask else None
    causal: Any = None if s.op.causal else False
    if s.node.input_types["q"].interleaving:  # decoding has the row's own tokens alone
        seen = expression("None if ctx.cache is not None else seen", seen=seen) if seen else None
        causal = None if s.op.causal else expression("ctx.cache is not None")
    more = options(causal=causal, window=s.op.window, sinks=sinks, seen=seen)
    return code("attention(*inputs, ctx, scale=factor, **more)", inputs=s.inputs, factor=scale, more=more)


def _condition(mask: str) -> ast.expr:
    """Return the function of the positions of queries and keys that says which of them meet."""
    return expression("lambda query, key: meets", meets=_on_tensors(masks.parse(mask)))


def _on_tensors(tree: Expr) -> ast.expr:
    """Return a condition on tensors of positions."""
    if tree.op == "number":
        return literal(tree.args[0])
    if tree.op == "name":
        return path(tree.args[0])
    return expression(ON_TENSORS[tree.op], **dict(zip("ab", map(_on_tensors, tree.args), strict=False)))


@lowers("stack_attention")
def stack_attention(s: Site) -> Code:
    scale = s.op.scale if s.op.scale is not None else s.node.input_types["q"].shape[-1] ** -0.5
    more = options(causal=None if s.op.causal else False)
    return code("stack_attention(*inputs, scale=factor, **more)", inputs=s.inputs, factor=scale, more=more)


@lowers("interleave_tokens")
def interleave_tokens(s: Site) -> Code:
    return code("interleave_tokens(*inputs, ctx)", inputs=s.inputs)


@lowers("separate_tokens")
def separate_tokens(s: Site) -> Code:
    lanes = s.node.outputs["inserted"].shape[0] + 1
    return code("separate_tokens(x, lanes, ctx)", x=s.x, lanes=lanes)


@lowers("overwrite")
def overwrite(s: Site) -> Code:
    return code("overwrite(x, first, number, ctx)", x=s.x, first=s.op.start, number=s.op.value)


@lowers("shift")
def shift(s: Site) -> Code:
    moved = expression("shift(x, steps, ctx, **more)", x=s.x, steps=s.op.by, more=options(fill=s.op.fill or None))
    return code("ctx.newest(moved)", moved=moved) if s.op.by < 0 else Code(moved)


@lowers("router")
def router(s: Site) -> Code:
    o = s.op
    experts, width = s.node.weights["weight"].shape
    more = options(
        top_k=o.top_k,
        groups=o.groups if o.groups != 1 else None,
        top_groups=o.top_groups if o.groups != 1 else None,
        score=o.score.value,
        normalize=o.normalize,
        scaling=o.scaling if o.scaling != 1 else None,
        correction_bias=o.correction_bias,
        bias=o.bias or None,
        group_score=None if o.group_score is GroupScore.TOP2_SUM else o.group_score.value,
        balanced=s.balanced,
        filled=s.filled,
        shared=s.shared or None,
    )
    made = expression("Router(width, experts, **more)", width=width, experts=experts, more=more)
    return Code(expression("module(x, ctx)", module=s.module, x=s.x), made)


@lowers("dispatch")
def dispatch(s: Site) -> Code:
    return code("dispatch(x, index, experts)", **s.args, experts=s.op.experts)


@lowers("combine")
def combine(s: Site) -> Code:
    return code("combine(x, score)", x=s.args["x"], score=s.args["score"])


def _joined(template: str, s: Site, many: str) -> Code:
    """Return all inputs, joined two by two; ``many`` as one call, since what nests has its limits in Python."""
    if len(s.inputs) > FEW:
        return code(many, parts=s.inputs)
    return Code(reduce(lambda a, b: expression(template, a=a, b=b), s.inputs))


@lowers("add")
def add(s: Site) -> Code:
    return _joined("a + b", s, "sum(parts)")


@lowers("mul")
def mul(s: Site) -> Code:
    return _joined("a * b", s, "math.prod(parts)")


@lowers("times")
def times(s: Site) -> Code:
    return code("x * factor", x=s.x, factor=s.op.by)


@lowers("clamp")
def clamp(s: Site) -> Code:
    return code("x.clamp(**ends)", x=s.x, ends=options(min=s.op.min, max=s.op.max))


def _unary(name: str, template: str) -> None:
    """Register an op whose line is ``template``."""
    lowers(name)(lambda s: code(template, x=s.x))


_unary("silu", "F.silu(x)")
_unary("gelu", "F.gelu(x)")
_unary("relu", "F.relu(x)")
_unary("sigmoid", "torch.sigmoid(x)")
_unary("tanh", "torch.tanh(x)")
_unary("detach", "x.detach()")


@lowers("affine")
def affine(s: Site) -> Code:
    product = expression("weight * x", weight=_own(s, "weight"), x=s.x)
    return code("product + bias", product=product, bias=_own(s, "bias")) if s.op.bias else Code(product)


@lowers("einsum")
def einsum(s: Site) -> Code:
    return code("torch.einsum(equation, *inputs)", equation=s.op.equation.replace(" ", ""), inputs=s.inputs)


@lowers("dropout")
def dropout(s: Site) -> Code:
    return code("F.dropout(x, share, self.training)", x=s.x, share=s.op.p)


@lowers("concat")
def concat(s: Site) -> Code:
    return code("torch.cat(parts, -1)", parts=s.inputs)


@lowers("split")
def split(s: Site) -> Code:
    template = "x.split(sizes, -1)" if len(s.op.into) > 1 else "x.split(sizes, -1)[0]"
    return code(template, x=s.x, sizes=tuple(s.op.into.values()))


@lowers("expand")
def expand(s: Site) -> Code:
    sizes = [literal(-1)] * (s.node.input_types["x"].rank - 1) + [literal(s.op.size), literal(-1)]
    return code("x.unsqueeze(-2).expand(*sizes)", x=s.x, sizes=sizes)
