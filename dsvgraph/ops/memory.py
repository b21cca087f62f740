"""What an op needs of earlier positions while decoding, when the new positions alone are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dsvgraph.dims import Size
from dsvgraph.types import Type


@dataclass(frozen=True)
class Rows:
    """Earlier positions of an input: all of them are kept, or the ``last`` ones.

    ``read`` tells how many of the rows, the new one among them, a position looks at, where that is not all.
    """

    last: Size | None = None
    read: Size | None = None


@dataclass(frozen=True)
class State:
    """A tensor that the op carries from position to position, such as the state of a recurrence.

    Its size does not grow with the positions; ``type`` names the batch as the op's inputs do.
    """

    type: Type


Memory = Mapping[str, Rows | State]
"""What is remembered by name: of an input the name of its port, of a state a name of the op's own."""


def nothing(self: object, ins: Mapping[str, Type], outs: Mapping[str, Type]) -> Memory:
    """The memory of an op whose output at a position is made of its inputs at this position alone."""
    return {}
