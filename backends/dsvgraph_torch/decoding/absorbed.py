"""Attention on what is cached itself, where keys and values are linear in it: the absorbed form, for any block.

A block that keeps latents makes keys and values of all cached positions again in every step. If the lines between are
linear, the products move to the query and to the result: (q M_k) c^T in place of q (c M_k)^T, and (p c) M_v in place of
p (c M_v). `absorb` finds such lines in the source of a class and makes a function of them; `absorbed` runs them on
unit vectors, which gives M_k and M_v, and takes the form that needs fewer multiply-adds.

Letters in names of tensors: B rows, T new positions, C cached ones, R numbers kept of a position, H heads, Q and V
widths of a head.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsvgraph_torch.decoding.context import StepContext
from dsvgraph_torch.decoding.functions import attention

KNOWN = {"self", "torch", "F", "nn", "math"}
Rows = Callable[..., tuple[Tensor, Tensor]]


# -- the source ------------------------------------------------------------------------------------


def absorb(definition: ast.stmt) -> ast.stmt:
    """Return a class in which attention gets what it caches, and how keys and values are made of it."""
    for function in [n for n in ast.walk(definition) if isinstance(n, ast.FunctionDef) and n.name == "forward"]:
        for line in [n for n in function.body if _attends(n)]:
            _rewrite(function, line)
    return ast.fix_missing_locations(definition)


def _attends(line: ast.stmt) -> bool:
    match line:
        case ast.Assign([ast.Name()], ast.Call(ast.Name("attention"), [_, ast.Name(), ast.Name(), *_])):
            return True
    return False


def _rewrite(function: ast.FunctionDef, line: Any) -> None:
    """Move the lines between the cache and ``line`` into a function of what is cached, if nothing else reads them."""
    query, key, value, *others = line.value.args
    before = function.body[: function.body.index(line)]
    between, kept = _between(before, {key.id, value.id})
    made = {name for one in between for name in _stored(one)}
    rest = [one for one in function.body if one not in between and one is not line]
    if not between or not kept or made & {n for one in rest for n in _loaded(one)}:
        return
    names = sorted(kept)
    name = f"{line.targets[0].id}_rows"
    returned = ast.Return(ast.Tuple([ast.Name(key.id, ast.Load()), ast.Name(value.id, ast.Load())], ast.Load()))
    arguments = ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])
    rows = ast.FunctionDef(name, arguments, [*between, returned], [])
    cached = ast.Tuple([ast.Name(n, ast.Load()) for n in names], ast.Load())
    place = ast.Tuple([ast.Name("self", ast.Load()), ast.Constant(name)], ast.Load())
    line.value.func = ast.Name("absorbed", ast.Load())
    line.value.args = [place, ast.Name(name, ast.Load()), cached, query, *others]
    function.body[:] = [one for one in function.body if one not in between]
    function.body.insert(function.body.index(line), rows)


def _between(before: list[ast.stmt], wanted: set[str]) -> tuple[list[ast.stmt], set[str]]:
    """Return the lines that make ``wanted`` of cached values, and these; nothing if there is another source."""
    found, kept = list[ast.stmt](), set[str]()
    for line in reversed(before):
        if not wanted & _stored(line):
            continue
        if _caches(line):
            kept |= wanted & _stored(line)
        elif "ctx" in _loaded(line) or not isinstance(line, ast.Assign):
            return [], set()
        else:
            found.insert(0, line)
            wanted = wanted | (_loaded(line) - KNOWN)
        wanted = wanted - _stored(line)
    return ([], set()) if wanted else (found, kept)


def _caches(line: ast.stmt) -> bool:
    match line:
        case ast.Assign([ast.Name()], ast.Call(ast.Attribute(ast.Name("ctx"), "with_earlier"), [_, _], [])):
            return True
    return False


def _stored(line: ast.stmt) -> set[str]:
    return {n.id for n in ast.walk(line) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _loaded(line: ast.stmt) -> set[str]:
    return {n.id for n in ast.walk(line) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


# -- running it ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CachedMaps:
    """What keys and values are of one cached value: M_k and M_v; None where they do not depend on it."""

    key_RHQ: Tensor | None
    value_RHV: Tensor | None


def absorbed(place, rows, kept, q_BTHQ, ctx, scale, causal=True, sinks=None, window=None, seen=None):
    """Attention to ``rows(*kept)``, in the form that needs fewer multiply-adds."""
    plain = not causal or sinks is not None or seen is not None
    parts = None if plain else _parts(place, rows, kept, q_BTHQ, ctx)
    if parts is None or not _pays(parts, kept, q_BTHQ.shape[1]):
        key_BCHQ, value_BCHV = rows(*kept)
        return attention(q_BTHQ, key_BCHQ, value_BCHV, ctx, scale, causal, sinks, window, seen)
    T, C = q_BTHQ.shape[1], kept[0].shape[1]
    pairs = list(zip(parts, kept, strict=True))
    scores = [_scores(q_BTHQ, part.key_RHQ, c_BCR) for part, c_BCR in pairs if part.key_RHQ is not None]
    scores_BHTC = sum(scores[1:], start=scores[0])
    scores_BHTC = scores_BHTC.to(torch.promote_types(scores_BHTC.dtype, torch.float32)) * scale
    mask = _mask(T, C, ctx, window, q_BTHQ)
    if mask is not None:
        scores_BHTC = scores_BHTC.masked_fill(~mask, -torch.inf)
    p_BHTC = scores_BHTC.softmax(-1).to(q_BTHQ.dtype)
    found = [
        torch.einsum("bhtr,rhv->bthv", torch.einsum("bhtc,bcr->bhtr", p_BHTC, c_BCR), part.value_RHV)
        for part, c_BCR in pairs
        if part.value_RHV is not None
    ]
    return sum(found[1:], start=found[0])


def _scores(q_BTHQ: Tensor, key_RHQ: Tensor, c_BCR: Tensor) -> Tensor:
    return torch.einsum("bhtr,bcr->bhtc", torch.einsum("bthq,rhq->bhtr", q_BTHQ, key_RHQ), c_BCR)


def _mask(queries: int, keys: int, ctx: StepContext, window: int | None, like: Tensor) -> Tensor | None:
    if isinstance(ctx.past, Tensor):
        return ctx.visible(keys, window)
    if queries == 1 and window is None:
        return None
    mask = torch.ones(queries, keys, dtype=torch.bool, device=like.device).tril(keys - queries)
    return mask if window is None else mask.triu(keys - queries - window + 1)


def _pays(parts: list[CachedMaps], kept: tuple[Tensor, ...], queries: int) -> bool:
    """Return whether the absorbed form needs fewer multiply-adds for ``queries`` new positions."""
    count, numbers = kept[0].shape[1], sum(c_BCR.shape[-1] for c_BCR in kept)
    found = [[getattr(part, name) for part in parts] for name in ("key_RHQ", "value_RHV")]
    widths = sum(next(matrix.shape[-1] for matrix in of if matrix is not None) for of in found)
    plain = count * numbers * widths + queries * count * widths
    return queries * numbers * widths + queries * count * 2 * numbers < plain


def _parts(place: Any, rows: Rows, kept: tuple[Tensor, ...], q_BTHQ: Tensor, ctx: Any) -> list[CachedMaps] | None:
    """Return M_k and M_v, computed once for a cache; None if keys and values are not linear in what is kept."""
    if not isinstance(ctx, StepContext):
        return None
    if place not in ctx.cache.products:
        ctx.cache.products[place] = _measured(rows, kept, q_BTHQ.shape[2])
    return ctx.cache.products[place]


def _measured(rows: Rows, kept: tuple[Tensor, ...], heads: int) -> list[CachedMaps] | None:
    if any(c.dim() != 3 for c in kept):
        return None
    zeros = [c.new_zeros(1, 1, c.shape[-1]) for c in kept]
    if any(x.any() for x in rows(*zeros)):
        return None
    parts = []
    for i, c_BCR in enumerate(kept):
        size = c_BCR.shape[-1]
        units = torch.eye(size, dtype=c_BCR.dtype, device=c_BCR.device)[None]
        given = [units if j == i else zero.expand(1, size, -1) for j, zero in enumerate(zeros)]
        key, value = (found[0] for found in rows(*given))
        if key.dim() != 3 or value.dim() != 3 or key.shape[1] != heads or value.shape[1] != heads:
            return None
        parts.append(CachedMaps(key if key.any() else None, value if value.any() else None))
    return parts if _linear(rows, kept, parts) else None


def _linear(rows: Rows, kept: tuple[Tensor, ...], parts: list[CachedMaps]) -> bool:
    """Return whether M_k and M_v give the keys and values of numbers that are no unit vectors."""
    generator = torch.Generator().manual_seed(0)
    some = [(3 * torch.randn(1, 4, c.shape[-1], generator=generator)).to(c) for c in kept]
    for found, name in zip(rows(*some), ("key_RHQ", "value_RHV"), strict=True):
        used = [(c, m) for c, part in zip(some, parts, strict=True) if (m := getattr(part, name)) is not None]
        if not used:
            return False
        want = sum(torch.einsum("bcr,rhx->bchx", c, m) for c, m in used)
        close = {torch.float64: 1e-9, torch.float32: 1e-4}.get(found.dtype, 5e-2)
        if not (found - want).abs().max() <= close * found.abs().max():
            return False
    return True
