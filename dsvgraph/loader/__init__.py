"""Files and their text as plain data with positions."""

from dsvgraph.loader.compose import MAX_BYTES, MAX_VALUES, Doc, parse
from dsvgraph.loader.files import bundled, find, homes, read, shown, text_of
from dsvgraph.loader.scan import MAX_DEPTH

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_VALUES",
    "Doc",
    "bundled",
    "find",
    "homes",
    "parse",
    "read",
    "shown",
    "text_of",
]
