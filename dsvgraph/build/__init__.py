"""Building: from a spec, as written, to a graph, as checked."""

from dsvgraph.build.model import build
from dsvgraph.build.state import BuildCache

__all__ = ["BuildCache", "build"]
