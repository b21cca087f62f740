"""Time on a device: the longer of computing and moving, op by op; and what a share of the peak means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dsvgraph.errors import DsvError
from dsvgraph.passes.plan.devices import Device
from dsvgraph.passes.plan.work import Work

ADAMW = 28  # bytes per weight: weight, gradient and two states read, weight and two states written, in float32
HOUR = 3600.0


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


@dataclass(frozen=True)
class Rate:
    """A run at a share of the peak: ``mfu`` is model FLOPs (nothing recomputed) over peak FLOPs."""

    device: str
    mfu: float
    tokens_per_second: float  # of one device
    tokens: float | None
    device_hours: float | None  # for ``tokens``


def seconds(
    work: Iterable[Work], device: Device, dtype: str, passes: float, backward: bool
) -> tuple[float, float, float]:
    """Seconds of a step: at best, of computing alone, of moving alone.

    The forward runs ``passes`` times; a backward moves twice what the forward does.
    """
    peak, best, computing, moving = device.peak(dtype), 0.0, 0.0, 0.0
    for one in work:
        parts = [(one.forward * passes, one.read * passes)] + [(one.backward, 2 * one.read)] * backward
        for flops, moved in parts:
            best += max(flops / peak, moved / device.bandwidth)
            computing += flops / peak
            moving += moved / device.bandwidth
    return best, computing, moving


def at_mfu(device: Device, dtype: str, flops_per_token: float, mfu: float, tokens: float | None) -> Rate:
    """Tokens per second and device hours at a share of the peak."""
    rate = mfu * device.peak(dtype) / flops_per_token
    return Rate(device.name, mfu, rate, tokens, None if tokens is None else tokens / rate / HOUR)


def at_rate(device: Device, dtype: str, flops_per_token: float, rate: float, tokens: float | None) -> Rate:
    """The share of the peak that so many tokens per second and device are; raises DsvError where it is over one."""
    mfu = rate * flops_per_token / device.peak(dtype)
    if mfu > 1:
        most = device.peak(dtype) / flops_per_token
        raise DsvError(f"{rate:,.1f} tokens per second are more than {device.name} can compute, {most:,.1f}")
    return Rate(device.name, mfu, rate, tokens, None if tokens is None else tokens / rate / HOUR)
