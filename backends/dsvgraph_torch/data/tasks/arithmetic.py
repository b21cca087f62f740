"""Tasks of arithmetic: addition, and the numbers game Countdown."""

from __future__ import annotations

from random import Random
from typing import Annotated, ClassVar

from pydantic import Field

from dsvgraph_torch.data.tasks.task import Example, Task

OPERATIONS = "+-*/"


class Addition(Task):
    """Add numbers of ``digits`` decimal digits: `1 2 + 3 9 = 0 5 1`, every digit a token, zeros in front.

    With `reverse=1` the sum begins with its last digit.
    """

    name: ClassVar[str] = "addition"
    source: ClassVar[str] = "Nogueira et al., arXiv 2102.13019; reversed: Lee et al., arXiv 2307.03381"

    digits: Annotated[int, Field(ge=1, le=1000)] = 8
    numbers: Annotated[int, Field(ge=2, le=9)] = 2

    def alphabet(self) -> list[str]:
        return [*"0123456789", "+", "="]

    @property
    def length(self) -> int:
        return (self.digits + 1) * (self.numbers + 1)

    def draw(self, rng: Random, heldout: bool) -> Example:
        terms = [rng.randrange(10**self.digits) for _ in range(self.numbers)]
        example = Example(sorted(terms))
        for index, term in enumerate(terms):
            example.ask(*("+" if index else ""), *f"{term:0{self.digits}}")
        example.ask("=")
        example.answer(f"{sum(terms):0{self.digits + 1}}")
        return example


class Countdown(Task):
    """Combine all numbers to a target: `3 5 2 > 16 : 3 + 5 = 8 , 8 * 2 = 16`; every right way is accepted.

    Each step takes two of the numbers that are left and puts their result in their place. Results are whole numbers
    from 1 to ``limit``.
    """

    name: ClassVar[str] = "countdown"
    source: ClassVar[str] = "Gandhi et al., arXiv 2404.03683, section 3"

    numbers: Annotated[int, Field(ge=2, le=12)] = 4
    limit: Annotated[int, Field(ge=10, le=100_000)] = 100

    def alphabet(self) -> list[str]:
        return [*map(str, range(1, self.limit + 1)), *OPERATIONS, "=", ",", ">", ":"]

    @property
    def length(self) -> int:
        return self.numbers + 3 + 6 * (self.numbers - 1) - 1

    def draw(self, rng: Random, heldout: bool) -> Example:
        numbers = [rng.randint(1, self.limit) for _ in range(self.numbers)]
        left, steps = list(numbers), list[str]()
        while len(left) > 1:
            a, b, sign, result = self._step(rng, left)
            steps += [*([","] if steps else []), str(a), sign, str(b), "=", str(result)]
        example = Example([sorted(numbers), left[0]])
        example.ask(*map(str, numbers), ">", str(left[0]), ":")
        example.answer(steps)
        return example

    def _step(self, rng: Random, left: list[int]) -> tuple[int, int, str, int]:
        """Replace two of the numbers that are left by a result; larger numbers come first."""
        a, b = sorted((left.pop(rng.randrange(len(left))) for _ in range(2)), reverse=True)
        results = {sign: r for sign in OPERATIONS if 0 < (r := _result(a, sign, b)) <= self.limit}
        sign = rng.choice(sorted(results))  # there is one: a - b, or a / b where they are equal
        left.append(results[sign])
        return a, b, sign, results[sign]

    def accepts(self, asked: list[str], answer: list[str], found: list[str]) -> bool:
        """Return whether the steps use every number once and end with the target."""
        left, target = asked[: self.numbers], asked[self.numbers + 1]
        for start in range(0, len(found), 6):
            a, sign, b, equals, result = found[start : start + 5]
            taken = list(left)
            for number in (a, b):
                if number not in taken:
                    return False
                taken.remove(number)
            wrong = sign not in OPERATIONS or equals != "=" or not result.isdecimal()
            if wrong or _result(int(a), sign, int(b)) != int(result):
                return False
            left = [*taken, result]
        return left == [target] and all(comma == "," for comma in found[5::6])


def _result(a: int, sign: str, b: int) -> int:
    """Return the result of one step, 0 where it is no whole number above 0."""
    if sign == "/":
        return a // b if b and a % b == 0 else 0
    return max(0, {"+": a + b, "-": a - b, "*": a * b}[sign])
