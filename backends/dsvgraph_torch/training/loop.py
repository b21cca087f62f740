"""Training a compiled graph on text, from nothing or from where a run was stopped."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

import dsvgraph
from dsvgraph.backends import weight_reader
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.data.text import Corpus, load_corpus
from dsvgraph_torch.data.tokens import text_of
from dsvgraph_torch.decoding.sampling import Sampler, sample
from dsvgraph_torch.runs import notices
from dsvgraph_torch.runs.checkpoint import Checkpoint
from dsvgraph_torch.runs.files import write_text, write_whole
from dsvgraph_torch.runs.folder import Run, default_folder
from dsvgraph_torch.runs.schema import Result, Stopped, identity
from dsvgraph_torch.training.optim import optimizer_for
from dsvgraph_torch.training.options import UNBOUNDED, TrainOptions
from dsvgraph_torch.training.predictions import accuracy, predictions_of
from dsvgraph_torch.training.preflight import check, check_disk, memory_errors
from dsvgraph_torch.training.progress import ProgressDisplay, heldout_table, plot_losses, progress_display
from dsvgraph_torch.training.schedule import Reason, Schedule, learning_rate
from dsvgraph_torch.training.setup import build, step_flops
from dsvgraph_torch.training.signals import StopSignal
from dsvgraph_torch.training.step import Diverged, Precision, evaluate, train_step

EVAL_TOKENS = 8192
"""Held-out tokens of an evaluation on the way, where the options do not say them."""

FINAL_TOKENS = 65536
"""Held-out tokens of the evaluation at the end."""

EVAL_BATCH = 2048
"""Held-out tokens that are run at once, or a batch where it has more: a small one would take an evaluation's time."""

SAMPLE_TOKENS = 200


@dataclass(frozen=True)
class RunResult:
    """What a run came to. ``heldout`` is empty where it was interrupted."""

    path: Path
    step: int
    heldout: dict[str, float]
    sample: str
    interrupted: bool


def train(graph: Model, options: TrainOptions, console: Console) -> RunResult:
    """Train the model of ``graph`` and leaves a run folder.

    Raise DsvError on wrong options or data, a folder in use, a full disk, or diverging losses.
    """
    with memory_errors(), ExitStack() as held:
        trainer = (resume if options.resume else start)(graph, options, console, held)
        if trainer.finished:
            return trainer.report(trainer.finished)
        with StopSignal() as stop, trainer.stops_recorded():
            step = trainer.fit(stop)
        return trainer.finish(step) if trainer.schedule.over(step) else trainer.report_interrupted(step)


def start(graph: Model, options: TrainOptions, console: Console, held: ExitStack) -> Trainer:
    """Return a trainer in a new run folder, which ``held`` keeps for it."""
    check(graph, options.seq, options.torch_device())
    if options.weights:
        weight_reader().check(graph, options.weights, drop_mtp=options.drop_mtp)
    run = Run(options.out or default_folder(graph.name))
    corpus = load_corpus(options.data, options.batch, options.seq, run.path)
    check_disk(graph, run.path)
    held.enter_context(run.created())
    trainer = Trainer(graph, corpus, options, run, console)
    write_text(run.spec, dsvgraph.show(graph))
    trainer.write_about()
    trainer.print_lines(notices.of_start(options, corpus))
    if why_not := run.draw(lambda path: dsvgraph.render(graph, path)):
        console.print(Text(why_not))
    return trainer


def resume(graph: Model, options: TrainOptions, console: Console, held: ExitStack) -> Trainer:
    """Return a trainer that goes on where the run folder stopped, which ``held`` keeps for it."""
    run = Run(options.out or default_folder(graph.name))
    held.enter_context(run.opened())
    about = run.read_about()
    before, options = about.options, options.resumed(about.options)
    if run.read_spec() != dsvgraph.show(graph):
        hint = f"`dsvgraph diff {run.spec} SPEC` tells what differs"
        raise DsvError(f"--resume: the run in {run.path} is of another spec", hint=hint)
    check(graph, options.seq, options.torch_device())
    corpus = load_corpus(options.data, options.batch, options.seq, run.path)
    if corpus.digest != about.data.sha256:
        raise DsvError(f"--data: {corpus.source} is not the text that the run in {run.path} was started on")
    checkpoint = run.checkpoint(about)
    if checkpoint and checkpoint.step > options.length:
        budget = "tokens" if options.ends_by_tokens else "steps"
        raise DsvError(f"--{budget}: the run has taken {checkpoint.step} steps, more than {options.length}")
    trainer = Trainer(graph, corpus, options, run, console, checkpoint)
    trainer.saved, trainer.result = about.saved, about.result
    trainer.continue_run(before)
    return trainer


def failure(error: DsvError, step: int) -> Stopped:
    """Return how a run ended that failed after ``step`` was begun."""
    reason = Reason.DIVERGED if isinstance(error, Diverged) else Reason.FAILED
    return Stopped(reason=reason, step=step, message=error.diagnostics[0].message)


class Trainer:
    """A run under way: what it trains, on what, how, and where it is kept."""

    def __init__(
        self, graph: Model, corpus: Corpus, options: TrainOptions, run: Run, console: Console,
        checkpoint: Checkpoint | None = None,
    ) -> None:  # fmt: skip
        self.graph, self.corpus, self.options, self.run = graph, corpus, options, run
        self.console = console
        self.device = options.torch_device()
        self.precision = Precision(self.device, getattr(torch, options.dtype))
        self.model = build(graph, options.model_copy(update={"weights": None}) if checkpoint else options, self.device)
        self.optimizer = optimizer_for(self.model, options)
        self.predictions = predictions_of(graph)
        self.first, self.step, self.saved = 0, 0, False
        self.schedule = Schedule(options)
        self.step_flops = step_flops(graph, options)
        self.result: Result | None = None
        self.stopped: Stopped | None = None
        if checkpoint:
            checkpoint.load_weights(self.model)
            checkpoint.load_moments(self.model, self.optimizer)
            self.first = checkpoint.step

    @property
    def names(self) -> list[str]:
        """The losses to tell of: one for each depth."""
        return [prediction.name for prediction in self.predictions]

    @property
    def finished(self) -> Result | None:
        """The result of a run that has no step left to take, and was measured."""
        measured = self.result and self.result.step == self.first
        return self.result if measured and self.schedule.over(self.first) else None

    def continue_run(self, before: TrainOptions) -> None:
        """Go on after the last checkpoint, with the metrics up to it; ``before`` are the options so far."""
        records = self.run.records(self.names)
        if len(records) < self.first:
            words = f"ends with step {len(records)}, and the checkpoint is of step {self.first}"
            raise DsvError(f"{self.run.metrics} {words}")
        last = records[self.first - 1] if self.first else None
        if last:
            self.schedule.spent, self.schedule.trained = last.seconds, last.train_seconds
        if self.finished:
            return
        self.run.rewind(self.first)
        self.write_about()
        self.print_lines(notices.of_start(self.options, self.corpus))
        self.print_lines(notices.of_resume(before, self.options, last))

    def print_lines(self, lines: Iterable[str]) -> None:
        """Print lines."""
        for line in lines:
            self.console.print(Text(line), soft_wrap=True)

    def fit(self, stop: StopSignal) -> int:
        """Train to the last step or until asked to stop; returns the last step taken."""
        step = saved = self.step = self.first
        self.schedule.start()
        with progress_display(self.console, self.names, self.first, self.options.length) as show:
            while not (self.schedule.over(step) or stop.requested):
                step = self.step = step + 1
                self.run_step(step, show)
                if self.schedule.due(step, self.options.save_every):
                    self.save(step)
                    saved = step
        if saved < step:
            self.save(step)
        self.stopped = Stopped(reason=self.schedule.reason(step), step=step)
        self.write_about()
        return step

    @contextmanager
    def stops_recorded(self) -> Iterator[None]:
        """Write to run.json that the run failed in the block, where it does."""
        try:
            yield
        except DsvError as error:
            self.stopped = failure(error, self.step)
            with suppress(DsvError):  # on a full disk, the error before is the one to tell
                self.write_about()
            raise

    def run_step(self, step: int, show: ProgressDisplay) -> None:
        """Take one step, measures it where that is due, and writes it down."""
        options = self.options
        self.model.tokens_seen, self.model.steps_taken = (step - 1) * options.step_tokens, step - 1
        torch.manual_seed(options.seed + step)
        rate, when = learning_rate(self.schedule.begin(step), options), f"at step {step}"
        with self.schedule.training():
            batches = self.batches(step)
            metrics = train_step(self.model, self.optimizer, batches, rate, options.clip, self.precision, when)
        measured = step == 1 or self.schedule.over(step) or self.schedule.due(step, options.eval_every)
        record = {"step": step, "tokens": step * options.step_tokens, **metrics.record(load=measured)}
        record |= {"flops": step * self.step_flops, "train_seconds": round(self.schedule.trained, 3)}
        record["seconds"] = round(self.schedule.seconds, 3)
        heldout: dict[str, float] = {}
        try:
            if measured:
                heldout = record["heldout"] = self.evaluate(options.eval_tokens or EVAL_TOKENS, step)
        finally:
            self.run.log(record)  # a step that made the model diverge was taken
        show.step(step, metrics, heldout, self.schedule.last(step))

    def batches(self, step: int) -> list[Batch]:
        """Return the batches of one step; which they are depends on the seed and the step alone."""
        options, first = self.options, (step - 1) * self.options.accumulate
        indices = range(first, first + options.accumulate)
        return [self.corpus.batch(options.batch, options.seq, options.seed, index) for index in indices]

    def heldout(self, tokens: int) -> Iterator[Batch]:
        """Yield batches of about ``tokens`` held-out tokens, always the same."""
        options = self.options
        at_once = max(options.batch, EVAL_BATCH // options.seq)
        return self.corpus.heldout_batches(at_once, options.seq, max(1, tokens // options.seq))

    def evaluate(self, tokens: int, step: int) -> dict[str, float]:
        """Return losses of about ``tokens`` held-out tokens after ``step``, by name, weighted as they are then."""
        self.model.tokens_seen, self.model.steps_taken = step * self.options.step_tokens, step
        return evaluate(self.model, self.heldout(tokens), self.precision, f"after step {step}, on held-out text")

    def write_about(self) -> None:
        """Write what the run is."""
        self.run.write_about(self.options, self.corpus, self.saved, self.result, self.stopped)

    def save(self, step: int) -> None:
        """Save the run as it is after ``step``."""
        spec = self.run.read_spec()
        self.run.save(self.model, self.optimizer, step, identity(self.options, self.corpus.digest, spec))
        if not self.saved:
            self.saved = True
            self.write_about()
        records, title = [r.model_dump() for r in self.run.records(self.names)], self.graph.name
        write_whole(self.run.plot, lambda path: plot_losses(records, self.names, title, path))

    def report_interrupted(self, step: int) -> RunResult:
        """Report how to go on with a run that was interrupted after ``step``."""
        spec, folder = shlex.quote(str(self.run.spec)), shlex.quote(str(self.run.path))
        command = f"dsvgraph compile {spec} --train --out {folder} --resume"
        words = f"stopped after step {step}, and saved. To go on:\n  {command}"
        self.console.print(Text(words), soft_wrap=True)
        return RunResult(path=self.run.path, step=step, heldout={}, sample="", interrupted=True)

    def finish(self, step: int) -> RunResult:
        """Evaluate and sample the model after ``step``, the last one, and print the result."""
        length = self.options.length
        if step < length:
            of = f" of {length}" if length < UNBOUNDED else ""
            self.print_lines([f"--minutes {self.options.minutes:g}: ended after step {step}{of}"])
        heldout = self.evaluate(max(FINAL_TOKENS, self.options.eval_tokens or 0), step)
        self.result = Result(step=step, heldout=heldout, accuracy=self.accuracy(), sample=self.sample())
        self.write_about()
        return self.report(self.result)

    def report(self, result: Result) -> RunResult:
        """Report what the run came to."""
        tokens = result.step * self.options.step_tokens
        self.console.print(heldout_table(self.predictions, result.heldout, result.accuracy, tokens, result.step))
        self.console.print(Panel(Text(result.sample), title="sample", title_align="left"))
        self.console.print(Text(f"saved in {self.run.path}"), soft_wrap=True)
        return RunResult(
            path=self.run.path,
            step=result.step,
            heldout=result.heldout,
            sample=result.sample,
            interrupted=False,
        )

    def accuracy(self) -> dict[str, float]:
        """Return share of held-out tokens that each head gets right."""
        rows = (batch.inputs.to(self.device) for batch in self.heldout(EVAL_TOKENS))
        return accuracy(self.model, self.predictions, rows)

    def sample(self) -> str:
        """Return the model's continuation of some held-out text."""
        self.model.eval()
        prompt = self.corpus.prompt()
        sampler = Sampler(0.8, 50, self.options.seed)
        tokens = self.corpus.tokens
        ids = sample(self.model, prompt, SAMPLE_TOKENS, self.options.seq, sampler, size=tokens.size)
        return "".join(text_of([*prompt, *ids], tokens))
