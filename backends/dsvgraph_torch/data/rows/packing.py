"""Rows of equal length out of pieces of different lengths: run on, cut at the ends of rows, or kept whole.

Shape legend: P pieces, R tokens of a row and the one after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dsvgraph.backends.training import Packing

Array = np.ndarray
Segments = list[tuple[int, int]]
"""Start and stop of the stretches of tokens that make a row, each of one document."""


@dataclass(frozen=True)
class RunOn:
    """Rows without gaps: row r holds tokens r * T to r * T + T of all pieces in order, so that neighbours share one.

    Every token but the first is the target of one row. With ``tail``, the last row may be shorter.
    """

    starts: Array
    stops: Array
    row: int
    tail: bool

    @cached_property
    def ends(self) -> Array:
        """Where every piece ends, counted over the pieces of this split."""
        return np.cumsum(self.stops - self.starts)

    def __len__(self) -> int:
        total = int(self.ends[-1]) if len(self.ends) else 0
        return max(0, -(-(total - 1) // (self.row - 1)) if self.tail else (total - 1) // (self.row - 1))

    def segments(self, number: int) -> Segments:
        """Return row ``number``."""
        first = number * (self.row - 1)
        last = min(first + self.row, int(self.ends[-1]))
        found, piece = [], int(np.searchsorted(self.ends, first, side="right"))
        while first < last:
            stop = min(last, int(self.ends[piece]))
            offset = int(self.stops[piece]) - int(self.ends[piece])
            found.append((first + offset, stop + offset))
            first, piece = stop, piece + 1
        return found


@dataclass(frozen=True)
class Whole:
    """Rows in which no piece that fits is cut: the longest go first, each to the fullest row that has room for it.

    A longer piece is cut into rows that share one token; what is left of it is packed as the others are.
    """

    starts: Array
    stops: Array
    row: int

    def __len__(self) -> int:
        return len(self.rows)

    def segments(self, number: int) -> Segments:
        """Return row ``number``."""
        return self.rows[number]

    @cached_property
    def rows(self) -> list[Segments]:
        """All rows."""
        full, parts = list[Segments](), Segments()
        for start, stop in zip(self.starts.tolist(), self.stops.tolist(), strict=True):
            while stop - start > self.row:
                full.append([(start, start + self.row)])
                start += self.row - 1
            parts.append((start, stop))
        return full + self._packed(sorted(parts, key=lambda part: part[0] - part[1]))

    def _packed(self, parts: Segments) -> list[Segments]:
        rows, room, free = list[Segments](), [list[int]() for _ in range(self.row + 1)], 0
        for start, stop in parts:  # bit n of `free`: there are rows with room for n tokens
            fits = free >> (stop - start)
            if fits:
                left = stop - start + (fits & -fits).bit_length() - 1
                index = room[left].pop()
                free ^= (not room[left]) << left
            else:
                left, index = self.row, len(rows)
                rows.append([])
            rows[index].append((start, stop))
            left -= stop - start
            room[left].append(index)
            free |= 1 << left
        return rows


def rows_of(starts: Array, stops: Array, row: int, packing: Packing) -> RunOn | Whole:
    """Return the rows of ``row`` tokens that pieces become."""
    if packing is Packing.WHOLE:
        return Whole(starts, stops, row)
    return RunOn(starts, stops, row, tail=packing is Packing.CUT)
