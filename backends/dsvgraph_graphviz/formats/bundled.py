"""Run as a script: draws the DOT on standard input with the graphviz library of pygraphviz's wheel.

Several formats are drawn from one layout, with a zero byte between them.
"""

from __future__ import annotations

import sys

import pygraphviz
from pygraphviz import graphviz as library


def drawn(text: str, formats: list[str]) -> list[bytes]:
    """Return the picture in every format."""
    graph, context = pygraphviz.AGraph(string=text), library.gvContextWithBuiltins()
    if library.gvLayout(context, graph.handle, b"dot"):
        sys.exit("no layout was found")
    answers = [library.gvRenderData(context, graph.handle, format_.encode()) for format_ in formats]
    if failed := [format_ for format_, (code, _) in zip(formats, answers, strict=True) if code]:
        sys.exit(f"there is no {failed[0]}")
    return [data if isinstance(data, bytes) else data.encode() for _, data in answers]


if __name__ == "__main__":
    sys.stdout.buffer.write(b"\0".join(drawn(sys.stdin.buffer.read().decode(), sys.argv[1:])))
