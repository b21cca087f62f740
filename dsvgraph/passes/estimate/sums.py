"""What the ops of a step add up to: all of them, or those of one role, block or path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dsvgraph.dims import Size, ratio, total
from dsvgraph.ops.tape import FLOAT, HALF
from dsvgraph.passes.count.tally import number
from dsvgraph.passes.estimate.devices import Device
from dsvgraph.passes.estimate.memory import STATES, WIDTH
from dsvgraph.passes.estimate.moved import Moved, moved
from dsvgraph.passes.estimate.roofline import ADAMW, Seconds, seconds
from dsvgraph.passes.estimate.work import ROLES, Work


@dataclass(frozen=True)
class Traffic:
    """Work of one step: FLOPs, and bytes between memory and chip.

    Formulas are in the names of the input's sizes (B, T) and, of a decoding step, C for its context.
    """

    forward: float
    backward: float
    recomputed: float
    total: float
    model_per_token: float  # forward and backward, nothing recomputed
    bytes: float
    intensity: float  # FLOPs per byte
    forward_formula: str
    backward_formula: str
    recomputed_formula: str
    total_formula: str
    model_per_token_formula: str
    bytes_formula: str
    intensity_formula: str


@dataclass(frozen=True)
class Part:
    """The work of one role, block or path, and the bytes that its weights, its activations and its cache take."""

    name: str
    parameters: int
    trained: int
    forward: float
    backward: float
    bytes: float
    share: float  # of the FLOPs
    seconds: float | None
    weights: int
    gradients: int
    optimizer: int
    activations: int
    cache: int
    forward_formula: str
    backward_formula: str
    bytes_formula: str
    activations_formula: str
    cache_formula: str
    seconds_formula: str | None


@dataclass(frozen=True)
class Sums:
    """How the work of a step is added up. ``values`` are numbers for the names in sizes."""

    dtype: str
    train: bool
    again: bool  # the forward runs again in the backward
    rows: int  # new positions of the batch
    values: Mapping[str, int]
    tokens: Size  # the same as a size

    def traffic(self, work: Iterable[Work]) -> Traffic:
        """The sum over ``work``; of a training step with AdamW's update."""
        work = list(work)
        ahead, back = total(w.sizes.forward for w in work), total(w.sizes.backward for w in work)
        whole = ahead * (1 + self.again) + back
        update = ADAMW * sum(w.trained for w in work) * self.train
        bytes_ = moved([w.sizes.read for w in work]).times(1 + 2 * self.train + self.again) + Moved(update)
        forward, backward, both = (number(size, self.values) for size in (ahead, back, whole))
        taken, text = bytes_.at(self.values, self.tokens), bytes_.text(self.tokens)
        return Traffic(
            forward, backward, forward * self.again, both, (forward + backward) / self.rows, taken,
            both / taken if taken else 0.0, str(ahead), str(back), str(ahead * self.again), str(whole),
            str(ratio(ahead + back, self.tokens)), text, f"({whole})/({text})" if taken else "0",
        )  # fmt: skip

    def cache(self, work: Iterable[Work]) -> Size:
        """Bytes of the cache after the step; in 16 bits where the model is in 8."""
        width = 0 if self.train else max(WIDTH[self.dtype], HALF)
        return total(w.sizes.cache for w in work) * width

    def seconds(self, work: Iterable[Work], on: Device) -> Seconds:
        """Seconds at best, of computing alone and of moving alone."""
        work = list(work)
        update = ADAMW * sum(w.trained for w in work) * self.train
        return seconds(work, on, self.dtype, 1 + self.again, self.train, update, self.tokens)

    def parts(self, work: Iterable[Work], what: str, on: Device | None) -> list[Part]:
        """The work by ``role``, ``block`` or ``path``, in the model's order; parts that take nothing are left out."""
        groups: dict[str, list[Work]] = {}
        for one in work:
            groups.setdefault(KEYS[what](one), []).append(one)
        names = [r for r in ROLES if r in groups] if what == "role" else list(groups)
        whole = sum(one.forward + one.backward for group in groups.values() for one in group)
        parts = [self._part(name, groups[name], whole, on) for name in names]
        return [part for part in parts if part.parameters or part.bytes or part.activations or part.cache]

    def _part(self, name: str, work: list[Work], whole: float, on: Device | None) -> Part:
        owned, trained = sum(one.parameters for one in work), sum(one.trained for one in work)
        found, cache, kept = self.traffic(work), self.cache(work), total(one.sizes.kept for one in work)
        share = (found.forward + found.backward) / whole if whole else 0.0
        width = FLOAT if self.train else WIDTH[self.dtype]
        time = self.seconds(work, on) if on else None
        states = FLOAT * trained * self.train, STATES * FLOAT * trained * self.train
        return Part(
            name, owned, trained, found.forward, found.backward, found.bytes, share,
            time.best if time else None, width * owned, *states,
            int(number(kept, self.values)), int(number(cache, self.values)),
            found.forward_formula, found.backward_formula, found.bytes_formula, str(kept), str(cache),
            time.best_formula if time else None,
        )  # fmt: skip


KEYS: Mapping[str, Callable[[Work], str]] = {
    "role": lambda one: one.role,
    "block": lambda one: one.block,
    "path": lambda one: one.path,
}
