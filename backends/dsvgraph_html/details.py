"""The details of one node for the page: sizes, costs, weights, and its line of YAML."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Any

from dsvgraph.dims import Size
from dsvgraph.errors import Span, printable
from dsvgraph.graph import Graph, Loss, Mode, Node
from dsvgraph_graphviz.model.analysis import Analysis
from dsvgraph_graphviz.style.words import flops, number, op_title, short, spot, times
from dsvgraph_graphviz.text.losses import weight

LONGEST = 160  # characters of a line of YAML, or of a block's documentation
MOST = 14  # lines of YAML
ALIGNED = re.compile(r"(?<=\S) {2,}")


def node_details(analysis: Analysis, graph: Graph, node: Node) -> dict[str, Any]:
    """Return what is known of one node with all its copies; keys without a value are left out."""
    found = {
        "name": node.name,
        "callee": node.callee,
        "does": op_title(node) if node.op else _first(node.copies[0].graph.doc) if node.copies else "",
        "copies": times(node) if node.mode is not Mode.CALL else "",
        "line": spot(node.span),
        "yaml": written(node.span) if node.span else "",
        "in": [[port, str(type_)] for port, type_ in node.input_types.items()],
        "out": [[port, str(type_)] for port, type_ in node.outputs.items()],
        "weights": [[name, str(weight.type), short(weight.numel)] for name, weight in node.weights.items()],
        "tied": [[port, str(ref)] for port, ref in node.tied.items()],
        "costs": _costs(analysis, graph, node),
    }
    return {key: value for key, value in found.items() if value}


def _costs(analysis: Analysis, graph: Graph, node: Node) -> list[list[str]]:
    """Return rows of name and value."""
    count, active = analysis.parameters(graph, node), analysis.active(graph, node)
    work, kept = analysis.work(graph, node), analysis.cache(graph, node)
    rows = [["parameters", _exact(count)]] if count != 0 else []
    rows += [["active", _exact(active)]] if active != count else []
    rows += [["forward", f"{flops(work)} / token"]] if work else []
    return rows + ([["cache", f"{number(round(kept))} values / token"]] if kept else [])


def _exact(size: Size) -> str:
    text = short(size)
    return f"{text} ({size:,})" if isinstance(size, int) and text != f"{size:,}" else text


def loss_details(loss: Loss, depth: int) -> dict[str, Any]:
    """Return what is known of one term of the loss; its output, target and weight are those of the spec's line."""
    rows = {
        "weight": weight(loss.weight, depth), "depth": str(depth) if depth and not loss.end_to_end else "",
        "output": loss.output, "target": loss.target, "draft": loss.draft,
        "against": loss.against,
    }  # fmt: skip
    return {
        "name": loss.name,
        "callee": loss.kind,
        "line": spot(loss.span),
        "yaml": written(loss.span) if loss.span else "",
        "term": [[key, value] for key, value in rows.items() if value],
    }


def written(span: Span) -> str:
    """The YAML of the line of a body that begins at ``span``: itself and what is indented below it, or its part of a
    line that has others."""
    line = span.source.line(span.line)
    indent = span.column - 1
    if line[:indent].strip():
        return _clipped(_alone(line[indent:]))
    below = takewhile(lambda row: not row[: indent + 1].strip(), span.source.lines[span.line : span.line + MOST])
    rows = [_clipped(ALIGNED.sub(" ", row[indent:].rstrip())) for row in (line, *below)]
    return "\n".join(rows).rstrip()


def _alone(text: str) -> str:
    """Return what stands before the comma or bracket that ends an entry."""
    depth = 0
    for i, sign in enumerate(text):
        depth += (sign in "{[") - (sign in "}]")
        if depth < 0 or (sign == "," and not depth):
            return text[:i].rstrip()
    return text


def _first(doc: str) -> str:
    """Return the first sentence of a block's documentation."""
    return _clipped(" ".join(doc.split()).split(". ")[0].rstrip("."))


def _clipped(text: str) -> str:
    text = printable(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
