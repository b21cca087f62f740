"""Where the names of a program are read, stored and called, and what calls give for parameters."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dsvgraph_torch.runtime.trees import acts, nodes

MISSING = object()
TAKEN = {*dir(Tensor), *dir(nn.Module), *dir(nn.ModuleList), *dir(dict), *dir(str)}
"""Names of methods that objects of other classes have too."""
INNER = (ast.comprehension, ast.FunctionDef)
"""What has local names of its own inside a function."""


def names(tree: ast.AST) -> set[str]:
    """Return every name that a tree reads or stores."""
    return {n.id for n in nodes(tree) if isinstance(n, ast.Name)}


class Uses:
    """How often each name is read and each attribute is read or stored, and where functions and methods are called."""

    def __init__(self) -> None:
        self.names: set[str] = set()  # read or stored
        self.reads: Counter[str] = Counter()
        self.loads: Counter[str] = Counter()
        self.stores: Counter[str] = Counter()
        self.outside: Counter[str] = Counter()  # stores to attributes of others than self
        self.calls: dict[str, list[ast.Call]] = {}
        self.methods: dict[str, list[ast.Call]] = {}

    @classmethod
    def of(cls, tree: ast.AST) -> Uses:
        """Return the uses in a tree."""
        found = cls()
        for node, own in _scoped(tree):
            if (kind := type(node)) is ast.Name:
                if node.id not in own:
                    found.names.add(node.id)
                    found.reads[node.id] += 1
            elif kind in (ast.Attribute, ast.ClassDef) or (
                kind is ast.Call and getattr(node.func, "id", "") not in own
            ):
                found._note(node)
        return found

    @classmethod
    def together(cls, parts: Iterable[Uses]) -> Uses:
        """Return the uses in several trees."""
        found = cls()
        for part in parts:
            found.names |= part.names
            for name in ("reads", "loads", "stores", "outside"):
                _add(getattr(found, name), getattr(part, name))
            for all_, own in ((found.calls, part.calls), (found.methods, part.methods)):
                for name, calls in own.items():
                    all_.setdefault(name, []).extend(calls)
        return found

    def _note(self, node: ast.AST) -> None:
        match node:
            case ast.Attribute(attr=name, ctx=ast.Load()):
                self.loads[name] += 1
            case ast.Attribute(value, name):
                self.stores[name] += 1
                self.outside[name] += not (isinstance(value, ast.Name) and value.id == "self")
            case ast.Call(ast.Name("isinstance"), [_, ast.Name(name)]):
                self.reads[name] -= 1  # needs no arguments
            case ast.Call(ast.Name(name)):
                self.calls.setdefault(name, []).append(node)
            case ast.Call(ast.Attribute(attr=name)):
                self.methods.setdefault(name, []).append(node)
            case ast.ClassDef(bases=bases) if any(map(_constructs, node.body)):
                self.reads.subtract(base.id for base in bases if isinstance(base, ast.Name))


def _add(counts: Counter[str], more: Counter[str]) -> None:
    for name, count in more.items():
        counts[name] += count


def _scoped(tree: ast.AST) -> Iterator[tuple[Any, Collection[str]]]:
    """Yield every node of a tree with the local names of the function around it, which hide what is outside."""
    if isinstance(tree, ast.FunctionDef):
        inside = nodes(tree)
        own = _local(tree, inside)
        yield from ((node, own) for node in inside)
    elif isinstance(tree, (ast.Module, ast.ClassDef)):
        yield tree, ()
        for part in (*getattr(tree, "bases", ()), *tree.body):
            yield from _scoped(part)
    else:
        yield from ((node, ()) for node in nodes(tree))


def _local(function: ast.FunctionDef, inside: list[Any]) -> set[str]:
    """Return the parameters of a function and what it stores itself; comprehensions have names of their own."""
    inner = [n.target if isinstance(n, ast.comprehension) else n for n in inside if isinstance(n, INNER)]
    theirs = {id(n) for tree in inner if tree is not function for n in nodes(tree)}
    stored = {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and id(n) not in theirs}
    return stored | {a.arg for a in function.args.args}


def _constructs(line: ast.stmt) -> bool:
    return isinstance(line, ast.FunctionDef) and line.name == "__init__"


@dataclass(eq=False)
class Target:
    """A function, all calls of which are known; ``owner`` is its class, or itself; ``offset`` is 1 for methods."""

    function: ast.FunctionDef
    calls: list[ast.Call]
    owner: ast.stmt
    offset: int

    @property
    def parameters(self) -> list[str]:
        return [a.arg for a in self.function.args.args[self.offset :]]

    def given(self, name: str) -> list[Any]:
        """Return what each call gives for a parameter: a tree, MISSING, or None where that is not known."""
        position = self.parameters.index(name)
        return [_given(call, position, name) for call in self.calls]

    def values(self, name: str) -> list[Any]:
        """Return the value of a parameter in each call, defaults included; None where it is not known."""
        args = self.function.args
        back = self.parameters.index(name) + self.offset - len(args.args) + len(args.defaults)
        default = args.defaults[back] if back >= 0 else None
        return [default if g is MISSING else g for g in self.given(name)]

    def pure(self, name: str) -> bool:
        """Return whether what calls give for a parameter is known and can be left out."""
        return all(g is MISSING or (g is not None and not acts(g)) for g in self.given(name))

    def drop(self, gone: set[str]) -> bool:
        """Leave out parameters, in the function and in its calls, and defaults that no call needs.

        Return whether the function changed.
        """
        if gone:
            for call in self.calls:
                kept = [a for name, a in zip(self.parameters, call.args, strict=False) if name not in gone]
                call.args, call.keywords = kept, [k for k in call.keywords if k.arg not in gone]
        args = self.function.args
        first = len(args.args) - len(args.defaults)
        defaults = {a.arg: args.defaults[i - first] for i, a in enumerate(args.args) if i >= first}
        args.args = [a for a in args.args if a.arg not in gone]
        needed = [i for i, a in enumerate(args.args) if a.arg in defaults and self._left_out(a.arg)]
        start = min(needed, default=len(args.args))
        before, args.defaults = args.defaults, [defaults[a.arg] for a in args.args[start:]]
        return bool(gone) or len(args.defaults) < len(before)

    def _left_out(self, name: str) -> bool:
        """Return whether a call needs the default of a parameter."""
        return not self.calls or any(g is MISSING or g is None for g in self.given(name))


def _given(call: ast.Call, position: int, name: str) -> Any:
    if any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords):
        return None
    if position < len(call.args):
        return call.args[position]
    return next((k.value for k in call.keywords if k.arg == name), MISSING)


def targets(helper: ast.stmt, uses: Uses) -> Iterator[Target]:
    """Yield the function, or the constructor and methods of the class, of which every use is a call."""
    if isinstance(helper, ast.FunctionDef):
        own = [Target(helper, uses.calls.get(helper.name, []), helper, 0)]
    else:
        own = _methods(helper, uses) if isinstance(helper, ast.ClassDef) else []
    yield from (t for t in own if t.calls and _known(t, uses))


def _methods(helper: ast.ClassDef, uses: Uses) -> list[Target]:
    functions = [s for s in helper.body if isinstance(s, ast.FunctionDef)]
    calls = {**uses.methods, "__init__": uses.calls.get(helper.name, [])}
    return [Target(f, calls.get(f.name, []), helper, 1) for f in functions]


def _known(target: Target, uses: Uses) -> bool:
    """Return whether every use of a function is one of its calls."""
    function, owner = target.function, target.owner
    if function.args.vararg or function.args.kwarg:
        return False
    if function is owner or function.name == "__init__":
        return uses.reads[owner.name] == len(target.calls)  # type: ignore[attr-defined]
    return function.name not in TAKEN and uses.loads[function.name] == len(target.calls)
