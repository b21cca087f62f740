"""Building: from a spec, as written, to a graph, as checked."""

from dsvgraph.build.model import build
from dsvgraph.build.shelf import Shelf

__all__ = ["Shelf", "build"]
