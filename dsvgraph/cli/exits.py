"""Exit codes, and how an error of a command becomes a message and one of them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from typer.core import TyperCommand

from dsvgraph.cli import output
from dsvgraph.errors import DsvError
from dsvgraph.files import inputs_kept

WRONG = 1  # a mistake in the spec or the data
INTERNAL = 70  # a mistake in dsvgraph
INTERRUPTED = 130
HUNG_UP = 141  # the reader of a pipe is gone, as after SIGPIPE

TYPED = "dsvgraph.typed"
"""What a context's `meta` keeps the command line under."""


class Command(TyperCommand):
    """A command that exits with a message on an error, and that never overwrites what it has read."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help; `{endings}` in it stands for the endings that installed packages draw."""
        for param in self.params:
            words = getattr(param, "help", None) or ""
            if "{endings}" in words:
                from dsvgraph.backends import endings

                param.help = words.replace("{endings}", ", ".join(endings()))  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, and keep them as they were typed."""
        ctx.meta[TYPED] = shlex.join(["dsvgraph", ctx.info_name, *args])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with exit_on_error("json" if ctx.params.get("as_json") else str(ctx.params.get("form", "text"))), inputs_kept():
            return super().invoke(ctx)


@contextmanager
def exit_on_error(form: str = "text") -> Iterator[None]:
    """Print a known error in the given form and raise SystemExit with its code; Typer's own errors pass through.

    ``form`` is `text`, `short`, `json` or `sarif`.
    """
    try:
        try:
            yield
        finally:
            _flush()
    except DsvError as error:
        _exit(error, form)
    except BrokenPipeError:
        _hang_up()
        sys.exit(HUNG_UP)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except OSError as error:
        _exit(DsvError(_os_words(error)), form)
    except MemoryError:
        _exit(DsvError("there is not enough memory for this"), form)


def report_internal(error: Exception) -> int:
    """Print an error that is a mistake in dsvgraph, and return the exit code."""
    if os.environ.get("DSVGRAPH_TRACEBACK"):
        raise error
    words = f"internal error: {type(error).__name__}: {error}"
    hint = "this is a mistake in dsvgraph, please report it; with DSVGRAPH_TRACEBACK=1 it says where"
    output.errors(DsvError(words, hint=hint))
    return INTERNAL


def _exit(error: DsvError, form: str) -> None:
    try:
        output.errors(error, form)
        _flush()
    except OSError:  # standard output is what failed: report it on standard error
        _hang_up()
        with suppress(OSError):
            output.errors(error)
    sys.exit(WRONG)


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _os_words(error: OSError) -> str:
    what = error.strerror or str(error)
    name = str(error.filename or "")
    shown = name if len(name) < 200 else f"{name[:90]}...{name[-90:]}"
    return f"{shown}: {what}" if name else f"cannot write the output: {what}"


def _hang_up() -> None:
    """Discard what is still buffered: Python would raise another error when it flushes it at exit."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
