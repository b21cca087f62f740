"""Sudoku: fill the empty cells of a square so that no row, column or box has a digit twice."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from dsvgraph_torch.data.tasks.task import Example, Task

EMPTY = "."


class Sudoku(Task):
    """Fill the empty cells of a Sudoku: `1 2 3 4 / 3 . 1 2 / 2 1 . 3 / 4 3 2 1 = 4 4`, in the order of reading.

    The square has boxes of ``box`` times ``box`` cells, ``box`` of them side by side, and ``empty`` cells to fill. With
    `unique=1` there is one way to fill them; with `unique=0` there may be several, and each is accepted. Squares are
    one regular square with its digits, rows, columns and bands of boxes shuffled.
    """

    name: ClassVar[str] = "sudoku"
    source: ClassVar[str] = "the puzzles of Shah et al., arXiv 2409.10502; here cells are asked for in reading order"

    box: Annotated[int, Field(ge=2, le=4)] = 3
    empty: Annotated[int, Field(ge=1)] = 30
    unique: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Sudoku:
        most = self.size**2 * (5 if self.unique else 10) // 10
        if self.empty > most:
            words = f"at most {most} of {self.size**2} cells are empty"
            raise ValueError(f"{words}{' where there is one way to fill them' if self.unique else ''}")
        return self

    @property
    def size(self) -> int:
        """Return the number of digits, and of cells in a row."""
        return self.box**2

    def alphabet(self) -> list[str]:
        return [*map(str, range(1, self.size + 1)), EMPTY, "/", "="]

    @property
    def length(self) -> int:
        return self.size**2 + self.size + self.empty

    def draw(self, rng: Random, heldout: bool) -> Example:
        solved = shuffled(self.box, rng)
        cells, gone = list(solved), list[int]()
        order = rng.sample(range(len(cells)), len(cells))
        while len(gone) < self.empty and order:
            cell = order.pop()
            cells[cell] = 0
            if self.unique and Square(self.box, cells).other(cell, solved[cell]):
                cells[cell] = solved[cell]
            else:
                gone.append(cell)
        if len(gone) < self.empty:  # this square cannot lose so many cells
            return self.draw(rng, heldout)
        example = Example(cells)
        for start in range(0, len(cells), self.size):
            row = cells[start : start + self.size]
            example.ask(*(["/"] if start else []), *(str(digit or EMPTY) for digit in row))
        example.ask("=")
        example.answer(str(solved[cell]) for cell in sorted(gone))
        return example

    def accepts(self, asked: list[str], answer: list[str], found: list[str]) -> bool:
        """Return whether the digits fill the empty cells, and none is twice in a row, a column or a box."""
        digits = iter(found)
        words = [next(digits, EMPTY) if word == EMPTY else word for word in asked[:-1] if word != "/"]
        if next(digits, None) is not None or not all(word in self.alphabet()[: self.size] for word in words):
            return False
        return all(len({words[cell] for cell in group}) == self.size for group in groups(self.box))


def shuffled(box: int, rng: Random) -> list[int]:
    """Return the cells of a solved square, shuffled in all ways that leave it one."""
    size, bands = box * box, range(box)
    digits = rng.sample(range(1, size + 1), size)
    rows, columns = ([a * box + b for a in rng.sample(bands, box) for b in rng.sample(bands, box)] for _ in range(2))
    grid = [[digits[(row % box * box + row // box + column) % size] for column in columns] for row in rows]
    return [digit for row in (zip(*grid, strict=True) if rng.random() < 0.5 else grid) for digit in row]


def groups(box: int) -> Iterator[list[int]]:
    """Yield the cells of every row, column and box, in which all digits are different."""
    size = box * box
    for i in range(size):
        yield [i * size + j for j in range(size)]
        yield [j * size + i for j in range(size)]
        first = (i // box) * box * size + (i % box) * box
        yield [first + j * size + k for j in range(box) for k in range(box)]


class Square:
    """The cells of a Sudoku, 0 where they are empty, and the digits that rows, columns and boxes have, as bits."""

    def __init__(self, box: int, cells: list[int]) -> None:
        self.box, self.size, self.cells = box, box * box, list(cells)
        self.rows, self.columns, self.boxes = ([0] * self.size for _ in range(3))
        for cell, digit in enumerate(self.cells):
            if digit:
                self._flip(cell, digit)

    def _flip(self, cell: int, digit: int) -> None:
        """Add a digit to the groups of a cell, or take it out of them."""
        row, column = divmod(cell, self.size)
        for found, place in ((self.rows, row), (self.columns, column), (self.boxes, self._box(row, column))):
            found[place] ^= 1 << digit

    def _box(self, row: int, column: int) -> int:
        return row // self.box * self.box + column // self.box

    def _open(self, cell: int) -> list[int]:
        """Return the digits that an empty cell may have."""
        row, column = divmod(cell, self.size)
        taken = self.rows[row] | self.columns[column] | self.boxes[self._box(row, column)]
        return [digit for digit in range(1, self.size + 1) if not taken >> digit & 1]

    def solvable(self) -> bool:
        """Return whether the empty cells can be filled."""
        empty = [(self._open(cell), cell) for cell, digit in enumerate(self.cells) if not digit]
        if not empty:
            return True
        digits, cell = min(empty, key=lambda found: len(found[0]))
        for digit in digits:
            self.cells[cell] = digit
            self._flip(cell, digit)
            if self.solvable():
                return True
            self._flip(cell, digit)
            self.cells[cell] = 0
        return False

    def other(self, cell: int, digit: int) -> bool:
        """Return whether the square can be filled with another digit than this in an empty cell."""
        for different in self._open(cell):
            if different != digit:
                cells = list(self.cells)
                cells[cell] = different
                if Square(self.box, cells).solvable():
                    return True
        return False
