"""Sums of products over named axes."""

from __future__ import annotations

import re
from collections.abc import Set
from itertools import pairwise
from typing import ClassVar

from dsvgraph.codes import Code
from dsvgraph.dims import Size, names, product, symbol
from dsvgraph.errors import Fault
from dsvgraph.ops.base import CARD, Drawn, Kind, PerPosition, Product, Types, Weightless, by_label, product_of
from dsvgraph.ops.shapes import need_float
from dsvgraph.ops.tape import Execution, Tape, Value
from dsvgraph.types import AttentionPairs, Type

EQUATION = re.compile(r"[A-Za-z]+(,[A-Za-z]+)*->[A-Za-z]+\Z")


class Einsum(Weightless, PerPosition):
    """Products of inputs, summed over the labels that the output has not: [...], [...] -> [...].

    ``equation`` is torch's, a letter per axis, spaces allowed: "b t i d, b t i j -> b t j d".
    Rows and positions are neither summed nor parted: side by side and in order, they may have other
    axes in front, so that "n b t d -> b t d" sums a stack of n values. FLOPs: 2 * product of the sizes of the labels
    where a label that two inputs share is summed; labels of one input alone are summed before, and
    products without a sum are pointwise.
    """

    op: ClassVar[str] = "einsum"
    kind: ClassVar[Kind] = Kind.ARITHMETIC
    title: ClassVar[str] = "einsum"
    formula: ClassVar[str] = "y[kept] = sum over the others of x0[...] * x1[...] * ..."
    drawn: ClassVar[Drawn] = CARD
    details = by_label
    variadic: ClassVar[bool] = True
    side_by_side: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    equation: str

    def label(self) -> str:
        return self.equation.replace("->", "→")

    def outputs(self, ins: Types) -> dict[str, Type]:
        for port, x in ins.items():
            need_float(x, port)
        sizes = self._sizes(ins)
        return {"y": Type(tuple(sizes[label] for label in self._terms()[1]))}

    def products(self, ins: Types, outs: Types, pairs: AttentionPairs = AttentionPairs.CAUSAL) -> list[Product]:
        sizes, (terms, kept) = self._sizes(ins), self._terms()
        inside = {a for a in sizes if sum(a in term for term in terms) > 1}  # of a product, so not summed before
        if not inside - set(kept):
            return []
        multiplied = tuple(size for a, size in sizes.items() if a in kept or a in inside)
        return [product_of(2 * product(multiplied), *ins)]

    def keep(self, tape: Tape, execution: Execution) -> Value:
        first, *others = (tape.cast(v, tape.low) for v in execution.ins.values())
        for other in others:
            tape.product(first, other)
            first = tape.fresh(execution.out.numel, tape.low, first.grad or other.grad)
        summed = not others and execution.out.numel != execution.x.numel
        return tape.fresh(execution.out.numel, tape.low, first.grad) if summed else first

    def keeps_first(self, port: str, ins: Types) -> bool:
        terms, kept = self._terms()
        return ins[port].rank > 1 and terms[int(port.removeprefix("x"))][0] == kept[0]

    def moved(self, ins: Types) -> list[Size]:
        """Return the sizes of the axes that are moved, but for those that stay on their side of rows and positions.

        So axes in front of rows and positions, such as that of a stack of values, may be added and summed.
        """
        sizes, (terms, kept) = self._sizes(ins), self._terms()
        named = {label: size for label, size in sizes.items() if size in [symbol(name) for name in names(size)]}
        twice = [size for label, size in named.items() if list(named.values()).count(size) > 1]
        found = [
            sizes[a]
            for term in terms
            for i, a in enumerate(term)
            if a in kept and kept.index(a) != i and not _beside(a, term, kept, named.keys())
        ]
        return [*found, *twice]

    def mixed(self, ins: Types) -> list[Size]:
        kept = self._terms()[1]
        return [size for label, size in self._sizes(ins).items() if label not in kept]

    def _terms(self) -> tuple[list[str], str]:
        """Return the labels of each input, and those of the output. Raise ValueError if the equation is none."""
        text = self.equation.replace(" ", "")
        if not EQUATION.match(text):
            raise Fault(Code.EQUATION, f"`{self.equation}` is no equation such as b t i d, b t i j -> b t j d")
        inputs, _, kept = text.partition("->")
        terms = inputs.split(",")
        for term in (*terms, kept):
            if len(term) > len(set(term)):
                twice = next(label for i, label in enumerate(term) if label in term[i + 1 :])
                raise Fault(Code.EQUATION, f"`{term}` has the label `{twice}` twice")
        if unknown := set(kept) - set(inputs):
            raise Fault(Code.EQUATION, f"the output has the label `{min(unknown)}`, which no input has")
        return terms, kept

    def _sizes(self, ins: Types) -> dict[str, Size]:
        """Return the size of every label. Raise ValueError if two inputs give it different sizes."""
        terms = self._terms()[0]
        if len(terms) != len(ins):
            raise Fault(
                Code.EQUATION,
                f"the equation has {len(terms)} inputs, the line has {len(ins)}",
                about=[len(terms), len(ins)],
            )
        found: dict[str, tuple[str, Size]] = {}
        for (port, x), term in zip(ins.items(), terms, strict=True):
            if len(term) != x.rank:
                words = f"`{port}` is {x}, the equation gives it the axes `{term}`"
                raise Fault(Code.AXES, words, about=[x])
            for label, size in zip(term, x.shape, strict=True):
                first, known = found.setdefault(label, (port, size))
                if known != size:
                    words = f"label `{label}` is {known} in `{first}` and {size} in `{port}`"
                    raise Fault(Code.DIFFERENT, words, about=[known, size])
        return {label: size for label, (_, size) in found.items()}


def _beside(label: str, term: str, kept: str, others: Set[str]) -> bool:
    """Return whether ``label``, one of ``others``, has one of them on the same side in an input and in the output."""
    pairs = [pair for pair in pairwise(term) if label in pair and set(pair) <= others]
    return any(pair in pairwise(kept) for pair in pairs)
