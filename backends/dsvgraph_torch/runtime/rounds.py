"""What rounds of rules know of the definitions that they change: which changed, and where names are used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from dsvgraph_torch.runtime.trees import Transformer, assigned
from dsvgraph_torch.runtime.uses import Target, Uses, targets


class CountedTree:
    """A definition, or the classes of a model, with the uses in it, which are counted anew after it changed."""

    def __init__(self, tree: ast.AST) -> None:
        self.tree: Any = tree
        self.changed = True  # in this round
        self.changed_before = True  # in the round before
        self.folded = False  # and not changed since
        self._uses: Uses | None = None

    @property
    def uses(self) -> Uses:
        if self._uses is None:
            self._uses = Uses.of(self.tree)
        return self._uses

    def note(self) -> None:
        """Note that the tree changed."""
        self.changed, self.folded, self._uses = True, False, None

    def visit(self, transformer: Transformer, tree: ast.AST | None = None) -> None:
        """Apply a transformer to the tree, or to a tree that is a part of it."""
        transformer.changed = False
        transformer.visit(tree or self.tree)
        if transformer.changed:
            self.note()


class Round:
    """The definitions that are needed when a round of rules begins, and the uses in them."""

    def __init__(self, main: CountedTree, helpers: list[CountedTree], before: Round | None) -> None:
        self.main, self.helpers, self.parts = main, helpers, [main, *helpers]
        self.uses = Uses.together(part.uses for part in self.parts)
        own = main.uses
        self.lines = {id(call) for calls in (*own.calls.values(), *own.methods.values()) for call in calls}
        self.callers: dict[str, list[CountedTree]] = {}
        for part in self.parts:
            for name in part.uses.calls.keys() | part.uses.methods.keys():
                self.callers.setdefault(name, []).append(part)
        self.seen: dict[ast.FunctionDef, Any] = {}  # of the uses of functions
        self.seen_before = before.seen if before else {}

    def targets(self) -> Iterator[tuple[CountedTree, Target]]:
        """Yield the functions, constructors and methods of which every use is a call, with the definition around."""
        for helper in self.helpers:
            for target in targets(helper.tree, self.uses):
                yield helper, target

    def calling(self, target: Target) -> list[CountedTree]:
        """Return the definitions that call a function by its name."""
        owner: Any = target.owner
        name = owner.name if target.function.name == "__init__" else target.function.name
        return self.callers.get(name, [])

    def settled(self, part: CountedTree, target: Target) -> bool:
        """Return whether nothing about a function and its calls changed since the round before asked this."""
        sees = target.calls, [self.uses.stores[a] for a, _ in assigned(target.function)]
        self.seen[target.function] = sees
        changed = any(p.changed or p.changed_before for p in (part, *self.calling(target)))
        return self.seen_before.get(target.function) == sees and not changed
