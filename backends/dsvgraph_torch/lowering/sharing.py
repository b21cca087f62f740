"""Classes that differ only in sizes or in what they hold become one class with arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsvgraph_torch.lowering.source import assign, cloned, identifier, note_of, noted, path, same_code, statement

TOKEN = re.compile(r"\w+(?:\.\w+)*|\W")  # of comments


def suffix(copies: int, whole: bool) -> str:
    """Return what tells the class of copies side by side, or of a part of them, from that of a single one."""
    return ("Each" if whole else "Part") if copies else ""


class Construction(ast.expr):
    """Stands for the construction of the class ``number`` of those that are written."""

    _fields = ("number",)
    number: int


def construction(number: int) -> Construction:
    """Return the construction of class ``number``."""
    tree = Construction()
    tree.number = number
    return tree


@dataclass(eq=False)
class ClassSource:
    """One class while it is written; ``args`` are the block's."""

    name: str
    block: str
    copies: int
    args: Mapping[str, Any]
    init: list[ast.stmt] = field(default_factory=list)
    body: list[ast.stmt] = field(default_factory=list)
    doc: str = ""
    base: str = ""
    parent: ast.expr | None = None  # the construction of the class that this one extends
    constants: list[ast.stmt] = field(default_factory=list)
    params: list[str] = field(default_factory=list)
    given: list[ast.expr] = field(default_factory=list)  # what this one passes for params
    shared: ClassSource | None = None  # the class that is written for it


class NotMergeable(Exception):
    """Two classes differ in more than arguments can tell."""


def share(classes: Sequence[ClassSource], taken: set[str]) -> None:
    """Let classes of one block with the same code be written once; ``taken`` can name no parameter."""
    groups: dict[Any, list[ClassSource]] = {}
    for source in classes:
        parent = source.parent and ast.dump(source.parent)
        body = tuple(map(ast.dump, source.body))
        key = source.block, source.copies, source.base, parent, body, len(source.init)
        groups.setdefault(key, []).append(source)
    for group in groups.values():
        if len(group) > 1 and group[0].block:
            _merge(group, taken)


def _merge(group: list[ClassSource], taken: set[str]) -> None:
    """One class for the group, if every difference is an argument of the block or a whole part."""
    found: dict[str, list[ast.expr]] = {}
    try:
        lines = [_lifted(variants, group, found) for variants in zip(*(s.init for s in group), strict=True)]
    except NotMergeable:
        return
    if taken & found.keys():
        return
    first = group[0]
    first.init, first.params = lines, list(found)
    first.body = [_commented(variants, group) for variants in zip(*(s.body for s in group), strict=True)]
    for i, source in enumerate(group):
        source.given = [values[i] for values in found.values()]
        source.shared = first


def _lifted(variants: Sequence[ast.stmt], group: list[ClassSource], found: dict[str, list[ast.expr]]) -> ast.stmt:
    """Return a line with the differences replaced by argument names; raise NotMergeable if that cannot be."""
    held = [_held(v) for v in variants]
    names = {name for name, _ in held}
    if not same_code(variants) and len(names) == 1 and "" not in names:
        (name,) = names
        _note(name, [part for _, part in held if part], found)
        return assign(f"self.{name}", path(name), note_of(variants[0]))
    return _by_argument(variants, group, found)


def _held(line: ast.stmt) -> tuple[str, ast.expr | None]:
    """Return the name and the part of ``self.name = part``."""
    match line:
        case ast.Assign([ast.Attribute(ast.Name("self"), name)], Construction() as part):
            return name, part
    return "", None


def _by_argument(variants: Sequence[Any], group: list[ClassSource], found: dict[str, list[ast.expr]]) -> Any:
    """Return one tree for all, constants that differ replaced by the names of arguments."""
    first = variants[0]
    if not isinstance(first, ast.AST):
        if any(v != first for v in variants):
            raise NotMergeable
        return first
    if len({type(v) for v in variants}) > 1:
        raise NotMergeable
    if isinstance(first, (ast.Constant, Construction)) and not same_code(variants):
        name = _argument([getattr(v, "value", v) for v in variants], group)
        _note(name, list(variants), found)
        return path(name)
    new = cloned(first)
    for name in first._fields:
        setattr(new, name, _field([getattr(v, name, None) for v in variants], group, found))
    return new


def _field(values: list[Any], group: list[ClassSource], found: dict[str, list[ast.expr]]) -> Any:
    if not isinstance(values[0], list):
        return _by_argument(values, group, found)
    if len({len(v) for v in values}) > 1:
        raise NotMergeable
    return [_by_argument(column, group, found) for column in zip(*values, strict=True)]


def _note(name: str, values: list[ast.expr], found: dict[str, list[ast.expr]]) -> None:
    """Raise NotMergeable unless a parameter of this name can have these values in the variants."""
    known = found.setdefault(name, values)
    if list(map(ast.dump, known)) != list(map(ast.dump, values)):
        raise NotMergeable


def _argument(values: Sequence[Any], group: list[ClassSource]) -> str:
    """Return the block's argument that has these values in the variants; raise NotMergeable if none has."""
    for name in group[0].args:
        if [str(s.args.get(name)) for s in group] == [str(v) for v in values]:
            return name
    raise NotMergeable


def _commented(variants: Sequence[ast.stmt], group: list[ClassSource]) -> ast.stmt:
    """Return the first variant, its comment (and those below it) speaking of arguments where they differ."""
    first = variants[0]
    for attribute in ("body", "orelse"):
        for inner in zip(*(getattr(v, attribute, ()) for v in variants), strict=True):
            _commented(inner, group)
    return noted(first, _comment([note_of(v) for v in variants], group))


def _comment(notes: list[str], group: list[ClassSource]) -> str:
    rows = [TOKEN.findall(note) for note in notes]
    if len(set(notes)) == 1 or len({len(row) for row in rows}) > 1:
        return notes[0]
    try:
        columns = zip(*rows, strict=True)
        return "".join(c[0] if len(set(c)) == 1 else _argument(c, group) for c in columns)
    except NotMergeable:
        return notes[0]


def rename(classes: Sequence[ClassSource], camel: Callable[[str], str], known: set[str]) -> None:
    """A block that is written as one class gives the class its name; ``known`` names are taken."""
    written = [s for s in classes if s.shared in (None, s) and s.block]
    taken = known | {s.name for s in classes if s not in written}
    for source in written:
        plain = camel(source.block) + suffix(source.copies, not source.base)
        which = source.block, source.copies > 0, source.base
        same = [s for s in written if (s.block, s.copies > 0, s.base) == which]
        if len(same) == 1 and plain not in taken | {s.name for s in written}:
            source.name = plain


def definition(source: ClassSource, classes: Sequence[ClassSource]) -> ast.stmt:
    """Return the class as a tree, with constructions written out."""
    filled = Constructed(classes)
    parent: Any = filled.visit(source.parent) if source.parent else None
    base = parent.func if parent else path(source.base or ("Each" if source.copies else "nn.Module"))
    template = "class _(base):\n    def __init__(self):\n        super().__init__(*given)"
    found: Any = statement(template, base=base, given=parent.args if parent else [])
    init = found.body[0]
    found.name = identifier(source.name)
    init.args.args += [ast.arg(identifier(p)) for p in source.params]
    init.body += [filled.visit(line) for line in source.init]
    found.body = [ast.Expr(ast.Constant(source.doc)), *source.constants, init, *source.body]
    return found


class Constructed(ast.NodeTransformer):
    """Constructions written out."""

    def __init__(self, classes: Sequence[ClassSource]) -> None:
        self.classes = classes

    def visit_Construction(self, node: Any) -> ast.expr:
        source = self.classes[node.number]
        return ast.Call(path((source.shared or source).name), [self.visit(cloned(g)) for g in source.given], [])
