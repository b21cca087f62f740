"""`dsvgraph schema`: JSON Schema of the language."""

from __future__ import annotations

from dsvgraph.cli import output


def run() -> None:
    """Print the JSON Schema of the language, so that editors complete and check specs."""
    from dsvgraph.passes.schema import schema

    output.data(schema())
