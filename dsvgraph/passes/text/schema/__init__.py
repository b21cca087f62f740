"""JSON Schema of the language, for editors: made from the Pydantic models of specs and ops, and the bundled blocks."""

from dsvgraph.passes.text.schema.spec import schema

__all__ = ["schema"]
