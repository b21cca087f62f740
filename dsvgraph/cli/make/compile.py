"""`dsvgraph compile`: build the module and compare it with the count; emit its source, load its weights, train it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dsvgraph import backends
from dsvgraph.cli import output, progress
from dsvgraph.cli.exits import INTERRUPTED
from dsvgraph.cli.make.training_options import given, with_training_options
from dsvgraph.cli.options import BackendOption, JsonOption, SetOption, SpecArgument, load
from dsvgraph.files import note_input, write_atomic
from dsvgraph.graph import Model

Emit = Annotated[Path | None, typer.Option("--emit", metavar="FILE", help="Write it as one Python file.")]
Full = Annotated[
    bool, typer.Option("--full", help="With --emit: the file takes packed documents and labels too, as --train does.")
]
Train = Annotated[bool, typer.Option("--train", help="Train the module.")]
Weights = Annotated[
    Path | None, typer.Option("--weights", metavar="DIR", help="Load a folder of Hugging Face safetensors.")
]
DropMtp = Annotated[bool, typer.Option("--drop-mtp", help="Leave out MTP modules of --weights that the spec has not.")]


@with_training_options
def run(
    ctx: typer.Context,
    spec: SpecArgument,
    settings: SetOption = None,
    as_json: JsonOption = False,
    backend: BackendOption = None,
    emit: Emit = None,
    full: Full = False,
    train: Train = False,
    weights: Weights = None,
    drop_mtp: DropMtp = False,
    **training: Any,
) -> None:
    """Build the module, prove that its parameters are those counted, and sum it up; write, load or train it."""
    options = given(training)
    _check_together(ctx, options)
    model = load(spec, settings)
    trainer = backends.trainer(backend, "compiling") if train else None
    for path in filter(None, (weights, options.get("data"))):
        note_input(path)  # what --emit writes comes before they are read
    if emit:
        write_atomic(emit, backends.compiler(backend).emit(model, full=full))
    if trainer:
        begin = {"weights": weights, "drop_mtp": drop_mtp} if weights else {}
        _train(trainer, model, options | begin, as_json)
    else:
        compiler = backends.compiler(backend)
        loaded = _loaded(model, backend, weights, drop_mtp, as_json) if weights else {}
        _report(compiler, model, emit, loaded, as_json)


def _check_together(ctx: typer.Context, given: dict[str, Any]) -> None:
    """Raise a usage error for an option that has no meaning without another; ``given`` are those of --train."""
    needs = [(f"--{name.replace('_', '-')}", True, "train") for name in given]
    needs += [("--full", ctx.params["full"], "emit"), ("--drop-mtp", ctx.params["drop_mtp"], "weights")]
    for option, asked, other in needs:
        if asked and not ctx.params[other]:
            raise typer.BadParameter(f"goes with --{other}", ctx=ctx, param_hint=option)


def _loaded(model: Model, backend: str | None, folder: Path, drop_mtp: bool, as_json: bool) -> dict[str, Any]:
    """Fill the module with the weights of a folder, and return what was read, by name."""
    reader = backends.weight_reader()
    module = backends.module_builder(backend, "loading weights").empty(model)
    with progress.bytes_done("loading", sys.stderr if as_json else sys.stdout) as advance:
        return reader.fill(module, model, folder, drop_mtp=drop_mtp, progress=advance).as_dict()


def _report(
    compiler: backends.Compiler, model: Model, emitted: Path | None, loaded: dict[str, Any], as_json: bool
) -> None:
    facts = {**compiler.report(model), **({"emitted": str(emitted)} if emitted else {})}
    if as_json:
        output.data(facts | ({"loaded": loaded} if loaded else {}))
    else:
        output.write(output.pairs((name.replace("_", " "), value) for name, value in (facts | loaded).items()))


def _train(trainer: backends.Trainer, model: Model, given: dict[str, Any], as_json: bool) -> None:
    """Train; with --json, the progress goes to standard error and the result to standard output."""
    result = trainer.train(model, given, output.console(sys.stderr if as_json else sys.stdout))
    if as_json:
        output.data(vars(result))
    if result.interrupted:
        sys.exit(INTERRUPTED)
