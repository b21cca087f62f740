"""The predictions of a model as they are probed: logits, valid positions, right tokens; all from the graph.

Shape legend: B rows, T tokens of a row, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dsvgraph.build.losses.predictions import seen
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph_torch.data.batch import IGNORED, Batch
from dsvgraph_torch.runtime.losses import mapped
from dsvgraph_torch.training.predictions import Prediction, predictions_of


@dataclass(frozen=True)
class Head:
    """One output at one depth: position i predicts token i + ``ahead``; the last ``fill`` positions hold no tokens."""

    prediction: Prediction
    fill: int

    @property
    def name(self) -> str:
        return self.prediction.name

    @property
    def depth(self) -> int:
        """0 for an output that is not stacked."""
        return self.prediction.depth

    @property
    def ahead(self) -> int:
        return self.prediction.shift

    def weight(self, tokens: int, step: int) -> str:
        """Return the weight of the loss after ``step`` steps and ``tokens`` tokens of training, as text."""
        return self.prediction.weight(tokens, step)

    def logits(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the logits in float32, [B, T, V]."""
        logits = outputs[str(self.prediction.loss.output)]
        return (logits[self.depth - 1] if self.depth else logits).float()

    @property
    def vocabulary(self) -> int | tuple[int, ...] | None:
        """The token ids that the logits stand for: the first so many, or these; None for all."""
        return self.prediction.loss.vocabulary

    def guesses(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the likeliest token of each position, [B, T]."""
        guess_BT = self.logits(outputs).argmax(-1)
        if isinstance(self.vocabulary, tuple):
            return guess_BT.new_tensor(self.vocabulary)[guess_BT]
        return guess_BT

    def valid(self, batch: Batch, ahead: int) -> Tensor:
        """Return where position i has read no fill and position i + ``ahead`` is in its row and document, [B, T]."""
        rows, length = batch.inputs.shape
        at_T = torch.arange(length, device=batch.inputs.device)
        valid_BT = (at_T < length - max(self.fill, ahead)) & (at_T + ahead >= 0) & (at_T >= 0)
        valid_BT = valid_BT.expand(rows, length)
        if batch.documents is None:
            return valid_BT
        return valid_BT & (moved(batch.documents, ahead) == batch.documents)

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logit that stands for the token of each position, and where there is one, [B, T] each."""
        targets_BT = moved(batch.targets, self.ahead - 1)
        if self.vocabulary is not None:
            targets_BT = mapped(targets_BT, self.vocabulary)
        valid_BT = self.valid(batch, self.ahead - 1) & (targets_BT != IGNORED)
        return targets_BT.clamp(min=0), valid_BT


def moved(values_BT: Tensor, by: int) -> Tensor:
    """Return y[i] = x[i + by]; what is outside of the row wraps around and has to be masked."""
    return torch.roll(values_BT, -by, 1)


def heads_of(graph: Model) -> list[Head]:
    """Return the predictions of a model, the nearest first: the first one is the reference.

    Raise DsvError if the model predicts nothing, or if its predictions are of several inputs.
    """
    found = [Head(prediction, _fill(graph, prediction)) for prediction in predictions_of(graph)]
    if not found:
        hint = "a line such as `next_token: {cross_entropy: logits, target: input_ids, shift: 1}`"
        raise DsvError(f"{graph.name} has no loss that predicts a token: there is nothing to probe", hint=hint)
    if len(graph.inputs) > 1:
        raise DsvError(f"{graph.name} has the inputs {', '.join(graph.inputs)}; one is probed: rows of tokens")
    return sorted(found, key=lambda head: head.ahead)


def _fill(graph: Model, prediction: Prediction) -> int:
    return seen(graph, graph.outputs[str(prediction.loss.output)], prediction.depth).fill


def run(module: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the outputs of a model for a batch, by name."""
    more: dict[str, Any] = {} if batch.documents is None else {"documents": batch.documents}
    outputs: dict[str, Tensor] = module(batch.inputs, **more)
    return outputs
