"""One named line of a body, with the op or block that it calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dsvgraph.build.ports import unknown
from dsvgraph.build.refused import REFUSED
from dsvgraph.build.scope import BlockValue, Scope, Word
from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Span
from dsvgraph.names import is_name, nearest, why_no_name
from dsvgraph.ops import OPS
from dsvgraph.spec import SpecPart, WrittenLine
from dsvgraph.types import shown

MAX_PATH = 200


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of which is known what it calls: ``callee`` is an op or a block.

    ``presets`` came with a block argument, ``at`` is its address; values stay as ``written``.
    """

    name: str
    written: WrittenLine
    callee: str
    part: SpecPart
    presets: dict[str, Any] = field(default_factory=dict)
    at: str = ""
    slice: tuple[str, ...] = ()
    share: tuple[str, ...] = ()

    @classmethod
    def calling(cls, block: str, part: SpecPart) -> Line:
        """Return a line that calls ``block`` and says nothing else, for blocks that are built on their own."""
        return cls(name=block, written=WrittenLine(block, None, {}), callee=block, part=part)

    @property
    def key(self) -> str:
        """Return the first key as written: the callee, or the argument that holds it."""
        return self.written.callee

    @property
    def wired(self) -> Any:
        """Return the inputs as written."""
        return self.written.wired

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Return the options of the callee as written."""
        return self.written.attributes

    @property
    def repeat(self) -> Any:
        """Return the number of chained copies as written, None for a line that stands once."""
        return self.written.get("repeat")

    @property
    def each(self) -> Any:
        """Return the number of copies side by side as written, None for a line that stands once."""
        return self.written.get("each")

    @property
    def tied(self) -> Any:
        """Return whether copies use one set of weights, as written."""
        return self.written.get("tied")

    @property
    def span(self) -> Span | None:
        """Return where the line stands."""
        return self.part.key()

    def where(self, *path: Any) -> Span | None:
        """Return where the value of a key, or what is below it, stands."""
        return self.part.value(*path)

    def at_key(self, key: str) -> Span | None:
        """Return where a key stands."""
        return self.part.key(key)


def take(name: str, written: WrittenLine, part: SpecPart, scope: Scope) -> Line:
    """Return the line ``name`` with what it calls; raise DsvError if that does not exist."""
    if not written:
        raise DsvError(
            f"`{name}` says nothing", part.key(), code=Code.EMPTY_LINE, hint="write {op_or_block: input, ...}"
        )
    block = _callee(written, part, scope)
    _check_copies(written, part)
    return Line(
        name=name, written=written, callee=block.name, part=part, presets=dict(block.presets),
        at=_address(name, written, part), slice=_ports(written, "slice", part), share=_ports(written, "share", part),
    )  # fmt: skip


def _check_copies(raw: WrittenLine, part: SpecPart) -> None:
    copied = [key for key in ("repeat", "each") if key in raw]
    if len(copied) == 2:
        raise DsvError("a line has `repeat` or `each`, not both", part.key("each"), code=Code.COPY_KEYS)
    for key in (*copied, "slice", "share", "tied"):
        if key in raw and raw[key] is None:
            raise DsvError(f"`{key}` says nothing", part.key(key), code=Code.EMPTY_LINE)
        if key in raw and not copied:
            what = "that copies use one set of weights" if key == "tied" else "how copies get an input"
            raise DsvError(f"`{key}` says {what}, and this line has none", part.key(key), code=Code.COPY_KEYS)


def _callee(written: WrittenLine, part: SpecPart, scope: Scope) -> BlockValue:
    key = written.callee
    held = scope.values.get(key) if key in scope.values else None
    if isinstance(held, BlockValue):
        return held
    if key in scope.library and not isinstance(held, Word):
        return BlockValue(key)
    if key in scope.values:
        source, notes = scope.source(key), [(f"called here as `{key}`", part.key(key))]
        words = f"`{key}` holds `{shown(held)}`, which is no op or block"
        span = source.span if source else part.key(key)
        raise DsvError(words, span, code=Code.NO_BLOCK, notes=notes, hint=nearest(str(held), scope.library.names()))
    hint, notes = _near_callee(written, part, scope), [(words, None) for words in OPS.failures()]
    raise DsvError(f"there is no op or block `{key}`", part.key(key), code=Code.NO_CALLEE, notes=notes, hint=hint)


def _near_callee(written: WrittenLine, part: SpecPart, scope: Scope) -> str:
    """Return what to write instead of a first key that is no op or block."""
    key = written.callee
    name, colon, rest = key.partition(":")
    if colon and name in scope.library:
        return f"a blank follows a colon: write `{name}: {rest}`"
    others = [k for k in written if k in scope.library]
    if others and (*part.path, others[0]) in part.doc.aliases:
        return f"what `<<` merges comes after the line's own keys: write `{others[0]}` on the line itself, first"
    if others:
        return f"the first key says what the line is: put `{others[0]}` first"
    blocks = [n for n, v in scope.values.items() if isinstance(v, BlockValue)]
    return (
        REFUSED.get(key)
        or nearest(key, [*scope.library.names(), *blocks])
        or "see `dsvgraph ops` and `dsvgraph blocks`"
    )


def _address(name: str, raw: WrittenLine, part: SpecPart) -> str:
    at = raw.get("at", name)
    if at == ".":
        return ""
    if not isinstance(at, str) or not at or len(at) > MAX_PATH:
        words = f"at most {MAX_PATH} characters" if isinstance(at, str) and at else "names joined by dots, or . alone"
        raise DsvError(f"`{shown(at)}` is no path: {words}", part.value("at"), code=Code.BAD_PATH)
    for segment in at.split("."):
        if not is_name(segment):
            words = f"`{at}` is no path, as `{segment}` is no name: {why_no_name(segment)}"
            hint = "write names joined by dots, or . alone"
            raise DsvError(words, part.value("at"), code=Code.BAD_PATH, hint=hint)
    return at


def _ports(raw: WrittenLine, key: str, part: SpecPart) -> tuple[str, ...]:
    value = raw.get(key, [])
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(n, str) for n in names):
        raise DsvError(f"`{key}` lists names of inputs", part.value(key), code=Code.COPY_KEYS)
    return tuple(names)


def check_inputs(line: Line, ports: list[str], variadic: bool) -> None:
    """Raise DsvError if inputs are not written as the callee takes them: by name, or as a list."""
    raw, where = line.wired, line.where(line.key)
    if isinstance(raw, dict if variadic else list) and raw:
        words = f"`{line.callee}` takes {'a list of inputs' if variadic else 'its inputs by name'}"
        one = list(raw.values()) if isinstance(raw, dict) else raw[0]
        hint = (
            f"write `{line.callee}: {shown(one)}`" if variadic or not ports[1:] else f"write {{{ports[0]}: ..., ...}}"
        )
        raise DsvError(words, where, code=Code.BAD_REFERENCE, hint=hint)
    for port in raw if isinstance(raw, dict) else ():
        if port not in ports:
            message, hint = unknown("input", port, ports, line.callee)
            raise DsvError(message, line.part.key(line.key, port), code=Code.NO_INPUT, hint=hint)


def is_op(callee: str) -> bool:
    """Return whether ``callee`` is a primitive op."""
    return callee in OPS
