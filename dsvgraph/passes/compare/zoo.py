"""Counts of a model beside the figures that others publish of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any, get_args

from dsvgraph.codes import Code
from dsvgraph.errors import Diagnostic
from dsvgraph.graph import Model
from dsvgraph.passes.count.cost import cost
from dsvgraph.spec import Convention, SpecPart

CONVENTIONS: tuple[str, ...] = get_args(Convention)
UNITS = {"K": 3, "M": 6, "B": 9, "T": 12}


class Agreement(StrEnum):
    """How a count gives a published figure."""

    ROUNDED = "rounded"  # to the figure's digits
    CUT = "cut"  # to them, the other digits dropped
    NONE = ""


@dataclass(frozen=True)
class PublishedComparison:
    """The counts of one model, the published figures, and how they agree.

    ``parameters`` counts what the first output depends on, ``total`` everything, ``active`` by convention.
    ``agree`` holds the agreement of each published figure; ``fits`` are the conventions by which the count of
    active parameters gives the published one.
    """

    name: str
    total: int
    parameters: int
    active: Mapping[str, int]
    published: Mapping[str, str] | None = None
    agree: Mapping[str, Agreement] | None = None
    fits: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no published figure is contradicted."""
        return all((self.agree or {}).values())

    def as_dict(self) -> dict[str, Any]:
        """Return the standing as plain data, for ``--json``."""
        return {**asdict(self), "ok": self.ok}


def compare_published(model: Model) -> PublishedComparison:
    """Return the counts of ``model`` beside its published figures, where its spec has any."""
    counts = cost(model, formulas=False).parameters
    active = {name: getattr(counts, "active" if name == "all" else f"active_{name}") for name in CONVENTIONS}
    part = model.spec.published if model.spec else None
    if part is None:
        return PublishedComparison(model.name, counts.total, counts.inference, active)
    figures: dict[str, str] = part.model.model_dump(exclude_none=True)
    agree = {"parameters": agreement(counts.inference, figures["parameters"])}
    fits: tuple[str, ...] = ()
    if "active" in figures:
        agree["active"] = agreement(active[figures["active_counts"]], figures["active"])
        fits = tuple(name for name in CONVENTIONS if agreement(active[name], figures["active"]))
    return PublishedComparison(
        name=model.name,
        total=counts.total,
        parameters=counts.inference,
        active=active,
        published=figures,
        agree=agree,
        fits=fits,
    )


def agreement(count: int, figure: str) -> Agreement:
    """Return how ``count`` gives the published ``figure``.

    A figure is digits and a unit, such as 2.4B; 2,451,435,008 is 2.5B rounded and 2.4B cut.
    """
    wanted = Decimal(figure[:-1])
    step = Decimal(1).scaleb(int(wanted.as_tuple().exponent))
    exact = Decimal(count).scaleb(-UNITS[figure[-1]])
    for word, rounding in ((Agreement.ROUNDED, ROUND_HALF_UP), (Agreement.CUT, ROUND_FLOOR)):
        if exact.quantize(step, rounding) == wanted:
            return word
    return Agreement.NONE


def contradictions(model: Model, found: PublishedComparison) -> Iterator[Diagnostic]:
    """Yield a diagnostic at each published figure that the counts do not give."""
    part = model.spec.published if model.spec else None
    for name, word in (found.agree or {}).items():
        if part is not None and not word:
            yield _contradiction(part, name, found)


def _contradiction(part: SpecPart, name: str, found: PublishedComparison) -> Diagnostic:
    figures = found.published or {}
    counts = found.parameters if name == "parameters" else found.active[figures["active_counts"]]
    other = [c for c in found.fits if name == "active"]
    hint = f"`active_counts: {other[0]}` gives it" if other else ""
    words = f"{found.name} has {counts:,} {'parameters' if name == 'parameters' else 'active parameters'}"
    words = f"{words}, {figures[name]} are published"
    return Diagnostic(words, part.value(name), hint=hint, code=Code.CONTRADICTED)
