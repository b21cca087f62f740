"""A spec as written: the language as Pydantic models, and the merge of the files that make one."""

from dsvgraph.spec.lines import WrittenLine
from dsvgraph.spec.models import FIGURE, BlockModel, Convention, PublishedModel, SpecModel
from dsvgraph.spec.read import ConfigEntry, Spec, SpecPart, read, read_open, read_text, with_settings

__all__ = [
    "FIGURE",
    "BlockModel",
    "ConfigEntry",
    "Convention",
    "PublishedModel",
    "Spec",
    "SpecModel",
    "SpecPart",
    "WrittenLine",
    "read",
    "read_open",
    "read_text",
    "with_settings",
]  # fmt: skip
