"""Errors: what is wrong, where, and how it is printed; one class for all that users cause."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Protocol, runtime_checkable

from dsvgraph.codes import Code
from dsvgraph.names import Nearest

MAX_ERRORS = 50  # reported at once
WINDOW = 120  # characters of a long line that are shown


@dataclass(frozen=True)
class Source:
    """One text: the name shown in errors, and its lines."""

    name: str
    lines: tuple[str, ...] = field(repr=False)

    def line(self, number: int) -> str:
        """Line ``number`` (from 1), or nothing if the text is shorter."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""


@dataclass(frozen=True)
class Span:
    """A stretch of one line: line and column count from 1.

    Where an alias stands for what is meant, ``written`` is where that itself was written.
    """

    source: Source = field(repr=False)
    line: int
    column: int
    width: int = 1
    written: Span | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"

    @property
    def text(self) -> str:
        """Return what stands there."""
        return self.source.line(self.line)[self.column - 1 : self.column - 1 + self.width]

    def as_dict(self) -> dict[str, object]:
        """Return the place for ``--json``."""
        return {"file": self.source.name, "line": self.line, "column": self.column, "width": self.width}


Note = tuple[str, Span | None]


@dataclass(frozen=True)
class Fix:
    """What to write at a place instead of what stands there."""

    span: Span
    text: str

    def as_dict(self) -> dict[str, object]:
        """Return the fix for ``--json``."""
        return {"span": self.span.as_dict(), "text": self.text}


@runtime_checkable
class Named(Protocol):
    """What depends on named values: a symbolic size, a type, an expression."""

    def names(self) -> frozenset[str]:
        """Return the names that it depends on."""


class Fault(ValueError):
    """A mistake in a value, raised where its place in the text is not known.

    ``wanted`` and ``found`` are the two sides of a mismatch. ``about`` holds every size, type and expression that
    the message speaks of, so that nobody has to read the message. ``step`` is the key of the wrong item, if the
    value is a mapping.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        wanted: object = "",
        found: object = "",
        *,
        about: Iterable[object] = (),
        step: str = "",
    ) -> None:
        super().__init__(message)
        self.code, self.wanted, self.found, self.step = code, str(wanted), str(found), step
        self.about = (wanted, found, *about)

    @property
    def names(self) -> frozenset[str]:
        """Return the names that the values in ``about`` depend on."""
        return frozenset[str]().union(*(value.names() for value in self.about if isinstance(value, Named)))


@dataclass(frozen=True)
class Diagnostic:
    """One mistake (or a warning): message, place, the path of the node, what else to look at, a hint.

    ``wanted`` and ``found`` are the two sizes or shapes of a mismatch; ``origins`` are the places where values
    equal to ``found`` were written. ``names`` are the config names that the mistake itself is about, ``reads``
    those that its line depends on.
    """

    message: str
    span: Span | None = None
    _: KW_ONLY
    path: str = ""
    notes: tuple[Note, ...] = ()
    hint: str = ""
    severity: str = "error"
    code: Code | None = None
    wanted: str = ""
    found: str = ""
    origins: frozenset[Span] = frozenset()
    names: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return "\n".join(self.text())

    @property
    def fix(self) -> Fix | None:
        """Return the name that was meant, in place of the one that was written."""
        if self.span is None or not isinstance(self.hint, Nearest):
            return None
        word = re.search(rf"(?<!\w){re.escape(self.hint.wrong)}(?!\w)", self.span.text)
        if word is None:
            return None
        column, width = self.span.column + word.start(), len(self.hint.wrong)
        return Fix(Span(self.span.source, self.span.line, column, width), self.hint.right)

    @property
    def labels(self) -> tuple[Note, ...]:
        """Return the notes, and where the guilty words were written if an alias stands for them."""
        written = self.span.written if self.span else None
        return self.notes + ((("written here", written),) if written else ())

    @property
    def cause(self) -> tuple[object, ...]:
        """Return a key that is equal for diagnostics of one mistake: a number that no line can take is one."""
        if self.code is Code.INDIVISIBLE and self.found and self.origins:
            return (self.code, self.found, self.origins)
        return (self.message, self.span and (self.span.written or self.span))

    @property
    def kind(self) -> str:
        """Severity and code: `error[E0301]`."""
        return f"{self.severity}[{self.code}]" if self.code else self.severity

    def short(self) -> str:
        """Return the diagnostic on one line: file, line, column, code and words."""
        words = f"{self.kind}: {self.message}"
        return clipped(printable(f"{self.span}: {words}" if self.span else words))

    def text(self) -> list[str]:
        """Return the diagnostic as lines, in the manner of a compiler."""
        lines = [f"{self.kind}: {clipped(printable(self.message))}"]
        lines += excerpts(self.span, self.labels)
        if self.path:
            lines.append(f"  = in: {printable(self.path)}")
        lines += [f"  = note: {clipped(printable(words))}" for words, span in self.notes if span is None]
        if self.hint:
            lines.append(f"  = help: {clipped(printable(self.hint))}")
        return lines

    def as_dict(self) -> dict[str, object]:
        """Return the diagnostic for ``--json``."""
        notes = [{"message": w, "at": str(s) if s else None, "span": s and s.as_dict()} for w, s in self.labels]
        return {
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "span": self.span and self.span.as_dict(),
            "path": self.path,
            "expected": self.wanted,
            "found": self.found,
            "notes": notes,
            "help": self.hint,
            "fix": self.fix and self.fix.as_dict(),
        }


def excerpts(span: Span | None, notes: Iterable[Note]) -> list[str]:
    """Return the source lines of a mistake, `^^^` under the guilty words, `---` under others, by file and line."""
    labels = [(span, "^", "")] if span else []
    labels += [(at, "-", words) for words, at in notes if at]
    if not labels:
        return []
    files: dict[str, list[tuple[Span, str, str]]] = {}
    for label in labels:
        files.setdefault(label[0].source.name, []).append(label)
    gutter = max(len(str(at.line)) for at, _, _ in labels)
    lines: list[str] = []
    for found in files.values():
        lines.append(f"{' ' * gutter}{':::' if lines else '-->'} {printable(str(found[0][0]))}")
        lines += [f"{' ' * gutter} |", *_file(found, gutter)]
    return lines


def _file(labels: list[tuple[Span, str, str]], gutter: int) -> list[str]:
    """Return the labelled lines of one file, in order; `...` stands for those between."""
    lines: list[str] = []
    last = 0
    for number in sorted({at.line for at, _, _ in labels}):
        here = [label for label in labels if label[0].line == number]
        line = here[0][0].source.line(number)
        first = max(0, here[0][0].column - 61) if len(line) > WINDOW else 0
        lines += ["..."] if last and number > last + 1 else []
        lines.append(f"{number:>{gutter}} | {printable(line[first : first + WINDOW])}".rstrip())
        lines += [f"{' ' * gutter} | {_underlined(line, first, *label)}" for label in here]
        last = number
    return lines


def _underlined(line: str, first: int, span: Span, mark: str, words: str) -> str:
    """Return a row below a line whose window begins at ``first``: blanks up to the span, marks, words."""
    start = min(max(span.column - 1, first), max(len(line), first), first + WINDOW)
    shown = " " * len(printable(line[first:start])) + mark * max(1, min(span.width, first + WINDOW - start))
    return f"{shown} {clipped(printable(words))}".rstrip()


class DsvError(Exception):
    """Every error that a user may cause: one or more diagnostics, never a traceback.

    What is wrong with a spec has a ``code``; what is wrong with a folder, an option or a machine has none.

    >>> import dsvgraph
    >>> try:
    ...     dsvgraph.loads("extends: deepseek_v3_tiny.yaml\\nconfig: {hidden_size: -1}")
    ... except DsvError as error:
    ...     print(error.diagnostics[0].code)
    E0401
    """

    def __init__(
        self,
        message: str,
        span: Span | None = None,
        *,
        code: Code | None = None,
        path: str = "",
        notes: Iterable[Note] = (),
        hint: str = "",
        wanted: str = "",
        found: str = "",
        origins: Iterable[Span] = (),
        names: Iterable[str] = (),
    ) -> None:
        only = Diagnostic(
            message, span, path=path, notes=tuple(notes), hint=hint, code=code, wanted=wanted, found=found,
            origins=frozenset(origins), names=frozenset(names),
        )  # fmt: skip
        self.diagnostics: tuple[Diagnostic, ...] = (only,)
        super().__init__(message)

    @classmethod
    def of(
        cls,
        error: ValueError,
        span: Span | None,
        code: Code,
        before: str = "",
        *,
        after: str = "",
        path: str = "",
        notes: Iterable[Note] = (),
        hint: str = "",
        origins: Iterable[Span] = (),
        names: Iterable[str] = (),
    ) -> DsvError:
        """Return ``error`` at its place: its message between ``before`` and ``after``, its code or else ``code``."""
        known = error if isinstance(error, Fault) else Fault(code, str(error))
        return cls(
            f"{before}{error}{after}", span, code=known.code, path=path, notes=notes, hint=hint,
            wanted=known.wanted, found=known.found, origins=origins, names=known.names.union(names),
        )  # fmt: skip

    @classmethod
    def collect(cls, errors: Iterable[DsvError]) -> DsvError:
        """Return one error that holds the diagnostics of many (at most 50), in the order of the text."""
        found = [d for e in errors for d in e.diagnostics]
        found.sort(key=lambda d: bool(d.span and d.span.written))  # what an alias repeats is the same mistake
        unique = list({d.cause: d for d in reversed(found)}.values())
        unique.sort(key=lambda d: (d.span.source.name, d.span.line, d.span.column) if d.span else ("", 0, 0))
        error = cls(unique[0].message)
        error.diagnostics = tuple(unique[:MAX_ERRORS])
        return error

    def on_line(self, reads: frozenset[str]) -> DsvError:
        """Return the error with ``reads`` as the config names that its line depends on, where none are known yet."""
        self.diagnostics = tuple(d if d.reads else replace(d, reads=reads) for d in self.diagnostics)
        return self

    def __str__(self) -> str:
        return "\n\n".join(str(d) for d in self.diagnostics)


def printable(text: str) -> str:
    """``text`` without control characters: a spec must not steer the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.replace("\t", " "))


def clipped(text: str, most: int = 400) -> str:
    """``text``, cut where it is longer than a reader would read."""
    return text if len(text) <= most else text[: most - 3] + "..."
