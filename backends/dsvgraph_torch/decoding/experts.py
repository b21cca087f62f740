"""Products of experts for few tokens: no wait for the device, and as few bytes of weights read as can be.

Letters in names of tensors are those of plain.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from dsvgraph_torch.kernels.cpu.experts import grouped as on_cpu
from dsvgraph_torch.runtime import plain

SMALL = 2**16
"""Numbers of weights that a CPU copies sooner than it calls a product for each expert."""

LARGE = 2**27
"""Numbers of a result for all pairs of expert and row that a device may hold."""


class Linears(plain.Linears):
    """plain.Linears for few rows."""

    def forward(self, x_SD, sent):
        y_SF = grouped(x_SD, self.weight, sent.offsets)
        return y_SF + plain.per_row(self.bias, sent, y_SF) if self.biased else y_SF


def grouped(x_SD, weight_EFD, offsets_E):
    """plain.grouped: torch's grouped product where the device has one, else without a loop where rows are few."""
    E, F, D = weight_EFD.shape
    S, here = len(x_SD), x_SD.device.type == "cpu"
    served = x_SD.dtype == weight_EFD.dtype == torch.bfloat16 and not any(2 * n % 16 for n in (F, D))
    if (not here and served) or torch.is_autocast_enabled(x_SD.device.type):
        return plain.grouped(x_SD, weight_EFD, offsets_E)
    if S * F * D <= SMALL or (not here and S <= E):
        return of_chosen(x_SD, weight_EFD, _expert(offsets_E, S))
    if not here and E * S * F <= LARGE:
        return of_all(x_SD, weight_EFD, _expert(offsets_E, S))
    return on_cpu(x_SD, weight_EFD, offsets_E)


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
