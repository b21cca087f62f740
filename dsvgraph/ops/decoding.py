"""What an op needs of earlier positions while decoding, when the new positions alone are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dsvgraph.dims import Size
from dsvgraph.types import Type


@dataclass(frozen=True)
class Past:
    """The earlier positions of an input that decoding keeps: the ``last`` ones, or all.

    ``read`` is how many positions, the new one among them, a position looks at; None for all.
    """

    last: Size | None = None
    read: Size | None = None


@dataclass(frozen=True)
class State:
    """A tensor that the op carries from position to position, such as the state of a recurrence.

    Its size does not grow with the positions; ``type`` names the batch as the op's inputs do.
    """

    type: Type


DecodingState = Mapping[str, Past | State]
"""What is kept, by name: the name of an input's port, or a name that the op gives its state."""


def stateless(self: object, ins: Mapping[str, Type], outs: Mapping[str, Type]) -> DecodingState:
    """Return the state of an op whose output at a position depends on its inputs at this position alone."""
    return {}
