"""Tasks of recall: induction, and copying at a distance."""

from __future__ import annotations

from random import Random
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from dsvgraph_torch.data.tasks.task import Example, Task

Symbols = Annotated[int, Field(ge=2, le=100_000)]


class Induction(Task):
    """Say what followed a marker earlier in the row: `... ! a b ... ! = a b`.

    The row has ``row`` random symbols out of ``symbols``, a marker before one of them, and the marker again at the
    end; the answer is the ``answer`` symbols after the first marker.
    """

    name: ClassVar[str] = "induction"
    source: ClassVar[str] = "the induction-head task of Fu et al., arXiv 2212.14052, table 1"

    symbols: Symbols = 16
    row: Annotated[int, Field(ge=2)] = 30
    answer: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _fits(self) -> Induction:
        if self.answer > self.row:
            raise ValueError(f"a row of {self.row} symbols cannot hold an answer of {self.answer}")
        return self

    def alphabet(self) -> list[str]:
        return [*map(str, range(self.symbols)), "!"]

    @property
    def length(self) -> int:
        return self.row + 2 + self.answer

    def draw(self, rng: Random, heldout: bool) -> Example:
        row = [str(rng.randrange(self.symbols)) for _ in range(self.row)]
        at = rng.randrange(self.row - self.answer + 1)
        example = Example([row, at])
        example.ask(*row[:at], "!", *row[at:], "!")
        example.answer(row[at : at + self.answer])
        return example


class Copying(Task):
    """Repeat the first symbols of the row after a stretch of blanks: `a b c _ _ _ : a b c`."""

    name: ClassVar[str] = "copying"
    source: ClassVar[str] = "the copying memory task of Arjovsky et al., arXiv 1511.06464, section 5.1"

    symbols: Symbols = 8
    copied: Annotated[int, Field(ge=1)] = 10
    distance: Annotated[int, Field(ge=0)] = 50

    def alphabet(self) -> list[str]:
        return [*map(str, range(self.symbols)), "_", ":"]

    @property
    def length(self) -> int:
        return 2 * self.copied + self.distance + 1

    def draw(self, rng: Random, heldout: bool) -> Example:
        row = [str(rng.randrange(self.symbols)) for _ in range(self.copied)]
        example = Example(row)
        example.ask(*row, *["_"] * self.distance, ":")
        example.answer(row)
        return example
