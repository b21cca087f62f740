"""The predictions of a graph: which output, at which depth, says which token, with what weight.

Shape legend: D depths, B rows, T tokens of a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dsvgraph.build.losses.lines import number
from dsvgraph.graph import Loss, LossKind, Model
from dsvgraph_torch.data.batch import IGNORED, Batch


@dataclass(frozen=True)
class Prediction:
    """One prediction. ``name`` is that of its loss; ``depth`` is 0 for an output that is not stacked."""

    name: str
    loss: Loss
    depth: int

    @property
    def shift(self) -> int:
        """The token that position i predicts is i + shift."""
        return int(number(self.loss.shift, depth=self.depth)) if self.loss.shift else 1

    def weight(self, tokens: int, step: int) -> str:
        """Return the weight of its loss after ``tokens`` tokens in ``step`` steps, as text."""
        found = number(self.loss.weight, depth=self.depth, tokens=tokens, step=step)
        return f"{found:.4g}" if isinstance(found, int | float) else str(found)

    def hits(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Return whether the likeliest token is the right one, for each target that counts."""
        logits = outputs[str(self.loss.output)]
        logits_BTV = logits[self.depth - 1] if self.depth else logits
        guesses_BT = logits_BTV.argmax(-1)
        if isinstance(self.loss.vocabulary, tuple):
            guesses_BT = guesses_BT.new_tensor(self.loss.vocabulary)[guesses_BT]
        targets_Bn = batch.targets[:, self.shift - 1 :]
        counted_Bn = targets_Bn != IGNORED
        if batch.documents is not None:
            counted_Bn &= batch.documents[:, : targets_Bn.shape[1]] == batch.documents[:, self.shift - 1 :]
        return (guesses_BT[:, : targets_Bn.shape[1]] == targets_Bn)[counted_Bn]


def predictions_of(graph: Model) -> list[Prediction]:
    """Return every prediction that the spec's loss scores, in its order."""
    scored = [loss for loss in graph.losses if loss.kind is LossKind.CROSS_ENTROPY]
    return [Prediction(f"{loss.name}.{d}" if d else loss.name, loss, d) for loss in scored for d in loss.depths]


@torch.no_grad()
def accuracy(model: nn.Module, predictions: list[Prediction], batches: Iterable[Batch]) -> dict[str, float]:
    """Return share of tokens that each head gets right, teacher-forced, over ``batches``."""
    model.eval()
    right, seen = dict.fromkeys((p.name for p in predictions), 0), dict.fromkeys((p.name for p in predictions), 0)
    for batch in batches:
        outputs = model(batch.inputs, **({} if batch.documents is None else {"documents": batch.documents}))
        for prediction in predictions:
            hits = prediction.hits(outputs, batch)
            right[prediction.name] += int(hits.sum())
            seen[prediction.name] += hits.numel()
    return {name: right[name] / max(1, seen[name]) for name in right}
