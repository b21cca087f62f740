"""The sizes of a model's inputs: rows and positions, by name and in numbers."""

from __future__ import annotations

from dsvgraph.codes import Code
from dsvgraph.dims import Size, names
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph.types import Type


def _row(model: Model) -> Type:
    """Return the type of the input that has the rows of the first output, else of the first with rows of positions."""
    rows = [type_ for type_ in model.inputs.values() if type_.rank > 1]
    first = next((model.type(ref).shape[:2] for ref in model.outputs.values()), None)
    row = next((type_ for type_ in rows if type_.shape[:2] == first), next(iter(rows), None))
    if row is None:
        words = "no input has rows and positions, [B, T], so nothing can be counted"
        raise DsvError(words, model.span, code=Code.ROOT_AXES)
    return row


def tokens(model: Model) -> Size:
    """Return the number of positions of a batch. Raise DsvError if no input has rows of them."""
    row = _row(model)
    return row.shape[0] * row.shape[1]


def batch(model: Model) -> Size:
    """Return the number of rows of a batch. Raise DsvError if no input has rows of positions."""
    return _row(model).shape[0]


def input_sizes(model: Model, batch: int, seq: int) -> dict[str, int]:
    """Return numbers for the named sizes of the inputs: axis 0 counts rows, axis 1 positions, in all inputs.

    Raise DsvError if no input has rows of positions, or if a number is not a whole one above zero.
    """
    for what, n in (("batch", batch), ("seq", seq)):
        if n % 1 or n < 1:
            raise DsvError(f"`{what}` is a whole number of at least 1, found `{n}`")
    shapes = [_row(model).shape, *(type_.shape for type_ in model.inputs.values())]
    pairs = (pair for shape in shapes for pair in zip(shape[:2], (batch, seq), strict=False))
    return {name: n for size, n in pairs for name in names(size)}


def input_axes(model: Model) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names in the sizes of an input's rows, and those in the sizes of its positions."""
    rows_, length = _row(model).shape[:2]
    return names(rows_), names(length)
