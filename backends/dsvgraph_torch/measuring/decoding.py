"""The time of a decoded token: greedily, behind prompts of random tokens, for all rows at once."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import torch

from dsvgraph.backends import peer
from dsvgraph.backends.benchmark import BenchmarkOptions, DecodingSteps
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph_torch.decoding.rows import Rows
from dsvgraph_torch.decoding.sampling import Sampler, Sampling
from dsvgraph_torch.measuring.contenders import cast, rows, vocabulary
from dsvgraph_torch.measuring.machine import synchronise
from dsvgraph_torch.module import compile

Run = Callable[[], Sequence[float]]
"""Decodes once, and returns the seconds of each token of all rows, those of the prompt first."""


def decodings(model: Model, options: BenchmarkOptions, device: torch.device) -> Iterator[DecodingSteps]:
    """Yield the times of ours and of the other library's, each behind the same prompts; the second run counts."""
    ids_BT = rows(model, options, options.seq)
    yield _measured("dsvgraph", True, ids_BT, _ours(model, options, device, ids_BT), device)
    if options.against is None:
        return
    other = peer(options.against)
    module = other.build(model, other.ways(model, device.type, False)[0], device, options.seed, _positions(options))
    cast(module.eval(), options.dtype)
    ids = ids_BT.to(device)
    for way in other.decode_ways(device.type):

        def run(way: str = way) -> Sequence[float]:
            return other.decode(module, way, ids, options.decode + 1)

        yield _measured(f"{options.against}, {way}", False, ids_BT, run, device)


def _measured(name: str, ours: bool, ids_BT: torch.Tensor, run: Run, device: torch.device) -> DecodingSteps:
    """Return the times of the second of two runs."""
    run()
    synchronise(device)
    prompt, *seconds = run()
    rows, context = ids_BT.shape
    gc.collect()  # buffers of caches
    return DecodingSteps(name, ours, rows, context, prompt=prompt, seconds=tuple(seconds))


def _ours(model: Model, options: BenchmarkOptions, device: torch.device, ids_BT: torch.Tensor) -> Run:
    """Return what decodes by the compiled model."""
    module = compile(model, device, seed=options.seed, kernels="decoding").eval()
    if why := getattr(module, "looks_ahead", ""):
        raise DsvError(f"--decode: {why}, so {model.name} is not decoded step by step", hint="leave --decode out")
    cast(module, options.dtype)
    prompts, size = ids_BT.tolist(), vocabulary(model)

    def run() -> Sequence[float]:
        sampler = Sampler(Sampling(temperature=0.0), len(prompts))
        return _seconds(Rows(module, prompts, options.decode + 1, _positions(options), sampler, size))

    return run


def _seconds(rows: Rows) -> list[float]:
    """Return the seconds of each token of all rows; those of tokens that were read together are shared evenly."""
    count, before = len(rows.rows), time.perf_counter()
    marks = [(rows.counts.reads, time.perf_counter()) for _ in rows.run()][count - 1 :: count]
    found = list[float]()
    for _, together in groupby(marks, key=itemgetter(0)):
        times = [at for _, at in together]
        found += [(times[-1] - before) / len(times)] * len(times)
        before = times[-1]
    return found


def _positions(options: BenchmarkOptions) -> int:
    """Return how many tokens a row has in the end."""
    return options.seq + options.decode + 1
