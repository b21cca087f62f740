"""What must hold for every text: a model or an error that can be told, soon, in little memory, and nothing else."""

from __future__ import annotations

import json
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mutants import Mutant
from pace import too_long

from dsvgraph import DsvError
from dsvgraph.build import build
from dsvgraph.errors import Diagnostic, Span
from dsvgraph.graph import Model
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.lint.unused import lint
from dsvgraph.passes.text.layout import layout
from dsvgraph.passes.text.show import show
from dsvgraph.passes.text.summary import summary
from dsvgraph.spec import read_open
from dsvgraph_graphviz import dot_source

SECONDS = 1.0  # of computing, for a verdict and for each pass
HUNG = 10.0
MEMORY = 500 * 2**20  # bytes that one mutant may add to the peak
PASSES: dict[str, Callable[[Model], object]] = {
    "lint": lambda model: [told(d) for d in lint(model)],
    "show": show,
    "summary": summary,
    "cost": cost,
    "dot": dot_source,
    "dot, open": lambda model: dot_source(model, depth=9),
}


class Broken(AssertionError):
    """What must hold does not."""


class Hang(BaseException):
    """It has run for too long; no `except Exception` stops it."""


def judged(mutant: Mutant, passes: bool = True, more: Callable[[Model], object] | None = None) -> str:
    """``model`` or ``error``; raises Broken, or whatever dsvgraph should not have raised.

    Without ``passes`` a model is checked and linted, and nothing else is made of it but what ``more`` does.
    """
    texts = {mutant.file.resolve(): mutant.text}
    with bounded("layout"), suppress(DsvError):
        layout(mutant.text)
    model = _model(lambda: build(read_open(mutant.top, texts)))
    for name, action in PASSES.items() if model else ():
        if passes or name == "lint":
            with bounded(name):
                _quietly(action, model)
    if model and more:
        more(model)
    return "model" if model else "error"


def _model(action: Callable[[], Model]) -> Model | None:
    """What ``action`` gives, or nothing where it refuses in words."""
    with bounded("check"):
        try:
            return action()
        except DsvError as error:
            refusal(error)
    return None


def _quietly(action: Callable[[Model], object], model: Model | None) -> None:
    """Runs a pass; what it refuses, it refuses in words."""
    assert model
    try:
        action(model)
    except DsvError as error:
        for diagnostic in error.diagnostics:
            told(diagnostic)


def refusal(error: DsvError) -> None:
    """Every mistake of a spec has words and a place that is there."""
    if not error.diagnostics:
        raise Broken("an error without words")
    for diagnostic in error.diagnostics:
        told(diagnostic)
        if diagnostic.span is None and not diagnostic.message.endswith("so it is no model"):
            raise Broken(f"no place: {diagnostic.message}")


def told(diagnostic: Diagnostic) -> None:
    """Words that can be printed, and places that can be shown."""
    if not diagnostic.message.strip() or not str(diagnostic).replace("\n", "").isprintable():
        raise Broken(f"cannot be told: {diagnostic.message!r}")
    for span in (diagnostic.span, *(span for _, span in diagnostic.notes)):
        inside(span)
    json.dumps(diagnostic.as_dict())


def inside(span: Span | None) -> None:
    if span is None:
        return
    lines = span.source.lines
    if not 1 <= span.line <= len(lines) + 1 or not 1 <= span.column <= len(span.source.line(span.line)) + 1:
        raise Broken(f"a place that is not there: {span}")
    if span.width < 1:
        raise Broken(f"nothing is underlined at {span}")


@contextmanager
def bounded(what: str, seconds: float = SECONDS) -> Iterator[None]:
    """Raises Broken where the block takes too long or too much; a hang is cut off."""
    start, before = time.process_time(), peak()
    with _alarm():
        try:
            yield
        except Hang:
            raise Broken(f"{what} hangs") from None
    if too_long(took := time.process_time() - start, seconds):
        raise Broken(f"{what} took {took:.1f} s")
    if (grown := peak() - before) > MEMORY:
        raise Broken(f"{what} took {grown / 2**20:.0f} MB")


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def _alarm() -> Iterator[None]:
    """Raises Hang after a while of computing, where signals can be had."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: Any) -> None:
        raise Hang

    old = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, HUNG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)
