"""What the ops of a step add up to: all of them, or those of one role, block or path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dsvgraph.dims import Size, ratio, total
from dsvgraph.ops.tape import FLOAT, HALF
from dsvgraph.passes.count.quantity import Quantity
from dsvgraph.passes.estimate.devices import Device
from dsvgraph.passes.estimate.memory import STATES, WIDTH
from dsvgraph.passes.estimate.moved import Moved, moved
from dsvgraph.passes.estimate.roofline import ADAMW, Seconds, seconds
from dsvgraph.passes.estimate.work import ROLES, Work


@dataclass(frozen=True)
class Traffic:
    """Work of one step: FLOPs, and bytes between memory and chip."""

    forward: Quantity
    backward: Quantity
    recomputed: Quantity
    total: Quantity
    model_per_token: Quantity  # forward and backward, nothing recomputed
    bytes: Quantity
    intensity: Quantity  # FLOPs per byte


@dataclass(frozen=True)
class Part:
    """The work of one role, block or path, and the bytes that its weights, its activations and its cache take."""

    name: str
    parameters: int
    trained: int
    forward: Quantity
    backward: Quantity
    bytes: Quantity
    share: float  # of the FLOPs
    seconds: Quantity | None
    weights: int
    gradients: int
    optimizer: int
    activations: Quantity
    cache: Quantity

    @property
    def memory(self) -> float:
        """The bytes of all of them."""
        return self.weights + self.gradients + self.optimizer + self.activations.value + self.cache.value


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
        forward, backward, both = (Quantity.of(size, self.values) for size in (ahead, back, whole))
        taken = Quantity(bytes_.at(self.values, self.tokens), bytes_.text(self.tokens))
        per_token = (forward.value + backward.value) / self.rows
        return Traffic(
            forward=forward,
            backward=backward,
            recomputed=Quantity.of(ahead * self.again, self.values),
            total=both,
            model_per_token=Quantity(per_token, str(ratio(ahead + back, self.tokens))),
            bytes=taken,
            intensity=both.per(taken) if taken.value else Quantity(0.0, "0"),
        )

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
        return [
            part for part in parts if part.parameters or part.bytes.value or part.activations.value or part.cache.value
        ]

    def _part(self, name: str, work: list[Work], whole: float, on: Device | None) -> Part:
        owned, trained = sum(one.parameters for one in work), sum(one.trained for one in work)
        found = self.traffic(work)
        share = (found.forward.value + found.backward.value) / whole if whole else 0.0
        width = FLOAT if self.train else WIDTH[self.dtype]
        return Part(
            name=name,
            parameters=owned,
            trained=trained,
            forward=found.forward,
            backward=found.backward,
            bytes=found.bytes,
            share=share,
            seconds=self.seconds(work, on).best if on else None,
            weights=width * owned,
            gradients=FLOAT * trained * self.train,
            optimizer=STATES * FLOAT * trained * self.train,
            activations=Quantity.of(total(one.sizes.kept for one in work), self.values).whole(),
            cache=Quantity.of(self.cache(work), self.values).whole(),
        )


KEYS: Mapping[str, Callable[[Work], str]] = {
    "role": lambda one: one.role,
    "block": lambda one: one.block,
    "path": lambda one: one.path,
}
