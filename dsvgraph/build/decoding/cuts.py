"""The list `cache` of a block: values that decoding keeps, from which all that it needs can be made."""

from __future__ import annotations

from functools import partial

from dsvgraph.build.checks.rules import is_row
from dsvgraph.build.context import Context
from dsvgraph.build.decoding.state import Decoder, Missing, written
from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Span


def choose_cache(context: Context) -> None:
    """Look up the listed values; mistakes are noted in ``context``."""
    for i, text in enumerate(context.part.model.cache):
        context.guard("cache", partial(_listed, context, text, context.part.value("cache", i)))
    if context.graph.cache and not context.errors:
        context.guard("cache", partial(_check_sufficient, context))


def _listed(context: Context, text: str, span: Span | None) -> None:
    ref = context.ref(text, span)
    type_ = context.graph.type(ref)
    if not is_row(type_, context.state.lengths):
        words = f"`{ref}` is {type_}: decoding caches values per position, [B, T, ...]"
        raise DsvError(words, span, code=Code.CACHE)
    if ref in context.graph.cache:
        raise DsvError(f"`{ref}` is cached twice", span, code=Code.CACHE)
    context.graph.cache = (*context.graph.cache, ref)


def _check_sufficient(context: Context) -> None:
    """Raise DsvError if an op needs earlier positions of what cannot be made of the listed values."""
    try:
        Decoder(context.state.positions, next(iter(context.state.lengths), None)).of(context.graph)
    except Missing as missing:
        listed, ref = ", ".join(context.part.model.cache), written(missing.graph, missing.ref)
        words = f"`{missing.node.name}` needs `{ref}` at earlier positions, which cannot be made of `{listed}`"
        hint = f"list `{ref}`, or what it is made of one position at a time"
        if missing.graph is not context.graph:
            hint = f"`{ref}` stands in `{missing.graph.name}`, which can keep it by a list `cache` of its own"
        notes = [("this looks at earlier positions", missing.node.span)]
        span = context.part.value("cache", 0)
        raise DsvError(words, span, code=Code.CACHE_CUT, path=context.state.path(), notes=notes, hint=hint) from None
