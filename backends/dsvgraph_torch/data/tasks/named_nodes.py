"""Names of nodes that are several tokens long, and how many nodes an example has, as the PhysicsLM4 tasks draw them."""

from __future__ import annotations

import math
from random import Random


def alphabet(symbols: int) -> list[str]:
    """Return the tokens of names: those inside a name, and those that end one."""
    return [*(f"a{i}" for i in range(symbols)), *(f"z{i}" for i in range(symbols))]


def names(rng: Random, count: int, symbols: int, shortest: int, longest: int) -> list[tuple[str, ...]]:
    """Return ``count`` different names; only the last token of a name is one of those that end one."""
    found: dict[tuple[str, ...], None] = {}
    while len(found) < count:
        length = rng.randint(shortest, longest)
        inside = [f"a{rng.randrange(symbols)}" for _ in range(length - 1)]
        found[(*inside, f"z{rng.randrange(symbols)}")] = None
    return list(found)


def room(symbols: int, shortest: int, longest: int) -> int:
    """Return how many different names there are."""
    return sum(symbols**length for length in range(shortest, longest + 1))


def node_count(rng: Random, most: int) -> int:
    """Return a number of nodes from 3 to ``most``, with weights 1 / (n + sqrt(most))."""
    sizes = range(3, most + 1)
    return rng.choices(sizes, [1 / (n + math.sqrt(most)) for n in sizes])[0]
