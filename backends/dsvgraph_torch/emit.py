"""The whole file: a legend, the runtime that is used, the classes, all readable in one sitting."""

from __future__ import annotations

import textwrap

from dsvgraph.graph import Graph, Model
from dsvgraph_torch import root
from dsvgraph_torch.lower import Class, Lowering
from dsvgraph_torch.names import needed, runtime

IMPORTS = """import math
import re
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
"""


def emit(model: Model) -> str:
    """The model as the text of one Python file that needs torch and nothing else."""
    lowering = Lowering(model)
    top = root.write(lowering)
    classes = [_class(c, unit.graph) for unit, c in lowering.classes.items()]
    classes.append(_class(top, model, "Model", root.constants(model)))
    code = "\n\n\n".join(classes)
    helpers = [runtime()[name][1] for name in needed(code)]
    parts = [_head(model), IMPORTS.strip(), *helpers, code]
    return "\n\n\n".join(parts).replace("\n\n\n", "\n\n", 1) + "\n"


def _head(model: Model) -> str:
    doc = textwrap.fill(f"{model.name}. {model.doc}".strip(), 96)
    return f'''"""{doc}

Letters in names of tensors: B batch, T positions of the queries, C positions of the keys, D width,
H heads, G key and value heads, Q and V width of a head, R rotated width, E experts, K experts chosen
per token, N tokens (B * T), S token-expert pairs (N * K), F width of an expert. Comments behind the
lines give shapes and the line of the spec.
"""'''


def _class(text: Class, graph: Graph, base: str = "", constants: list[str] | None = None) -> str:
    base = base or ("Each" if text.name.endswith("Each") and text.copies else "nn.Module")
    lines = [f"class {text.name}({base}):", *_doc(graph)]
    lines += [f"    {c}" for c in constants or []]
    if lines[-1] != "":
        lines.append("")
    opening = f"super().__init__({text.copies or ''})"
    lines += ["    def __init__(self):", f"        {opening}", *(f"        {i}" for i in _folded(text.init))]
    lines += ["", *(f"    {b}" if b else "" for b in aligned(text.body))]
    return "\n".join(lines)


def _doc(graph: Graph) -> list[str]:
    ins = ", ".join(f"{n} {t}" for n, t in graph.inputs.items())
    doc = " ".join(graph.doc.split()) or graph.name
    text = textwrap.wrap(f"{doc} {ins}".replace('"', "'").replace("\\", "/"), 96)
    if len(text) == 1:
        return [f'    """{text[0]}"""', ""]
    return [f'    """{text[0]}', *(f"    {t}" for t in text[1:]), '    """', ""]


def _folded(init: list[str]) -> list[str]:
    """A list that is made empty and then filled once is one line."""
    text = "\n".join(init)
    return text.splitlines()


def aligned(body: list[str], column: int = 76) -> list[str]:
    """Comments behind the lines begin at one column."""
    out = []
    for line in body:
        code, mark, note = line.partition("  # ")
        out.append(f"{code.ljust(column)}  # {note}" if mark else line)
    return out
