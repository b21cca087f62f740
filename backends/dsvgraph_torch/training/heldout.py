"""Measuring a model on held-out text: losses, accuracy, answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.data.corpus import Corpus
from dsvgraph_torch.training import answers
from dsvgraph_torch.training.options import TrainOptions
from dsvgraph_torch.training.predictions import Prediction, accuracy
from dsvgraph_torch.training.step import evaluate

EVAL_TOKENS = 8192
"""Held-out tokens of an evaluation on the way, where the options do not say them."""

FINAL_TOKENS = 65536
"""Held-out tokens of the evaluation at the end."""

EVAL_BATCH = 2048
"""Held-out tokens that are run at once, or a batch where it has more: a small one would take an evaluation's time."""


@dataclass(frozen=True)
class HeldOut:
    """The held-out text of a run, always the same."""

    corpus: Corpus
    options: TrainOptions
    device: torch.device
    predictions: list[Prediction]

    def batches(self, tokens: int) -> Iterator[Batch]:
        """Yield batches of about ``tokens`` tokens."""
        options = self.options
        at_once = max(options.batch, EVAL_BATCH // options.seq)
        return self.corpus.heldout_batches(at_once, options.seq, max(1, tokens // options.seq))

    def losses(self, modules: Mapping[str, Any], step: int, least: int = 0) -> dict[str, dict[str, float]]:
        """Return losses of each of ``modules`` after ``step``, by name, weighted as they are then.

        They are of as many tokens as the options say, and at ``least`` so many where there are.
        """
        found, when = {}, f"after step {step}, on held-out text"
        tokens = max(least, self.options.eval_tokens or (0 if least else EVAL_TOKENS))
        for key, module in modules.items():
            module.tokens_seen, module.steps_taken = step * self.options.step_tokens, step
            found[key] = evaluate(module, self.batches(tokens), self.device, when)
        return found

    def accuracy(self, model: Any) -> dict[str, float]:
        """Return the share of tokens that each head gets right, and of answers, where there are any."""
        batches = (batch.to(self.device) for batch in self.batches(EVAL_TOKENS))
        return accuracy(model, self.predictions, batches) | self.answers(model, answers.FINAL_ROWS)

    def answers(self, model: Any, rows: int = 0) -> dict[str, float]:
        """Return how often the answers of ``rows`` rows (0: as on the way) are right; nothing without a task."""
        rows = rows or answers.rows(self.options)
        return answers.by_output(self.predictions[0].name, model, self.batches(rows * self.options.seq), self.corpus)
