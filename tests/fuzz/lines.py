"""Lines at random for a body: each of any ops that fits to what the lines above it give, with its type."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

VOCABULARY = 11
WIDTH = 8  # of the stream of states, `d` in the config
POINTWISE = ["silu", "gelu", "relu", "sigmoid", "tanh", "detach", "rms_norm", "layer_norm"]
BATCH = ("B", "T")
SCALINGS: list[Any] = [
    None, {"type": "linear", "factor": 2.0}, {"rope_type": "default"},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 32},
    {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "mscale": 1.0, "mscale_all_dim": 0.5},
]  # fmt: skip


class Value(NamedTuple):
    """Something that a line can read; ``ahead`` where it has seen tokens to the right of its position."""

    ref: str
    shape: tuple[Any, ...]
    dtype: str = "float"
    ahead: bool = False

    @property
    def states(self) -> bool:
        """Whether it holds numbers at each position: [B, T, ...]."""
        return self.dtype == "float" and self.shape[:2] == BATCH and len(self.shape) > 2


@dataclass
class Body:
    """The lines of a block or of the graph while they are made."""

    chance: random.Random
    lines: dict[str, Any] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    args: dict[str, Any] = field(default_factory=dict)
    taken: int = 0
    stem: str = "n"  # of names: blocks at `.` put theirs beside others

    def line(self, line: dict[str, Any], *outputs: Value, **more: Any) -> str:
        """Adds a line under a fresh name, at times at an address of its own; ``outputs`` name its ports with `*`."""
        self.taken += 1
        name = f"{self.stem}{self.taken}"
        if self.chance.random() < 0.15:
            line = {**line, "at": f"{self.chance.choice(['a', 'b.c', 'model'])}.{name}"}
        self.lines[name] = {**line, **more}
        self.values += [v._replace(ref=v.ref.replace("*", name)) for v in outputs]
        return name

    def size(self, n: int) -> Any:
        """A size as a number, or as an expression that gives it."""
        known = [name for name, value in self.args.items() if value == n]
        forms = [n, n, f"{n - 1} + 1", f"min({n}, {n + 3})", f"{n} if true else 1", *known, *known]
        return self.chance.choice(forms)

    def pick(self, fits: Callable[[Value], bool]) -> Value | None:
        """A value that fits, rather a late one."""
        found = [v for v in self.values if fits(v)]
        return found[min(int(self.chance.expovariate(0.6)), len(found) - 1) * -1 - 1] if found else None


def _states(v: Value) -> bool:
    return v.states


# -- lines: each adds to a body what one kind of line gives, or nothing where nothing fits ----------


def pointwise(b: Body) -> None:
    x = b.pick(_states)
    if x:
        b.line({b.chance.choice(POINTWISE): x.ref}, x._replace(ref="*"))


def numbers(b: Body) -> None:
    x = b.pick(_states)
    kinds = [("times", {"by": "1 / 3"}), ("clamp", {"min": -2, "max": "2 ** 2"}), ("clamp", {"max": 3}),
             ("dropout", {"p": 0.2}), ("dropout", {}), ("affine", {"bias": False}), ("affine", {"scalar": True}),
             ("affine", {}), ("rms_norm", {"eps": "1e-5"})]  # fmt: skip
    kind, more = b.chance.choice(kinds)
    if x:
        b.line({kind: x.ref, **more}, x._replace(ref="*"))


def linear(b: Body) -> None:
    x = b.pick(_states)
    if x:
        contract = b.chance.choice([n for n in (1, 2) if len(x.shape) - 2 > n or n == 1])
        out = b.chance.choice([[WIDTH], [6], [2, 4], [4]])
        more = {"contract": contract} if contract > 1 else {}
        sizes = b.size(out[0]) if len(out) == 1 else out
        bias = b.chance.choice([{}, {"bias": True}, {"bias": "1 < 2"}])
        b.line({"linear": x.ref, "out": sizes, **more, **bias}, Value("*", (*x.shape[:-contract], *out), ahead=x.ahead))


def tied(b: Body) -> None:
    """A second use of a weight: of a line, or of a table."""
    w = b.pick(lambda v: v.dtype == "weight" and len(v.shape) == 2)
    x = w and b.pick(lambda v: v.states and v.shape[-1] == w.shape[1])
    if w and x:
        b.line({"linear": x.ref, "out": w.shape[0], "weight": w.ref}, Value("*", (*x.shape[:-1], w.shape[0])))


def joined(b: Body) -> None:
    x = b.pick(_states)
    y = x and b.pick(lambda v: v.states and v.shape == x.shape)
    z = x and b.pick(lambda v: v.states and v.shape[:-1] == x.shape[:-1])
    if x and y and z:
        ahead = x.ahead or y.ahead or z.ahead
        if b.chance.random() < 0.5:
            b.line({b.chance.choice(["add", "mul"]): [x.ref, y.ref]}, x._replace(ref="*", ahead=ahead))
        else:
            b.line({"concat": [x.ref, z.ref]}, Value("*", (*x.shape[:-1], x.shape[-1] + z.shape[-1]), ahead=ahead))


def cut(b: Body) -> None:
    x = b.pick(lambda v: v.states and v.shape[-1] > 2)
    if x:
        first = b.chance.randrange(1, x.shape[-1])
        parts = {"left": first, "right": x.shape[-1] - first}
        into = {name: b.chance.choice([n, f"{n + 1} - 1"]) for name, n in parts.items()}
        b.line(
            {"split": x.ref, "into": into},
            *(Value(f"*.{p}", (*x.shape[:-1], n), ahead=x.ahead) for p, n in parts.items()),
        )


def spread(b: Body) -> None:
    x = b.pick(lambda v: v.states and len(v.shape) == 3)
    if x:
        b.line({"expand": x.ref, "size": b.size(2)}, x._replace(ref="*", shape=(*BATCH, 2, x.shape[-1])))


def products(b: Body) -> None:
    x = b.pick(lambda v: v.states and len(v.shape) == 4)
    y = x and b.pick(lambda v: v.states and v.shape == x.shape)
    z = b.pick(lambda v: v.states and len(v.shape) == 3)
    if x and y and b.chance.random() < 0.6:
        equation, shape = b.chance.choice([
            ("b t i d, b t j d -> b t i j", (*x.shape[:3], x.shape[2])),
            ("b t i d, b t i d -> b t d", (*BATCH, x.shape[3])),
            ("bthq,bthq->bthq", x.shape),
        ])  # fmt: skip
        b.line({"einsum": [x.ref, y.ref], "equation": equation}, Value("*", shape, ahead=x.ahead or y.ahead))
    elif z:
        b.line({"einsum": [z.ref, z.ref], "equation": "b t i, b t j -> b t i j"},
               Value("*", (*z.shape, z.shape[-1]), ahead=z.ahead))  # fmt: skip


def along(b: Body) -> None:
    """Ops that look along the row."""
    x = b.pick(lambda v: v.states and v.shape[-1] % 2 == 0)
    by = b.chance.choice([-1, -2, 1])
    if x and b.chance.random() < 0.6:
        scaling = b.chance.choice(SCALINGS)
        more = {"scaling": scaling} if scaling else {}
        b.line({"rope": x.ref, "theta": "1e4", "interleave": b.chance.random() < 0.5, **more}, x._replace(ref="*"))
    elif x and b.chance.random() < 0.7:
        b.line({"shift": x.ref, "by": by}, x._replace(ref="*", ahead=x.ahead or by > 0))
    elif x:
        value = b.chance.choice([{}, {"value": 1}, {"value": "2 - 4"}])
        b.line({"overwrite": x.ref, "start": b.size(3), **value}, x._replace(ref="*"))


def attention(b: Body) -> None:
    x = b.pick(lambda v: v.states and len(v.shape) == 3)
    if not x:
        return
    heads, groups, size, wide = b.chance.choice([(2, 1, 4, 4), (2, 2, 4, 2), (4, 2, 2, 2), (1, 1, 8, 4)])
    ports = {"q": (heads, size), "k": (groups, size), "v": (groups, wide)}
    refs = {p: b.line({"linear": x.ref, "out": list(out)}) for p, out in ports.items()}
    if b.chance.random() < 0.5:
        refs["k"] = b.line({"rope": refs["k"]})
    options = [
        {},
        {},
        {"window": 2},
        {"sinks": True},
        {"scale": "4 ** -0.5"},
        {"window": 3, "sinks": True},
        {"causal": False},
    ]
    more = b.chance.choice(options)
    ahead = x.ahead or "causal" in more
    name = b.line({"attention": refs, **more}, Value("*", (*BATCH, heads, wide), ahead=ahead))
    b.line({"linear": name, "contract": 2, "out": b.size(WIDTH)}, Value("*", (*BATCH, WIDTH), ahead=ahead))


def stack_attention(b: Body) -> None:
    """Attention along what copies in a row gave, and the sum of its pieces."""
    x = b.pick(lambda v: v.dtype == "float" and len(v.shape) == 4 and v.shape[1:3] == BATCH)
    if not x:
        return
    heads, groups, size, wide = b.chance.choice([(2, 1, 4, 4), (2, 2, 4, 2), (4, 2, 2, 2), (1, 1, 8, 4)])
    ports = {"q": (heads, size), "k": (groups, size), "v": (groups, wide)}
    refs = {p: b.line({"linear": x.ref, "out": list(out)}) for p, out in ports.items()}
    more = b.chance.choice([{}, {}, {"causal": False}, {"scale": "4 ** -0.5"}])
    name = b.line({"stack_attention": refs, **more})
    pieces = b.line({"linear": name, "contract": 2, "out": b.size(WIDTH)})
    equation = "n b t d -> b t d"
    b.line({"einsum": pieces, "equation": equation}, Value("*", (*BATCH, WIDTH), ahead=x.ahead))


def interleaved(b: Body) -> None:
    """What copies in a row gave, behind each token of a line, and both apart again."""
    inserted = b.pick(lambda v: v.dtype == "float" and len(v.shape) == 4 and v.shape[1:] == (*BATCH, WIDTH))
    own = b.pick(lambda v: v.dtype == "float" and v.shape == (*BATCH, WIDTH))
    if not inserted or not own:
        return
    more = b.chance.choice([{}, {}, {"ahead": "lane"}, {"ahead": 2}, {"ahead": "1 - lane"}])
    rows = b.line({"interleave_tokens": {"x": own.ref, "inserted": inserted.ref}, **more})
    if b.chance.random() < 0.5:
        rows = b.line({b.chance.choice(POINTWISE): rows})
    ahead = own.ahead or inserted.ahead
    b.line(
        {"separate_tokens": rows},
        Value("*.own", own.shape, ahead=ahead),
        Value("*.inserted", inserted.shape, ahead=ahead),
    )


LINES = [pointwise, pointwise, numbers, linear, linear, tied, joined, joined, cut, spread, products, along, attention]
ROWS = [pointwise, numbers, linear, joined, cut]  # what an expert can hold


def fill(b: Body, lines: list[Callable[[Body], None]], count: int) -> None:
    for _ in range(count):
        b.chance.choice(lines)(b)


def states(b: Body, ahead: bool = True) -> str:
    """A reference to [B, T, d], made of a late value."""
    x = b.pick(lambda v: v.states and (ahead or not v.ahead))
    assert x
    if x.shape == (*BATCH, WIDTH):
        return x.ref
    return b.line(
        {"linear": x.ref, "contract": len(x.shape) - 2, "out": WIDTH}, Value("*", (*BATCH, WIDTH), ahead=x.ahead)
    )
