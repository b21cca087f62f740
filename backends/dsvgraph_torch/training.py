"""Training a compiled graph on text, from nothing or from where a run was stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model

from .data import VOCABULARY, Corpus, load_corpus
from .files import write_text, write_whole
from .heads import Head, accuracy, heads_of
from .optim import learning_rate, optimizer_for
from .options import TrainOptions
from .plot import plot_losses
from .progress import Reporter, heldout_table, reporter
from .run import Run, default_folder
from .sampling import Chooser, sample, text_of
from .step import Batch, Precision, evaluate, train_step
from .stop import Stop

EVAL_ROWS = 64
"""Held-out rows of an evaluation on the way."""

FINAL_ROWS = 512
"""Held-out rows of the evaluation at the end."""

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
    """Trains the model of ``graph`` and leaves a run folder.

    Raises DsvError on wrong options or data, a folder in use, a full disk, or diverging losses.
    """
    trainer = (resume if options.resume else start)(graph, options, console)
    with Stop() as stop:
        step = trainer.fit(stop)
    return trainer.finish() if step == trainer.options.steps else trainer.leave(step)


def start(graph: Model, options: TrainOptions, console: Console) -> Trainer:
    """A trainer in a new run folder."""
    device = options.torch_device()
    corpus = corpus_for(graph, options)
    run = Run(options.out or default_folder(graph.name))
    run.create()
    model = build(graph, options, device)
    trainer = Trainer(graph, model, corpus, options, run, console)
    write_text(run.spec, dsvgraph.show(graph))
    run.write_about(options, corpus)
    if why_not := run.draw(lambda path: dsvgraph.render(graph, path)):
        console.print(why_not)
    return trainer


def resume(graph: Model, options: TrainOptions, console: Console) -> Trainer:
    """A trainer that goes on where the run folder stopped."""
    run = Run(options.out or default_folder(graph.name))
    about = run.read_about()
    options = options.resumed(about["options"])
    if run.spec.read_text(encoding="utf-8") != dsvgraph.show(graph):
        hint = f"`dsvgraph diff {run.spec} SPEC` tells what differs"
        raise DsvError(f"--resume: the run in {run.path} is of another spec", hint=hint)
    corpus = corpus_for(graph, options)
    if corpus.digest != about["data"]["sha256"]:
        raise DsvError(f"--resume: {corpus.source} is not the text that the run in {run.path} was started on")
    trainer = Trainer(graph, build(graph, options, options.torch_device()), corpus, options, run, console)
    trainer.first = run.restore(trainer.model, trainer.optimizer)
    run.rewind(trainer.first)
    console.print(f"going on after step {trainer.first}")
    return trainer


def build(graph: Model, options: TrainOptions, device: torch.device) -> Any:
    """The initialised module on its device."""
    from . import compile

    model = compile(graph, kernels="fast" if device.type == "cpu" else "plain")
    model.initialise(options.seed)
    return model.to(device)


def corpus_for(graph: Model, options: TrainOptions) -> Corpus:
    """The text to train on. Raises DsvError where the spec's vocabulary has no room for bytes."""
    size = graph.config.get("vocab_size", VOCABULARY)
    if size < VOCABULARY:
        raise DsvError(f"vocab_size is {size}, but text is read as bytes, which needs at least {VOCABULARY}")
    return load_corpus(options.data, options.batch, options.seq)


class Trainer:
    """A run under way: what it trains, on what, how, and where it is kept."""

    def __init__(
        self, graph: Model, model: Any, corpus: Corpus, options: TrainOptions, run: Run, console: Console
    ) -> None:
        self.graph, self.model, self.corpus = graph, model, corpus
        self.options, self.run, self.console = options, run, console
        self.device = options.torch_device()
        self.precision = Precision(self.device, getattr(torch, options.dtype))
        self.optimizer = optimizer_for(model, options)
        self.first = 0

    def fit(self, stop: Stop) -> int:
        """Trains to the last step or until asked to stop; returns the last step taken."""
        step, saved = self.first, self.first
        with reporter(self.console, self.first, self.options.steps) as show:
            while step < self.options.steps and not stop.asked:
                step += 1
                self.take(step, show)
                if self.options.due(step, self.options.save_every):
                    self.save(step)
                    saved = step
        if saved < step:
            self.save(step)
        return step

    def take(self, step: int, show: Reporter) -> None:
        """Takes one step, measures it where that is due, and writes it down."""
        options = self.options
        self.model.tokens_seen = (step - 1) * options.step_tokens
        torch.manual_seed(options.seed + step)
        rate = learning_rate(step, options)
        batches = self.batches(step)
        metrics = train_step(self.model, self.optimizer, batches, rate, options.clip, self.precision)
        measured = step == options.steps or options.due(step, options.eval_every)
        record = {"step": step, "tokens": step * options.step_tokens, **metrics.record(load=measured)}
        heldout = self.evaluate(EVAL_ROWS) if measured else {}
        self.run.log(record | ({"heldout": heldout} if measured else {}))
        show.step(step, metrics, heldout)

    def batches(self, step: int) -> list[Batch]:
        """The batches of one step; which they are depends on the seed and the step alone."""
        options, first = self.options, (step - 1) * self.options.accumulate
        indices = range(first, first + options.accumulate)
        return [self.corpus.batch(options.batch, options.seq, options.seed, index) for index in indices]

    def evaluate(self, rows: int) -> dict[str, float]:
        """Held-out losses, by name."""
        batches = self.corpus.heldout_batches(self.options.batch, self.options.seq, rows)
        return evaluate(self.model, batches, self.precision)

    def save(self, step: int) -> None:
        """Saves the run as it is after ``step``."""
        self.run.save(self.model, self.optimizer, step)
        write_whole(self.run.plot, lambda path: plot_losses(self.run.records(), self.graph.name, path))

    def leave(self, step: int) -> RunResult:
        """Tells how to go on with a run that was interrupted after ``step``."""
        command = f"dsvgraph compile {self.run.spec} --train --out {self.run.path} --resume"
        self.console.print(
            Text(f"stopped after step {step}, and saved. To go on:\n  {command}"), soft_wrap=True
        )
        return RunResult(self.run.path, step, {}, "", interrupted=True)

    def finish(self) -> RunResult:
        """Measures and samples what was trained, and tells of it."""
        options, heads = self.options, heads_of(self.graph)
        heldout, right = self.evaluate(FINAL_ROWS), self.accuracy(heads)
        text = self.sample()
        result = {"step": options.steps, "heldout": heldout, "accuracy": right, "sample": text}
        self.run.write_about(options, self.corpus, result=result)
        self.console.print(heldout_table(heads, heldout, right, self.model.tokens_seen))
        self.console.print(Panel(Text(text), title="sample", title_align="left"))
        self.console.print(Text(f"saved in {self.run.path}"), soft_wrap=True)
        return RunResult(self.run.path, options.steps, heldout, text, interrupted=False)

    def accuracy(self, heads: list[Head]) -> dict[str, float]:
        """Share of held-out tokens that each head gets right."""
        batches = self.corpus.heldout_batches(self.options.batch, self.options.seq, EVAL_ROWS)
        return accuracy(self.model, heads, (ids_BT.to(self.device) for ids_BT, _ in batches))

    def sample(self) -> str:
        """The model's continuation of some held-out text."""
        self.model.eval()
        prompt = self.corpus.prompt()
        choose = Chooser(0.8, 50, self.options.seed)
        ids = sample(self.model, prompt, SAMPLE_TOKENS, self.options.seq, choose)
        return prompt.decode(errors="replace") + "".join(text_of(ids))
