"""The results of a run, and their text."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from dsvgraph.errors import DsvError
from dsvgraph_torch.data.corpus import Corpus
from dsvgraph_torch.data.tokens import text_of
from dsvgraph_torch.decoding.sampling import Sampler, Sampling, sample
from dsvgraph_torch.runs.folder import Run
from dsvgraph_torch.runs.schema import Result, Stopped
from dsvgraph_torch.training.answers import of_task
from dsvgraph_torch.training.options import TrainOptions
from dsvgraph_torch.training.predictions import Prediction
from dsvgraph_torch.training.progress import answers_table, heldout_table
from dsvgraph_torch.training.schedule import Reason
from dsvgraph_torch.training.step import Diverged


@dataclass(frozen=True)
class RunResult:
    """What a run came to. ``heldout`` is empty where it was interrupted."""

    path: Path
    step: int
    heldout: dict[str, float]
    sample: str
    interrupted: bool


def report(
    run: Run, result: Result, predictions: list[Prediction], tokens: int, console: Console, unit: str
) -> RunResult:
    """Report what a run came to after ``tokens``, one of which is called ``unit``."""
    console.print(heldout_table(predictions, result.heldout, result.accuracy, tokens, result.step, unit))
    if found := of_task(result.accuracy):
        console.print(answers_table(found))
    if result.heldout_ema:
        losses = "  ".join(f"{p.name} {result.heldout_ema[p.name]:.3f}" for p in predictions)
        console.print(Text(f"held-out, with the average of the weights: {losses}"), soft_wrap=True)
    console.print(Panel(Text(result.sample), title="sample", title_align="left"))
    console.print(Text(f"saved in {run.path}"), soft_wrap=True)
    return RunResult(path=run.path, step=result.step, heldout=result.heldout, sample=result.sample, interrupted=False)


def continuation(model: Any, corpus: Corpus, most: int, options: TrainOptions) -> str:
    """Return some held-out text and how the model goes on, by at most ``most`` tokens."""
    model.eval()
    prompt, sampler = corpus.prompt(), Sampler(Sampling(seed=options.seed))
    length = min(most, corpus.sample_tokens)
    ids = sample(model, prompt, length, options.seq, sampler, size=corpus.tokens.size)
    return "".join(text_of([*prompt, *ids], corpus.tokens))


def report_interrupted(run: Run, step: int, console: Console) -> RunResult:
    """Report how to go on with a run that was interrupted after ``step``."""
    spec, folder = shlex.quote(str(run.spec)), shlex.quote(str(run.path))
    command = f"dsvgraph compile {spec} --train --out {folder} --resume"
    words = f"stopped after step {step}, and saved. To go on:\n  {command}"
    console.print(Text(words), soft_wrap=True)
    return RunResult(path=run.path, step=step, heldout={}, sample="", interrupted=True)


def failure(error: DsvError, step: int) -> Stopped:
    """Return how a run ended that failed after ``step`` was begun."""
    reason = Reason.DIVERGED if isinstance(error, Diverged) else Reason.FAILED
    return Stopped(reason=reason, step=step, message=error.diagnostics[0].message)
