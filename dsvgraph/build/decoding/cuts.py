"""The list `cache` of a block: values that decoding keeps, from which all that it needs can be made."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dsvgraph.build.decoding.state import Decoder, Missing, written
from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Span

if TYPE_CHECKING:
    from dsvgraph.build.body import Body


def choose_cache(body: Body) -> None:
    """Looks up the listed values; mistakes are noted in ``body``."""
    for i, text in enumerate(body.part.model.cache):
        body.guard("cache", partial(_listed, body, text, body.part.value("cache", i)))
    if body.graph.cache and not body.errors:
        body.guard("cache", partial(_check_sufficient, body))


def _listed(body: Body, text: str, span: Span | None) -> None:
    ref = body.ref(text, span)
    type_ = body.graph.type(ref)
    if not set(type_.shape[1:2]) & set(body.builder.lengths):
        words = f"`{ref}` is {type_}: decoding caches values per position, [B, T, ...]"
        raise DsvError(words, span, code=Code.CACHE)
    if ref in body.graph.cache:
        raise DsvError(f"`{ref}` is cached twice", span, code=Code.CACHE)
    body.graph.cache = (*body.graph.cache, ref)


def _check_sufficient(body: Body) -> None:
    """Raises DsvError where an op needs earlier positions of what cannot be made of the listed values."""
    try:
        Decoder(body.builder.positions, next(iter(body.builder.lengths), None)).of(body.graph)
    except Missing as missing:
        listed, ref = ", ".join(body.part.model.cache), written(missing.graph, missing.ref)
        words = f"`{missing.node.name}` needs `{ref}` at earlier positions, which cannot be made of `{listed}`"
        hint = f"list `{ref}`, or what it is made of one position at a time"
        if missing.graph is not body.graph:
            hint = f"`{ref}` stands in `{missing.graph.name}`, which can keep it by a list `cache` of its own"
        notes = [("this looks at earlier positions", missing.node.span)]
        span = body.part.value("cache", 0)
        raise DsvError(words, span, code=Code.CACHE_CUT, path=body.builder.path(), notes=notes, hint=hint) from None
