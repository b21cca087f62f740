"""The path from the centre of a star graph to one of its leaves."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from dsvgraph_torch.data.tasks.task import Example, Task


class StarGraph(Task):
    """Find the path from the centre of a star graph to a leaf: `edges / centre leaf = path`.

    ``degree`` arms of ``path - 1`` nodes leave a centre; nodes have random numbers below ``nodes``. The edges stand in
    random order, each as its two nodes away from the centre.
    """

    name: ClassVar[str] = "star_graph"
    source: ClassVar[str] = "Bachmann & Nagarajan, arXiv 2403.06963, section 5"

    degree: Annotated[int, Field(ge=2)] = 2
    path: Annotated[int, Field(ge=2)] = 5
    nodes: Annotated[int, Field(ge=3, le=100_000)] = 50

    @model_validator(mode="after")
    def _fits(self) -> StarGraph:
        needed = self.degree * (self.path - 1) + 1
        if self.nodes < needed:
            raise ValueError(f"{self.degree} arms of {self.path - 1} nodes and a centre need nodes={needed} or more")
        return self

    def alphabet(self) -> list[str]:
        return [*map(str, range(self.nodes)), "|", "/", "="]

    @property
    def length(self) -> int:
        return 3 * self.degree * (self.path - 1) - 1 + 4 + self.path

    def draw(self, rng: Random, heldout: bool) -> Example:
        centre, *others = rng.sample(range(self.nodes), self.degree * (self.path - 1) + 1)
        size = self.path - 1
        arms = [[centre, *others[i : i + size]] for i in range(0, len(others), size)]
        edges = [edge for arm in arms for edge in pairwise(arm)]
        key = [sorted(edges), arms[0][-1]]
        rng.shuffle(edges)
        example = Example(key)
        for index, (a, b) in enumerate(edges):
            example.ask(*(["|"] if index else []), str(a), str(b))
        example.ask("/", str(centre), str(arms[0][-1]), "=")
        example.answer(map(str, arms[0]))
        return example
