"""`dsvgraph export`: a folder that transformers loads."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dsvgraph import backends
from dsvgraph.backends.training import TensorDtype
from dsvgraph.cli import output, progress
from dsvgraph.cli.options import BackendOption, JsonOption, SetOption, bundled_names, load
from dsvgraph.errors import printable

SPEC = "spec.yaml"  # of a run's folder


Model = Annotated[
    str,
    typer.Argument(
        metavar="SPEC|RUN", help="A spec, or the folder of a run.", autocompletion=bundled_names, show_default=False
    ),
]
Folder = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A new folder.", show_default=False)]
ConfigOnly = Annotated[bool, typer.Option("--config-only", help="Write config.json and no weights.")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="What a spec's weights begin with. [0]")]
Type = Annotated[TensorDtype, typer.Option("--dtype", metavar="TYPE", help="float32 or bfloat16.")]
Size = Annotated[str, typer.Option("--max-shard-size", metavar="SIZE", help="The most that one file holds.")]
DropMtp = Annotated[bool, typer.Option("--drop-mtp", help="Leave out MTP modules and other heads that only train.")]


def run(
    ctx: typer.Context,
    model: Model,
    folder: Folder,
    config_only: ConfigOnly = False,
    seed: Seed = None,
    dtype: Type = TensorDtype.FLOAT32,
    max_shard_size: Size = "5GB",
    drop_mtp: DropMtp = False,
    settings: SetOption = None,
    as_json: JsonOption = False,
    backend: BackendOption = None,
) -> None:
    """Write a model folder that transformers loads, or say why no class of transformers computes the model."""
    trained = (Path(model) / SPEC).is_file()
    for option, given in (("--set", settings), ("--seed", seed is not None)):
        if trained and given:
            raise typer.BadParameter("goes with a spec, not with a run", ctx=ctx, param_hint=option)
    with _uncollected(config_only):
        graph = load(str(Path(model) / SPEC) if trained else model, settings)
        exporter = backends.exporter(backend)
        with progress.bytes_done("writing", None if config_only else sys.stderr) as advance:
            facts = exporter.export(
                graph, folder, config_only=config_only, run=Path(model) if trained else None, seed=seed or 0,
                dtype=dtype.value, max_shard_size=max_shard_size, drop_mtp=drop_mtp, progress=advance,
            )  # fmt: skip
    _print(facts, as_json)


@contextmanager
def _uncollected(short: bool) -> Iterator[None]:
    """Switch the garbage collector off if the work is ``short``: it would take a tenth of the time and find nothing."""
    collecting = gc.isenabled()
    if short:
        gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.data(facts)
        return
    files = facts["files"]
    names = files if len(files) <= 4 else [files[0], "...", *files[-2:]]
    shown = {**facts, "files": f"{len(files)}: {', '.join(names)}"}
    width = max(map(len, shown))
    for name, value in shown.items():  # no table: rich takes longer to import than all of config.json to make
        print(f"{name:<{width}}  {printable(str(value))}")
