"""Numbers, shapes and names as a reader of the picture sees them."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import PurePath
from typing import Any

from dsvgraph.dims import Poly, Size
from dsvgraph.errors import Span, printable
from dsvgraph.graph import Node
from dsvgraph.ops.shapes import shown_size

UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
LONGEST = 36  # characters of a name or of a block's first words on a card
PLACEHOLDERS = ("x", "y", "out", "output")


def number(value: Any) -> str:
    """Return a whole number with thousands apart, or the formula of a symbolic one.

    >>> number(129280)
    '129,280'
    """
    if isinstance(value, (Poly, Fraction)):
        return cut(shown_size(value) if isinstance(value, Poly) else str(value))
    return f"{value:,}"


def short(value: Any) -> str:
    """Return a count in four digits and a unit.

    >>> short(671026419200), short(1234)
    ('671.0 B', '1,234')
    """
    if not isinstance(value, (int, float, Fraction)):
        return number(value)
    for size, unit in UNITS:
        if value >= size and value >= 10_000:
            amount = float(value / size)
            return f"{amount:.{max(0, 3 - len(str(int(amount))) + 1)}f} {unit}"
    return f"{round(value):,}"


def decimal(value: float) -> str:
    """Return a weight of a loss: two decimals where they say it all.

    >>> decimal(1), decimal(0.15), decimal(0.0001)
    ('1.00', '0.15', '0.0001')
    """
    if value == 0:
        return "0"
    return f"{value:.2f}" if abs(value * 100 - round(value * 100)) < 1e-9 else f"{value:.3g}"


def subscript(value: int) -> str:
    """
    >>> subscript(12)
    '₁₂'
    """
    return str(value).translate(SUBSCRIPTS)


def times(node: Node) -> str:
    """Return how often a repeated line runs, and whether its copies share their weights: × 58."""
    return f"× {number(node.count)}" + (", one set of weights" if node.reused else "")


def product(sizes: tuple[Size, ...]) -> str:
    """Return sizes multiplied: 128 × 192."""
    return " × ".join(number(s) for s in sizes)


def features(shape: tuple[Size, ...]) -> str:
    """Return what a value holds at each position: 128 × 64."""
    return " × ".join(number(s) for s in shape[2:] or shape[-1:])


def spot(span: Span | None) -> str:
    """Return the line of a spec, without the folder it is in: a picture travels."""
    return f"{PurePath(span.source.name).name}:{span.line}" if span else ""


def cut(text: str, longest: int = LONGEST) -> str:
    """``text``, printable and not too long for a card."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def first_words(doc: str) -> str:
    """Return what a block's doc calls it: its first words, up to a bracket or a stop; nothing if they are many.

    >>> first_words("Multi-head latent attention (arXiv 2405.04434, section 2.1). Keys and values")
    'Multi-head latent attention'
    """
    words = re.split(r"\s*[(,;:]|\.(?:\s|$)", doc.strip(), maxsplit=1)[0]
    return cut(words) if len(words) <= LONGEST else ""


def op_title(node: Node) -> str:
    """Return the label of an op, cut to the width of a card: RMSNorm, RoPE, clamp to 7."""
    assert node.op is not None
    return cut(node.op.label())


def readable(name: str) -> str:
    """Return the name of a line as a heading: acronyms in capitals, others with a capital letter.

    >>> readable("mtp"), readable("parallel_heads")
    ('MTP', 'Parallel heads')
    """
    text = cut(name.replace("_", " "))
    return text.upper() if len(text) <= 3 else text[:1].upper() + text[1:]


def tokens(ahead: int, first: int = 1, count: int = 4) -> list[str]:
    """Return the names of the tokens that a row shows which is ``ahead`` positions further on."""
    return [f"t{subscript(first + ahead + i)}" for i in range(count)]


def flops(value: float) -> str:
    """Floating-point operations in four digits: 83.49 GFLOP."""
    text = short(value)
    amount, _, unit = text.partition(" ")
    return f"{amount} {unit.replace('B', 'G')}FLOP"
