"""One named line of a body: what it calls, what is wired, what is said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dsvgraph.build.ports import unknown
from dsvgraph.build.scope import BlockValue, Scope, Word
from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Span
from dsvgraph.names import is_name, nearest, why_no_name
from dsvgraph.ops import OPS
from dsvgraph.ops.base import RESERVED
from dsvgraph.spec import Part
from dsvgraph.types import shown

MAX_PATH = 200


@dataclass(frozen=True)
class Line:
    """A line taken apart; ``attributes`` are raw, ``presets`` came with a block argument."""

    name: str
    key: str
    callee: str
    wired: Any
    attributes: dict[str, Any]
    presets: dict[str, Any]
    at: str
    part: Part
    repeat: Any = None
    each: Any = None
    slice: tuple[str, ...] = ()
    share: tuple[str, ...] = ()
    tied: Any = None

    @property
    def span(self) -> Span | None:
        return self.part.key()

    def where(self, *path: Any) -> Span | None:
        """Where a key of the line, or what is below it, stands."""
        return self.part.value(*path)

    def at_key(self, key: str) -> Span | None:
        return self.part.key(key)


def take(name: str, raw: dict[str, Any], part: Part, scope: Scope) -> Line:
    """The line ``name`` taken apart; raises DsvError where it calls nothing that exists."""
    if not raw:
        raise DsvError(
            f"`{name}` says nothing", part.key(), code=Code.EMPTY_LINE, hint="write {op_or_block: input, ...}"
        )
    key = next(iter(raw))
    block = _callee(key, raw, part, scope)
    rest = {k: v for k, v in raw.items() if k != key and k not in RESERVED}
    _check_copies(raw, part)
    return Line(
        name, key, block.name, raw[key], rest, dict(block.presets), _address(name, raw, part), part,
        raw.get("repeat"), raw.get("each"), _ports(raw, "slice", part), _ports(raw, "share", part),
        raw.get("tied"),
    )  # fmt: skip


def _check_copies(raw: dict[str, Any], part: Part) -> None:
    copied = [key for key in ("repeat", "each") if key in raw]
    if len(copied) == 2:
        raise DsvError("a line has `repeat` or `each`, not both", part.key("each"), code=Code.COPY_KEYS)
    for key in (*copied, "slice", "share", "tied"):
        if key in raw and raw[key] is None:
            raise DsvError(f"`{key}` says nothing", part.key(key), code=Code.EMPTY_LINE)
        if key in raw and not copied:
            what = "that copies use one set of weights" if key == "tied" else "how copies get an input"
            raise DsvError(f"`{key}` says {what}, and this line has none", part.key(key), code=Code.COPY_KEYS)


def _callee(key: str, raw: dict[str, Any], part: Part, scope: Scope) -> BlockValue:
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
    hint, notes = _near_callee(key, raw, part, scope), [(words, None) for words in OPS.failures()]
    raise DsvError(f"there is no op or block `{key}`", part.key(key), code=Code.NO_CALLEE, notes=notes, hint=hint)


def _near_callee(key: str, raw: dict[str, Any], part: Part, scope: Scope) -> str:
    name, colon, rest = key.partition(":")
    if colon and name in scope.library:
        return f"a blank follows a colon: write `{name}: {rest}`"
    others = [k for k in raw if k in scope.library]
    if others and (*part.path, others[0]) in part.doc.aliases:
        return f"what `<<` merges comes after the line's own keys: write `{others[0]}` on the line itself, first"
    if others:
        return f"the first key says what the line is: put `{others[0]}` first"
    blocks = [n for n, v in scope.values.items() if isinstance(v, BlockValue)]
    return nearest(key, [*scope.library.names(), *blocks]) or "see `dsvgraph ops` and `dsvgraph blocks`"


def _address(name: str, raw: dict[str, Any], part: Part) -> str:
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


def _ports(raw: dict[str, Any], key: str, part: Part) -> tuple[str, ...]:
    value = raw.get(key, [])
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(n, str) for n in names):
        raise DsvError(f"`{key}` lists names of inputs", part.value(key), code=Code.COPY_KEYS)
    return tuple(names)


def check_inputs(line: Line, ports: list[str], variadic: bool) -> None:
    """Raises DsvError where inputs are not written as the callee takes them: by name, or as a list."""
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
    """Whether ``callee`` is a primitive op."""
    return callee in OPS
