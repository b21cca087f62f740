"""Attention on what is cached itself, where keys and values are linear in it: the absorbed form, for any block.

A block that keeps latents makes keys and values of all cached positions again in every step. If the lines between are
linear, the products move to the query and to the result: (q M_k) c^T in place of q (c M_k)^T, and (p c) M_v in place of
p (c M_v). `absorb` finds such lines in the source of a class and makes a function of them; `absorbed`
runs it on unit vectors, which gives M_k and M_v, and takes the form that needs fewer multiply-adds.

Letters in names of tensors: B rows, T new positions, C cached ones, R numbers kept of a position (all kept values side
by side), H heads, Q and V widths of a head, S queries of all heads (H * T).
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsvgraph_torch.decoding.context import StepContext
from dsvgraph_torch.decoding.experts import serves
from dsvgraph_torch.decoding.functions import attention
from dsvgraph_torch.decoding.linear_lines import bias_free, is_linear

KNOWN = {"self", "torch", "F", "nn", "math"}
Rows = Callable[..., tuple[Tensor, Tensor]]


# -- the source ------------------------------------------------------------------------------------


def absorb(definition: ast.stmt) -> ast.stmt:
    """Return a class in which attention gets what it caches, and how keys and values are made of it."""
    linears = bias_free(definition)
    for function in [n for n in ast.walk(definition) if isinstance(n, ast.FunctionDef) and n.name == "forward"]:
        for line in [n for n in function.body if _attends(n)]:
            _rewrite(function, line, linears)
    return ast.fix_missing_locations(definition)


def _attends(line: ast.stmt) -> bool:
    match line:
        case ast.Assign([ast.Name()], ast.Call(ast.Name("attention"), [_, ast.Name(), ast.Name(), *_])):
            return True
    return False


def _rewrite(function: ast.FunctionDef, line: Any, linears: set[str]) -> None:
    """Move the lines between the cache and ``line`` into a function of what is cached, if nothing else reads them."""
    query, key, value, *others = line.value.args
    before = function.body[: function.body.index(line)]
    between, kept = _between(before, {key.id, value.id})
    made = {name for one in between for name in _stored(one)}
    rest = [one for one in function.body if one not in between and one is not line]
    if not between or not kept or made & {n for one in rest for n in _loaded(one)}:
        return
    if not is_linear(between, set(kept), linears):
        return
    names = sorted(kept)
    name = f"{line.targets[0].id}_rows"
    text = f"def {name}({', '.join(names)}):\n    return {key.id}, {value.id}"
    (rows,) = ast.parse(text).body
    rows.body[:0] = between  # type: ignore[attr-defined]
    cached = ast.Tuple([ast.Name(n, ast.Load()) for n in names], ast.Load())
    keys = ast.Tuple([kept[n] for n in names], ast.Load())
    line.value.func = ast.Name("absorbed", ast.Load())
    line.value.args = [keys, ast.Name(name, ast.Load()), cached, query, *others]
    function.body[:] = [one for one in function.body if one not in between]
    function.body.insert(function.body.index(line), rows)


def _between(before: list[ast.stmt], wanted: set[str]) -> tuple[list[ast.stmt], dict[str, ast.expr]]:
    """Return the lines that make ``wanted`` of cached values, and these with their places in the cache; nothing if
    there is another source."""
    found, kept = list[ast.stmt](), dict[str, ast.expr]()
    for line in reversed(before):
        if not wanted & _stored(line):
            continue
        place = _place(line)
        if place is not None:
            kept |= dict.fromkeys(wanted & _stored(line), place)
        elif "ctx" in _loaded(line) or not isinstance(line, ast.Assign):
            return [], {}
        else:
            found.insert(0, line)
            wanted = wanted | (_loaded(line) - KNOWN)
        wanted = wanted - _stored(line)
    return ([], {}) if wanted else (found, kept)


def _place(line: ast.stmt) -> ast.expr | None:
    """Return the place in the cache of what a line keeps, None if it keeps nothing, or the last positions alone."""
    match line:
        case ast.Assign([ast.Name()], ast.Call(ast.Attribute(ast.Name("ctx"), "with_earlier"), [place, _], [])):
            return place
    return None


def _stored(line: ast.stmt) -> set[str]:
    return {n.id for n in ast.walk(line) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _loaded(line: ast.stmt) -> set[str]:
    return {n.id for n in ast.walk(line) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


# -- running it ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CachedMaps:
    """What keys and values are of all that is kept of a position; values of the numbers from ``first`` on alone."""

    key_HQR: Tensor
    value_HRV: Tensor
    first: int


def absorbed(keys, rows, kept, q_BTHQ, ctx, scale, causal=True, sinks=None, window=None, seen=None):
    """Attention to ``rows(*kept)``, in the form that needs fewer multiply-adds."""
    plain = not causal or sinks is not None or seen is not None
    maps = None if plain else _maps(keys, rows, kept, q_BTHQ, ctx)
    if maps is None or not _pays(maps, kept[0].shape[1], q_BTHQ.shape[1]):
        key_BCHQ, value_BCHV = rows(*kept)
        return attention(q_BTHQ, key_BCHQ, value_BCHV, ctx, scale, causal, sinks, window, seen)
    B, T, H, _ = q_BTHQ.shape
    kept_BCR = ctx.cache.joined(tuple(map(ctx.place, keys)), kept)
    query_HNR = torch.bmm(q_BTHQ.permute(2, 0, 1, 3).flatten(1, 2), maps.key_HQR)
    query_BSR = query_HNR.unflatten(1, (B, T)).transpose(0, 1).flatten(1, 2) if T > 1 else query_HNR.transpose(0, 1)
    scores_BSC = _product(query_BSR, kept_BCR.transpose(1, 2))
    p_BSC = _softmax(scores_BSC, _bias(scores_BSC, T, ctx, window), scale, q_BTHQ.dtype, T)
    latent_BSR = torch.bmm(p_BSC, kept_BCR[..., maps.first :])
    latent_HNR = latent_BSR.unflatten(1, (H, T)).transpose(0, 1).flatten(1, 2)
    return torch.bmm(latent_HNR, maps.value_HRV).unflatten(1, (B, T)).permute(1, 2, 0, 3)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return the products of a batch in float32, or in a wider dtype."""
    if a.device.type == "cuda" and a.dtype in (torch.bfloat16, torch.float16):
        return torch.bmm(a, b, out_dtype=torch.float32)
    found = torch.bmm(a, b)
    return found.to(torch.promote_types(found.dtype, torch.float32))


def _softmax(scores_BSC: Tensor, bias: Tensor | None, scale: float, dtype: torch.dtype, queries: int) -> Tensor:
    """Return softmax(scale scores + bias)."""
    kernels = None if bias is None or bias.dim() < 4 or dtype == torch.float64 else serves(scores_BSC, 0)
    if kernels:
        return kernels.softmax(scores_BSC, bias, scale, dtype)
    scores_BSC = scores_BSC * scale
    if bias is not None:
        scores_BSC = (scores_BSC.unflatten(1, (-1, queries)) + bias).flatten(1, 2)
    return scores_BSC.softmax(-1).to(dtype)


def _bias(scores_BSC: Tensor, queries: int, ctx: StepContext, window: int | None) -> Tensor | None:
    """Return what is added to the scores of positions that a query does not see; None if it sees all."""
    C, dtype = scores_BSC.shape[-1], scores_BSC.dtype
    if isinstance(ctx.past, Tensor):
        return ctx.bias(C, window, dtype)
    if queries == 1 and window is None:
        return None
    seen = torch.ones(queries, C, dtype=torch.bool, device=scores_BSC.device).tril(C - queries)
    seen = seen if window is None else seen.triu(C - queries - window + 1)
    return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, -torch.inf)


def _pays(maps: CachedMaps, count: int, queries: int) -> bool:
    """Return whether the absorbed form needs fewer multiply-adds for ``queries`` new positions and ``count`` in all."""
    (_, q, numbers), v = maps.key_HQR.shape, maps.value_HRV.shape[-1]
    plain = count * numbers * (q + v) + queries * count * (q + v)
    return queries * numbers * (q + v) + queries * count * 2 * numbers < plain


def _maps(keys: Any, rows: Rows, kept: tuple[Tensor, ...], q_BTHQ: Tensor, ctx: Any) -> CachedMaps | None:
    """Return M_k and M_v, computed once for a cache; None where keys and values are no heads of what is kept."""
    if not isinstance(ctx, StepContext):
        return None
    if keys not in ctx.cache.products:
        ctx.cache.products[keys] = _measured(rows, kept, q_BTHQ.shape[2])
    return ctx.cache.products[keys]


def _measured(rows: Rows, kept: tuple[Tensor, ...], heads: int) -> CachedMaps | None:
    """Run the lines between on unit vectors: they are linear, so that what comes out are the maps themselves."""
    if any(c.dim() != 3 for c in kept):
        return None
    widths = [c.shape[-1] for c in kept]
    units_RR = torch.eye(sum(widths), dtype=kept[0].dtype, device=kept[0].device)
    key_RHQ, value_RHV = (found[0] for found in rows(*units_RR[None].split(widths, -1)))
    if key_RHQ.dim() != 3 or value_RHV.dim() != 3 or not key_RHQ.shape[1] == value_RHV.shape[1] == heads:
        return None
    starts = [sum(widths[:i]) for i in range(len(widths))]
    used = [value_RHV[start : start + n].any().item() for start, n in zip(starts, widths, strict=True)]
    if not any(used):
        return None
    first = starts[used.index(True)]
    return CachedMaps(key_RHQ.permute(1, 2, 0).contiguous(), value_RHV[first:].transpose(0, 1).contiguous(), first)
