"""A spec as written: the language as Pydantic models, and the merge of the files that make one."""

from dsvgraph.spec.models import NAME, BlockModel, SpecModel
from dsvgraph.spec.read import Entry, Part, Spec, read, read_text, with_settings

__all__ = ["NAME", "BlockModel", "Entry", "Part", "Spec", "SpecModel", "read", "read_text", "with_settings"]
