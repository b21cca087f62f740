"""Good specs at random: one number, a seed, is one spec of any ops and any constructs of the language, of tiny sizes.

Types are followed as the text is made, so that nearly every spec checks; what it must then do stands in `whole.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lines import (
    BATCH,
    LINES,
    ROWS,
    VOCABULARY,
    WIDTH,
    Body,
    Value,
    attention,
    fill,
    interleaved,
    joined,
    pointwise,
    stack_attention,
    states,
)
from mutants import as_yaml

# -- blocks ---------------------------------------------------------------------------------------


@dataclass
class Maker:
    """A whole spec while it is made."""

    chance: random.Random
    blocks: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=lambda: {"V": VOCABULARY, "d": WIDTH, "n": 2, "wide": "d // 2 + 2"})
    leaks: set[str] = field(default_factory=set)  # blocks that look ahead
    bodies: int = 0

    def body(self, args: dict[str, Any]) -> Body:
        self.bodies += 1
        return Body(self.chance, args=args, stem=f"b{self.bodies}_")

    def block(self, lines: list[Callable[[Body], None]], ports: dict[str, str], count: int) -> Body:
        body = self.body({"d": WIDTH, "w": 6})
        body.values += [Value(p, _shape(t), "int" if t.startswith("int") else "float") for p, t in ports.items()]
        fill(body, lines, count)
        return body

    def add(self, kind: str, body: Body, ports: dict[str, str], out: Any) -> str:
        name = f"{kind}{len(self.blocks)}"
        self.blocks[name] = {
            "doc": f"A {kind}.",
            "args": {"d": None, "w": "wide"},
            "in": ports,
            "body": body.lines,
            "out": out,
        }
        self.blocks[name]["args"]["w"] = self.chance.choice([6, "d - 2"])
        return name

    def layer(self) -> str:
        """[B, T, d] -> the same, under one name, so that copies chain."""
        body = self.block([*LINES, self.call, self.experts], ports := {"x": "[B, T, d]"}, self.chance.randrange(2, 7))
        y = states(body)
        out = {"x": body.line({"add": ["x", y]}) if y != "x" else y}
        side = self.chance.random() < 0.3
        if side:
            out["side"] = states(body)
        name = self.add("layer", body, ports, out)
        if any(v.ahead for v in body.values):
            self.leaks.add(name)
        return name

    def expert(self) -> str:
        """Rows of d numbers to rows of d numbers, each for itself."""
        body = self.block(ROWS, {"x": "[B, T, d]"}, self.chance.randrange(1, 5))
        if not body.lines:
            body.line({"times": "x", "by": 1.0}, Value("*", (*BATCH, WIDTH)))
        y = body.line({"linear": states(body), "out": "d"})
        return self.add("expert", body, {"x": "[..., d]"}, y)

    # -- lines that call blocks

    def call(self, b: Body) -> None:
        """A layer once, or copies of it in a row; copies that differ, that share weights, that run side by side."""
        x = b.pick(lambda v: v.shape == (*BATCH, WIDTH) and v.dtype == "float")
        if not x or len(self.blocks) > 9:
            return
        name = self.layer()
        ahead = x.ahead or name in self.leaks
        copies: list[dict[str, Any]] = [
            {}, {"repeat": 2}, {"repeat": "n + 1"}, {"repeat": 2, "tied": True}, {"w": [4, 6], "repeat": 3},
            {"w": "index + 2", "repeat": 2}, {"repeat": 3, "at": "layers"}, {"at": "."}, {"w": 5}, {"repeat": 0},
        ]  # fmt: skip
        more = self.chance.choice(copies)
        if "n" in str(more.get("repeat", "")) and b.args:
            more = {"repeat": 3}
        if more.get("at") == "layers":
            more = {**more, "at": f"layers{len(self.blocks)}"}
        b.line({name: x.ref, **more}, Value("*.x", (*BATCH, WIDTH), ahead=ahead))
        if "side" in self.blocks[name]["out"] and more.get("repeat") != 0:
            count = {"n + 1": 3}.get(more.get("repeat"), more.get("repeat"))
            shape = (*BATCH, WIDTH) if count is None else (count, *BATCH, WIDTH)
            b.values.append(Value(f"{b.stem}{b.taken}.side", shape, ahead=ahead))
            if self.chance.random() < 0.7:
                stack_attention(b)
            if self.chance.random() < 0.5:
                interleaved(b)

    def experts(self, b: Body) -> None:
        """A router, and what it chooses among: equal experts, some that differ, or one matrix each."""
        x = b.pick(lambda v: v.shape == (*BATCH, WIDTH) and v.dtype == "float")
        if not x or len(self.blocks) > 12:
            return
        count, k = self.chance.choice([(4, 2), (2, 1), (6, 3)])
        options: list[dict[str, Any]] = [
            {}, {"score": "softmax"}, {"groups": 2, "top_groups": 2}, {"bias": True}, {"correction_bias": False},
            {"normalize": False}, {"scaling": 2.5}, {"groups": 2, "top_groups": 2, "group_score": "max"},
        ]  # fmt: skip
        more = self.chance.choice(options)
        if more.get("groups") and count == 2:
            more = {}
        gate = b.line({"router": x.ref, "experts": count, "top_k": k, **more})
        sent = b.line({"dispatch": {"x": x.ref, "index": f"{gate}.index"}, "experts": count})
        back = b.line(self._each(sent, count))
        b.line({"combine": {"x": back, "index": f"{gate}.index", "score": f"{gate}.score"}}, x._replace(ref="*"))

    def _each(self, sent: str, count: int) -> dict[str, Any]:
        kinds: list[Callable[[], dict[str, Any]]] = [
            lambda: {self.expert(): sent},
            lambda: {self.expert(): sent},
            lambda: {self.expert(): sent, "w": "index + 2"},
            lambda: {self.expert(): sent, "w": [4, 6]},
            lambda: {self._held(): sent},
            lambda: {"linear": sent, "out": WIDTH},
            lambda: {"linear": sent, "out": WIDTH, "bias": True},
            lambda: {self.chance.choice(["silu", "rms_norm", "layer_norm", "affine"]): sent},
        ]
        return {**self.chance.choice(kinds)(), "each": count}

    def _held(self) -> str:
        """A block that calls what it is given, one thing for some copies and another for the others."""
        one, two = self.expert(), self.expert()
        name = f"either{len(self.blocks)}"
        self.blocks[name] = {
            "args": {"d": None, "f": one, "w": 6}, "in": {"x": "[..., d]"},
            "body": {"a": {"f": "x", "at": self.chance.choice([".", "inner"])}, "y": {"add": ["x", "a"]}}, "out": "y",
        }  # fmt: skip
        outer = f"{name}_by"
        self.blocks[outer] = {
            "args": {"d": None}, "in": {"x": "[..., d]"}, "body": {"z": {name: "x", "f": two, "at": "."}}, "out": "z",
        }  # fmt: skip
        return self.chance.choice([name, outer])


def _shape(text: str) -> tuple[Any, ...]:
    return tuple(
        {"d": WIDTH, "V": VOCABULARY}.get(s.strip(), s.strip()) for s in text.partition("[")[2].rstrip("]").split(",")
    )


# -- the whole spec -------------------------------------------------------------------------------

DEPTH = {"h": "[B, T, d]", "ids": "int[B, T]", "table": "[V, d]"}


def _depth(m: Maker) -> str:
    """One depth of a chain that predicts further ahead."""
    body = m.body({"d": WIDTH})
    following = body.line({"shift": "ids", "by": 1})
    read = body.line({"embedding": following, "weight": "table"})
    both = body.line({m.chance.choice(["add", "concat"]): ["h", read]})
    state = body.line({"linear": both, "out": "d"}, Value("*", (*BATCH, WIDTH)))
    fill(body, [pointwise, joined, attention, m.experts], m.chance.randrange(3))
    state = states(body, ahead=False)
    logits = body.line({"linear": state, "out": "V", "weight": "table"})
    name = m.add("depth", body, DEPTH, {"h": state, "ids": following, "logits": logits})
    m.blocks[name]["args"]["V"] = None
    return name


def _begin(m: Maker) -> tuple[Body, str]:
    """The graph's body with its inputs embedded, and the name of the table."""
    body = Body(m.chance, args={"d": WIDTH, "n": 2})
    table = body.line({"embedding": "ids", "num": "V", "dim": "d"}, Value("*", (*BATCH, WIDTH)))
    body.values.append(Value(f"{table}.weight", (VOCABULARY, WIDTH), "weight"))
    return body, table


def _heads(m: Maker, body: Body, table: str) -> dict[str, str]:
    """The outputs: logits, at times of more depths or of a head that nothing scores."""
    state = states(body, ahead=False)
    shared = {"weight": f"{table}.weight"} if m.chance.random() < 0.4 else {}
    out = {"logits": body.line({"linear": state, "out": "V", **shared})}
    if m.chance.random() < 0.4:
        chain = {
            _depth(m): {"h": state, "ids": "ids", "table": f"{table}.weight"},
            "repeat": m.chance.choice([1, 2, "n", 0]),
        }
        if m.chance.random() < 0.2 and chain["repeat"] != 0:
            chain["tied"] = True
        out["more"] = f"{body.line(chain)}.logits"
        if chain["repeat"] == 0:
            body.lines[f"n{body.taken}"]["repeat"] = "n - 2"
    if m.chance.random() < 0.2:
        out["states"] = states(body)
    return out


def _losses(m: Maker, out: dict[str, str], body: Body) -> dict[str, Any]:
    """What is trained: every kind of loss and of formula."""
    pick = m.chance.choice
    line = {"cross_entropy": "logits", "target": "ids"}
    found: dict[str, Any] = {
        "next": {
            **line,
            **pick([{}, {"shift": 1}, {"weight": 0.5}, {"divide": "B * T"}, {"weight": "1 if tokens < 100 else 0.5"}]),
        }
    }
    if "more" in out:
        weight = pick([0.3, "0.5 ** depth", "0.3 / max(n, 1)", "[0.3, 0.2, 0.1][depth - 1]"])
        if weight.__class__ is str and weight.startswith("["):
            m.config["decay"], weight = [0.3, 0.2, 0.1], "decay[depth - 1]"
        found["later"] = {"cross_entropy": "more", "target": "ids", "shift": "depth + 1", "weight": weight}
    if _routes(m, [*body.lines.values()]):
        if m.chance.random() < 0.5:
            found["even"] = {"sequence_balance": "**", "weight": 1e-3}
        if m.chance.random() < 0.5:
            found["moved"] = {
                "bias_update": pick(["**", "n*"]) if any("router" in line for line in body.lines.values()) else "**",
                "speed": "0.01 if tokens < 1000 else 0",
            }
    return found


def _routes(m: Maker, lines: list[dict[str, Any]]) -> bool:
    """Whether one of the lines routes, or calls a block that does (copies that are none do not count)."""
    for line in lines:
        callee = next(iter(line))
        inner = m.blocks.get(callee)
        if callee == "router" or (
            inner and line.get("repeat") not in (0, "n - 2") and _routes(m, [*inner["body"].values()])
        ):
            return True
    return False


def spec(seed: int) -> str:
    """The text of the spec numbered ``seed``."""
    chance = random.Random(seed)
    m = Maker(chance)
    body, table = _begin(m)
    inputs = {"ids": "int[B, T]"}
    fill(body, [*LINES, m.call, m.call, m.experts], chance.randrange(2, 9))
    out = _heads(m, body, table)
    data: dict[str, Any] = {"name": f"random {seed}", "config": m.config, "blocks": m.blocks}
    data["graph"] = {"in": inputs, "body": body.lines, "out": out}
    data["loss"] = _losses(m, out, body)
    if chance.random() < 0.5:
        data["init"] = {"**": {"normal": "d ** -0.5"}, "**norm.weight": "ones", "**bias": "zeros"}
    if chance.random() < 0.3:
        data["trained"] = {chance.choice(["n1.*", "**bias", "**.0.**"]): False}
    return as_yaml(data)
