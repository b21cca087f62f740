"""Emitted source as syntax trees: what a spec says enters it as a constant or as a checked name.

Python text is written here in templates alone, which are constants of this package. Whatever is filled in is
a tree, or a value that becomes a literal, so no text of a spec can end one. `printed` is the only way to text,
and it parses its own result: a name that is none, or a comment that were more, cannot pass.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from dsvgraph_torch.runtime.trees import equal, nodes

Filling = Mapping[str, Any]
NOTHING = "[]"  # in place of a name: what no copies made
COLUMN = 80  # where comments begin
DIFFERS = "emitted source is not what was meant"


def literal(value: Any) -> ast.expr:
    """Return the literal of a value that a spec can hold; raise TypeError for any other."""
    if isinstance(value, ast.expr):
        return cloned(value)
    if value is None or isinstance(value, (bool, str)):
        return ast.Constant(value)
    if isinstance(value, (int, float)):
        return ast.Constant(value) if str(value)[0] != "-" else ast.UnaryOp(ast.USub(), ast.Constant(-value))
    if isinstance(value, tuple):
        return ast.Tuple([literal(v) for v in value], ast.Load())
    if isinstance(value, list):
        return ast.List([literal(v) for v in value], ast.Load())
    if isinstance(value, dict):
        return ast.Dict([literal(k) for k in value], [literal(v) for v in value.values()])
    raise TypeError(f"{type(value).__name__} has no literal in emitted source")


def identifier(text: str) -> str:
    """Return ``text``, which must be a name in Python; raise ValueError if it is none."""
    if not (text.isidentifier() and text.isascii()) or keyword.iskeyword(text):
        raise ValueError(f"{text!r} is no identifier")
    return text


def path(text: str) -> ast.expr:
    """Return what a dotted name stands for: ``self.embed.weight``; a number is an index, ``self.layers.3``."""
    first, *rest = text.split(".")
    tree: ast.expr = ast.Name(identifier(first), ast.Load())
    for step in rest:
        if step.isascii() and step.isdigit():
            tree = ast.Subscript(tree, ast.Constant(int(step)), ast.Load())
        else:
            tree = ast.Attribute(tree, identifier(step), ast.Load())
    return tree


def tree(value: str) -> ast.expr:
    """Return what a dotted name stands for, or an empty list."""
    return expression(NOTHING) if value == NOTHING else path(value)


def expression(template: str, /, **values: Any) -> ast.expr:
    """Return the expression ``template``, with ``values`` in place of their names.

    A value is a tree or becomes a literal; a list of trees takes the place of ``*name`` among arguments, and a
    mapping that of ``**name``.
    """
    tree = _parsed(template)
    assert isinstance(tree, ast.Expr), template
    return _filled(tree.value, values)


def statement(template: str, /, note: str = "", **values: Any) -> ast.stmt:
    """Return the statement ``template``, filled as an expression is, with a comment behind its first line."""
    return noted(_filled(_parsed(template), values), note)


def noted(tree: ast.stmt, note: str) -> ast.stmt:
    """``tree`` with the comment that stands behind its first line."""
    if note:
        tree.note = "".join(c if c.isprintable() else " " for c in note)  # type: ignore[attr-defined]
    return tree


def note_of(tree: ast.AST) -> str:
    """Return the comment behind a statement's first line, or nothing."""
    return getattr(tree, "note", "")


def assign(target: str | ast.expr | list[str], value: Any, note: str = "") -> ast.stmt:
    """``target = value``, the target a dotted name or several names."""
    if isinstance(target, list):
        names: list[ast.expr] = [path(t) for t in target]
        target = names[0] if len(names) == 1 else ast.Tuple(names, ast.Load())
    target = path(target) if isinstance(target, str) else target
    return statement("target = value", note, target=target, value=value)


def function(
    template: str, body: list[ast.stmt], args: Iterable[str] = (), doc: str = "", options: Iterable[str] = ()
) -> ast.stmt:
    """Return ``template``, a definition without a body, with ``args`` after self; ``options`` are None by default."""
    tree = _filled(_parsed(f"{template} pass"), {})
    assert isinstance(tree, ast.FunctionDef)
    tree.args.args[1:1] = [ast.arg(identifier(a)) for a in args]
    for name in options:
        tree.args.args.append(ast.arg(identifier(name)))
        tree.args.defaults.append(ast.Constant(None))
    tree.body = [*([ast.Expr(ast.Constant(doc))] if doc else []), *body]
    _leave_out_unread(tree)
    return tree


def _leave_out_unread(definition: ast.FunctionDef) -> None:
    """Name ``_`` what lines with several targets give and nothing reads."""
    names = [node for node in nodes(definition) if isinstance(node, ast.Name)]
    read = {name.id for name in names if isinstance(name.ctx, ast.Load)}
    for line in nodes(definition):
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Tuple):
            for target in line.targets[0].elts:
                if isinstance(target, ast.Name) and target.id not in read:
                    target.id = "_"


def block(template: str, body: list[ast.stmt], note: str = "", **values: Any) -> ast.stmt:
    """``template``, a loop or a condition without a body, with ``body``."""
    tree = statement(f"{template} pass", note, **values)
    tree.body = body  # type: ignore[attr-defined]
    return tree


def cloned(tree: Any) -> Any:
    """Return a copy of a tree, so that no node stands in two places."""
    return _filled(tree, {})


def same_code(trees: Sequence[ast.AST]) -> bool:
    """Return whether all trees are one code, whatever their comments."""
    first, *others = trees
    return all(equal(first, other) for other in others)


def one_line(text: str) -> str:
    """``text`` as words for a comment or a docstring: printable, on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


# -- filling ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _parsed(template: str) -> ast.stmt:
    (tree,) = ast.parse(template).body
    return tree


def _filled(tree: Any, values: Filling) -> Any:
    """Return a copy of ``tree`` with ``values`` filled in."""
    if isinstance(tree, ast.Name) and tree.id in values:
        return _in_context(literal(values[tree.id]), tree.ctx)
    if isinstance(tree, ast.Call):
        keywords = [k for one in tree.keywords for k in _keywords(one, values)]
        return ast.Call(_filled(tree.func, values), _listed(tree.args, values), keywords)
    new = type(tree)()
    for name, value in vars(tree).items():
        if isinstance(value, list):
            value = _listed(value, values)
        elif isinstance(value, ast.AST):
            value = _filled(value, values)
        setattr(new, name, value)
    return new


def _listed(trees: list[Any], values: Filling) -> list[Any]:
    """Return copies of elements, where ``*name`` gives as many as its value holds."""
    found: list[Any] = []
    for tree in trees:
        match tree:
            case ast.Starred(ast.Name(name)) if name in values:
                found += [literal(v) for v in values[name]]
            case ast.AST():
                found.append(_filled(tree, values))
            case _:
                found.append(tree)
    return found


def _keywords(keyword_: ast.keyword, values: Filling) -> list[ast.keyword]:
    match keyword_:
        case ast.keyword(None, ast.Name(name)) if name in values:
            return [ast.keyword(identifier(k), literal(v)) for k, v in values[name].items()]
    return [ast.keyword(keyword_.arg, _filled(keyword_.value, values))]


def _in_context(tree: ast.expr, context: ast.expr_context) -> ast.expr:
    """``tree`` as what is stored to, where ``context`` says so."""
    if isinstance(context, ast.Load):
        return tree
    for part in tree.elts if isinstance(tree, ast.Tuple) else ():
        _in_context(part, context)
    if not isinstance(tree, (ast.Name, ast.Attribute, ast.Subscript, ast.Tuple)):
        raise TypeError(f"{ast.unparse(tree)} cannot be assigned to")
    tree.ctx = context
    return tree


# -- printing --------------------------------------------------------------------------------------


def printed(definitions: list[ast.stmt]) -> str:
    """Return the text of ``definitions``, with their comments; parsed again it is these trees and nothing else."""
    tree = ast.Module(definitions, [])
    text, notes = plain(definitions)
    if not equal(tree, _read(text)):
        raise AssertionError(DIFFERS)
    return _laid_out(text, notes)


def plain(definitions: list[ast.stmt]) -> tuple[str, tuple[str, ...]]:
    """Return all that `printed` depends on: the code of ``definitions`` and the comment of each statement."""
    tree = ast.Module(definitions, [])
    return ast.unparse(tree), tuple(map(note_of, _statements(tree)))


@lru_cache(maxsize=128)  # many models use one definition of the runtime
def _read(text: str) -> ast.Module:
    """Return ``text`` parsed; the tree is not to be changed."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise AssertionError(f"emitted source is no Python: {error}") from None


@lru_cache(maxsize=512)
def _laid_out(text: str, notes: tuple[str, ...]) -> str:
    """Return ``text`` without parentheses that people leave out, with ``notes`` behind its statements."""
    found = _read(text)
    lines = [line.encode() for line in text.split("\n")]
    for node in sorted(_wrapped(found), key=lambda n: (n.lineno, n.col_offset), reverse=True):
        line, (first, end) = lines[node.lineno - 1], (node.col_offset, node.end_col_offset)
        lines[node.lineno - 1] = line[:first] + line[first + 1 : end - 1] + line[end:]
    texts = [line.decode() for line in lines]
    for statement, note in zip(_statements(found), notes, strict=True):
        if note:
            texts[statement.lineno - 1] = f"{texts[statement.lineno - 1].ljust(COLUMN)}  # {note}"
    for number in sorted(_blank(found), reverse=True):
        del texts[number - 1]
    result = "\n".join(texts)
    if result != text and not equal(found, _read.__wrapped__(result)):
        raise AssertionError(DIFFERS)
    return result


def _statements(tree: ast.AST) -> list[ast.stmt]:
    """Return every statement below ``tree``, in the order of the text."""
    found: list[ast.stmt] = []
    for field in ("body", "orelse"):
        for inner in getattr(tree, field, ()):
            found += [inner, *_statements(inner)]
    return found


def _wrapped(tree: ast.AST) -> Iterator[Any]:
    """Yield what stands on one line in parentheses that people leave out: a tuple of names or numbers that is
    assigned or returned, a generator that is the only argument."""
    for node in nodes(tree):
        match node:
            case ast.Assign(value=ast.Tuple(elts) as inner) | ast.Return(ast.Tuple(elts) as inner) if elts:
                plain = not any(isinstance(e, ast.Tuple) for e in elts)
            case ast.Call(args=[ast.GeneratorExp() as inner], keywords=[]):
                plain = inner.col_offset > node.func.end_col_offset  # type: ignore[operator]
            case _:
                continue
        if plain and inner.lineno == inner.end_lineno:
            yield inner


def _blank(tree: ast.AST) -> Iterator[int]:
    """Yield the lines before the first methods of classes, if they are blank."""
    for node in _statements(tree):
        if isinstance(node, ast.ClassDef):
            methods = [s for s in node.body if isinstance(s, ast.FunctionDef)]
            starts = (
                min([m.lineno, *(d.lineno for d in m.decorator_list)]) for m in methods[:1] if m is not node.body[0]
            )
            yield from (start - 1 for start in starts)
