"""`dsvgraph compile`: build the module and compare it with the count; emit its source, load its weights, train it."""

from __future__ import annotations

import sys
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dsvgraph import backends
from dsvgraph.cli import output, progress
from dsvgraph.cli.exits import INTERRUPTED
from dsvgraph.cli.options import BackendOption, JsonOption, SetOption, SpecArgument, load
from dsvgraph.files import note_input, write_atomic
from dsvgraph.graph import Model

PANEL = "With --train"
LOADING = ("weights", "drop_mtp")
"""Options that are allowed with and without --train."""


class Dtype(StrEnum):
    """The kind of number that matrices are multiplied in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


def _training(option: str, words: str, metavar: str = "N", least: float | None = None, **more: Any) -> Any:
    """Return an option that goes with --train."""
    return typer.Option(option, help=words, metavar=metavar, min=least, rich_help_panel=PANEL, **more)


def _rate(text: str) -> float:
    """Read a number above zero."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise typer.BadParameter(f"`{text}` is no number above 0")
    return rate


Emit = Annotated[Path | None, typer.Option("--emit", metavar="FILE", help="Write it as one Python file.")]
Full = Annotated[
    bool, typer.Option("--full", help="With --emit: the file takes packed documents and labels too, as --train does.")
]
Train = Annotated[bool, typer.Option("--train", help="Train the module.")]
Weights = Annotated[
    Path | None, typer.Option("--weights", metavar="DIR", help="Load a folder of Hugging Face safetensors.")
]
DropMtp = Annotated[bool, typer.Option("--drop-mtp", help="Leave out MTP modules of --weights that the spec has not.")]
Steps = Annotated[int | None, _training("--steps", "Optimizer steps. [600]", least=1)]
Minutes = Annotated[Any, _training("--minutes", "Time to train, if it ends before --steps.", "X", parser=_rate)]
Batch = Annotated[int | None, _training("--batch", "Rows of one batch. [16]", least=1)]
Seq = Annotated[int | None, _training("--seq", "Tokens of one row. [128]", least=2)]
Data = Annotated[
    Path | None, _training("--data", "A text file or a folder. [the standard library of this Python]", "PATH")
]
Out = Annotated[Path | None, _training("--out", "The run's folder, a new one. [runs/NAME]", "DIR")]
Seed = Annotated[int | None, _training("--seed", "What chance depends on. [0]", least=0, max=2**63 - 1)]
Device = Annotated[str | None, _training("--device", "cpu, cuda, ... [the best there is]", "NAME")]
Type = Annotated[Dtype | None, _training("--dtype", "float32 or bfloat16 (autocast). [float32]", "TYPE")]
Lr = Annotated[Any, _training("--lr", "The learning rate after warm-up, above 0. [0.002]", "X", parser=_rate)]
Warmup = Annotated[int | None, _training("--warmup", "Steps of warm-up. [a twentieth of all]", least=0)]
Accumulate = Annotated[int | None, _training("--accumulate", "Batches of one step. [1]", least=1)]
Decay = Annotated[float | None, _training("--weight-decay", "Of matrices. [0.1]", "X", least=0)]
Clip = Annotated[float | None, _training("--clip", "The largest norm of a gradient, 0 for any. [1]", "X", least=0)]
Eval = Annotated[int | None, _training("--eval-every", "Steps between evaluations. [a tenth]", least=1)]
Save = Annotated[int | None, _training("--save-every", "Steps between saves. [a tenth]", least=1)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.", rich_help_panel=PANEL)]


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
    steps: Steps = None,
    minutes: Minutes = None,
    batch: Batch = None,
    seq: Seq = None,
    data: Data = None,
    out: Out = None,
    seed: Seed = None,
    device: Device = None,
    dtype: Type = None,
    lr: Lr = None,
    warmup: Warmup = None,
    accumulate: Accumulate = None,
    weight_decay: Decay = None,
    clip: Clip = None,
    eval_every: Eval = None,
    save_every: Save = None,
    resume: Resume = False,
) -> None:
    """Build the module, prove that its parameters are those counted, and sum it up; write, load or train it."""
    given = training_options(ctx)
    _check_together(ctx, given)
    model = load(spec, settings)
    trainer = backends.trainer(backend, "compiling") if train else None
    for path in filter(None, (weights, data)):
        note_input(path)  # what --emit writes comes before they are read
    if emit:
        write_atomic(emit, backends.compiler(backend).emit(model, full=full))
    if trainer:
        begin = {"weights": weights, "drop_mtp": drop_mtp} if weights else {}
        _train(trainer, model, given | begin, as_json)
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


def training_options(ctx: typer.Context) -> dict[str, Any]:
    """Return the options of --train that were given, as plain values."""
    others = ("spec", "settings", "as_json", "backend", "emit", "full", "train", *LOADING)
    given = {n: v for n, v in ctx.params.items() if n not in others and v is not None and v is not False}
    return {name: value.value if isinstance(value, Enum) else value for name, value in given.items()}


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
