"""What a loss scores, in words."""

from __future__ import annotations

from dsvgraph.build.losses.formulas import number
from dsvgraph.graph import Loss, LossKind


def aim(loss: Loss, depth: int) -> str:
    """Return what a loss of an output scores at a depth: `logits predicts input_ids at i + 1`.

    >>> import dsvgraph
    >>> aim(dsvgraph.load("deepseek_v3_tiny").losses[1], 2)
    'mtp_logits predicts input_ids at i + 3'
    """
    shift = number(loss.shift, depth=depth) if loss.shift else 0
    last = f" to i + {shift + loss.window - 1}" if loss.window > 1 else ""
    if loss.kind is LossKind.CROSS_ENTROPY:
        return f"{loss.output} predicts {loss.target} at i + {shift}"
    if loss.kind.scores_tokens:
        verb = "orders" if loss.kind is LossKind.LISTNET else "predicts which tokens come in"
        return f"{loss.output} {verb} {loss.target} at i + {shift}{last}"
    if loss.kind is LossKind.CONFIDENCE:
        return f"{loss.output} predicts how likely {loss.against} at i + {shift} accepts {loss.draft}"
    if loss.kind.compares:
        joint = ", over all depths together" if loss.end_to_end else ""
        place = f" at i + {shift}" if shift else ""
        return f"{loss.output} by {loss.kind} against {loss.against}{place}{joint}"
    return f"{loss.kind} of {loss.output}"
