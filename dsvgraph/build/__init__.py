"""Building: from a spec, as written, to a graph, as checked."""

from dsvgraph.build.cache import BuildCache
from dsvgraph.build.model import build

__all__ = ["BuildCache", "build"]
