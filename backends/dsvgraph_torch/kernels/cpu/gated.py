"""Experts down(silu(gate(x)) * up(x)) in one pass over the rows of each, for training on a CPU.

What lies between the products of one expert stays in a core's cache, and the backward keeps less.
Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import ast

import torch
import torch.nn.functional as F

from dsvgraph_torch.kernels.cpu.products import compute_dtype, eager_cpu, per_expert
from dsvgraph_torch.runtime import plain


def gated_network(gate, up, down, x, *sent):
    """down(silu(gate(x)) * up(x)) of three modules, each expert on its rows where they are ``sent``."""
    if not fits(gate, up, down, x):
        return down(F.silu(gate(x, *sent)) * up(x, *sent), *sent)
    dtype = compute_dtype(x)
    return GatedExperts.apply(x.to(dtype), *(one.weight.to(dtype) for one in (gate, up, down)), sent[0].offsets)


def fits(gate, up, down, x):
    """Whether one pass serves: experts without biases, in training on a CPU."""
    experts = all(isinstance(one, plain.Linears) and not one.biased for one in (gate, up, down))
    return experts and eager_cpu(x) and torch.is_grad_enabled()


class GatedExperts(torch.autograd.Function):
    """Rows of expert e through its gate, up and down."""

    @staticmethod
    def forward(ctx, x_SD, gate_EFD, up_EFD, down_EDF, offsets_E):
        a_SF, b_SF = (x_SD.new_empty(len(x_SD), gate_EFD.shape[1]) for _ in range(2))
        y_SD = x_SD.new_empty(len(x_SD), down_EDF.shape[1])
        weights = gate_EFD.mT, up_EFD.mT, down_EDF.mT
        for x, a, b, y, gate, up, down in zip(*per_expert(offsets_E, x_SD, a_SF, b_SF, y_SD), *weights, strict=True):
            torch.mm(x, gate, out=a)
            torch.mm(x, up, out=b)
            torch.mm(F.silu(a).mul_(b), down, out=y)
        ctx.save_for_backward(x_SD, gate_EFD, up_EFD, down_EDF, offsets_E, a_SF, b_SF)
        return y_SD

    @staticmethod
    def backward(ctx, g_SD):
        x_SD, *weights, offsets_E, a_SF, b_SF = ctx.saved_tensors
        gx_SD, *g_weights = (torch.empty_like(t) for t in (x_SD, *weights))
        rows = zip(*per_expert(offsets_E, g_SD, x_SD, a_SF, b_SF, gx_SD), strict=True)
        of_weights = zip(*weights, *g_weights, strict=True)
        for (g, x, a, b, gx), (gate, up, down, g_gate, g_up, g_down) in zip(rows, of_weights, strict=True):
            act, gh = F.silu(a), g @ down
            torch.mm(g.t(), act * b, out=g_down)
            gb = act.mul_(gh)
            ga = torch.ops.aten.silu_backward(gh.mul_(b), a)
            torch.mm(ga.t(), x, out=g_gate)
            torch.mm(gb.t(), x, out=g_up)
            torch.mm(ga, gate, out=gx).addmm_(gb, up)
        return gx_SD, *g_weights, None


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
