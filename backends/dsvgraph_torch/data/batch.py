"""One batch of rows.

Shape legend: B rows, T tokens of a row, R = T + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100
"""The target of a position that no loss counts, as in torch."""


@dataclass(frozen=True)
class Batch:
    """Rows of tokens: ``inputs`` and ``targets``, the token after each of them, both [B, T] int64.

    A target of -100 is not counted. ``documents`` [B, T] numbers the documents of packed rows: equal numbers that are
    neighbours are one document. ``answers`` [B, T] is True where the target belongs to the exact answer of a task.
    """

    inputs: Tensor
    targets: Tensor
    documents: Tensor | None = None
    answers: Tensor | None = None

    @staticmethod
    def of_rows(rows_BR: Tensor) -> Batch:
        """Return the batch of rows that are one document each: every token but the last is an input."""
        return Batch(rows_BR[:, :-1], rows_BR[:, 1:])

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on ``device``."""
        documents, answers = (None if t is None else t.to(device) for t in (self.documents, self.answers))
        inputs, targets = (t.to(device, non_blocking=True) for t in (self.inputs, self.targets))
        return Batch(inputs, targets, documents, answers)

    @property
    def tokens(self) -> int:
        """Tokens that the model reads."""
        return self.inputs.numel()

    @property
    def counted(self) -> int:
        """Targets that a loss of the next token counts."""
        return int((self.targets != IGNORED).sum())
