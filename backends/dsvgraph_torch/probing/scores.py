"""How well each depth predicts, on rows of held-out data.

Shape legend: B rows, T tokens of a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dsvgraph.backends.probes import Acceptance, DepthScores
from dsvgraph.errors import DsvError
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.probing.heads import Head, moved, run
from dsvgraph_torch.probing.statistics import RowSums

MEASURES = ("loss", "accuracy", "entropy", "confidence")


def measures(logits_BTV: Tensor, targets_BT: Tensor) -> dict[str, Tensor]:
    """Return -log p of the right token, whether it is the likeliest, the entropy and the largest p, [B, T] each."""
    log_p_BTV = logits_BTV.log_softmax(-1)
    p_BTV = log_p_BTV.exp()
    right_BT = log_p_BTV.gather(-1, targets_BT[..., None])[..., 0]
    largest_BT, guess_BT = log_p_BTV.max(-1)
    return {
        "loss": -right_BT,
        "accuracy": (guess_BT == targets_BT).double(),
        "entropy": -torch.where(p_BTV > 0, p_BTV * log_p_BTV, 0.0).sum(-1),
        "confidence": largest_BT.exp(),
    }


class Agreement:
    """Counts where heads name the token that the reference names at the position whose token they predict."""

    def __init__(self, heads: Sequence[Head], off: int = 0) -> None:
        """``off`` moves the position of the reference, for a control; 0 is the right one."""
        self.reference, self.others, self.off = heads[0], list(heads[1:]), off
        self.single = {head.name: RowSums() for head in self.others}
        self.prefix = {head.name: RowSums() for head in self.others}

    def add(self, outputs: dict[str, Tensor], batch: Batch, reference_BT: Tensor | None = None) -> None:
        """Count a batch; ``reference_BT`` are the reference's tokens where they are known already."""
        if reference_BT is None:
            reference_BT = self.reference.guesses(outputs)
        together_BT = torch.ones_like(reference_BT, dtype=torch.bool)
        for head in self.others:
            ahead = head.ahead - self.reference.ahead + self.off
            valid_BT = head.valid(batch, ahead)
            agrees_BT = head.guesses(outputs) == moved(reference_BT, ahead)
            together_BT = together_BT & agrees_BT
            self.single[head.name].add(agrees_BT, valid_BT)
            self.prefix[head.name].add(together_BT, valid_BT)

    def table(self) -> tuple[Acceptance, ...]:
        """Return the acceptance of each head, the nearest first."""
        found: list[Acceptance] = []
        product = 1.0
        for head in self.others:
            single = self.single[head.name].estimate()
            product *= single.value
            prefix = self.prefix[head.name].estimate()
            found.append(Acceptance(name=head.name, depth=head.depth, ahead=head.ahead, agreement=single,
                                    prefix=prefix, product=product))  # fmt: skip
        return tuple(found)


def check_vocabularies(heads: Sequence[Head], outputs: dict[str, Tensor]) -> None:
    """Raise DsvError if a head has other logits than the reference, and no loss says for which tokens they stand."""
    sizes = {head.name: head.logits(outputs).shape[-1] for head in heads if head.vocabulary is None or head is heads[0]}
    for name, size in sizes.items():
        if size != sizes[heads[0].name]:
            words = f"`{name}` has {size} logits and `{heads[0].name}` {sizes[heads[0].name]}"
            raise DsvError(f"{words}: whether they name the same token is not known without a `vocabulary`")


@torch.inference_mode()
def score(
    module: nn.Module, heads: Sequence[Head], batches: Iterable[Batch], tokens: int, step: int
) -> tuple[tuple[DepthScores, ...], tuple[Acceptance, ...]]:
    """Return the scores of every head and the acceptance of all but the first, over ``batches``.

    ``tokens`` and ``step`` are how far the training was, which weights of losses may depend on.
    """
    sums = {head.name: {name: RowSums() for name in MEASURES} for head in heads}
    agreement = Agreement(heads)
    for batch in batches:
        outputs = run(module, batch)
        check_vocabularies(heads, outputs)
        for head in heads:
            targets_BT, valid_BT = head.targets(batch)
            for name, values_BT in measures(head.logits(outputs), targets_BT).items():
                sums[head.name][name].add(values_BT, valid_BT)
        agreement.add(outputs, batch)
    return tuple(_scores(head, sums[head.name], head.weight(tokens, step)) for head in heads), agreement.table()


def _scores(head: Head, sums: dict[str, RowSums], weight: str) -> DepthScores:
    found = {name: part.estimate() for name, part in sums.items()}
    return DepthScores(name=head.name, depth=head.depth, ahead=head.ahead, weight=weight, **found)
