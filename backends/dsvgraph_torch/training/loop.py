"""Training a compiled graph on text, from nothing or from where a run was stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import torch
from rich.console import Console
from rich.text import Text

import dsvgraph
from dsvgraph.backends import weight_reader
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph.passes.graph.optional import optional_losses
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.data.corpus import Corpus, Numbered, batches, take
from dsvgraph_torch.data.opened import open_corpus, vocabulary, with_row_length
from dsvgraph_torch.data.stored import write_tokens
from dsvgraph_torch.kernels.messages import CompilerMessages
from dsvgraph_torch.probing.recording import record as record_probe
from dsvgraph_torch.runs import notices
from dsvgraph_torch.runs.checkpoint import Checkpoint, Keep
from dsvgraph_torch.runs.files import write_text, write_whole
from dsvgraph_torch.runs.folder import Run, default_folder
from dsvgraph_torch.runs.schema import Result, Stopped, identity
from dsvgraph_torch.training import answers
from dsvgraph_torch.training.guard import PATIENCE, Guard
from dsvgraph_torch.training.heldout import FINAL_TOKENS, HeldOut
from dsvgraph_torch.training.logs import Logs
from dsvgraph_torch.training.options import UNBOUNDED, TrainOptions
from dsvgraph_torch.training.predictions import always_computed, predictions_of, shares
from dsvgraph_torch.training.preflight import check, check_disk, check_precision, memory_errors
from dsvgraph_torch.training.progress import ProgressDisplay, plot_losses, progress_display
from dsvgraph_torch.training.results import RunResult, continuation, failure, report, report_interrupted
from dsvgraph_torch.training.schedule import Schedule, learning_rate
from dsvgraph_torch.training.setup import TrainedFlops, compiling, of_state, set_up
from dsvgraph_torch.training.signals import StopSignal
from dsvgraph_torch.training.step import Diverged, StepMetrics, TakenStep, reached, take_step

LATE = 2
"""Steps after which the metrics of one are read on a GPU, which does not wait for the host until then."""

SAMPLE_TOKENS = 200
"""Tokens of the sample at the end, less where the answer of a task is shorter."""


def train(graph: Model, options: TrainOptions, console: Console) -> RunResult:
    """Train the model of ``graph`` and leaves a run folder.

    Raise DsvError on wrong options or data, a folder in use, a full disk, or diverging losses.
    """
    with memory_errors(), ExitStack() as held:
        trainer = (resume if options.resume else start)(graph, options, console, held)
        if trainer.finished:
            return trainer.report(trainer.finished)
        with StopSignal() as stop, trainer.stops_recorded():
            stop.heed(console)
            step = trainer.fit(stop)
        return trainer.finish(step) if trainer.schedule.over(step) else report_interrupted(trainer.run, step, console)


def start(graph: Model, options: TrainOptions, console: Console, held: ExitStack) -> Trainer:
    """Return a trainer in a new run folder, which ``held`` keeps for it."""
    options = with_row_length(options)
    check(graph, options.seq, options.torch_device(), vocabulary(options))
    emulation = check_precision(options)
    if options.weights:
        weight_reader().check(graph, options.weights, drop_mtp=options.drop_mtp)
    run = Run(options.out or default_folder(graph.name))
    corpus = open_corpus(options, run.path)
    check_disk(graph, run.path, options)
    run.check_new()
    trainer = Trainer(graph, corpus, options, run, console)
    held.enter_context(run.created())
    write_text(run.spec, dsvgraph.show(graph))
    write_tokens(corpus.tokens, run.path)
    trainer.write_about()
    trainer.print_lines((*notices.of_start(options, corpus), *of_state(trainer.state), *filter(None, [emulation])))
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
        hint = f"`dsvgraph diff {run.spec} SPEC` says what differs"
        raise DsvError(f"--resume: the run in {run.path} is of another spec", hint=hint)
    tokens = run.tokens()
    check(graph, options.seq, options.torch_device(), (tokens.size, tokens.meaning))
    check_precision(options)
    corpus = open_corpus(options, run.path, tokens)
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


class Trainer:
    """A run under way: what it trains, on what, how, and where it is kept."""

    def __init__(
        self, graph: Model, corpus: Corpus, options: TrainOptions, run: Run, console: Console,
        checkpoint: Checkpoint | None = None,
    ) -> None:  # fmt: skip
        self.graph, self.corpus, self.options, self.run = graph, corpus, options, run
        self.console = console
        self.device = options.torch_device()
        self.state = set_up(graph, options, self.device, checkpoint)
        self.model, self.optimizer = self.state.model, self.state.optimizer
        self.predictions = predictions_of(graph)
        self.heldout = HeldOut(corpus, options, self.device, self.predictions)
        self.first, self.step, self.saved = 0, 0, False
        self.schedule = Schedule(options)
        self.flops = TrainedFlops(graph, options)
        self.optional = bool(optional_losses(graph))
        self.last_heldout: tuple[int, dict[str, dict[str, float]]] = 0, {}
        self.result: Result | None = None
        self.stopped: Stopped | None = None
        self.guard, self.logs = Guard(options.spike), Logs(run, options)
        self.messages = CompilerMessages()
        self.taken = deque[tuple[int, TakenStep]]()
        self.late = LATE if self.device.type == "cuda" else 0
        if checkpoint:
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
        records = self.run.records(always_computed(self.graph))
        if len(records) < self.first:
            words = f"ends with step {len(records)}, and the checkpoint is of step {self.first}"
            raise DsvError(f"{self.run.metrics} {words}")
        last = records[self.first - 1] if self.first else None
        if last:
            self.schedule.spent, self.schedule.trained = last.seconds, last.train_seconds
            self.flops.total = last.flops or self.first * self.flops.of_step
        for record in records[: self.first]:
            self.guard.judge(record.losses[self.names[0]], record.grad_norm)
        if self.finished:
            return
        self.run.rewind(self.first)
        self.write_about()
        self.print_lines(notices.of_start(self.options, self.corpus))
        self.print_lines(notices.of_resume(before, self.options, last))
        self.print_lines(of_state(self.state))

    def print_lines(self, lines: Iterable[str]) -> None:
        """Print lines."""
        for line in lines:
            self.console.print(Text(line), soft_wrap=True)

    def fit(self, stop: StopSignal) -> int:
        """Train to the last step or until asked to stop; returns the last step taken."""
        step = saved = self.step = self.first
        made = self.batches()
        self.schedule.start()
        with progress_display(self.console, self.names, self.first, self.options.length) as show:
            while not (self.schedule.over(step) or stop.requested):
                step = self.step = step + 1
                self.run_step(step, made, show)
                if self.options.probe_every and step % self.options.probe_every == 0:
                    self.write_taken(show)
                    record_probe(self.run, self.graph, self.model, self.corpus, self.options, step)
                if self.save_due(step):
                    self.write_taken(show)
                    saved = saved if self.guard.suspect else self.save(step)
            self.write_taken(show)
        if saved < step:
            self.save(step)
        self.stopped = Stopped(reason=self.schedule.reason(step), step=step)
        self.write_about()
        return step

    def save_due(self, step: int) -> bool:
        """Return whether a checkpoint is due after ``step``."""
        return self.schedule.due(step, self.options.save_every)

    @contextmanager
    def stops_recorded(self) -> Iterator[None]:
        """Write to run.json that the run failed in the block, where it does."""
        try:
            self.logs.start(self.first)
            yield
        except DsvError as error:
            self.stopped = failure(error, self.step)
            with suppress(DsvError):  # on a full disk, the error before is the one to tell
                self.write_about()
            raise
        finally:
            self.print_lines(self.logs.close())

    def run_step(self, step: int, made: Iterator[Batch], show: ProgressDisplay) -> None:
        """Take one step on the next of ``made``, and write down those whose metrics are there."""
        options = self.options
        self.model.tokens_seen, self.model.steps_taken = (step - 1) * options.step_tokens, step - 1
        torch.manual_seed(options.seed + step)
        rate, when = learning_rate(self.schedule.begin(step), options), f"at step {step}"
        with self.schedule.training(), compiling(options, self.messages):
            batches = take(made, options.accumulate)
            parts = shares(self.graph, batches)
            if self.optional and not self.optimizer.reached:
                self.optimizer.reached = reached(self.model, batches[0], self.device)
            args = self.model, self.optimizer, batches, rate, options.clip, self.device, when, parts, self.late > 0
            self.taken.append((step, take_step(*args)))
            self.state.stepped()
        self.print_lines(self.messages.lines(step))
        measured = step if self.measured(step) else 0
        self.write_taken(show, 0 if measured else self.late, measured)

    def write_taken(self, show: ProgressDisplay, left: int = 0, measured: int = 0) -> None:
        """Write down all but the last ``left`` of the steps that were taken; after ``measured`` measure the model."""
        while len(self.taken) > left:
            step, taken = self.taken.popleft()
            self.write_step(step, taken, show, step == measured)

    def write_step(self, step: int, taken: TakenStep, show: ProgressDisplay, measured: bool) -> None:
        """Read the metrics of a step that was taken, measure the model where that is due, and write all down."""
        options, self.step = self.options, step
        with self.schedule.training():
            metrics = taken.read()
        record = {"step": step, "tokens": step * options.step_tokens, **metrics.record(load=measured)}
        record |= {"flops": self.flops.add(taken.computed), "train_seconds": round(self.schedule.trained, 3)}
        record["seconds"] = round(self.schedule.seconds, 3)
        trouble = self.judge(step, metrics)
        record |= {"spike": trouble} if trouble else {}
        try:
            if measured:
                self.last_heldout = step, self.heldout.losses(self.state.modules, step)
                record |= self.last_heldout[1]
                record |= {"accuracy": found} if (found := self.heldout.answers(self.model)) else {}
        finally:
            self.run.log(record)  # a step that made the model diverge was taken
            self.print_lines(self.logs.write(record))
        show.step(step, metrics, record.get("heldout", {}), self.schedule.last(step))
        self.print_lines(answers.answers_text(step, record.get("accuracy", {})))
        if self.guard.exhausted:
            raise Diverged(f"training diverged at step {step}: {trouble}, for {PATIENCE} steps", hint="a lower --lr")

    def measured(self, step: int) -> bool:
        """Return whether held-out losses are measured after ``step``."""
        due = self.schedule.due(step, self.options.eval_every) or (self.options.keep_best and self.save_due(step))
        asked = step == 1 or step in self.options.eval_at
        return asked or due or self.schedule.over(step)

    def judge(self, step: int, metrics: StepMetrics) -> str:
        """Return what is wrong with a step, in words, and print it where it begins."""
        trouble = self.guard.judge(metrics.losses[self.names[0]], metrics.grad_norm)
        if trouble and self.guard.suspect == 1:
            self.print_lines([f"step {step}: {trouble}; no checkpoint is saved until this is over"])
        return trouble

    def batches(self) -> Iterator[Batch]:
        """Yield the batches from the first step on; which they are depends on the seed and their numbers alone."""
        options = self.options
        numbered = Numbered(self.corpus, options.batch, options.seq, options.seed)
        return batches(numbered, self.first * options.accumulate, options.processes(self.device))

    def write_about(self) -> None:
        """Write what the run is."""
        self.run.write_about(self.options, self.corpus, self.saved, self.result, self.stopped)

    def save(self, step: int) -> int:
        """Save the run as it is after ``step``; return that."""
        self.state.check_finite(step)
        found = identity(self.options, self.corpus.digest, self.run.read_spec())
        at, losses = self.last_heldout
        loss = losses["heldout"][self.names[0]] if at == step else None
        keep = None if self.guard.suspect else Keep(self.options.keep, self.options.keep_best)
        average = self.state.average and self.state.average.masters
        self.run.save(self.state.masters, self.optimizer, step, found, average=average, heldout=loss, keep=keep)
        if not self.saved:
            self.saved = True
            self.write_about()
        records, title = [r.model_dump() for r in self.run.records(always_computed(self.graph))], self.graph.name
        write_whole(self.run.plot, lambda path: plot_losses(records, self.names, title, path))
        return step

    def finish(self, step: int) -> RunResult:
        """Evaluate and sample the model after ``step``, the last one, and print the result."""
        length = self.options.length
        if step < length:
            of = f" of {length}" if length < UNBOUNDED else ""
            self.print_lines([f"--minutes {self.options.minutes:g}: ended after step {step}{of}"])
        losses = self.heldout.losses(self.state.modules, step, FINAL_TOKENS)
        text = continuation(self.model, self.corpus, SAMPLE_TOKENS, self.options)
        self.result = Result(step=step, accuracy=self.heldout.accuracy(self.model), sample=text, **losses)
        self.write_about()
        return self.report(self.result)

    def report(self, result: Result) -> RunResult:
        """Report what the run came to."""
        tokens, unit = result.step * self.options.step_tokens, self.corpus.tokens.unit
        return report(self.run, result, self.predictions, tokens, self.console, unit)
