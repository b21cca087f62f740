"""What has to hold before a model is trained on text: said before anything is built or written."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dsvgraph.backends.training import Precision
from dsvgraph.errors import DsvError
from dsvgraph.graph import Loss, Model
from dsvgraph.passes.lint.training import computed_nodes, trained_nodes
from dsvgraph_torch.data.tokens import BYTES
from dsvgraph_torch.kernels.float8.layers import missing, tiles_product
from dsvgraph_torch.module import weights
from dsvgraph_torch.runs.notices import emulated
from dsvgraph_torch.runs.tokens import check_embeddings
from dsvgraph_torch.training.options import TrainOptions
from dsvgraph_torch.training.predictions import Prediction, predictions_of

BYTES_PER_PARAMETER = 16
"""A float32 weight, its gradient and AdamW's two moments."""

Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

DISK_PER_PARAMETER = 12
"""A weight and its moments in one checkpoint; an average of the weights takes 4 more."""

MEASURED = 384
"""Rows and columns of the matrices by which emulated numbers are timed."""


def check(
    graph: Model, seq: int, device: torch.device, vocabulary: tuple[int, str] = (BYTES.size, BYTES.meaning)
) -> None:
    """Raise DsvError if ``graph`` cannot be trained on rows of ``seq`` tokens of a vocabulary, or not on ``device``.

    ``vocabulary`` is its size, and the same as a sentence.
    """
    predictions = predictions_of(graph)
    if not predictions:
        hint = "a line such as `next_token: {cross_entropy: logits, target: input_ids, shift: 1}`"
        raise DsvError(f"{graph.name} has no loss that predicts a token: there is nothing to train", hint=hint)
    if len(graph.inputs) > 1:
        names = ", ".join(graph.inputs)
        raise DsvError(f"{graph.name} has the inputs {names}; one is trained on: rows of tokens")
    for prediction in predictions:
        _check_prediction(prediction, seq)
    for loss in graph.losses:
        if loss.kind.scores_tokens and loss.vocabulary is None:
            _check_vocabulary(loss, graph, *vocabulary)
    check_embeddings(graph, *vocabulary)
    _check_trained(graph)
    _check_memory(graph, device)


def _check_vocabulary(loss: Loss, graph: Model, size: int, meaning: str) -> None:
    """Every token has a logit."""
    logits = graph.type(graph.outputs[str(loss.output)]).shape[-1]
    if isinstance(logits, int) and logits < size:
        found = f"`{loss.output}` has {logits} logits"
        hint = f"--set vocab_size={size}" if graph.config.get("vocab_size") == logits else ""
        raise DsvError(f"{found}, but {meaning}", loss.span, hint=hint)


def _check_prediction(prediction: Prediction, seq: int) -> None:
    """A row is long enough for the head to have a target."""
    if prediction.shift > seq:
        words = f"--seq: {prediction.name} predicts token i + {prediction.shift}; a row of {seq} tokens has none"
        raise DsvError(words, prediction.loss.span)


def _check_trained(graph: Model) -> None:
    """There is a parameter to train, and a loss that reaches it."""
    trained = trained_nodes(graph)
    if not trained:
        frozen = [pattern for pattern, on in graph.trained if not on]
        span = graph.spec.trained[frozen[-1]].key() if graph.spec and frozen else graph.span
        why = "`trained` freezes every parameter" if frozen else "it has no parameters"
        raise DsvError(f"{graph.name} has nothing to train: {why}", span)
    losses = [loss for loss in graph.losses if loss.output]
    if not trained & computed_nodes(graph, frozenset(str(loss.output) for loss in losses)):
        raise DsvError(
            f"{graph.name} has nothing to train: no loss reaches a parameter that is trained", losses[0].span
        )


def _check_memory(graph: Model, device: torch.device) -> None:
    """A model that cannot fit is better refused than allocated."""
    parameters = count(graph)
    needed, there = parameters * BYTES_PER_PARAMETER, memory_of(device)
    if needed > there:
        raise DsvError(
            f"training {graph.name} takes {needed / 1e9:,.1f} GB or more ({parameters:,} parameters, "
            f"{BYTES_PER_PARAMETER} bytes each); {device.type} has {there / 1e9:,.1f} GB",
            hint="smaller sizes by --set, or a small spec such as deepseek_v3_tiny",
        )


def check_disk(graph: Model, folder: Path, options: TrainOptions) -> None:
    """Raise DsvError if ``folder`` has no room for the checkpoints of a run, and for one more while it is written."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    checkpoints = options.keep + options.keep_best + 1
    bytes_each = DISK_PER_PARAMETER + (4 if options.ema else 0)
    needed, free = count(graph) * bytes_each * checkpoints, shutil.disk_usage(there).free
    if needed > free:
        words = f"a run of {graph.name} takes {needed / 1e6:,.1f} MB; {free / 1e6:,.1f} MB are free"
        raise DsvError(f"--out: no room in {folder}: {words}")


def check_precision(options: TrainOptions) -> str:
    """Return what there is to know of numbers that ``options`` allow the machine to emulate, or nothing.

    Raise DsvError, with the time that they take, if they are not allowed, or if the device lacks what they need.
    """
    device, precision = options.torch_device(), options.precision
    if precision is Precision.FP8 and (lacking := missing(device)):
        raise DsvError(f"--precision fp8: {lacking}", hint="--precision bfloat16")
    if precision is Precision.FP8 and device.type == "cpu":
        return _emulation(options, "8-bit tiles", "a processor", product_seconds(device, torch.float32, tiles_product))
    if precision is Precision.FLOAT32 or not (machine := emulated(device)):
        return ""
    return _emulation(options, "bfloat16", machine, product_seconds(device, torch.bfloat16))


def _emulation(options: TrainOptions, numbers: str, machine: str, low: float) -> str:
    full = product_seconds(options.torch_device(), torch.float32)
    times = f"of {MEASURED} x {MEASURED} takes {low * 1e3:.3g} ms, in float32 {full * 1e3:.3g} ms"
    words = f"--precision {options.precision}: {machine} emulates {numbers}: a product {times}"
    if (low > full or options.precision is Precision.FP8) and not options.emulate:
        raise DsvError(words, hint="leave --precision out, or allow it by --emulate")
    return words


def product_seconds(device: torch.device, dtype: torch.dtype, product: Product = torch.matmul) -> float:
    """Return the seconds of a product of two matrices, the least of several."""
    a, found = torch.ones(MEASURED, MEASURED, dtype=dtype, device=device), []
    for _ in range(6):
        started = time.perf_counter()
        product(a, a)[0, 0].item()
        found.append(time.perf_counter() - started)
    return min(found)


def count(graph: Model) -> int:
    """Parameters, those that are not trained too."""
    return sum(math.prod(int(str(size)) for size in shape) for shape in weights(graph).values())


def memory_of(device: torch.device) -> float:
    """Return bytes of memory that ``device`` has; infinite where that is not known."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn a lack of memory into a DsvError."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _no_memory() from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise _no_memory() from error


def _no_memory() -> DsvError:
    return DsvError("out of memory", hint="a smaller --batch (with --accumulate for the same step) or --seq")
