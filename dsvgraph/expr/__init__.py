"""Arithmetic in specs: a small language of its own, parsed here and never evaluated as Python."""

from dsvgraph.expr.bounds import bounds
from dsvgraph.expr.syntax import COMPARISONS, Expr, parse, to_text
from dsvgraph.expr.values import evaluate

__all__ = ["COMPARISONS", "Expr", "bounds", "evaluate", "parse", "to_text"]
