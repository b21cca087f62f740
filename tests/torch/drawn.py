"""Random specs of everything that a line can be, for tests of how they decode: a seed, a text."""

from __future__ import annotations

import random

D, H, W = 8, 2, 4  # values are "x", [B, T, D], or "h", [B, T, H, W]
TYPES = {"x": f"[B, T, {D}]", "h": f"[B, T, {H}, {W}]"}
FOLDS = """
  expert:
    in: {x: "[..., 8]"}
    body: {up: {linear: x, out: 8}, act: {silu: up}}
    out: act
  fold:
    in: {x: "[B, T, 8]", s: "[B, T, 8]"}
    body: {sum: {add: [x, s]}}
    out: {x: sum}
  fold_late:
    in: {x: "[B, T, 8]", s: "[B, T, 8]"}
    body: {late: {shift: s, by: -1}, k: {linear: s, out: [2, 4]}, a: {attention: {q: k, k: k, v: k}},
           o: {linear: a, contract: 2, out: 8}, sum: {add: [x, late, o]}}
    out: {x: sum}
"""
SAME = ["silu", "gelu", "relu", "sigmoid", "tanh", "detach", "dropout", "rms_norm", "layer_norm", "affine"]


class Drawing:
    """One spec. ``ahead`` allows lines that look at later positions; without ``cuts`` no block has a list `cache`."""

    def __init__(self, seed: int, ahead: bool = False, cuts: bool = True) -> None:
        self.random, self.ahead, self.cuts = random.Random(seed), ahead, cuts
        self.blocks: list[str] = []
        self.number = 0
        self.looked: list[str] = []  # what the lines of a body need of earlier positions
        self.inside: set[str] = set()  # blocks that stand in line somewhere: once, as addresses must differ
        self.signatures: dict[str, tuple[dict[str, str], dict[str, str]]] = {}

    def text(self) -> str:
        """The whole spec."""
        for i in range(self.random.randint(1, 3)):
            self.block(f"b{i}")
        self.looked = []
        lines, pool = ["e: {embedding: ids, num: 17, dim: 8}"], {"e": "x"}
        self.lines(lines, pool, self.random.randint(4, 9))
        last = [name for name, kind in pool.items() if kind == "x"][-5:]
        lines += [f"last: {{add: [{', '.join(last)}]}}", "y: {linear: last, out: 17}"]
        cut = self.cut(pool, ["e"], 0.15)
        blocks = f"blocks:{FOLDS}" + "\n".join(self.blocks)
        body = "\n".join(f"    {line}" for line in lines)
        return f'{blocks}\ngraph:\n  in: {{ids: "int[B, T]"}}\n  body:\n{body}\n  out: {{logits: y}}\n{cut("  ")}'

    def block(self, name: str) -> None:
        """A block with one stream, perhaps other inputs, and perhaps a second output."""
        ins = {"x": "x"} | {f"i{i}": self.random.choice("xhh") for i in range(self.random.choice([0, 0, 1, 2]))}
        lines: list[str] = []
        self.looked, pool = [], dict(ins)
        self.lines(lines, pool, self.random.randint(3, 7))
        streams = [n for n, kind in pool.items() if kind == "x" and n not in ins] or ["x"]
        lines.append(f"out: {{add: [x, {streams[-1]}]}}")
        outs = {"x": ("out", "x")}
        if self.random.random() < 0.5:
            more = self.random.choice(self.looked or list(pool))
            outs["more"] = (more, pool[more])
        cut = self.cut(pool, list(ins), 0.6)
        typed = ", ".join(f'{n}: "{TYPES[kind]}"' for n, kind in ins.items())
        body = "\n".join(f"      {line}" for line in lines)
        named = ", ".join(f"{n}: {ref}" for n, (ref, _) in outs.items())
        text = f"  {name}:\n    in: {{{typed}}}\n    body:\n{body}\n    out: {{{named}}}\n{cut('    ')}"
        self.blocks.append(text.rstrip())
        self.signatures[name] = ins, {n: kind for n, (_, kind) in outs.items()}

    def cut(self, pool: dict[str, str], ins: list[str], chance: float):
        """The list `cache` of a block: what it needs, its inputs, or any of its values."""
        if not self.cuts or self.random.random() > chance:
            return lambda indent: ""
        some = self.random.sample(list(pool), min(len(pool), self.random.randint(1, 3)))
        chosen = self.random.choice([list(dict.fromkeys(self.looked)) or some, ins, ins, some])
        return lambda indent: f"{indent}cache: [{', '.join(chosen)}]\n"

    def lines(self, lines: list[str], pool: dict[str, str], count: int) -> None:
        for _ in range(count):
            kinds = [self.same, self.stream, self.heads, self.shift, self.sum, self.attend, self.attend, self.call]
            self.random.choice([*kinds, self.call, self.rope, self.other])(lines, pool, self.name())

    def name(self) -> str:
        """A name of its own for every line of the spec, so that blocks in line do not meet."""
        self.number += 1
        return f"v{self.number}"

    def one(self, pool: dict[str, str], kind: str = "xh") -> str:
        """Some value of a kind, the later ones more often."""
        found = [name for name, k in pool.items() if k in kind]
        return found[-1 - min(int(self.random.expovariate(0.5)), len(found) - 1)] if found else ""

    def put(self, lines: list[str], pool: dict[str, str], name: str, text: str, kind: str) -> None:
        lines.append(f"{name}: {{{text}}}")
        pool[name] = kind

    # -- lines -------------------------------------------------------------------------------

    def same(self, lines: list[str], pool: dict[str, str], name: str) -> None:
        x = self.one(pool)
        more = self.random.choice([f"{op}: {x}" for op in SAME] + [f"times: {x}, by: 0.5", f"clamp: {x}, max: 1.5"])
        self.put(lines, pool, name, more, pool[x])

    def stream(self, lines: list[str], pool: dict[str, str], name: str) -> None:
        x = self.one(pool)
        self.put(lines, pool, name, f"linear: {x}, out: {D}" + (", contract: 2" if pool[x] == "h" else ""), "x")

    def heads(self, lines: list[str], pool: dict[str, str], name: str) -> None:
        self.put(lines, pool, name, f"linear: {self.one(pool, 'x')}, out: [{H}, {W}]", "h")

    def rope(self, lines: list[str], pool: dict[str, str], name: str) -> None:
        x = self.one(pool)
        turned = self.random.choice(["", ", interleave: true", ", theta: 100, scaling: {type: linear, factor: 2}"])
        self.put(lines, pool, name, f"rope: {x}{turned}", pool[x])

    def shift(self, lines: list[str], pool: dict[str, str], name: str) -> None:
        x, by = self.one(pool), -self.random.randint(1, 3)
        by = -by if self.ahead and self.random.random() < 0.3 else by
        fill = self.random.choice(["", ", fill: 2"])
        self.looked.append(x)
        self.put(lines, pool, name, f"shift: {x}, by: {by}{fill}", pool[x])

    def sum(self, lines: list[str], pool: dict[str, str], name: str) -> None:
        kind = pool[self.one(pool)]
        op = self.random.choice(["add", "add", "mul"])
        self.put(lines, pool, name, f"{op}: [{self.one(pool, kind)}, {self.one(pool, kind)}]", kind)

    def attend(self, lines: list[str], pool: dict[str, str], name: str) -> None:
        while sum(kind == "h" for kind in pool.values()) < 2:
            self.heads(lines, pool, self.name())
        more = self.random.choice(["", "", ", window: 2", ", window: 3, sinks: true", ", sinks: true"])
        more += ", causal: false" if self.ahead and self.random.random() < 0.2 else ""
        q, k, v = (self.one(pool, "h") for _ in range(3))
        self.looked += [k, v]
        self.put(lines, pool, name, f"attention: {{q: {q}, k: {k}, v: {v}}}{more}", "h")

    def other(self, lines: list[str], pool: dict[str, str], name: str) -> None:
        """Ops that change a shape on the way: a few lines that end in a stream."""
        x, y = self.one(pool, "x"), self.one(pool, "x")
        fold = self.random.choice(["fold", "fold_late"])
        found = self.random.choice([
            [f"concat: [{x}, {y}]", f"linear: {name}a, out: {D}"],
            [f"linear: {x}, out: 12", f"split: {name}a, into: {{a: 4, b: {D}}}", f"silu: {name}b.b"],
            [f"expand: {x}, size: 3", f'einsum: [{name}a, {y}], equation: "b t n d, b t d -> b t d"'],
            [f"linear: {x}, out: {D}, each: 3, share: [x]", f"{fold}: {{x: {y}, s: {name}a}}, slice: [s], repeat: 3"],
            [f"rms_norm: {x}, repeat: 2"],
            [f"router: {x}, experts: 4, top_k: 2", f"dispatch: {{x: {y}, index: {name}a.index}}, experts: 4",
             f"expert: {name}b, each: 4",
             f"combine: {{x: {name}c, index: {name}a.index, score: {name}a.score}}"],
        ])  # fmt: skip
        for letter, text in zip("abc", found[:-1], strict=False):
            lines.append(f"{name}{letter}: {{{text}}}")
        self.put(lines, pool, name, found[-1], "x")

    def call(self, lines: list[str], pool: dict[str, str], name: str) -> None:
        """A block: once, at an address or in line, or in copies that may use one set of weights."""
        known = list(self.signatures)
        if not known:
            return self.stream(lines, pool, name)
        block = self.random.choice(known)
        ins, outs = self.signatures[block]
        if any(kind not in pool.values() for kind in ins.values()):
            return self.heads(lines, pool, name)
        wired = ", ".join(f"{port}: {self.one(pool, kind)}" for port, kind in ins.items())
        more = self.random.choice(["", "", f", at: deep.{name}", ", at: .", ", repeat: 2", ", repeat: 3, tied: true"])
        if more == ", at: .":
            more = "" if block in self.inside else more
            self.inside.add(block)
        lines.append(f"{name}: {{{block}: {{{wired}}}{more}}}")
        pool[f"{name}.x"] = "x"
        if "repeat" not in more:
            pool.update({f"{name}.{port}": kind for port, kind in outs.items() if port != "x"})
        return None
