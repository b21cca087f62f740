"""The whole file: a legend, as much of the runtime as is used, the classes."""

from __future__ import annotations

import ast
import re
import textwrap
from functools import lru_cache

from dsvgraph.graph import Model
from dsvgraph_torch import root
from dsvgraph_torch.lower import Lowering
from dsvgraph_torch.names import camel, first_sentence, harmless, reserved, runtime
from dsvgraph_torch.sharing import Text, fill, rename, share
from dsvgraph_torch.specialise import names, specialise

IMPORTS = {
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


def emit(model: Model) -> str:
    """The model as the text of one Python file that needs torch and nothing else."""
    return "\n\n".join([_head(model), *_whole(classes_of(model))]) + "\n"


@lru_cache(maxsize=32)
def _whole(classes: str) -> tuple[str, ...]:
    """The parts of a file with ``classes``: imports, what they use of the runtime, and they themselves."""
    main, helpers = specialise(classes, runtime())
    used = names(ast.parse(main)).union(*map(names, helpers))
    imports = [line for name, line in IMPORTS.items() if name in used]
    return ("\n".join(imports), *map(_helper, helpers), aligned(main))


def classes_of(model: Model) -> str:
    """The text of the model's own classes, callees first."""
    lowering = Lowering(model)
    top = root.write(lowering)
    classes = [*lowering.classes, top]
    share(classes, reserved() | {t.name for t in classes})
    rename(classes, camel, reserved())
    return "\n\n".join(_class(t, classes) for t in classes if t.shared in (None, t))


def _head(model: Model) -> str:
    doc = textwrap.fill(harmless(f"{model.name}. {model.doc}"), 120)
    return f'"""{doc}\n\n{textwrap.fill(LEGEND, 148)}\n"""'


def _helper(tree: ast.stmt) -> str:
    """A runtime definition as text, its documentation cut to the first sentence."""
    for node in ast.walk(tree):
        documented = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node)
        if not documented:
            continue
        words = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())  # type: ignore[arg-type]
        node.body[0] = ast.Expr(ast.Constant(first_sentence(words)))  # type: ignore[attr-defined]
    text = ast.unparse(tree)
    return re.sub(r'("""\n|:\n)\n(?=    (def|@))', r"\1", text)


def _class(text: Text, classes: list[Text]) -> str:
    parent, _, given = fill(text.parent, classes).partition("(")
    base = parent or text.base or ("Each" if text.copies else "nn.Module")
    head = [f"class {text.name}({base}):", f'    """{text.doc}"""', *(f"    {c}" for c in text.constants)]
    params = "".join(f", {p}" for p in text.params)
    init = [f"    def __init__(self{params}):", f"        super().__init__({given or ')'}"]
    init += [f"        {fill(line, classes)}" for line in text.init]
    return "\n".join([*head, *init, "", *(f"    {line}" if line else "" for line in text.body)])


def aligned(text: str, column: int = 80) -> str:
    """Comments behind the lines begin at one column."""
    out = []
    for line in text.splitlines():
        code, mark, note = line.partition("  # ")
        out.append(f"{code.ljust(column)}  # {note}" if mark else line)
    return "\n".join(out)
