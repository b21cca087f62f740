"""How many answers of a task are right: given the true row, and in rows that the model writes itself.

Shape legend: B rows, T tokens of a row, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.data.corpus import Corpus
from dsvgraph_torch.data.examples import TaskCorpus
from dsvgraph_torch.data.tasks.task import runs
from dsvgraph_torch.training.options import TrainOptions

TEACHER_FORCED, FREE_RUNNING, ANSWER_TOKENS = "teacher_forced", "free_running", "answer_tokens"


WAYS = (TEACHER_FORCED, FREE_RUNNING, ANSWER_TOKENS)

EVAL_ROWS, FINAL_ROWS = 64, 512
"""Held-out rows whose answers are judged on the way, and at the end."""


def rows(options: TrainOptions) -> int:
    """Return of how many held-out rows the answers are judged on the way: those of ``eval_tokens``, where given."""
    return max(1, options.eval_tokens // options.seq) if options.eval_tokens else EVAL_ROWS


def by_output(output: str, model: Any, batches: Iterable[Batch], corpus: Corpus) -> dict[str, float]:
    """Return the accuracy of the main output, named `OUTPUT.WAY`; nothing where the data has no answers."""
    if not isinstance(corpus, TaskCorpus):
        return {}
    return {f"{output}.{way}": share for way, share in answer_accuracy(model, batches, corpus).items()}


def of_task(accuracy: dict[str, float]) -> dict[str, float]:
    """Return those shares of ``accuracy`` that are of answers."""
    return {name: share for name, share in accuracy.items() if name.rpartition(".")[2] in WAYS}


def answers_text(step: int, found: dict[str, float]) -> Iterator[str]:
    """Yield how many answers were right after ``step``, in one line; nothing where there are none."""
    if found:
        shares = (f"{name.rpartition('.')[2].replace('_', ' ')} {share:.1%}" for name, share in found.items())
        yield f"step {step}  answers  {'  '.join(shares)}"


@torch.inference_mode()
def answer_accuracy(model: Any, batches: Iterable[Batch], judge: TaskCorpus) -> dict[str, float]:
    """Return shares over all answers of ``batches``.

    ``teacher_forced``: every token of the answer is the likeliest one after the true row before it. ``free_running``:
    the model writes its likeliest tokens into the row, and the judge accepts the answer. ``answer_tokens``: tokens of
    answers that are the likeliest one after the true row. A model that decodes exactly has equal teacher_forced and
    free_running where a row has one answer, and an answer is right in one way only.
    """
    model.eval()
    sums, size = Counter[str](), judge.tokens.size
    for batch in batches:
        if batch.answers is None:
            continue
        forced_BT = _likeliest(model, batch.inputs, batch.documents, size)
        sums += _judged(batch, forced_BT == batch.targets, written(model, batch, size), judge)
    answers, tokens = max(1, sums["answers"]), max(1, sums["tokens"])
    return {
        TEACHER_FORCED: sums[TEACHER_FORCED] / answers,
        FREE_RUNNING: sums[FREE_RUNNING] / answers,
        ANSWER_TOKENS: sums[ANSWER_TOKENS] / tokens,
    }


def _judged(batch: Batch, hits_BT: Tensor, written_BT: Tensor, judge: TaskCorpus) -> Counter[str]:
    """Return how many answers there are, how many are right in either way, and the same of their tokens."""
    assert batch.answers is not None
    sums: Counter[str] = Counter(answers=0, tokens=0)
    parts = (batch.answers, batch.inputs, batch.targets, hits_BT, written_BT)
    for index, (answers, inputs, targets, hits, found) in enumerate(zip(*(p.tolist() for p in parts), strict=True)):
        for start, stop in runs(answers):
            asked = inputs[_document_start(batch, index, start) : start + 1]
            sums["answers"] += 1
            sums["tokens"] += stop - start
            sums[ANSWER_TOKENS] += sum(hits[start:stop])
            sums[TEACHER_FORCED] += all(hits[start:stop])
            sums[FREE_RUNNING] += judge.right(asked, targets[start:stop], found[start:stop])
    return sums


def _document_start(batch: Batch, row: int, at: int) -> int:
    """Return where the document of a position begins."""
    if batch.documents is None:
        return 0
    documents_T = batch.documents[row]
    return int((documents_T == documents_T[at]).nonzero()[0])


def written(model: Any, batch: Batch, size: int) -> Tensor:
    """Return the likeliest tokens [B, T] where each answer goes on from what the model itself has written.

    What an input does not show of the answer, in teacherless rows, is not written into it either.
    """
    assert batch.answers is not None
    ids_BT, found_BT = batch.inputs.clone(), torch.full_like(batch.inputs, -1)
    shown_BT = batch.answers[:, :-1] & (batch.inputs[:, 1:] == batch.targets[:, :-1])
    columns = batch.answers.any(0).nonzero()[:, 0].tolist()
    cache: dict[str, Any] | None = None if batch.documents is not None or getattr(model, "looks_ahead", None) else {}
    seen = 0
    for at in range(columns[0] if columns else 0, columns[-1] + 1 if columns else 0):
        new = slice(0 if cache is None else seen, at + 1)
        documents_BT = None if batch.documents is None else batch.documents[:, new]
        last_B = _likeliest(model, ids_BT[:, new], documents_BT, size, cache)[:, -1]
        seen = at + 1
        found_BT[:, at] = last_B
        if seen < ids_BT.shape[1]:
            ids_BT[:, seen] = last_B.where(shown_BT[:, at], ids_BT[:, seen])
    return found_BT


def _likeliest(
    model: Any, ids_BT: Tensor, documents_BT: Tensor | None, size: int, cache: dict[str, Any] | None = None
) -> Tensor:
    """Return the likeliest token after each position, [B, T], by the first output of the model."""
    device = next(model.parameters()).device
    packed = {} if documents_BT is None else {"documents": documents_BT.to(device)}
    kept = {} if cache is None else {"cache": cache}
    logits_BTV = model.predict(ids_BT.to(device), **packed, **kept)
    found_BT: Tensor = logits_BTV[..., :size].argmax(-1).cpu()
    return found_BT
