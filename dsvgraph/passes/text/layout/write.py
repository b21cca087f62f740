"""A tree back to text, in the canonical style."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from dsvgraph.passes.text.layout.tree import Item, Tree, TreeKind
from dsvgraph.passes.text.scalars import LINE_WIDTH, PROSE_WIDTH, in_braces, literal, on_line, prose

ASIDE = 43  # the column of a comment beside a line, where the line is shorter
STEP = "  "
SECTIONS = ("config", "blocks", "graph", "loss", "init", "trained", "published")
BEGINS = re.compile(r"^[?:]|[-?:]$")  # in a text without quotes, where braces let it pass and a line does not
NAMED = (("graph", "body"), ("blocks", "*", "body"), ("loss",))  # whose lines stand in columns


def written(root: Tree) -> str:
    """Return the text of a spec."""
    lines = list(_block(root, "", ())) if root.items else [_inline(root, on_line)]
    return "\n".join(_without_edges([*lines, *root.below])) + "\n"


def _without_edges(lines: list[str]) -> list[str]:
    first = next((n for n, line in enumerate(lines) if line), 0)
    last = next((n for n in range(len(lines), 0, -1) if lines[n - 1]), 0)
    return lines[first:last]


def _block(tree: Tree, indent: str, path: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of an opened mapping or list."""
    widths = _columns(tree, indent) if _matches(path) else {}
    for number, item in enumerate(tree.items):
        if not path and number and item.key and item.key.text in SECTIONS and "" not in item.above[:1]:
            yield ""
        above = item.above if number or not path else _without_edges(item.above)
        yield from (f"{indent}{words}" if words else "" for words in above)
        yield from _item(item, indent, path, widths.get(number, 0))
    if path:
        yield from (f"{indent}{words}" if words else "" for words in tree.below)


def _matches(path: tuple[str, ...]) -> bool:
    return any(len(p) == len(path) and all(a in ("*", b) for a, b in zip(p, path, strict=True)) for p in NAMED)


def _columns(tree: Tree, indent: str) -> dict[int, int]:
    """Return the width of the names, for lines of braces that follow each other without a break."""
    found: dict[int, int] = {}
    short = [_fits(item, indent) and item.value.kind is TreeKind.MAPPING for item in tree.items]
    breaks = [number for number, item in enumerate(tree.items) if item.above or not short[number]]
    runs = groupby(range(len(tree.items)), lambda n: (short[n], sum(b <= n for b in breaks)))
    for (braces, _), numbers in runs:
        run = list(numbers)
        if braces:
            found |= dict.fromkeys(run, max(len(_key(tree.items[n])) for n in run))
    return found


def _key(item: Item) -> str:
    if item.key is None:
        return "-"
    return _inline(item.key, on_line) + ":"


def _fits(item: Item, indent: str) -> bool:
    value = item.value
    if value.kind is TreeKind.ALIAS or not (value.items or value.kind is TreeKind.SCALAR):
        return True
    width = len(f"{indent}{_key(item)} {_inline(value, in_braces)}")
    if value.kind is TreeKind.SCALAR:
        folds = width > LINE_WIDTH and item.key and item.key.text == "doc" and prose(value.text, "")
        return value.style not in ("|", ">") and not folds
    return value.flow and not value.commented and width <= LINE_WIDTH


def _item(item: Item, indent: str, path: tuple[str, ...], width: int) -> Iterator[str]:
    """Yield one item: a line if it fits, otherwise a line for each thing inside."""
    head = f"{indent}{_key(item).ljust(width)}"
    if _fits(item, indent):
        text = _inline(item.value, on_line if item.value.kind is TreeKind.SCALAR else in_braces)
        yield _aside(f"{head} {text}".rstrip(), item.beside)
        return
    anchor = f" &{item.value.anchor}" if item.value.anchor else ""
    if item.value.kind is TreeKind.SCALAR:
        yield from _text(item, f"{indent}{_key(item)}{anchor}", indent + STEP)
        return
    inner = _block(item.value, indent + STEP, (*path, item.key.text if item.key else ""))
    if item.key or anchor:
        yield _aside(f"{indent}{_key(item)}{anchor}", item.beside)
        yield from inner
    else:
        yield from _dashed(item.beside, list(inner), indent)


def _dashed(comment: str, lines: list[str], indent: str) -> Iterator[str]:
    """Yield an opened item of a list: its first line stands after the dash, comments before it."""
    first = next(n for n, line in enumerate(lines) if line and not line.lstrip().startswith("#"))
    yield from (f"{indent}{line.strip()}".rstrip() for line in ([comment] * bool(comment) + lines[:first]))
    yield f"{indent}- {lines[first].lstrip()}"
    yield from lines[first + 1 :]


def _aside(line: str, comment: str) -> str:
    return f"{line:<{ASIDE}}{comment}" if comment and len(line) < ASIDE else f"{line}  {comment}".rstrip()


def _text(item: Item, head: str, indent: str) -> Iterator[str]:
    """Return a text of several lines, literal or folded; a short one, or one that neither can hold, on one."""
    text, kept = item.value.text, item.value.style == "|"
    body = literal(text, indent) if kept else prose(text, indent)
    short = "\n" not in text and len(head) + 1 + len(text) < PROSE_WIDTH
    if body is None or (short and not kept):
        yield _aside(f"{head} {in_braces(text) if body is None else on_line(text)}", item.beside)
    else:
        sign = "" if text.endswith("\n") else "-"
        yield _aside(f"{head} {'|' if kept else '>'}{sign}", item.beside)
        yield from body


def _inline(tree: Tree, scalar: object) -> str:
    """Return a value on one line."""
    anchor = f"&{tree.anchor} " if tree.anchor else ""
    if tree.kind is TreeKind.ALIAS:
        return f"*{tree.text}"
    if tree.kind is TreeKind.SCALAR:
        style = on_line if scalar is on_line else in_braces
        plain = not tree.style and tree.text.isprintable() and not BEGINS.search(tree.text)
        return (anchor + (tree.text if plain else style(tree.text))).rstrip()
    inner = ", ".join(_pair(item) for item in tree.items)
    return anchor + (f"{{{inner}}}" if tree.kind is TreeKind.MAPPING else f"[{inner}]")


def _pair(item: Item) -> str:
    key = _inline(item.key, in_braces) if item.key else ""
    return ": ".join(text for text in (key, _inline(item.value, in_braces)) if text)
