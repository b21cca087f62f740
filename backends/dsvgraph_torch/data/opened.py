"""The data that the options of a run choose."""

from __future__ import annotations

from pathlib import Path

from dsvgraph.errors import DsvError
from dsvgraph_torch.data.corpus import Corpus
from dsvgraph_torch.data.examples import TaskCorpus
from dsvgraph_torch.data.tasks.registry import task_of
from dsvgraph_torch.data.text import load_corpus
from dsvgraph_torch.data.tokens import BYTES
from dsvgraph_torch.training.options import TrainOptions


def with_row_length(options: TrainOptions) -> TrainOptions:
    """Return the options with --seq as the task needs it, where it was not given.

    Raise DsvError if the task is wrong, or does not go with the other options.
    """
    if options.task is None:
        return options
    if options.data is not None:
        raise DsvError("--task: it makes its own data, and --data was given too")
    corpus = TaskCorpus(task_of(options.task))
    if "seq" not in options.model_fields_set:
        options = options.model_copy(update={"seq": corpus.least_seq})
    corpus.check(options.seq)
    return options


def vocabulary(options: TrainOptions) -> tuple[int, str]:
    """Return how many tokens the data of ``options`` have, before it is read, and the same as a sentence."""
    tokens = BYTES if options.task is None else TaskCorpus(task_of(options.task)).tokens
    return tokens.size, tokens.meaning


def open_corpus(options: TrainOptions, run: Path | None = None) -> Corpus:
    """Return the data that ``options`` name; files of the folder ``run`` are not part of it.

    Raise DsvError if there is none, or too little of it.
    """
    if options.task is not None:
        return TaskCorpus(task_of(options.task))
    return load_corpus(options.data, options.batch, options.seq, run)
