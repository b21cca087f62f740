"""Run as a script: draws the DOT on standard input with the graphviz library of pygraphviz's wheel."""

from __future__ import annotations

import sys

import pygraphviz

if __name__ == "__main__":
    graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
    sys.stdout.buffer.write(graph.draw(format=sys.argv[1], prog="dot"))
