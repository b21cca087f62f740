"""A spec as written: the language as Pydantic models, and the merge of the files that make one."""

from dsvgraph.spec.lines import WrittenLine
from dsvgraph.spec.models import FIGURE, BlockModel, Convention, PublishedModel, SpecModel
from dsvgraph.spec.read import Entry, Part, Spec, read, read_open, read_text, with_settings

__all__ = [
    "FIGURE", "BlockModel", "Convention", "Entry", "Part", "PublishedModel", "Spec", "SpecModel", "WrittenLine",
    "read", "read_open", "read_text", "with_settings",
]  # fmt: skip
