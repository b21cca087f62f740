"""What the report says of the models beside their losses: cost, differences in words and in a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dsvgraph
from dsvgraph.backends import Variant
from dsvgraph.errors import DsvError
from dsvgraph.passes.compare.diff import Diff, diff
from dsvgraph_testbed.results import Results


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a variant costs: numbers of weights, FLOPs of training and of inference per token, memory of training."""

    variant: str
    parameters: int
    parameters_inference: int
    train_flops_per_token: float
    inference_flops_per_token: float
    peak_memory_bytes: float


@dataclass(frozen=True)
class Difference:
    """What differs between the first variant and another: in words, and a picture or why there is none."""

    variant: str
    lines: tuple[str, ...]
    picture: Path | None
    why_no_picture: str = ""


def costs(results: Results) -> list[Cost]:
    """Return the cost of each variant at the batch of the comparison."""
    training = results.experiment.training
    batch, seq, dtype = training["batch"], training["seq"], str(training.get("dtype", "float32"))
    return [_cost(variant, batch, seq, dtype) for variant in results.comparison.variants]


def _cost(variant: Variant, batch: int, seq: int, dtype: str) -> Cost:
    found = dsvgraph.cost(variant.model, batch, seq, formulas=False)
    options = dsvgraph.PlanOptions(batch=batch, seq=seq, dtype=dtype)
    memory = dsvgraph.plan(variant.model, options).memory
    return Cost(
        variant=variant.name,
        parameters=found.parameters.total,
        parameters_inference=found.parameters.inference,
        train_flops_per_token=found.flops.train_per_token,
        inference_flops_per_token=found.flops.inference_forward_per_token,
        peak_memory_bytes=memory.peak.value,  # type: ignore[union-attr]
    )


def differences(results: Results) -> list[Difference]:
    """Return what tells each variant from the first, with pictures in the folder `diffs` of the comparison."""
    first, *others = results.comparison.variants
    folder = results.comparison.folder / "diffs"
    return [_difference(first, other, folder / f"{number}.svg") for number, other in enumerate(others, 1)]


def _difference(first: Variant, other: Variant, path: Path) -> Difference:
    lines = tuple(_lines(diff(first.model, other.model)))
    if not lines:
        return Difference(other.name, ("no difference",), None, "the models are equal")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Difference(other.name, lines, dsvgraph.render(first.model, path, diff=other.model))
    except DsvError as error:
        return Difference(other.name, lines, None, error.diagnostics[0].message)


def _lines(found: Diff) -> Iterator[str]:
    """Yield the changes in words, those of lines first."""
    for change in found.changes:
        where = f" at {change.path}" if change.path not in ("", change.line) else ""
        yield f"{change.kind} {change.line}{where}"
        yield from (f"  {sign} {side}" for sign, side in (("-", change.before), ("+", change.after)) if side)
    for title in ("config", "losses", "sections"):
        for change in getattr(found, title):
            before, after = ("nothing" if side is None else side for side in (change.before, change.after))
            yield f"{title} {change.name}: {before} -> {after}"
