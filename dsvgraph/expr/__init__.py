"""Arithmetic in specs: a small language of its own, parsed here and never evaluated as Python."""

from dsvgraph.expr.syntax import Expr, parse, to_text
from dsvgraph.expr.values import evaluate

__all__ = ["Expr", "evaluate", "parse", "to_text"]
