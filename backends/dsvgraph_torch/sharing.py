"""Classes that differ only in sizes or in what they hold become one class with arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TOKEN = re.compile(r"<\d+>|\w+(?:\.\w+)*|\W")
ASSIGN = re.compile(r"self\.(\w+) = (<\d+>)$")


@dataclass(eq=False)
class Text:
    """One class as text. ``<3>`` stands for the construction of class 3; ``args`` are the block's."""

    name: str
    block: str
    copies: int
    args: Mapping[str, Any]
    init: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    doc: str = ""
    base: str = ""
    parent: str = ""  # what stands for the class that this one extends
    constants: list[str] = field(default_factory=list)
    params: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)  # what this one passes for params
    shared: Text | None = None  # the class that is written for it


def share(classes: Sequence[Text], taken: set[str]) -> None:
    """Lets classes of one block with the same code be written once; ``taken`` can name no parameter."""
    groups: dict[Any, list[Text]] = {}
    for text in classes:
        groups.setdefault(
            (text.block, text.copies, text.parent, tuple(map(_code, text.body)), len(text.init)), []
        ).append(text)
    for group in groups.values():
        if len(group) > 1 and group[0].block:
            _merge(group, taken)


def _code(line: str) -> str:
    return line.partition("  # ")[0].rstrip()


def _merge(group: list[Text], taken: set[str]) -> None:
    """One class for the group, if every difference is an argument of the block or a whole part."""
    found: dict[str, list[str]] = {}
    lines = [_lifted(variants, group, found) for variants in zip(*(t.init for t in group), strict=True)]
    if any(line is None for line in lines) or taken & found.keys():
        return
    first = group[0]
    first.init = [line for line in lines if line is not None]
    first.params = list(found)
    first.body = [_comment(variants, group) for variants in zip(*(t.body for t in group), strict=True)]
    for i, text in enumerate(group):
        text.given = [values[i] for values in found.values()]
        text.shared = first


def _lifted(variants: Sequence[str], group: list[Text], found: dict[str, list[str]]) -> str | None:
    """A line with the differences replaced by argument names; None where that cannot be."""
    if len(set(variants)) == 1:
        return variants[0]
    parts = [ASSIGN.match(v) for v in variants]
    if all(parts) and len({p[1] for p in parts if p}) == 1:
        name = parts[0][1]  # type: ignore[index]
        return f"self.{name} = {name}" if _noted(name, [p[2] for p in parts if p], found) else None
    return _by_argument(variants, group, found)


def _by_argument(variants: Sequence[str], group: list[Text], found: dict[str, list[str]]) -> str | None:
    rows = [TOKEN.findall(v) for v in variants]
    if len({len(r) for r in rows}) > 1:
        return None
    out = []
    for column in zip(*rows, strict=True):
        name = column[0] if len(set(column)) == 1 else _argument(column, group)
        if name is None or (len(set(column)) > 1 and not _noted(name, list(column), found)):
            return None
        out.append(name)
    return "".join(out)


def _noted(name: str, values: list[str], found: dict[str, list[str]]) -> bool:
    """Whether a parameter of this name can have these values in the variants."""
    return found.setdefault(name, values) == values


def _argument(values: Sequence[str], group: list[Text]) -> str | None:
    """The block's argument that has these values in the variants."""
    for name in group[0].args:
        if [str(t.args.get(name)) for t in group] == list(values):
            return name
    return None


def _comment(variants: Sequence[str], group: list[Text]) -> str:
    if len(set(variants)) == 1:
        return variants[0]
    code, mark, _ = variants[0].partition("  # ")
    notes = [v.partition("  # ")[2] for v in variants]
    return code + mark + (_by_argument(notes, group, {}) or notes[0])


def rename(classes: Sequence[Text], camel: Callable[[str], str], known: set[str]) -> None:
    """A block that is written as one class gives the class its name; ``known`` names are taken."""
    written = [t for t in classes if t.shared in (None, t) and t.block]
    taken = known | {t.name for t in classes if t not in written}
    for text in written:
        plain = camel(text.block) + ("Each" if text.copies else "")
        alike = [t for t in written if (t.block, t.copies > 0) == (text.block, text.copies > 0)]
        if len(alike) == 1 and plain not in taken | {t.name for t in written}:
            text.name = plain


def construct(number: int, classes: Sequence[Text]) -> str:
    """The text that makes an instance of class ``number``."""
    text = classes[number]
    written = text.shared or text
    return f"{written.name}({', '.join(fill(g, classes) for g in text.given)})"


def fill(line: str, classes: Sequence[Text]) -> str:
    """``line`` with constructions written out."""
    return re.sub(r"<(\d+)>", lambda m: construct(int(m[1]), classes), line)
