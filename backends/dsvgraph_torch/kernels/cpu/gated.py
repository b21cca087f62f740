"""Gated feed-forward networks, down(silu(gate(x)) * up(x)), in one pass over their rows, for training on a CPU.

A few hundred rows at a time go through all three products, so that what lies between them stays in a core's cache.
Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import ast

import torch
import torch.nn.functional as F

from dsvgraph_torch.kernels.cpu.products import Linear, compute_dtype, eager_cpu
from dsvgraph_torch.runtime import plain

ROWS = 512
"""Rows that go through at once: with widths of a few hundred they fit into a core's cache."""


def gated_network(gate, up, down, x, *sent):
    """down(silu(gate(x)) * up(x)); the three are modules, of each expert its own where the rows are ``sent``."""
    if not fits(gate, up, down, x):
        return down(F.silu(gate(x, *sent)) * up(x, *sent), *sent)
    dtype, rows = compute_dtype(x), x.reshape(-1, x.shape[-1])
    weights = [one.weight.to(dtype) if sent else one.weight.to(dtype)[None] for one in (gate, up, down)]
    ends = tuple(sent[0].offsets.tolist()) if sent else (len(rows),)
    y = GatedProducts.apply(rows.to(dtype), *weights, ends)
    return y.view(*x.shape[:-1], y.shape[-1])


def fits(gate, up, down, x):
    """Whether one pass serves: in training on a CPU, without biases."""
    modules = gate, up, down
    kinds = (Linear, plain.Linears)
    plain_weights = all(isinstance(one, kinds) and getattr(one, "bias", None) is None for one in modules)
    return plain_weights and eager_cpu(x) and torch.is_grad_enabled()


class GatedProducts(torch.autograd.Function):
    """Expert e has the rows from ``ends[e - 1]`` to ``ends[e]``; a network without experts is one of them."""

    @staticmethod
    def forward(ctx, x_SD, gate_EFD, up_EFD, down_EDF, ends):
        S, width = len(x_SD), gate_EFD.shape[1]
        a_SF, b_SF = x_SD.new_empty(S, width), x_SD.new_empty(S, width)
        y_SD = x_SD.new_empty(S, down_EDF.shape[1])
        for e, rows, _ in pieces(ends):
            x, a, b = x_SD[rows], a_SF[rows], b_SF[rows]
            torch.mm(x, gate_EFD[e].t(), out=a)
            torch.mm(x, up_EFD[e].t(), out=b)
            torch.mm(F.silu(a).mul_(b), down_EDF[e].t(), out=y_SD[rows])
        ctx.save_for_backward(x_SD, gate_EFD, up_EFD, down_EDF, a_SF, b_SF)
        ctx.ends = ends
        return y_SD

    @staticmethod
    def backward(ctx, g_SD):
        x_SD, gate_EFD, up_EFD, down_EDF, a_SF, b_SF = ctx.saved_tensors
        gx_SD, *g_weights = (torch.empty_like(t) for t in (x_SD, gate_EFD, up_EFD, down_EDF))
        for e, rows, first in pieces(ctx.ends):
            g, x, a, b = g_SD[rows], x_SD[rows], a_SF[rows], b_SF[rows]
            g_gate, g_up, g_down = (weight[e] for weight in g_weights)
            act, gh = F.silu(a), g @ down_EDF[e]
            added(g_down, g, act * b, first)
            gb = act.mul_(gh)
            ga = torch.ops.aten.silu_backward(gh.mul_(b), a)
            added(g_gate, ga, x, first)
            added(g_up, gb, x, first)
            torch.mm(ga, gate_EFD[e], out=gx_SD[rows]).addmm_(gb, up_EFD[e])
        return gx_SD, *g_weights, None


def pieces(ends):
    """For up to ROWS rows of one expert: the expert, the rows, and whether they are his first; one without rows too."""
    start = 0
    for e, end in enumerate(ends):
        for at in range(start, max(end, start + 1), ROWS):
            yield e, slice(at, min(at + ROWS, end)), at == start
        start = end


def added(total, g, x, first):
    """Add g^T x to ``total``, or set it to that at ``first``."""
    if first:
        torch.mm(g.t(), x, out=total)
    else:
        total.addmm_(g.t(), x)


# -- the lines that it stands for ---------------------------------------------------------------------


NAME = "_gated"
"""The name of `gated_network` in the source of a class: none of a spec begins so."""


def with_gated(definition: ast.stmt) -> ast.stmt:
    """Return a class in which the last lines of a gated network are one call of `gated_network`."""
    for function in [n for n in ast.walk(definition) if isinstance(n, ast.FunctionDef) and n.name == "forward"]:
        if call := _call(function.body[-5:]):
            function.body[-5:] = [ast.Return(call)]
    return ast.fix_missing_locations(definition)


def _call(lines: list[ast.stmt]) -> ast.Call | None:
    """Return one call for the lines of a gated network, None for others."""
    match lines:
        case [
            ast.Assign([ast.Name(gate)], ast.Call(ast.Attribute(ast.Name("self")) as first, [x, *sent], [])),
            ast.Assign([ast.Name(up)], ast.Call(ast.Attribute(ast.Name("self")) as second, others, [])),
            ast.Assign([ast.Name(act)], ast.Call(silu, [ast.Name(activated)], [])),
            ast.Assign([ast.Name(product)], ast.BinOp(ast.Name(left), ast.Mult(), ast.Name(right))),
            ast.Return(ast.Call(ast.Attribute(ast.Name("self")) as last, [ast.Name(value), *sent_last], [])),
        ] if (
            ast.unparse(silu) == "F.silu"
            and (activated, left, right, value) == (gate, act, up, product)
            and len({gate, up, act, product, *_names([x, *sent])}) == 4 + len(_names([x, *sent]))
            and [*map(ast.unparse, others)] == [*map(ast.unparse, [x, *sent])]
            and [*map(ast.unparse, sent_last)] == [*map(ast.unparse, sent)]
        ):
            return ast.Call(ast.Name(NAME, ast.Load()), [first, second, last, x, *sent], [])
    return None


def _names(parts: list[ast.expr]) -> set[str]:
    return {n.id for part in parts for n in ast.walk(part) if isinstance(n, ast.Name)}
