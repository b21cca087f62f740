"""`dsvgraph compare`: train variants on the same data, and tell which is better, and whether by chance."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dsvgraph import backends
from dsvgraph.backends import Budget, BudgetKind, Comparison, Pairs, Variant
from dsvgraph.cli import output
from dsvgraph.cli.exits import INTERRUPTED, TYPED
from dsvgraph.cli.make.training_options import amount, given, rate, with_training_options
from dsvgraph.cli.options import BackendOption, JsonOption, SetOption, Setting, bundled_names, load, setting
from dsvgraph.cli.read.sweep import Axis, axis

OWN = {"steps", "tokens", "minutes", "out", "seed", "resume", "eval_every", "eval_at", "save_every"}
"""Options of training that follow from those of the comparison."""

EACH = "each"


def read_budget(text: str) -> Budget:
    """Read `tokens=20M`, `flops=1e15` or `minutes=30`."""
    name, _, value = (part.strip() for part in text.partition("="))
    if name not in list(BudgetKind):
        raise typer.BadParameter(f"`{text}` is not tokens=N, flops=N or minutes=N")
    kind = BudgetKind(name)
    return Budget(kind, amount(value) if kind is BudgetKind.TOKENS else rate(value))


def read_seeds(text: str) -> tuple[int, ...]:
    """Read `5`, which is 0 to 4, or a list such as `0,1,7`."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and len(word) < 19 for word in words):
        raise typer.BadParameter(f"`{text}` is neither a number of seeds nor a list such as 0,1,2")
    numbers = [int(word) for word in words]
    found = numbers if "," in text else range(min(numbers[0], 10_000))
    if not found or len({*found}) < len(found):
        raise typer.BadParameter(f"`{text}`: at least one seed, and each once")
    return tuple(found)


Specs = Annotated[
    list[str],
    typer.Argument(
        metavar="SPEC...",
        help="YAML files or names of bundled specs; the first is the baseline.",
        autocompletion=bundled_names,
        show_default=False,
    ),
]
BudgetOption = Annotated[
    Any,
    typer.Option(
        "--budget", metavar="KIND=N", parser=read_budget, help="Of the baseline: tokens=20M, flops=1e15 or minutes=30."
    ),
]
Over = Annotated[
    list[Axis] | None,
    typer.Option("--over", metavar="NAME=V,V,...", parser=axis, help="A variant for each value; repeatable."),
]
Seeds = Annotated[Any, typer.Option("--seeds", metavar="N", parser=read_seeds, help="How many, or which: 0,1,2. [5]")]
Drop = Annotated[
    list[str] | None,
    typer.Option("--drop", metavar="NAME|each", help="A variant without this loss or --feature; repeatable."),
]
Feature = Annotated[
    list[Setting] | None,
    typer.Option("--feature", metavar="NAME=OFF", parser=setting, help="A config value that turns a feature off."),
]
Anneal = Annotated[
    bool, typer.Option("--anneal", help="A run for each budget, with a learning rate that falls to its end there.")
]
PairsOption = Annotated[
    Pairs | None, typer.Option("--pairs", help="all, or each with the first. [all; with --drop, first]")
]
Confidence = Annotated[
    float, typer.Option("--confidence", metavar="X", min=0.5, max=0.9999, help="Of all verdicts of a table together.")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", metavar="N", min=1, help="Runs at a time. [one for each free GPU, else one]")
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Runs and report. [runs/compare-NAME]")]
Question = Annotated[str, typer.Option("--question", metavar="TEXT", help="What the report begins with.")]


@partial(with_training_options, without=OWN, panel="Training, as in compile --train")
def run(
    ctx: typer.Context,
    specs: Specs,
    budget: BudgetOption,
    settings: SetOption = None,
    over: Over = None,
    drop: Drop = None,
    feature: Feature = None,
    seeds: Seeds = None,
    anneal: Anneal = False,
    pairs: PairsOption = None,
    confidence: Confidence = 0.95,
    jobs: Jobs = None,
    out: Out = None,
    question: Question = "",
    backend: BackendOption = None,
    as_json: JsonOption = False,
    **training: Any,
) -> None:
    """Train variants on the same data with the same seeds; report at equal tokens, FLOPs and time, with verdicts.

    The same command goes on where it was; no run that has ended is trained again.
    """
    options = given(training)
    _check_schedule(options, anneal)
    variants = _variants(specs, settings or [], over or [], drop or [], feature or [])
    comparison = Comparison(
        variants=variants,
        budget=budget,
        folder=out or _folder(variants[0].model.name),
        seeds=seeds or (0, 1, 2, 3, 4),
        training=options,
        anneal=anneal,
        pairs=pairs or (Pairs.FIRST if drop else Pairs.ALL),
        confidence=confidence,
        jobs=jobs,
        command=ctx.meta[TYPED],
        question=question,
    )
    to = output.console(sys.stderr if as_json else sys.stdout)
    found = backends.testbed(backend).compare(comparison, to, output.console(sys.stderr))
    if as_json:
        output.data(found.as_dict())
    if found.interrupted:
        sys.exit(INTERRUPTED)


def _check_schedule(options: dict[str, Any], anneal: bool) -> None:
    """Raise a usage error for a learning rate that falls: a run that is read on its way would be judged too early."""
    schedule = options.get("schedule", "constant")
    if not anneal and schedule != "constant":
        raise typer.BadParameter(f"{schedule} goes with --anneal", param_hint="--schedule")
    if anneal and options.get("schedule") == "constant":
        raise typer.BadParameter("constant goes without --anneal", param_hint="--schedule")


def _folder(name: str) -> Path:
    plain = re.sub(r"[^\w.-]+", "-", name.lower()).strip("-.")
    return Path("runs") / f"compare-{plain or 'model'}"


# -- variants -----------------------------------------------------------------------------------


def _variants(
    specs: list[str], settings: list[Setting], axes: list[Axis], drop: list[str], feature: list[Setting]
) -> tuple[Variant, ...]:
    """Return the models to compare, each with a name of its own. Raise a usage error unless there are two."""
    if drop and (len(specs) > 1 or axes):
        raise typer.BadParameter("goes with one SPEC and without --over", param_hint="--drop")
    if feature and not drop:
        raise typer.BadParameter("goes with --drop", param_hint="--feature")
    found = _dropped(specs[0], settings, drop, feature) if drop else _grid(specs, settings, axes)
    named = _named(list(found))
    if len(named) < 2:
        raise typer.BadParameter("give two specs, or --over, or --drop", param_hint="SPEC")
    return named


def _grid(specs: list[str], settings: list[Setting], axes: list[Axis]) -> Iterator[Variant]:
    """Yield every combination of a spec and the values of --over."""
    from dsvgraph.passes.compare.variants import over

    grid = {axis.name: axis.values for axis in axes}
    if len(grid) < len(axes):
        raise typer.BadParameter("give all values of a name in one --over", param_hint="--over")
    for spec in specs:
        for words, model in over(spec, dict(settings), grid):
            yield Variant(" ".join(filter(None, [_stem(spec) if len(specs) > 1 or not words else "", words])), model)


def _dropped(spec: str, settings: list[Setting], drop: Sequence[str], feature: list[Setting]) -> Iterator[Variant]:
    """Yield the whole model, then the model without each of the features."""
    from dsvgraph.passes.compare.variants import features, without

    whole = load(spec, settings)
    switches = {one.name: one for one in feature}
    names = [*switches, *features(whole)] if EACH in drop else list(dict.fromkeys(drop))
    yield Variant(_stem(spec), whole)
    for name in names:
        off = switches.get(name)
        yield Variant(f"without {name}", load(spec, [*settings, off]) if off else without(whole, name))


def _stem(spec: str) -> str:
    return re.sub(r"\.ya?ml\Z", "", spec.replace("\\", "/").rpartition("/")[2])


def _named(variants: list[Variant]) -> tuple[Variant, ...]:
    """Return variants with names of their own: equal ones are numbered."""
    counts, seen = Counter(variant.name for variant in variants), Counter[str]()
    found = []
    for variant in variants:
        seen[variant.name] += 1
        number = f" ({seen[variant.name]})" if counts[variant.name] > 1 else ""
        found.append(Variant(variant.name + number, variant.model))
    return tuple(found)
