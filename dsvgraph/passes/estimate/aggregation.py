"""What the ops of a step add up to: all of them, or those of one role, block or path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dsvgraph.dims import Size, ratio, total
from dsvgraph.ops.tape import FLOAT, HALF
from dsvgraph.passes.count.quantity import Quantity
from dsvgraph.passes.estimate.bytes_moved import BytesMoved, total_bytes
from dsvgraph.passes.estimate.devices import Device
from dsvgraph.passes.estimate.memory import STATES, WIDTH
from dsvgraph.passes.estimate.roofline import ADAMW, Seconds, seconds
from dsvgraph.passes.estimate.workload import OpCost, Role
from dsvgraph.passes.options import Grouping


@dataclass(frozen=True)
class FlopsAndBytes:
    """Work of one step: FLOPs, and bytes between memory and chip."""

    forward: Quantity
    backward: Quantity
    recomputed: Quantity
    total: Quantity
    model_per_token: Quantity  # forward and backward, nothing recomputed
    bytes: Quantity
    intensity: Quantity  # FLOPs per byte


@dataclass(frozen=True)
class Share:
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
class Aggregation:
    """How the work of a step is added up. ``values`` are numbers for the names in sizes."""

    dtype: str
    train: bool
    recomputed: bool  # the forward runs again in the backward
    rows: int  # new positions of the batch
    values: Mapping[str, int]
    tokens: Size  # the same as a size

    def flops_and_bytes(self, op_costs: Iterable[OpCost]) -> FlopsAndBytes:
        """Return the sum over ``op_costs``; of a training step with AdamW's update."""
        op_costs = list(op_costs)
        ahead, back = total(w.sizes.forward for w in op_costs), total(w.sizes.backward for w in op_costs)
        whole = ahead * (1 + self.recomputed) + back
        update = ADAMW * sum(w.trained for w in op_costs) * self.train
        passes = 1 + 2 * self.train + self.recomputed
        moved = total_bytes([w.sizes.read for w in op_costs]).times(passes) + BytesMoved(update)
        forward, backward, both = (Quantity.of(size, self.values) for size in (ahead, back, whole))
        taken = Quantity(moved.value(self.values, self.tokens), moved.formula(self.tokens))
        per_token = (forward.value + backward.value) / self.rows
        return FlopsAndBytes(
            forward=forward,
            backward=backward,
            recomputed=Quantity.of(ahead * self.recomputed, self.values),
            total=both,
            model_per_token=Quantity(per_token, str(ratio(ahead + back, self.tokens))),
            bytes=taken,
            intensity=both.per(taken) if taken.value else Quantity(0.0, "0"),
        )

    def cache(self, op_costs: Iterable[OpCost]) -> Size:
        """Return bytes of the cache after the step; in 16 bits where the model is in 8."""
        width = 0 if self.train else max(WIDTH[self.dtype], HALF)
        return total(w.sizes.cache for w in op_costs) * width

    def seconds(self, op_costs: Iterable[OpCost], on: Device) -> Seconds:
        """Return seconds at best, of computing alone and of moving alone."""
        op_costs = list(op_costs)
        update = ADAMW * sum(w.trained for w in op_costs) * self.train
        return seconds(op_costs, on, self.dtype, 1 + self.recomputed, self.train, update, self.tokens)

    def parts(self, op_costs: Iterable[OpCost], by: Grouping, on: Device | None) -> list[Share]:
        """Return the costs by role, block or path, in the model's order; parts that cost nothing are left out."""
        groups: dict[str, list[OpCost]] = {}
        for one in op_costs:
            groups.setdefault(GROUPINGS[by](one), []).append(one)
        names = [role for role in Role if role in groups] if by == Grouping.ROLE else list(groups)
        whole = sum(one.forward + one.backward for group in groups.values() for one in group)
        parts = [self._part(name, groups[name], whole, on) for name in names]
        return [
            part for part in parts if part.parameters or part.bytes.value or part.activations.value or part.cache.value
        ]

    def _part(self, name: str, op_costs: list[OpCost], whole: float, on: Device | None) -> Share:
        owned, trained = sum(one.parameters for one in op_costs), sum(one.trained for one in op_costs)
        found = self.flops_and_bytes(op_costs)
        share = (found.forward.value + found.backward.value) / whole if whole else 0.0
        width = FLOAT if self.train else WIDTH[self.dtype]
        return Share(
            name=name,
            parameters=owned,
            trained=trained,
            forward=found.forward,
            backward=found.backward,
            bytes=found.bytes,
            share=share,
            seconds=self.seconds(op_costs, on).best if on else None,
            weights=width * owned,
            gradients=FLOAT * trained * self.train,
            optimizer=STATES * FLOAT * trained * self.train,
            activations=Quantity.of(total(one.sizes.kept for one in op_costs), self.values).whole(),
            cache=Quantity.of(self.cache(op_costs), self.values).whole(),
        )


GROUPINGS: Mapping[Grouping, Callable[[OpCost], str]] = {
    Grouping.ROLE: lambda one: one.role,
    Grouping.BLOCK: lambda one: one.block,
    Grouping.PATH: lambda one: one.path,
}
