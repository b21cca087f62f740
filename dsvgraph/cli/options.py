"""Options that several commands have, such as SPEC, `--set` and `--json`, and how their text is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from dsvgraph import load as load_model
from dsvgraph import loader
from dsvgraph.backends.training import RunWeights
from dsvgraph.errors import DsvError, clipped, printable
from dsvgraph.graph import Model
from dsvgraph.names import NAME
from dsvgraph.passes.options import Recompute
from dsvgraph.types import AttentionPairs


class Attention(StrEnum):
    """How the two products of attention are counted."""

    CAUSAL = AttentionPairs.CAUSAL.value
    FULL = AttentionPairs.FULL.value


class Setting(NamedTuple):
    """One `--set name=value`."""

    name: str
    value: Any


def setting(text: str) -> Setting:
    """Read ``name=value``; the value is YAML, so that 1e-6 is a number and [1, 2] a list."""
    name, equals, value = (part.strip() for part in text.partition("="))
    shown = clipped(printable(text), 100)
    if not equals or not NAME.match(name):
        raise typer.BadParameter(f"`{shown}` is not of the form name=value")
    try:
        return Setting(name, loader.parse(value, "--set").data)
    except DsvError as error:
        raise typer.BadParameter(f"`{shown}`: {error.diagnostics[0].message}") from None


BYTES = {"": 1, "B": 1, **{f"{u}B": 1000**n for n, u in enumerate("KMGT", 1)}}
BYTES |= {f"{unit}IB": 1024**power for power, unit in enumerate("KMGT", 1)}
MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?I?B|)", re.IGNORECASE)


def memory(text: str) -> int:
    """Read an amount of memory: `32GiB`, `80GB`, or a number of bytes."""
    match = MEMORY.fullmatch(text.strip())
    unit = BYTES.get(match[2].upper()) if match else None
    size = int(float(match[1]) * unit) if match and unit else 0
    if not 0 < size < 2**63:
        raise typer.BadParameter(f"`{clipped(printable(text), 100)}` is no amount of memory, such as 32GiB or 80GB")
    return size


def bundled_names(incomplete: str) -> list[str]:
    """Return the names of bundled specs, variants and losses that complete what was typed in a shell."""
    home = loader.bundled()
    paths = sorted([*home.glob("*.yaml"), *home.glob("variants/*.yaml"), *home.glob("losses/*.yaml")])
    names = [path.relative_to(home).as_posix().removesuffix(".yaml") for path in paths]
    return [name for name in names if name.startswith(incomplete)]


SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="A YAML file, or the name of a bundled spec.",
        autocompletion=bundled_names,
        show_default=False,
    ),
]
SetOption = Annotated[
    list[Setting] | None,
    typer.Option("--set", metavar="NAME=VALUE", parser=setting, help="Another value in `config`; repeatable."),
]
BackendOption = Annotated[
    str | None,
    typer.Option("--backend", metavar="NAME", help="Which installed backend to use. [the one of dsvgraph]"),
]
RunWeightsOption = Annotated[
    RunWeights, typer.Option("--weights", help="Which weights of a run: the newest, their average, or the best kept.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, errors too.")]
CsvOption = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV; - to standard output.")
]
FitMemoryOption = Annotated[
    Any,
    typer.Option(
        "--fit-memory", metavar="SIZE", parser=memory, help="Recompute what makes the training step fit, such as 32GiB."
    ),
]
BatchOption = Annotated[int, typer.Option("--batch", metavar="B", min=1, help="Rows of the batch.")]
SeqOption = Annotated[int, typer.Option("--seq", metavar="T", min=1, help="Tokens of a row.")]
AttentionOption = Annotated[
    Attention, typer.Option("--attention", help="The keys that each token sees, or as many as the last one sees.")
]
RecomputeOption = Annotated[
    Recompute, typer.Option("--recompute", help="What the backward does again: nothing, or the whole forward.")
]


def outputs_apart(csv: Path | None, plot: Path | None = None, as_json: bool = False) -> None:
    """Raise a usage error if two outputs of a command would go to one file or to one stream."""
    if csv and plot and csv.resolve() == plot.resolve():
        raise typer.BadParameter(f"`{plot}` is the file of --csv", param_hint="--plot")
    if str(csv) == "-" and as_json:
        raise typer.BadParameter("`-` is standard output, where --json goes", param_hint="--csv")


def load(spec: str, settings: Iterable[Setting] | None = None) -> Model:
    """Return the checked model of SPEC and --set. Raise DsvError if it is wrong."""
    return load_model(spec, dict(settings or ()))
