"""The time of a decoded token: greedily, behind prompts of random tokens, for all rows at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch

from dsvgraph.backends import contracts, peer
from dsvgraph.backends.benchmark import BenchmarkOptions, DecodingSteps
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph_torch.decoding.rows import Rows
from dsvgraph_torch.decoding.sampling import Sampler, Sampling
from dsvgraph_torch.measuring.contenders import cast, rows, vocabulary
from dsvgraph_torch.measuring.machine import synchronise
from dsvgraph_torch.module import compile


def decodings(model: Model, options: BenchmarkOptions, device: torch.device) -> Iterator[DecodingSteps]:
    """Yield the times of ours and of the other library's, each behind the same prompts; the second run counts."""
    ids_BT = rows(model, options, options.seq)
    yield _measured("dsvgraph", True, ids_BT, lambda: _ours(model, options, device, ids_BT), options, device)
    if options.against is None:
        return
    other = peer(options.against)
    way = other.ways(model, device.type, False)[0]
    name = f"{options.against}, {way}"
    yield _measured(name, False, ids_BT, lambda: _theirs(other, way, model, options, device, ids_BT), options, device)


def _measured(
    name: str, ours: bool, ids_BT: torch.Tensor, run: Callable[[], Iterator[Iterator[None]]],
    options: BenchmarkOptions, device: torch.device,
) -> DecodingSteps:  # fmt: skip
    """Return the times of the second of two runs: each yields after every token of all rows, the first included."""
    prepared = run()
    for again in (False, True):
        synchronise(device)
        marks = [time.perf_counter()]
        for _ in next(prepared):
            synchronise(device)
            marks.append(time.perf_counter())
        seconds = [end - start for start, end in pairwise(marks)]
        if again:
            break
    return DecodingSteps(
        name=name,
        ours=ours,
        rows=len(ids_BT),
        context=options.seq,
        prompt=seconds[0],
        seconds=tuple(seconds[1:]),
    )


def _ours(
    model: Model, options: BenchmarkOptions, device: torch.device, ids_BT: torch.Tensor
) -> Iterator[Iterator[None]]:
    """Yield runs of the compiled model: each yields after every token of all rows."""
    module = compile(model, seed=options.seed, kernels="decoding").to(device).eval()
    if why := getattr(module, "looks_ahead", ""):
        raise DsvError(f"--decode: {why}, so {model.name} is not decoded step by step", hint="leave --decode out")
    cast(module, options.dtype)
    while True:
        yield _steps(module, model, options, ids_BT)


def _steps(module: torch.nn.Module, model: Model, options: BenchmarkOptions, ids_BT: torch.Tensor) -> Iterator[None]:
    sampler = Sampler(Sampling(temperature=0.0), len(ids_BT))
    prompts, context = ids_BT.tolist(), options.seq + options.decode + 1
    made = Rows(module, prompts, options.decode + 1, context, sampler, vocabulary(model)).run()
    for number, _ in enumerate(made, 1):
        if number % len(ids_BT) == 0:
            yield


def _theirs(
    other: contracts.Peer, way: str, model: Model, options: BenchmarkOptions, device: torch.device,
    ids_BT: torch.Tensor,
) -> Iterator[Iterator[None]]:  # fmt: skip
    module = other.build(model, way, device, options.seed, options.seq + options.decode + 1).eval()
    cast(module, options.dtype)
    while True:
        yield other.decode(module, ids_BT.to(device), options.decode + 1)
