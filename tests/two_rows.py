"""Random wirings of two inputs with rows of their own."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

import dsvgraph
from dsvgraph.graph import Model

SPEC = """
config: {{d: 4}}
blocks:
  look:
    args: {{d, causal: true}}
    in: {{x: "[B, T, d]", y: "[B, S, d]"}}
    body:
      q: {{linear: x, out: [2, 2]}}
      k: {{linear: y, out: [2, 2]}}
      v: {{linear: y, out: [2, 2]}}
      a: {{attention: {{q: q, k: k, v: v}}, causal: causal}}
      o: {{linear: a, contract: 2, out: d}}
      s: {{add: [x, o]}}
    out: {{x: s}}
  pair:
    args: {{d}}
    in: {{x: "[B, T, d]", y: "[B, S, d]"}}
    body:
      n: {{shift: x, by: 1}}
      m: {{look: {{x: n, y: y}}, causal: false}}
    out: {{x: m}}
graph:
  in: {{x: "[B, T, d]", z: "[B, {length}, d]"}}
  body:
    {body}
  out: {{y: {out}}}
"""


def model(body: list[str], out: str, length: str = "S") -> Model:
    return dsvgraph.loads(SPEC.format(body="\n    ".join(body), out=out, length=length))


@dataclass
class Program:
    """A random body over two rows, and the names of each row's values."""

    lines: list[str] = field(default_factory=list)
    rows: dict[str, list[str]] = field(default_factory=lambda: {"x": ["x"], "z": ["z"]})


@st.composite
def programs(draw: st.DrawFn) -> Program:
    made = Program()
    for number in range(draw(st.integers(1, 7))):
        name, row = f"n{number}", draw(st.sampled_from("xxz"))
        other = "z" if row == "x" else "x"
        a, b, c = (draw(st.sampled_from(made.rows[r])) for r in (row, row, other))
        line = draw(st.sampled_from([
            f"{{silu: {a}}}", f"{{add: [{a}, {b}]}}", f"{{shift: {a}, by: {draw(st.integers(1, 2))}}}",
            f"{{look: {{x: {a}, y: {b}}}}}", f"{{look: {{x: {a}, y: {b}}}, causal: false}}",
            f"{{look: {{x: {a}, y: {c}}}, causal: false}}", f"{{pair: {{x: {a}, y: {c}}}, repeat: 2}}",
        ]))  # fmt: skip
        made.lines.append(f"{name}: {line}")
        made.rows[row].append(name)
    return made
