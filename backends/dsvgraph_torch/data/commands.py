"""What `dsvgraph data` asks for: token files, rows to look at, and the list of tasks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dsvgraph.errors import DsvError
from dsvgraph.names import listed, nearest
from dsvgraph_torch.data.batch import IGNORED, Batch
from dsvgraph_torch.data.corpus import Corpus
from dsvgraph_torch.data.documents import DocumentSource
from dsvgraph_torch.data.frequent import most, token_counts
from dsvgraph_torch.data.opened import chosen, open_corpus, with_row_length
from dsvgraph_torch.data.rows.prepared import prepare as write
from dsvgraph_torch.data.tasks.registry import TASKS
from dsvgraph_torch.data.tasks.task import Task
from dsvgraph_torch.training.options import TrainOptions

Progress = Callable[[int, int], object]


def prepare(
    source: Path, folder: Path, *, tokenizer: str = "bytes", field: str = "text", progress: Progress | None = None
) -> dict[str, Any]:
    """Encode the documents of ``source`` into ``folder``, and return what was written, by name."""
    read = DocumentSource(source.absolute(), field)
    header = write(read, chosen(tokenizer, read.texts), folder, progress or (lambda done, total: None))
    found = header.model_dump(mode="json", include={"source", "documents", "tokens", "heldout_tokens", "digest"})
    left_out = {"left_out": listed(header.left_out, 5)} if header.left_out else {}
    vocabulary = f"{header.vocabulary.name}: {header.vocabulary.size:,} tokens"
    return {"folder": str(folder), **found, "vocabulary": vocabulary, **left_out}


def rows(options: Mapping[str, Any], count: int, *, heldout: bool = False) -> dict[str, Any]:
    """Return the first rows of training, or held-out ones, each token as a text with what is known of it."""
    given = with_row_length(TrainOptions.given(**{**options, "batch": count}))
    corpus = open_corpus(given)
    if heldout:
        batches = list(corpus.heldout_batches(count, given.seq, count))
    else:
        batches = [corpus.batch(count, given.seq, given.seed, 0)]
    return {
        "source": corpus.source,
        "vocabulary": f"{corpus.tokens.name}: {corpus.tokens.size:,} tokens",
        "heldout": heldout,
        "rows": [_row(corpus, batch, row) for batch in batches for row in range(len(batch.inputs))],
    }


def frequent(options: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return the tokens met most in training data, in ascending order, and which share of it they are."""
    corpus = open_corpus(with_row_length(TrainOptions.given(**options)))
    counts = token_counts(corpus)
    if count > (there := int((counts > 0).sum())):
        raise DsvError(f"--size: {corpus.source} has {there:,} different tokens, fewer than {count:,}")
    ids = most(counts, count)
    total = int(counts.sum())
    return {
        "source": corpus.source,
        "vocabulary": f"{corpus.tokens.name}: {corpus.tokens.size:,} tokens",
        "tokens": total,
        "share": int(counts[ids].sum()) / total,
        "ids": ids,
    }


def _row(corpus: Corpus, batch: Batch, row: int) -> dict[str, Any]:
    """Return the tokens of a row; the last one is a target alone."""
    targets_T = batch.targets[row]
    last = int(targets_T[-1])
    ids = [*batch.inputs[row].tolist(), *([] if last == IGNORED else [last])]
    decoder = corpus.tokens.decoder()
    pieces = [decoder.add(token) for token in ids]
    pieces[-1] += decoder.rest()
    after = slice(0, len(ids) - 1)
    return {
        "ids": ids,
        "pieces": pieces,
        "counted": [False, *(targets_T != IGNORED)[after].tolist()],
        "answers": [False, *_flags(batch.answers, row, len(ids) - 1)],
        "documents": _documents(batch, row, len(ids)),
    }


def _flags(flags_BT: Tensor | None, row: int, count: int) -> list[bool]:
    return [False] * count if flags_BT is None else flags_BT[row, :count].tolist()


def _documents(batch: Batch, row: int, count: int) -> list[int]:
    """Return the document of each token; the target at the end is counted only if it is of the last one."""
    if batch.documents is None:
        return [0] * count
    found: list[int] = batch.documents[row].tolist()
    return (found + found[-1:])[:count]


def tasks(name: str | None = None) -> list[dict[str, Any]]:
    """Return a description of every task, or of the task ``name``. Raise DsvError if there is no such task."""
    if name is not None and name not in TASKS:
        hint = nearest(name, TASKS) or f"the tasks are {listed(sorted(TASKS))}"
        raise DsvError(f"there is no task `{name}`", hint=hint)
    return [_task(kind) for key, kind in TASKS.items() if name in (None, key)]


def _task(kind: type[Task]) -> dict[str, Any]:
    task = kind.model_validate({})
    return {
        "name": kind.name,
        "about": str(inspect.getdoc(kind)).partition("\n")[0],
        "source": kind.source,
        "tokens": len(task.vocabulary),
        "length": task.length,
        "example": " ".join(task.example(0, False).words),
        "options": [_option(task, name) for name in (*_own(kind), *Task.model_fields)],
    }


def _own(kind: type[Task]) -> list[str]:
    return [name for name in kind.model_fields if name not in Task.model_fields]


def _option(task: Task, name: str) -> dict[str, Any]:
    """Return the name of an option, its default as it is written, and what it may be."""
    schema, value = type(task).model_json_schema()["properties"][name], getattr(task, name)
    if "enum" in schema:
        about = " or ".join(map(str, schema["enum"]))
    elif isinstance(value, bool):
        about = "0 or 1"
    else:
        about = f"{schema['minimum']} or more" + (f", at most {schema['maximum']:,}" if "maximum" in schema else "")
    return {"name": name, "default": int(value) if isinstance(value, bool) else value, "about": about}
