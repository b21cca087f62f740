"""Means with standard errors over rows: positions of one row are not independent, rows are.

Shape legend: R rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from dsvgraph.backends.probes import Estimate


class RowSums:
    """Sums over the valid positions of each row, gathered batch by batch."""

    def __init__(self) -> None:
        self.sums: list[Tensor] = []
        self.counts: list[Tensor] = []

    def add(self, values_BT: Tensor, valid_BT: Tensor) -> None:
        """Add a batch: the values of its positions, and which of them are valid."""
        kept_BT = torch.where(valid_BT, values_BT.double(), 0.0)
        self.sums.append(kept_BT.sum(1).cpu())
        self.counts.append(valid_BT.sum(1).double().cpu())

    def joined(self) -> tuple[Tensor, Tensor]:
        """Return the sums and the counts of all rows, [R] each."""
        return torch.cat(self.sums), torch.cat(self.counts)

    def estimate(self) -> Estimate:
        """Return the mean over all valid positions."""
        return ratio(*self.joined())


def ratio(sums_R: Tensor, counts_R: Tensor) -> Estimate:
    """Return the mean over positions of rows, with the standard error of a ratio of sums over rows.

    It is sqrt(R / (R - 1) sum_r (s_r - m n_r)^2) / sum_r n_r. Rows without a valid position are left out.
    """
    kept_R = counts_R > 0
    sums_R, counts_R = sums_R[kept_R], counts_R[kept_R]
    rows, total = len(sums_R), float(counts_R.sum())
    if not rows:
        return Estimate(math.nan, None, 0)
    value = float(sums_R.sum()) / total
    if rows == 1:
        return Estimate(value, None, int(total))
    squares = float(((sums_R - value * counts_R) ** 2).sum())
    return Estimate(value, math.sqrt(rows / (rows - 1) * squares) / total, int(total))


def pooled(parts: Sequence[RowSums]) -> tuple[Tensor, Tensor]:
    """Return the sums and counts of several predictions of the same rows, put together row by row."""
    joined = [part.joined() for part in parts]
    return torch.stack([s for s, _ in joined]).sum(0), torch.stack([n for _, n in joined]).sum(0)


def over_batches(values: Iterable[float]) -> Estimate:
    """Return the mean of one number per batch, with its standard error."""
    found = torch.tensor(list(values), dtype=torch.float64)
    count = len(found)
    error = float(found.std()) / math.sqrt(count) if count > 1 else None
    return Estimate(float(found.mean()), error, count)


def sigmas(difference: Estimate) -> float:
    """Return a difference in standard errors: 0 where it is 0, and infinite where it has no error."""
    if difference.value == 0:
        return 0.0
    return difference.value / difference.error if difference.error else math.copysign(math.inf, difference.value)
