"""Building: from a spec, as written, to a graph, as checked."""

from dsvgraph.build.model import build

__all__ = ["build"]
