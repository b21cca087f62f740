"""Time on a device: the longer of computing and moving, op by op; a share of the peak; what drafting saves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dsvgraph.dims import Size, total
from dsvgraph.errors import DsvError
from dsvgraph.passes.count.quantity import Quantity, over
from dsvgraph.passes.estimate.bytes_moved import BytesMoved, total_bytes
from dsvgraph.passes.estimate.devices import Device
from dsvgraph.passes.estimate.workload import OpCost

ADAMW = 28  # bytes per weight: weight, gradient and two states read, weight and two states written, in float32
HOUR = 3600.0
ACCEPTANCES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9)


class Seconds(NamedTuple):
    """Seconds of a step: at best, of computing alone, of moving alone."""

    best: Quantity  # the formula holds as long as the same ops wait for the same
    computing: Quantity
    moving: Quantity


@dataclass(frozen=True)
class Roofline:
    """The least time of one step on one device, were all of it used: a bound from below, not a forecast."""

    device: str
    peak_flops: float  # per second
    bandwidth: float  # bytes per second
    seconds: Quantity
    seconds_computing: Quantity
    seconds_moving: Quantity
    tokens_per_second: Quantity
    mfu: Quantity  # of that time: model FLOPs over peak FLOPs; what is recomputed does not count
    fits: bool  # whether the memory of the phase is not more than the device's


@dataclass(frozen=True)
class Rate:
    """A run at a share of the peak: ``mfu`` is model FLOPs (nothing recomputed) over peak FLOPs."""

    device: str
    mfu: Quantity
    tokens_per_second: Quantity  # of one device
    tokens: float | None
    device_hours: Quantity | None  # for ``tokens``


class _PassTime(NamedTuple):
    """One op's forward, or its backward."""

    computing: float  # seconds
    moving: float
    flops: Size
    read: BytesMoved


def seconds(
    op_costs: Iterable[OpCost], device: Device, dtype: str, passes: int, backward: bool, update: int, tokens: Size
) -> Seconds:
    """Return seconds of a step: op by op the longer of computing and moving, and each of them alone.

    The forward runs ``passes`` times; a backward moves twice what the forward does. ``update``: bytes that
    the optimizer moves. ``tokens``: new positions, which decide what experts are read.
    """
    peak, bandwidth = device.peak(dtype), device.bandwidth
    moves = _PassTime(0.0, update / bandwidth, 0, BytesMoved(update))
    shares = [moves, *(share for one in op_costs for share in _pass_times(one, peak, bandwidth, passes, backward))]

    def formula(computing: Iterable[_PassTime], moving: Iterable[_PassTime]) -> str:
        flops, read = total(share.flops for share in computing), total_bytes([share.read for share in moving])
        parts = [over(str(flops), peak)] * bool(flops) + [over(read.formula(tokens), bandwidth)] * bool(read)
        return " + ".join(parts) or "0"

    memory_bound = [share for share in shares if share.moving >= share.computing]
    compute_bound = [share for share in shares if share.moving < share.computing]
    return Seconds(
        Quantity(sum(max(share.computing, share.moving) for share in shares), formula(compute_bound, memory_bound)),
        Quantity(sum(share.computing for share in shares), formula(shares, ())),
        Quantity(sum(share.moving for share in shares), formula((), shares)),
    )


def between(some: Seconds, more: Seconds, share: float) -> Seconds:
    """Return ``some``, and ``share`` of what ``more`` takes longer."""
    pairs = zip(some, more, strict=True)
    return Seconds(*(Quantity(a.value + share * (b.value - a.value), _between(a, b, share)) for a, b in pairs))


def _between(some: Quantity, more: Quantity, share: float) -> str:
    return f"{some.formula} + {share:.12g}*({more.formula} - ({some.formula}))"


def _pass_times(one: OpCost, peak: float, bandwidth: float, passes: int, backward: bool) -> Iterator[_PassTime]:
    sizes, read = one.sizes, one.read / bandwidth
    yield _PassTime(one.forward * passes / peak, read * passes, sizes.forward * passes, sizes.read.times(passes))
    if backward:
        yield _PassTime(one.backward / peak, read * 2, sizes.backward, sizes.read.times(2))


def at_mfu(device: Device, dtype: str, flops: Quantity, mfu: float, tokens: float | None) -> Rate:
    """Return the tokens per second and device hours at a share of the peak; ``flops`` are the model's per token."""
    peak = device.peak(dtype)
    rate = Quantity(mfu * peak / flops.value, f"{mfu}*{peak:.12g}/({flops.formula})")
    return _rate(device, Quantity(mfu, f"{mfu}"), rate, tokens)


def at_rate(device: Device, dtype: str, flops: Quantity, rate: float, tokens: float | None) -> Rate:
    """Return the share of the peak that ``rate`` tokens per second and device are. Raise DsvError if it is over one."""
    peak = device.peak(dtype)
    mfu = Quantity(rate * flops.value, f"{rate}*({flops.formula})").over(peak)
    if mfu.value > 1:
        most = peak / flops.value
        raise DsvError(f"{rate:,.1f} tokens per second are more than {device.name} can compute, {most:,.1f}")
    return _rate(device, mfu, Quantity(rate, f"{rate}"), tokens)


def _rate(device: Device, mfu: Quantity, rate: Quantity, tokens: float | None) -> Rate:
    hours = None if tokens is None else Quantity(tokens / rate.value / HOUR, f"{tokens}/({rate.formula})/{HOUR:.0f}")
    return Rate(device=device.name, mfu=mfu, tokens_per_second=rate, tokens=tokens, device_hours=hours)


# -- drafting -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """What drafting gives where each drafted token is accepted with chance ``acceptance``."""

    acceptance: float
    tokens_per_step: Quantity  # in a, the acceptance
    speedup: Quantity | None  # in the roofline's time; None without a device


def expected_tokens(acceptance: float, drafts: int) -> float:
    """Return the tokens per step with ``drafts`` drafted ones, each accepted with probability ``acceptance``.

    The longest accepted prefix and one token more: 1 + a + ... + a^K = (1 - a^(K+1)) / (1 - a).
    """
    return sum(acceptance**k for k in range(drafts + 1))


def drafted(
    drafts: int, times: tuple[Seconds, Seconds] | None, acceptances: tuple[float, ...] = ACCEPTANCES
) -> tuple[Draft, ...]:
    """Return what ``drafts`` drafted tokens give; ``times``: of a step with them, and of one without."""
    formula = " + ".join(["1", "a", *(f"a**{k}" for k in range(2, drafts + 1))][: drafts + 1])
    tokens = [Quantity(expected_tokens(a, drafts), formula) for a in acceptances]
    return tuple(Draft(a, n, _speedup(n, *times) if times else None) for a, n in zip(acceptances, tokens, strict=True))


def _speedup(tokens: Quantity, with_drafts: Seconds, without: Seconds) -> Quantity:
    long, short = with_drafts.best, without.best
    formula = f"({tokens.formula})/({long.formula})*({short.formula})"
    return Quantity(tokens.value / (long.value / short.value), formula)
