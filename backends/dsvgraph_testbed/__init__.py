"""The testbed: trains variants as processes of their own, reads their runs, and judges which is better."""

from __future__ import annotations

from rich.console import Console

from dsvgraph.backends import Comparison
from dsvgraph_testbed.comparing import Compared

__all__ = ["compare"]


def compare(comparison: Comparison, console: Console, progress: Console) -> Compared:
    """Train what is not trained yet and write the reports into the folder of the comparison.

    Raise DsvError on options or data that no run can be started with, or if a file cannot be written.
    """
    from dsvgraph_testbed.comparing import compare as run

    return run(comparison, console, progress)
