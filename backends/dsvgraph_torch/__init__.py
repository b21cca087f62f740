"""The torch backend: a graph becomes a module that trains, or one readable file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dsvgraph.graph import Model
from dsvgraph.passes.graph.instances import aliases
from dsvgraph_torch.allocation import draw, empty, initial
from dsvgraph_torch.lowering.emit import emit
from dsvgraph_torch.lowering.registry import Code, Site, code, load, lowers, runtime_file
from dsvgraph_torch.module import after_step, compile, expert_load, prove, report, weights

__all__ = [
    "Code",
    "Site",
    "after_step",
    "aliases",
    "bench",
    "checkpoint",
    "code",
    "compile",
    "continuations",
    "draw",
    "emit",
    "empty",
    "expert_load",
    "generate",
    "initial",
    "lowers",
    "probe",
    "prove",
    "report",
    "runtime_file",
    "train",
    "verify",
    "weights",
]


load()


def train(model: Model, options: Mapping[str, Any], console: Console | None = None) -> Any:
    """Train the model and leave a run folder; ``options`` are those of TrainOptions.

    Raise DsvError on wrong options or data, a folder in use, a full disk, or diverging losses.
    """
    from dsvgraph_torch.training.loop import train as run
    from dsvgraph_torch.training.options import TrainOptions

    return run(model, TrainOptions.given(**options), console or Console())


def verify(model: Model, batch: int = 1, seq: int = 4096, notify: Callable[[str], object] | None = None) -> Any:
    """Run the compiled module under torch's FlopCounterMode and compare it with the cost, block by block.

    ``notify`` is called with the name of each step that begins. Raise DsvError if the model cannot be compiled.
    """
    from dsvgraph_torch.verification.report import verify as run

    return run(model, batch, seq, notify or (lambda words: None))


def bench(model: Model, options: Any, notify: Callable[[str, int, int], object] | None = None) -> Any:
    """Measure training steps, memory, blocks and decoding of the compiled model, beside another library's.

    ``options`` are BenchmarkOptions of dsvgraph.backends; ``notify`` is called with what is being done, and the parts
    that are done and of all. Raise DsvError if an option is wrong, or if the other library has no such model.
    """
    from dsvgraph_torch.measuring.bench import bench as run

    return run(model, options, notify)


def probe(folder: Path, options: Any, notify: Callable[[str], object] | None = None) -> Any:
    """Measure a run, or a folder of weights: losses per depth, gradients, experts, norms, acceptance.

    ``options`` are ProbeOptions of dsvgraph.backends; ``notify`` is called with the name of each step that begins.
    Raise DsvError if there is nothing to probe, or if what was asked for is not there.
    """
    from dsvgraph_torch.probing.prober import probe as run

    return run(Path(folder), options, notify or (lambda words: None))


def checkpoint(folder: Path) -> Path | None:
    """Return the folder with the newest weights of a run, proved to be whole; nothing where ``folder`` is no run's.

    Raise DsvError if the run has none, or they or the run were changed.
    """
    from dsvgraph_torch.runs.folder import Run

    run = Run(Path(folder))
    return run.trained().path if run.exists() else None


def continuations(folder: Path, prompts: Sequence[str], options: Mapping[str, Any], *more: Any, **named: Any) -> Any:
    """Return texts that continue ``prompts``, made as one iterates over them; ``options`` are those of `generate`.

    ``folder`` is a run, or holds weights and a config.json. Raise DsvError before the first piece if it is neither.
    """
    from dsvgraph_torch.decoding.generation import generate as run

    return run(Path(folder), prompts, options, *more, **named)


def generate(folder: Path, prompt: str = "", tokens: int = 200, **options: Any) -> Iterator[str]:
    """Yield text that continues ``prompt``, piece by piece, of at most ``tokens`` tokens.

    ``folder`` is a run, or holds weights and a config.json; ``options`` are those of `continuations`, by name. Heads
    that only train are dropped, unless they draft. Raise DsvError before the first piece if it is neither.
    """
    found = continuations(folder, [prompt], {"tokens": tokens, **options})
    return (piece for _, piece in found)
