"""Experts for few tokens: no wait for the device, and as few bytes of weights read as can be.

On a GPU with Triton the router, the order of tokens and the products are a kernel each.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsvgraph_torch.kernels.cpu import experts as on_cpu
from dsvgraph_torch.kernels.cpu import gated as cpu_gated
from dsvgraph_torch.runtime import plain

SERVED = (torch.bfloat16, torch.float16, torch.float32)
"""Numbers that the kernels of a GPU compute with."""

SMALL = 2**16
"""Numbers of weights that a CPU copies sooner than it calls a product for each expert."""

LARGE = 2**27
"""Numbers of a result for all pairs of expert and row that a device may hold."""


@cache
def triton_kernels() -> Any:
    """Return the kernels in Triton, None where it is not installed."""
    return importlib.import_module("dsvgraph_torch.decoding.triton_kernels") if find_spec("triton") else None


def serves(x: Tensor, pairs: int) -> Any:
    """Return the kernels for so many pairs of token and expert; None where others compute them."""
    few = x.device.type == "cuda" and not torch.is_grad_enabled() and x.dtype in SERVED
    found = triton_kernels() if few and not torch.is_autocast_enabled("cuda") else None
    return found if found and pairs <= found.MOST_PAIRS else None


class Router(plain.Router):
    """plain.Router in one kernel behind its product."""

    def forward(self, x_BTD, ctx):
        experts, rows = len(self.weight), x_BTD.shape[:2]
        sizes = experts, self.groups
        kernels = (
            None if ctx.collect or any(n & (n - 1) for n in sizes) else serves(x_BTD, math.prod(rows) * self.top_k)
        )
        if not kernels:
            return super().forward(x_BTD, ctx)
        x_ND = x_BTD.flatten(0, 1)
        if x_ND.dtype == self.weight.dtype == torch.bfloat16:
            logits_NE = torch.mm(x_ND, self.weight.t(), out_dtype=torch.float32)
        else:
            logits_NE = F.linear(plain.precise(x_ND), plain.precise(self.weight))
        if self.biased:
            logits_NE = logits_NE + plain.precise(self.bias)
        index_NK, score_NK = kernels.choose(self, logits_NE)
        return index_NK.unflatten(0, rows), score_NK.unflatten(0, rows)


class Few(NamedTuple):
    """Rows sorted by expert: plain.Ragged, of few tokens."""

    x: Tensor
    offsets: Tensor
    inverse: Tensor


def dispatch(x_BTD, index_BTK, experts):
    """plain.dispatch."""
    kernels = serves(x_BTD, index_BTK.numel())
    if not kernels:
        return on_cpu.dispatch(x_BTD, index_BTK, experts)
    rank_NK, token_S, offsets_E = kernels.order(index_BTK.flatten(0, 1), experts)
    return Few(x_BTD.flatten(0, 1).index_select(0, token_S), offsets_E, rank_NK)


def combine(sent, score_BTK):
    """plain.combine."""
    if not isinstance(sent, Few):
        return on_cpu.combine(sent, score_BTK)
    y_ND = serves(sent.x, 0).combine(sent.x, sent.inverse, score_BTK.flatten(0, 1))
    return y_ND.unflatten(0, score_BTK.shape[:2])


def gated_network(gate, up, down, x, *sent):
    """down(silu(gate(x)) * up(x)), of each expert its own where the rows are ``sent``."""
    simple = sent and not any(one.biased or one.weight.dtype != x.dtype for one in (gate, up, down))
    kernels = serves(x, len(x)) if simple else None
    if simple and x.device.type == "cpu" and len(x) * gate.weight[0].numel() <= SMALL:
        own_S = _expert(sent[0].offsets, len(x))
        h_SF = F.silu(of_chosen(x, gate.weight, own_S)) * of_chosen(x, up.weight, own_S)
        return of_chosen(h_SF, down.weight, own_S)
    if not kernels:
        return cpu_gated.gated_network(gate, up, down, x, *sent)
    h_SF = kernels.expert_rows(x, gate.weight, sent[0].offsets, up.weight)
    return kernels.expert_rows(h_SF, down.weight, sent[0].offsets)


class Linears(plain.Linears):
    """plain.Linears for few rows."""

    def forward(self, x_SD, sent):
        y_SF = grouped(x_SD, self.weight, sent.offsets)
        return y_SF + plain.per_row(self.bias, sent, y_SF) if self.biased else y_SF


def grouped(x_SD, weight_EFD, offsets_E):
    """plain.grouped: torch's grouped product where the device has one, else without a loop where rows are few."""
    E, width, D = weight_EFD.shape
    S, here = len(x_SD), x_SD.device.type == "cpu"
    if x_SD.dtype == weight_EFD.dtype and (kernels := serves(x_SD, S)):
        return kernels.expert_rows(x_SD, weight_EFD, offsets_E)
    served = x_SD.dtype == weight_EFD.dtype == torch.bfloat16 and not any(2 * n % 16 for n in (width, D))
    if (not here and served) or torch.is_autocast_enabled(x_SD.device.type):
        return plain.grouped(x_SD, weight_EFD, offsets_E)
    if S * width * D <= SMALL or (not here and S <= E):
        return of_chosen(x_SD, weight_EFD, _expert(offsets_E, S))
    if not here and E * S * width <= LARGE:
        return of_all(x_SD, weight_EFD, _expert(offsets_E, S))
    return on_cpu.grouped(x_SD, weight_EFD, offsets_E)


def _expert(offsets_E: Tensor, rows: int) -> Tensor:
    """Return the expert of each row, [S]."""
    each = torch.arange(rows, device=offsets_E.device, dtype=offsets_E.dtype)
    return torch.searchsorted(offsets_E, each, right=True)


def of_chosen(x_SD: Tensor, weight_EFD: Tensor, expert_S: Tensor) -> Tensor:
    """Multiply by a copy of the weights of the chosen experts."""
    return torch.bmm(weight_EFD[expert_S], x_SD[:, :, None])[:, :, 0]


def of_all(x_SD: Tensor, weight_EFD: Tensor, expert_S: Tensor) -> Tensor:
    """Multiply every row by every expert's weight, and take its own: each weight is read once."""
    y_ESF = torch.matmul(x_SD, weight_EFD.transpose(1, 2))
    return y_ESF[expert_S, torch.arange(len(x_SD), device=x_SD.device)]


# -- products that do not depend on how many tokens an expert gets -----------------------------------

FEWEST = 4
"""Rows of a product from which on CPUs sum each row in the same order, however many there are."""

_equal_shapes: ContextVar[bool] = ContextVar("equal_shapes", default=False)


@contextmanager
def equal_shapes() -> Iterator[None]:
    """Let a token's result on a CPU not depend on how many tokens its experts get."""
    before = _equal_shapes.set(True)
    try:
        yield
    finally:
        _equal_shapes.reset(before)


def repeating(dispatch: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `dispatch` that under `equal_shapes` sends tokens several times; the copies are not read."""

    def sent(x_BTD, index_BTK, experts):
        if not _equal_shapes.get() or x_BTD.device.type != "cpu":
            return dispatch(x_BTD, index_BTK, experts)
        found = dispatch(x_BTD.repeat(FEWEST, 1, 1), index_BTK.repeat(FEWEST, 1, 1), experts)
        return found._replace(inverse=found.inverse[: len(found.inverse) // FEWEST])

    return sent
