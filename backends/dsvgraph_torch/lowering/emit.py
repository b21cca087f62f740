"""The whole file: a legend, as much of the runtime as is used, the classes."""

from __future__ import annotations

import ast
import textwrap
from functools import lru_cache
from weakref import WeakKeyDictionary

from dsvgraph.graph import Model
from dsvgraph_torch.lowering import ops, root  # noqa: F401 - importing ops registers them
from dsvgraph_torch.lowering.body import write_class
from dsvgraph_torch.lowering.names import camel, first_sentence, reserved, runtime
from dsvgraph_torch.lowering.sharing import definition, rename, share
from dsvgraph_torch.lowering.source import one_line, plain, printed
from dsvgraph_torch.lowering.units import Lowering
from dsvgraph_torch.runtime.specialise import specialise
from dsvgraph_torch.runtime.trees import nodes
from dsvgraph_torch.runtime.uses import names

IMPORTS = {
    "hashlib": "import hashlib",
    "math": "import math",
    "re": "import re",
    "NamedTuple": "from typing import NamedTuple",
    "torch": "\nimport torch",
    "nn": "import torch.nn as nn",
    "F": "import torch.nn.functional as F",
    "checkpoint": "from torch.utils.checkpoint import checkpoint",
}
LEGEND = """Letters in names of tensors: B batch, T positions, C positions of keys, D width, H heads, G key
heads, Q and V widths of a head, R rotated width, E experts, K experts a token, N tokens, S pairs of token
and expert, F width of an expert. Behind the lines: shapes and the line of the spec."""


_WRITTEN: WeakKeyDictionary[Model, dict[bool, str]] = WeakKeyDictionary()


def emit(model: Model, full: bool = False) -> str:
    """Return the model as the text of one Python file that needs torch and nothing else; it is written once.

    ``full`` writes what `compile` runs: ``forward`` and ``predict`` take ``documents`` of packed rows too, and
    ``forward`` takes ``labels`` and refuses targets that are the ids or have another shape.
    """
    written = _WRITTEN.setdefault(model, {})
    if full not in written:
        written[full] = "\n\n".join([_head(model), *_whole(Classes(classes_of(model, full)))]) + "\n"
    return written[full]


class Classes:
    """The classes of a model; two are equal where their texts would be."""

    def __init__(self, trees: list[ast.stmt]) -> None:
        self.trees, self.text = trees, plain(trees)

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Classes) and self.text == other.text


@lru_cache(maxsize=128)
def _whole(classes: Classes) -> tuple[str, ...]:
    """Return the parts of a file with ``classes``: imports, what they use of the runtime, and they themselves."""
    trees, classes.trees = classes.trees, []
    main = ast.Module(trees, [])
    helpers = specialise(main, runtime(main))
    used = names(main).union(*map(names, helpers))
    imports = [line for name, line in IMPORTS.items() if name in used]
    return ("\n".join(imports), *map(_helper, helpers), printed(trees))


def classes_of(model: Model, full: bool = True) -> list[ast.stmt]:
    """Return the model's own classes, callees first; ``full`` is that of `emit`."""
    lowering = Lowering(model, write_class, full)
    top = root.write(lowering)
    classes = [*lowering.classes, top]
    share(classes, reserved() | {s.name for s in classes})
    rename(classes, camel, reserved())
    return [definition(s, classes) for s in classes if s.shared in (None, s)]


def _head(model: Model) -> str:
    words = textwrap.fill(one_line(f"{model.name}. {model.doc}"), 120)
    return printed([ast.Expr(ast.Constant(f"{words}\n{textwrap.fill(LEGEND, 145)}"))])


def _helper(tree: ast.stmt) -> str:
    """Return a runtime definition as text, its documentation cut to the first sentence."""
    for node in nodes(tree):
        documented = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node)
        if not documented:
            continue
        words = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
        node.body[0] = ast.Expr(ast.Constant(first_sentence(words)))
    return printed([tree])
