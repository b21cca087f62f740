"""Training runs from outside: a list of them, and a page about one."""

from dsvgraph_torch.reports.listing import runs
from dsvgraph_torch.reports.page import report

__all__ = ["report", "runs"]
