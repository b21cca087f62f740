"""The predictions of a graph: which output, at which depth, says which token, with what weight.

Shape legend: D depths, B rows, T tokens of a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dsvgraph.build.losses.lines import number
from dsvgraph.build.losses.predictions import seen
from dsvgraph.errors import DsvError
from dsvgraph.graph import Loss, LossKind, Model
from dsvgraph.passes.graph.optional import optional_losses
from dsvgraph_torch.data.batch import IGNORED, Batch
from dsvgraph_torch.runtime.context import Context
from dsvgraph_torch.runtime.scoring import next_tokens, scored


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


def always_computed(graph: Model) -> list[str]:
    """Return the names of the predictions that every training step computes."""
    optional = {id(loss) for loss in optional_losses(graph)}
    return [prediction.name for prediction in predictions_of(graph) if id(prediction.loss) not in optional]


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


# -- batches of one step ------------------------------------------------------------------------------


def shares(graph: Model, batches: list[Batch]) -> list[dict[str, float]] | None:
    """Return by how much each loss of each of ``batches`` counts in the mean of all, as a factor of an equal part.

    A loss is a sum over targets, divided by their number or by what the spec says; the loss of all batches together
    is the sum of all sums, divided once. None where all count alike: rows are one document each.
    Raise DsvError for a loss whose targets are counted in a way that is not known here.
    """
    if len(batches) == 1 or all(b.documents is None and bool((b.targets != IGNORED).all()) for b in batches):
        return None
    found: list[dict[str, float]] = [{} for _ in batches]
    for loss in graph.losses:
        if loss.divide is None or "valid" not in loss.divide.names():
            continue
        if loss.kind is not LossKind.CROSS_ENTROPY or loss.vocabulary is not None or loss.window > 1 or loss.sample:
            words = f"--accumulate: `{loss.name}` divides by its targets, which packed batches have not equally many of"
            raise DsvError(words, loss.span, hint="a larger --batch and no --accumulate")
        for name, depth in zip(loss.names, loss.depths, strict=True):
            divisors = [_divisor(graph, loss, depth, [batch]) for batch in batches]
            whole = _divisor(graph, loss, depth, batches)
            for share, divisor in zip(found, divisors, strict=True):
                share[name] = len(batches) * divisor / whole
    return found


def _divisor(graph: Model, loss: Loss, depth: int, batches: list[Batch]) -> float:
    """Return what a loss over ``batches`` is divided by."""
    ahead = Prediction(loss.name, loss, depth).shift
    fill = seen(graph, graph.outputs[str(loss.output)], depth).fill
    valid = sum(_valid(batch, ahead, fill if fill > ahead - 1 else 0) for batch in batches)
    rows = sum(len(batch.inputs) for batch in batches)
    sizes = {"B": rows, "T": batches[0].inputs.shape[1], "valid": max(1, valid)}
    return float(number(loss.divide, depth=depth, **sizes))  # type: ignore[arg-type]


def _valid(batch: Batch, ahead: int, fill: int) -> int:
    """Return how many targets a cross entropy of tokens ``ahead`` counts in a batch."""
    targets_BT = next_tokens(batch.inputs, batch.targets, None, batch.documents)
    return int((scored(targets_BT, ahead, fill, Context(documents=batch.documents)) != IGNORED).sum())
