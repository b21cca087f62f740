"""Time on a device: the longer of computing and moving, op by op; and what a share of the peak means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dsvgraph.dims import Size, total
from dsvgraph.errors import DsvError
from dsvgraph.passes.estimate.devices import Device
from dsvgraph.passes.estimate.moved import Moved, moved
from dsvgraph.passes.estimate.work import Work

ADAMW = 28  # bytes per weight: weight, gradient and two states read, weight and two states written, in float32
HOUR = 3600.0


class Flops(NamedTuple):
    """Model FLOPs per token."""

    number: float
    formula: str


class Seconds(NamedTuple):
    """Seconds of a step, with formulas in Python's arithmetic."""

    best: float
    computing: float
    moving: float
    best_formula: str  # as long as the same ops wait for the same
    computing_formula: str
    moving_formula: str


@dataclass(frozen=True)
class Roofline:
    """The least time of one step on one device, were all of it used: a bound from below, not a forecast."""

    device: str
    peak_flops: float  # per second
    bandwidth: float  # bytes per second
    seconds: float
    seconds_computing: float
    seconds_moving: float
    tokens_per_second: float
    mfu: float  # of that time: model FLOPs over peak FLOPs; what is recomputed does not count
    fits: bool  # whether the memory of the phase is not more than the device's
    seconds_formula: str
    seconds_computing_formula: str
    seconds_moving_formula: str
    tokens_per_second_formula: str
    mfu_formula: str


@dataclass(frozen=True)
class Rate:
    """A run at a share of the peak: ``mfu`` is model FLOPs (nothing recomputed) over peak FLOPs."""

    device: str
    mfu: float
    tokens_per_second: float  # of one device
    tokens: float | None
    device_hours: float | None  # for ``tokens``
    mfu_formula: str
    tokens_per_second_formula: str
    device_hours_formula: str | None


class _Share(NamedTuple):
    """One op's forward, or its backward."""

    computing: float  # seconds
    moving: float
    flops: Size
    read: Moved


def seconds(
    work: Iterable[Work], device: Device, dtype: str, passes: int, backward: bool, update: int, tokens: Size
) -> Seconds:
    """Seconds of a step: op by op the longer of computing and moving, and each of them alone.

    The forward runs ``passes`` times; a backward moves twice what the forward does. ``update``: bytes that
    the optimizer moves. ``tokens``: new positions, which decide what experts are read.
    """
    peak, bandwidth = device.peak(dtype), device.bandwidth
    moves = _Share(0.0, update / bandwidth, 0, Moved(update))
    shares = [moves, *(share for one in work for share in _shares(one, peak, bandwidth, passes, backward))]

    def formula(computing: Iterable[_Share], moving: Iterable[_Share]) -> str:
        flops, read = total(share.flops for share in computing), moved([share.read for share in moving])
        parts = [over(str(flops), peak)] * bool(flops) + [over(read.text(tokens), bandwidth)] * bool(read)
        return " + ".join(parts) or "0"

    waiting = [share for share in shares if share.moving >= share.computing]
    busy = [share for share in shares if share.moving < share.computing]
    return Seconds(
        sum(max(share.computing, share.moving) for share in shares), sum(share.computing for share in shares),
        sum(share.moving for share in shares), formula(busy, waiting), formula(shares, ()), formula((), shares),
    )  # fmt: skip


def _shares(one: Work, peak: float, bandwidth: float, passes: int, backward: bool) -> Iterator[_Share]:
    sizes, read = one.sizes, one.read / bandwidth
    yield _Share(one.forward * passes / peak, read * passes, sizes.forward * passes, sizes.read.times(passes))
    if backward:
        yield _Share(one.backward / peak, read * 2, sizes.backward, sizes.read.times(2))


def over(formula: str, rate: float) -> str:
    """A formula divided by a rate per second."""
    return f"({formula})/{rate:.12g}"


def at_mfu(device: Device, dtype: str, work: Flops, mfu: float, tokens: float | None) -> Rate:
    """Tokens per second and device hours at a share of the peak."""
    peak = device.peak(dtype)
    return _rate(device, mfu, mfu * peak / work.number, tokens, f"{mfu}", f"{mfu}*{peak:.12g}/({work.formula})")


def at_rate(device: Device, dtype: str, work: Flops, rate: float, tokens: float | None) -> Rate:
    """The share of the peak that so many tokens per second and device are; raises DsvError where it is over one."""
    peak = device.peak(dtype)
    mfu = rate * work.number / peak
    if mfu > 1:
        raise DsvError(
            f"{rate:,.1f} tokens per second are more than {device.name} can compute, {peak / work.number:,.1f}"
        )
    return _rate(device, mfu, rate, tokens, over(f"{rate}*({work.formula})", peak), f"{rate}")


def _rate(device: Device, mfu: float, rate: float, tokens: float | None, share: str, speed: str) -> Rate:
    hours = None if tokens is None else tokens / rate / HOUR
    return Rate(
        device.name, mfu, rate, tokens, hours, share, speed,
        None if tokens is None else f"{tokens}/({speed})/{HOUR:.0f}",
    )  # fmt: skip
