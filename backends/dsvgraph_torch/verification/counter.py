"""torch's FlopCounterMode with formulas for what it leaves out, which knows for which line of a spec an op runs."""

from __future__ import annotations

import linecache
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
PLACE = re.compile(r"# (?:.*  )?(.+:\d+)$")


class CallSite(NamedTuple):
    """Where an op runs: the path of the module whose line it is, and the spec's line."""

    module: str
    place: str


class Phase(NamedTuple):
    """What an op is part of: the forward or the backward pass of a site."""

    site: CallSite
    backward: bool


@dataclass
class Counts:
    """FLOPs of one run, and the ops that nobody counted."""

    sites: Counter[Phase] = field(default_factory=Counter)
    padding: Counter[Phase] = field(default_factory=Counter)  # products with zeros, in `sites` no more
    recomputed: Counter[Phase] = field(default_factory=Counter)  # forward once more, in `sites` no more
    by_op: Counter[str] = field(default_factory=Counter)  # all of it
    registered: set[str] = field(default_factory=set)  # ops of `by_op` that torch has no formula for
    calls: Counter[str] = field(default_factory=Counter)  # of ops that nobody counted
    elements: Counter[str] = field(default_factory=Counter)  # of their results


# -- formulas that torch does not have -----------------------------------------------------------


def grouped(a: Any, b: Any, *_: Any, **__: Any) -> int:
    """Rows of a times the matrix of their group: [S, K] x [E, K, N], or [M, S] x [S, N] cut along S."""
    groups = a[0] if len(a) == len(b) == 3 else 1
    return 2 * groups * a[-2] * a[-1] * b[-1]


def flash(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    """q k^T and p v over the whole square, [B, H, T, Q] with [B, G, C, Q] and [B, G, C, V]."""
    return 2 * q[0] * q[1] * q[2] * k[2] * (q[3] + v[3])


def flash_backward(grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    """Return the gradients of both factors of both products, and the scores once more."""
    return 2 * flash(q, k, v) + 2 * q[0] * q[1] * q[2] * k[2] * q[3]


def layer_norm(x: Any, _: Any, weight: Any, *__: Any, **___: Any) -> int:
    """Return the gain: two per element, as for other weights."""
    return 2 * torch.Size(x).numel() if weight is not None else 0


def layer_norm_backward(
    grad: Any, x: Any, shape: Any, mean: Any, rstd: Any, weight: Any, bias: Any, mask: Any, **_: Any
) -> int:
    """Return the gain with the gradient, and the input with the gradient, each where it is wanted."""
    return 2 * torch.Size(x).numel() * (bool(mask[0]) + bool(mask[1])) if weight is not None else 0


REGISTERED = {
    aten._grouped_mm: grouped,
    aten._scaled_dot_product_flash_attention_for_cpu: flash,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flash_backward,
    aten.native_layer_norm: layer_norm,
    aten.native_layer_norm_backward: layer_norm_backward,
}
GAIN = "aten.mul (gain of a norm)"


# -- the counter -----------------------------------------------------------------------------------


class NoModules(nullcontext[None]):
    """In place of torch's tracker of modules, which does not know which line of them runs."""

    parents = ("Global",)


class SiteCounter(FlopCounterMode):
    """Counts a run of ``module`` by site; products with zeros and repeated work count apart.

    A backward op belongs to the site whose forward made its autograd node; nodes are numbered in
    the order of their making.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(display=False, custom_mapping=REGISTERED)
        self.mod_tracker = NoModules()
        self.counts = Counts()
        self.lines = Lines(module)
        self.owner: dict[int, CallSite] = {}
        self.gains: set[int] = set()  # autograd nodes of products with gains
        self.gain: int | None = None  # storage of the gain of the norm that runs, a weight or a computed value
        self.next = torch.autograd._get_sequence_nr()
        self.meta = any(p.is_meta for p in module.parameters())
        self.weights = {_storage(p) for p in module.parameters()}
        self.rows: set[int] = set()  # of weights, one for each token
        self.kept: list[Tensor] = []  # so that no storage is taken for another

    def __enter__(self) -> SiteCounter:
        self.stack = ExitStack()
        if self.meta:  # autocast, switched off in routers, does not know the device
            self.stack.enter_context(patch.object(torch, "autocast", lambda *_, **__: nullcontext()))
            self.stack.enter_context(patch.object(torch, "is_autocast_enabled", lambda *_: False))
            self.stack.enter_context(Meta())
        self.stack.enter_context(Padding(self))
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.stack.close()

    def _count_flops(self, packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        """FlopCounterMode's place to count one op."""
        phase, node = self.phase()
        flops = self._flops(packet, out, args, kwargs, node)
        if flops is None:
            self.counts.calls[str(packet)] += 1
            self.counts.elements[str(packet)] += sum(t.numel() for t in _tensors(out))
        elif phase.backward and torch.is_grad_enabled():  # a checkpoint runs its forward again
            self.counts.recomputed[phase] += flops
        else:
            again = _scores(args) if packet == aten._scaled_dot_product_flash_attention_for_cpu_backward else 0
            self.counts.sites[phase] += flops - again
            if again:
                self.counts.recomputed[phase] += again
        return super()._count_flops(packet, out, args, kwargs)

    def phase(self) -> tuple[Phase, int]:
        """Return where the op that is dispatched now belongs, and the number of its autograd node."""
        if torch._C._current_graph_task_id() != -1:
            node = torch._C._current_autograd_node()
            number = node._sequence_nr() if node is not None else -1
            return Phase(self.owner.get(number, CallSite("", "")), True), number
        site, number = self.lines.site(), torch.autograd._get_sequence_nr()
        self.owner.update(dict.fromkeys(range(self.next, number), site))
        self.next = number
        return Phase(site, False), number - 1

    def _flops(self, packet: Any, out: Any, args: Any, kwargs: Any, node: int) -> int | None:
        name = str(packet)
        if packet in self.flop_registry:
            flops = int(self.flop_registry[packet](*args, **kwargs, out_val=out))
            self.counts.registered |= {name} if packet in REGISTERED else set()
        elif packet == aten.mul and self._is_gain(args, node):
            name, flops = GAIN, 2 * out.numel()
            self.counts.registered.add(GAIN)
        else:
            if packet in (aten.index, aten._to_copy) and _storage(args[0]) in self.weights:
                self.rows.add(_storage(out))
                self.kept.append(out)
            return None
        self.counts.by_op[name] += flops
        return flops

    def _is_gain(self, args: Any, node: int) -> bool:
        """Return whether an elementwise product is that of a norm with its weight, or its backward."""
        if torch._C._current_graph_task_id() != -1:
            return node in self.gains
        factor = args[1] if len(args) > 1 else None  # the gain comes last: y = x / rms(x) * weight
        found = isinstance(factor, Tensor) and _storage(factor) in self.rows | {self.gain}
        self.gains |= {node} if found else set()
        return found


def _scores(args: Any) -> int:
    """Return fLOPs of q k^T in a backward pass that makes the scores again."""
    q, k = args[1], args[2]
    return int(2 * q.numel() * k.shape[-2])


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(out: Any) -> list[Tensor]:
    return [t for t in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(t, Tensor)]


class Lines:
    """The spec's lines behind the lines of a compiled module."""

    def __init__(self, module: nn.Module) -> None:
        self.file = type(module).forward.__code__.co_filename
        lines = enumerate(linecache.getlines(self.file), 1)
        self.places = {number: found[1] for number, line in lines if (found := PLACE.search(line.rstrip()))}
        self.paths = {id(part): path for path, part in reversed([*module.named_modules()])}

    def site(self) -> CallSite:
        """Return the innermost line of a spec that runs now."""
        frame = sys._getframe(1)
        while frame is not None:
            owner = frame.f_locals.get("self") if frame.f_code.co_filename == self.file else None
            if owner is not None and frame.f_lineno in self.places:
                return CallSite(self.paths[id(owner)], self.places[frame.f_lineno])
            frame = frame.f_back  # type: ignore[assignment]
        return CallSite("", "")


class Meta(TorchDispatchMode):
    """Grouped products of any dtype on the meta device, where torch takes bfloat16 alone."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket == aten._grouped_mm:
            a, b = args[:2]
            offsets = args[2] if len(args) > 2 else kwargs["offs"]
            groups = offsets.shape if a.dim() == b.dim() == 2 else a.shape[:-2]
            return a.new_empty(*groups, a.shape[-2], b.shape[-1])
        return func(*args, **(kwargs or {}))


class Padding(TorchFunctionMode):
    """Notes what attention multiplies with zeros: padding of keys and values to what a kernel wants.

    It sees the calls of functions, where the other counters see what they are made of.
    """

    def __init__(self, counter: SiteCounter) -> None:
        super().__init__()
        self.counter = counter
        self.true: dict[int, tuple[torch.Size, torch.Size]] = {}  # of a padded tensor: padded and true shape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "rms_norm":
            weight = kwargs.get("weight") if kwargs and "weight" in kwargs else args[2] if len(args) > 2 else None
            self.counter.gain = _storage(weight) if isinstance(weight, Tensor) else None
        out = func(*args, **(kwargs or {}))
        self.counter.gain = None
        if name == "pad":
            self._padded(args[0], out)
        elif name == "scaled_dot_product_attention":
            self._attended(out, *args[:3])
        return out

    def _padded(self, x: Tensor, out: Tensor) -> None:
        if _storage(x) != _storage(out):
            self.true[_storage(out)] = (out.shape, self._shape(x))
            self.counter.kept.append(out)

    def _shape(self, x: Tensor) -> torch.Size:
        """Return the shape of [B, C, G, W] without its padding."""
        padded, true = self.true.get(_storage(x), (x.shape, x.shape))
        return true if padded == x.shape else x.shape

    def _attended(self, out: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Count apart what the products have too much, in the backward if it comes, by who needs gradients."""
        (keys, values), pairs = (self._shape(x.transpose(1, 2)) for x in (k, v)), 2 * q.numel() // q.shape[-1]
        wide = pairs * k.shape[-2] * k.shape[-1] - pairs * keys[1] * keys[-1]
        deep = pairs * v.shape[-2] * v.shape[-1] - pairs * values[1] * values[-1]
        scored = q.requires_grad or k.requires_grad
        phase = self.counter.phase()[0]
        self._apart(phase, wide + deep)
        grads = wide * (q.requires_grad + k.requires_grad) + deep * (scored + v.requires_grad)
        if out.requires_grad and grads:
            out.register_hook(lambda _: self._apart(phase._replace(backward=True), grads))

    def _apart(self, phase: Phase, flops: int) -> None:
        if flops:
            self.counter.counts.padding[phase] += flops
            self.counter.counts.sites[phase] -= flops


@contextmanager
def one_thread() -> Iterator[None]:
    """Small products are faster on one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def counted(module: nn.Module, inputs: dict[str, Tensor]) -> Counts:
    """Return fLOPs of a forward pass to every output and of the backward pass from them."""
    with SiteCounter(module) as counter, one_thread():
        outputs = module(*inputs.values())
        parts = [y.float().sum() for y in outputs.values() if y.requires_grad]
        if parts:
            torch.stack(parts).sum().backward()
    return counter.counts


def counted_step(module: nn.Module, inputs: dict[str, Tensor], targets: Tensor, training: bool = False) -> Counts:
    """Return FLOPs from the losses, and back from their sum; ``training`` leaves out those that weigh nothing."""
    before = module.training
    module.train(training)  # or else routers count no tokens
    try:
        with SiteCounter(module) as counter, one_thread():
            loss = module(*inputs.values(), targets)["loss"]
            if isinstance(loss, Tensor) and loss.requires_grad:
                loss.backward()
    finally:
        module.train(before)
    return counter.counts
