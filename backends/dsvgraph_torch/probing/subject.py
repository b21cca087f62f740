"""What is probed: a run, or a folder of weights, with its data and its vocabulary.

Shape legend: B rows, T tokens of a row, R = T + 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import dsvgraph
from dsvgraph.backends import importer, weight_reader
from dsvgraph.backends.probes import ProbeOptions
from dsvgraph.backends.training import RunWeights
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.data.opened import open_corpus
from dsvgraph_torch.data.tokenizer import read_tokenizer
from dsvgraph_torch.data.tokens import BYTES, Tokens
from dsvgraph_torch.probing.recording import followed
from dsvgraph_torch.runs.checkpoint import Checkpoint, checkpoints
from dsvgraph_torch.runs.folder import Run, check_single
from dsvgraph_torch.training.options import TrainOptions

ROW_TOKENS = 256
"""The length of the rows on which a folder of weights is measured."""

ROWS_AT_ONCE = 8
LOGITS_AT_ONCE = 2**25
"""The most logits of one output of a batch."""

CONFIG = "config.json"


@dataclass(frozen=True)
class Stage:
    """One state of the weights. ``checkpoint`` is None where the module has them already."""

    step: int
    tokens: int
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Subject:
    """A model with its weights, and rows of tokens to measure it on.

    ``batches`` are the rows that are measured, ``data`` says where they are from. Gradients are taken over batches of
    ``batch`` rows. ``followed`` are the rows on which the stages of a run are compared, none if they are not asked for.
    """

    graph: Model
    module: Any
    tokens: Tokens
    data: str
    batches: tuple[Batch, ...] = field(repr=False)
    row_tokens: int
    batch: int
    stages: tuple[Stage, ...]
    followed: tuple[Batch, ...] = field(default=(), repr=False)
    run: Run | None = None

    def load(self, stage: Stage) -> None:
        """Put the weights of ``stage`` into the module."""
        if stage.checkpoint is not None:
            stage.checkpoint.load_weights(self.module)
        self.module.tokens_seen, self.module.steps_taken = stage.tokens, stage.step
        self.module.eval()

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        found: torch.device = next(self.module.parameters()).device
        return found

    @property
    def rows(self) -> int:
        """How many rows are measured."""
        return sum(len(batch.inputs) for batch in self.batches)

    @property
    def gradient_rows(self) -> int:
        """How many rows a gradient is of: as many as were trained with at once, or a quarter of all if that is less."""
        return min(self.batch, max(1, self.rows // 4))

    def gradient_batches(self) -> Iterator[Batch]:
        """Yield the measured rows in batches of `gradient_rows`; what is left over is left out."""
        whole, size = joined(self.batches), self.gradient_rows
        for first in range(0, self.rows - size + 1, size):
            yield part(whole, slice(first, first + size))


def joined(batches: tuple[Batch, ...]) -> Batch:
    """Return some batches as one."""
    documents = [batch.documents for batch in batches]
    known = [one for one in documents if one is not None]
    return Batch(
        torch.cat([batch.inputs for batch in batches]),
        torch.cat([batch.targets for batch in batches]),
        torch.cat(known) if len(known) == len(documents) else None,
    )


def part(batch: Batch, rows: slice) -> Batch:
    """Return some rows of a batch."""
    documents = None if batch.documents is None else batch.documents[rows]
    return Batch(batch.inputs[rows], batch.targets[rows], documents)


def opened(folder: Path, options: ProbeOptions) -> Subject:
    """Return what ``folder`` holds: a run, or weights with a config.json or the model of ``options``.

    Raise DsvError if it is neither, or if there is no text to measure on.
    """
    run = Run(folder)
    if run.exists():
        return _of_run(run, options)
    if not folder.is_dir():
        raise DsvError(f"{folder} is no folder: a run, or a folder of weights, is probed")
    return _of_weights(folder, options)


def _of_run(run: Run, options: ProbeOptions) -> Subject:
    from dsvgraph_torch.allocation import empty

    about = run.read_about()
    if options.spec is not None:
        raise DsvError(f"--spec: {run.path} is a run, and has its own spec")
    trained = about.options
    if options.over_training and options.weights is not RunWeights.LAST:
        raise DsvError(f"--over-training goes through the weights of all checkpoints, not --weights {options.weights}")
    read = run.trained(options.weights)
    kept = checkpoints(run.path, about.identity) if options.over_training else [read]
    graph = dsvgraph.load(str(run.spec))
    corpus = open_corpus(trained, run.path, run.tokens())
    if corpus.digest != about.data.sha256:
        hint = "held-out text of another text may have been trained on: put the text back"
        raise DsvError(f"{corpus.source} is not the text that the run in {run.path} was trained on", hint=hint)
    module = empty(graph, _device(options), kernels="fast")
    at_once = rows_at_once(graph, trained.seq)
    rows = max(2, options.measured // trained.seq)
    batches = corpus.heldout_batches(at_once, trained.seq, rows)
    return Subject(
        graph=graph,
        module=module,
        tokens=corpus.tokens,
        data=f"held-out rows of {corpus.source}",
        batches=_on(batches, _device(options)),
        row_tokens=trained.seq,
        batch=trained.batch,
        followed=followed(corpus, trained.model_copy(update={"device": options.device}))
        if options.over_training
        else (),
        stages=tuple(Stage(one.step, one.step * trained.step_tokens, one) for one in kept),
        run=run,
    )


def _of_weights(folder: Path, options: ProbeOptions) -> Subject:
    from dsvgraph_torch.allocation import empty

    check_single(folder, options.weights)
    graph = options.spec or _imported(folder)
    if options.over_training:
        raise DsvError(f"--over-training: {folder} is no run: it holds the weights of one moment")
    if options.text is None:
        raise DsvError(f"{folder} is no run, so there is no held-out text", hint="--text FILE, or --text 'some text'")
    weight_reader().check(graph, folder)
    tokens = _tokens(folder, graph)
    device = _device(options)
    module = empty(graph, device, kernels="fast")
    weight_reader().fill(module, graph, folder)
    rows = rows_of(tokens.encode(options.text), ROW_TOKENS, options.measured)
    return Subject(
        graph=graph,
        module=module,
        tokens=tokens,
        data="the text that was given",
        batches=_on(map(Batch.of_rows, rows.split(rows_at_once(graph, rows.shape[1] - 1))), device),
        row_tokens=rows.shape[1] - 1,
        batch=ROWS_AT_ONCE,
        stages=(Stage(0, 0),),
    )


def _imported(folder: Path) -> Model:
    """Return the model that the config.json of a folder means. Raise DsvError if there is none."""
    config = folder / CONFIG
    if not config.is_file():
        hint = f"--spec SPEC names the spec of these weights; or a folder with a {CONFIG}"
        raise DsvError(f"{folder} holds neither a run (run.json) nor a {CONFIG}", hint=hint)
    return dsvgraph.loads(importer(config).spec_of(config), name=str(config))


def _tokens(folder: Path, graph: Model) -> Tokens:
    """Return the vocabulary of a folder of weights: its tokenizer.json, or bytes where the model reads 256 ids."""
    path = folder / "tokenizer.json"
    if path.is_file():
        return read_tokenizer(path)
    if graph.config.get("vocab_size") == BYTES.size:
        return BYTES
    raise DsvError(f"{folder} has no tokenizer.json: text cannot become the ids of its model")


def rows_of(ids: list[int], length: int, most: int) -> torch.Tensor:
    """Return ids as rows of ``length`` + 1 tokens, [rows, R], at most ``most`` tokens of them.

    Rows overlap by one token, so that each token but the first is predicted once. A text that is shorter than one row
    is one row. Raise DsvError if it has less than two tokens.
    """
    if len(ids) < 2:
        raise DsvError(f"--text: {len(ids)} tokens predict nothing: at least 2 are needed")
    length = min(length, len(ids) - 1)
    starts = range(0, min(len(ids) - length, max(1, most)), length)
    return torch.tensor([ids[start : start + length + 1] for start in starts])


def rows_at_once(graph: Model, length: int) -> int:
    """Return how many rows are run at once, so that the logits fit into memory."""
    vocabulary = max(_last(graph, name) for name in graph.outputs)
    return max(1, min(64, LOGITS_AT_ONCE // (length * vocabulary)))


def _last(graph: Model, name: str) -> int:
    size = graph.type(graph.outputs[name]).shape[-1]
    return size if isinstance(size, int) else 1


def _on(batches: Any, device: torch.device) -> tuple[Batch, ...]:
    return tuple(batch.to(device) for batch in batches)


def _device(options: ProbeOptions) -> torch.device:
    return TrainOptions.given(device=options.device).torch_device()
