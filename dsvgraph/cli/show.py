"""`dsvgraph show`: the spec with everything resolved."""

from __future__ import annotations

from dsvgraph.cli.options import SetOption, SpecArgument, load


def run(spec: SpecArgument, settings: SetOption = None) -> None:
    """Print the spec with everything resolved, as YAML that checks to the same graph."""
    from dsvgraph.passes.show import show

    print(show(load(spec, settings)), end="")
