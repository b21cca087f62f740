"""The data that the options of a run choose."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dsvgraph.backends.training import Packing
from dsvgraph.errors import DsvError
from dsvgraph_torch.data.corpus import Corpus
from dsvgraph_torch.data.documents import DocumentSource
from dsvgraph_torch.data.examples import TaskCorpus
from dsvgraph_torch.data.rows.packed import PackedCorpus
from dsvgraph_torch.data.rows.pieces import encoded
from dsvgraph_torch.data.rows.prepared import is_prepared, open_prepared, read_header, tokens_of
from dsvgraph_torch.data.stream import stream
from dsvgraph_torch.data.tasks.registry import task_of
from dsvgraph_torch.data.text import load_corpus
from dsvgraph_torch.data.tokenizer import bpe_size, read_tokenizer, train_tokenizer
from dsvgraph_torch.data.tokens import BYTES, Tokens
from dsvgraph_torch.training.options import TrainOptions


def with_row_length(options: TrainOptions) -> TrainOptions:
    """Return the options with --seq as the task needs it, where it was not given.

    Raise DsvError if the task is wrong, or options do not go together.
    """
    if options.task is None:
        _check_tokenizer(options)
        return options
    for name in ("data", "tokenizer"):
        if getattr(options, name) is not None:
            raise DsvError(f"--task: it makes its own data, and --{name} was given too")
    corpus = _task(options)
    if "seq" not in options.model_fields_set:
        options = options.model_copy(update={"seq": corpus.least_seq})
    corpus.check(options.seq)
    return options


def _check_tokenizer(options: TrainOptions) -> None:
    if options.tokenizer is not None and is_prepared(options.data):
        raise DsvError(f"--tokenizer: {options.data} is prepared data, which has its own")


def _task(options: TrainOptions) -> TaskCorpus:
    if options.pack is Packing.CUT:
        raise DsvError("--pack: an example of a task is never cut", hint="--pack whole puts several into a row")
    return TaskCorpus(task_of(str(options.task)), packed=options.pack is Packing.WHOLE)


def vocabulary(options: TrainOptions) -> tuple[int, str]:
    """Return how many tokens the data of ``options`` have at most, before it is read, and the same as a sentence."""
    if options.tokenizer is not None and (size := bpe_size(options.tokenizer)):
        return size, f"the tokenizer {options.tokenizer} has up to {size} tokens"
    tokens = _known(options)
    return tokens.size, tokens.meaning


def _known(options: TrainOptions) -> Tokens:
    """Return the vocabulary where nothing has to be trained for it."""
    if options.task is not None:
        return _task(options).tokens
    if options.data is not None and is_prepared(options.data):
        return tokens_of(options.data, read_header(options.data))
    return chosen(options.tokenizer or BYTES.name, lambda: ())


def chosen(tokenizer: str, texts: Callable[[], Iterable[str]]) -> Tokens:
    """Return the vocabulary that --tokenizer names, one of `bpe:SIZE` trained on ``texts``."""
    if tokenizer == BYTES.name:
        return BYTES
    if size := bpe_size(tokenizer):
        return train_tokenizer(texts(), size)
    return read_tokenizer(Path(tokenizer))


def open_corpus(options: TrainOptions, run: Path | None = None, tokens: Tokens | None = None) -> Corpus:
    """Return the data that ``options`` name; files of the folder ``run`` are not part of it.

    ``tokens`` is the vocabulary of a run that goes on. Raise DsvError if there is no data, or too little of it.
    """
    if options.task is not None:
        return _task(options)
    packing = options.pack
    if options.data is not None and is_prepared(options.data):
        corpus = open_prepared(options.data, packing)
        corpus.check(options.seq)
        return corpus
    source = DocumentSource(options.data, run=run)
    as_bytes = (options.tokenizer or BYTES.name) == BYTES.name
    if as_bytes and packing is Packing.NONE and not source.has_records:
        return load_corpus(options.data, options.batch, options.seq, run)
    return _documents(options, source, tokens or chosen(options.tokenizer or BYTES.name, source.texts), packing)


def _documents(options: TrainOptions, source: DocumentSource, tokens: Tokens, packing: Packing) -> Corpus:
    """Return documents as a stream of tokens, or packed into rows."""
    pieces, digest = encoded(source.texts(), tokens)
    left_out = tuple(source.left_out)
    if packing is Packing.NONE:
        ids_N = torch.from_numpy(pieces.ids_N.astype(np.int32))
        return replace(stream(ids_N, tokens, source.name, digest, options.batch, options.seq), left_out=left_out)
    packed = PackedCorpus(source.name, digest, tokens, pieces, packing, left_out)
    packed.check(options.seq)
    return packed
