"""The options of `dsvgraph compile --train`: their names, what they read, and their help.

Each is None (or False) where it was not given; defaults are the trainer's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from copy import copy
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from dsvgraph.backends.training import MetricLog, OptimizerKind, Packing, Precision, ScheduleKind
from dsvgraph.cli.options import memory

PANEL = "With --train"


def rate(text: str) -> float:
    """Read a number above zero."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise typer.BadParameter(f"`{text}` is no number above 0")
    return found


def share(text: str) -> float:
    """Read a number between zero and one."""
    if not (found := rate(text)) < 1:
        raise typer.BadParameter(f"`{text}` is no number below 1")
    return found


def by_path(text: str) -> tuple[str, float]:
    """Read `PATTERN=FACTOR`."""
    pattern, equals, number = text.rpartition("=")
    try:
        factor = float(number)
    except ValueError:
        factor = -1.0
    if not (equals and pattern and 0 <= factor < float("inf")):
        raise typer.BadParameter(f"`{text}` is not of the form PATTERN=FACTOR, such as `**.embed_tokens.weight=0.5`")
    return pattern, factor


UNITS = {"k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}


def amount(text: str) -> int:
    """Read a whole number above zero, which may end in K, M, B (or G) or T: `20M`, `1.5B`."""
    unit = UNITS.get(text[-1:].lower(), 1)
    try:
        found = float(text[:-1] if unit > 1 else text) * unit
    except ValueError:
        found = 0.0
    if not 1 <= found < 1e18 or found != int(found):
        raise typer.BadParameter(f"`{text}` is no whole number above 0, such as 500000 or 20M")
    return int(found)


def _option(options: str, words: str, metavar: str | None = "N", least: float | None = None, **more: Any) -> Any:
    return typer.Option(*options.split(), help=words, metavar=metavar, min=least, rich_help_panel=PANEL, **more)


def _flag(option: str, words: str) -> Any:
    return Annotated[bool, typer.Option(option, help=words, rich_help_panel=PANEL)]


OPTIONS: dict[str, Any] = {
    "steps": Annotated[int | None, _option("--steps", "Optimizer steps. [600, or another budget]", least=1)],
    "tokens": Annotated[Any, _option("--tokens", "Tokens to train on, such as 20M.", "N", parser=amount)],
    "minutes": Annotated[Any, _option("--minutes", "Time to train, if it ends first.", "X", parser=rate)],
    "batch": Annotated[int | None, _option("--batch", "Rows of one batch. [16]", least=1)],
    "seq": Annotated[int | None, _option("--seq", "Tokens of one row. [128]", least=2)],
    "data": Annotated[
        Path | None,
        _option("--data", "Text, JSON lines, Parquet, a folder, prepared data. [Python's standard library]", "PATH"),
    ],
    "tokenizer": Annotated[
        str | None,
        _option("--tokenizer", "bytes, bpe:SIZE (trained on the data), or a tokenizer.json. [bytes]", "NAME"),
    ],
    "pack": Annotated[
        Packing | None,
        _option("--pack", "Documents as such in rows: cut at the end of a row, or kept whole. [none]", "MODE"),
    ],
    "task": Annotated[
        str | None,
        _option("--task", "A task with exact answers (`dsvgraph data tasks`), in place of --data.", "NAME[:K=V,...]"),
    ],
    "out": Annotated[Path | None, _option("--out", "The run's folder, a new one. [runs/NAME]", "DIR")],
    "seed": Annotated[int | None, _option("--seed", "What chance depends on. [0]", least=0, max=2**63 - 1)],
    "device": Annotated[str | None, _option("--device", "cpu, cuda, ... [the best there is]", "NAME")],
    "precision": Annotated[
        Precision | None,
        _option("--precision --dtype", "float32, bfloat16 (over float32 weights), pure-bf16, fp8. [float32]", "NAME"),
    ],
    "lr": Annotated[Any, _option("--lr", "The learning rate after warm-up, above 0. [0.003]", "X", parser=rate)],
    "warmup": Annotated[int | None, _option("--warmup", "Steps of warm-up. [a twentieth of all]", least=0)],
    "schedule": Annotated[
        ScheduleKind | None,
        _option("--schedule", "cosine, wsd (warm-up, stable, decay) or constant. [cosine]", "NAME"),
    ],
    "decay": Annotated[
        float | None, _option("--decay", "With wsd: the last share of the run, in which it falls. [0.2]", "X", 0, max=1)
    ],
    "lr_end": Annotated[
        float | None, _option("--lr-end", "The learning rate at the end, as a share of --lr. [0.1]", "X", 0, max=1)
    ],
    "lr_for": Annotated[
        list[Any] | None,
        _option("--lr-for", "Another learning rate by path, as a factor; repeatable.", "PATTERN=X", parser=by_path),
    ],
    "optimizer": Annotated[
        OptimizerKind | None,
        _option("--optimizer", "adamw, or muon: matrices by Muon, the rest by AdamW. [adamw]", "NAME"),
    ],
    "ema": Annotated[Any, _option("--ema", "Average the weights over the steps, such as 0.999.", "X", parser=share)],
    "workers": Annotated[
        int | None, _option("--workers", "Processes that make batches. [2 for a GPU, else 0]", least=0, max=256)
    ],
    "accumulate": Annotated[int | None, _option("--accumulate", "Batches of one step. [1]", least=1)],
    "weight_decay": Annotated[float | None, _option("--weight-decay", "Of matrices. [0.1]", "X", least=0)],
    "clip": Annotated[
        float | None, _option("--clip", "The largest norm of a gradient, 0 for any. [1]", "X", least=0)
    ],
    "eval_every": Annotated[int | None, _option("--eval-every", "Steps between evaluations. [a tenth]", least=1)],
    "eval_at": Annotated[
        list[int] | None, _option("--eval-at", "A step to evaluate after as well; repeatable.", "N", least=1)
    ],
    "eval_tokens": Annotated[
        Any, _option("--eval-tokens", "Held-out tokens of an evaluation on the way. [8192]", "N", parser=amount)
    ],
    "save_every": Annotated[int | None, _option("--save-every", "Steps between saves. [a tenth]", least=1)],
    "probe_every": Annotated[
        int | None, _option("--probe-every", "Steps between probes: gradients and acceptance per depth.", least=1)
    ],
    "spike": Annotated[
        float | None,
        _option("--spike", "Spreads above the median that make a loss a spike, 0 for any loss. [8]", "X", least=0),
    ],
    "keep": Annotated[int | None, _option("--keep", "Newest checkpoints to keep. [1]", least=1)],
    "keep_best": _flag("--keep-best", "Keep the checkpoint of the lowest held-out loss too."),
    "checkpoint_activations": _flag("--checkpoint-activations", "Compute repeated layers again in the backward."),
    "fit_memory": Annotated[
        Any,
        _option("--fit-memory", "Recompute what makes a step fit into so much, such as 32GiB.", "SIZE", parser=memory),
    ],
    "compile": Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Run repeated layers through torch.compile. [on a GPU]"),
    ],
    "emulate": _flag("--emulate", "Allow a --precision that this machine only emulates."),
    "log": Annotated[
        list[MetricLog] | None,
        _option("--log", "Log to tensorboard, wandb or trackio too; repeatable.", "NAME"),
    ],
    "resume": _flag("--resume", "Go on with the run in --out."),
}  # fmt: skip
"""The options by the trainer's names for them, in the order of the help."""


def with_training_options(
    command: Callable[..., None], without: Collection[str] = (), panel: str = PANEL
) -> Callable[..., None]:
    """Give ``command``, which takes ``**training``, an option for each of OPTIONS but those of ``without``."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    more = [
        inspect.Parameter(name, kind, default=_default(option), annotation=_in_panel(option, panel))
        for name, option in OPTIONS.items()
        if name not in without
    ]
    command.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *more)} | {"return": None}
    return command


def _default(option: Any) -> bool | None:
    """Return the value of an option that was not given."""
    return False if get_args(option)[0] is bool else None


def _in_panel(option: Any, panel: str) -> Any:
    """Return ``option`` as the help shows it below the title ``panel``."""
    type_, about = option.__origin__, copy(option.__metadata__[0])
    about.rich_help_panel = panel
    return Annotated[type_, about]


def given(training: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, as plain values."""
    found = {name: value for name, value in training.items() if value is not _default(OPTIONS[name])}
    return {name: _plain(value) for name, value in found.items() if value != []}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return value.value if isinstance(value, Enum) else value
