"""A spec in the canonical style: columns, braces and blank lines; comments stay, the graph too."""

from __future__ import annotations

from dsvgraph.loader import parse
from dsvgraph.loader.compose import BREAK
from dsvgraph.passes.text.layout.tree import TreeKind, tree
from dsvgraph.passes.text.layout.write import written

__all__ = ["layout"]


def layout(text: str, name: str = "<spec>") -> str:
    """Return ``text`` in the canonical style; the result laid out again is the same.

    Raise DsvError if the text is not YAML as specs are written.

    >>> layout("name:   'a model'")
    'name: a model\\n'
    """
    data = parse(text, name).data
    text = BREAK.sub("\n", text.removeprefix("\ufeff"))
    root = tree(text)
    if root and root.kind is TreeKind.SCALAR:
        return text  # no spec, and nothing to lay out
    found = written(root) if root else text.strip() and text.strip() + "\n"
    assert _same(parse(found, name).data, data), "the layout changed the data"
    return found


def _same(a: object, b: object) -> bool:
    """Return whether both are equal, in the order of keys and the kind of numbers too."""
    return repr(a) == repr(b)
