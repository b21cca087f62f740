"""The reference of the language: every op and every bundled block, from the classes and the YAML themselves."""

from dsvgraph.passes.text.reference.blocks import BlockPage, blocks
from dsvgraph.passes.text.reference.entries import ReferenceEntry
from dsvgraph.passes.text.reference.markdown import markdown
from dsvgraph.passes.text.reference.ops import OpPage, ops

__all__ = ["BlockPage", "OpPage", "ReferenceEntry", "blocks", "markdown", "ops"]
