"""Names and values: what a text in a spec means where it stands, and where a value was written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from dsvgraph import expr
from dsvgraph.codes import Code
from dsvgraph.dims import Size, symbol
from dsvgraph.errors import DsvError, Fault, Note, Span, clipped
from dsvgraph.names import NAME, listed, nearest
from dsvgraph.ops import OPS
from dsvgraph.spec import ConfigEntry, SpecPart, WrittenLine
from dsvgraph.types import as_size, shown

At = Callable[..., Span | None]  # from the steps to a value inside another to its place

UNIT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(%|[A-Za-z]{1,2})\Z", re.ASCII)
MAX_CHAIN = 40  # config values in terms of others


class Word(str):
    """A text that names no value: an enum's choice, or a mistake that its reader reports."""


@dataclass(frozen=True)
class BlockValue:
    """A block (or an op) as a value, with the arguments that are already given."""

    name: str
    presets: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        given = "".join(f", {k}: {v}" for k, v in self.presets)
        return f"{{{self.name}{given}}}" if given else self.name


@dataclass(frozen=True)
class Library:
    """What a line can call: ops and blocks."""

    blocks: Mapping[str, SpecPart]

    def __contains__(self, name: object) -> bool:
        return name in OPS or name in self.blocks

    def names(self) -> list[str]:
        return [*OPS, *self.blocks]


@dataclass(frozen=True)
class Given:
    """How a name got its value: the text, its place, and the scope that the text was read in."""

    name: str
    raw: Any
    span: Span | None
    scope: Scope


class Scope:
    """The names visible at one place, and how a raw value becomes a value there."""

    def __init__(self, values: Mapping[str, Any], library: Library, given: Mapping[str, Given] | None = None) -> None:
        self.values = values
        self.library = library
        self.given: Mapping[str, Given] = {} if given is None else given

    def extended(self, more: Mapping[str, Any]) -> Scope:
        """Return the scope with more names."""
        return Scope({**self.values, **more}, self.library, self.given)

    def value(self, raw: Any, span: Span | None, at: At | None = None) -> Any:
        """``raw`` as a value: number, word, block, list or record; ``at`` says where its items stand."""
        if isinstance(raw, str) and not isinstance(raw, Word):
            return self._text(raw, span)
        if isinstance(raw, list):
            return [self._item(item, i, span, at) for i, item in enumerate(raw)]
        if isinstance(raw, dict):
            return self._mapping(raw, span, at)
        return raw

    def _item(self, raw: Any, step: Any, span: Span | None, at: At | None) -> Any:
        return self.value(raw, at(step), partial(at, step)) if at else self.value(raw, span)

    def _mapping(self, raw: dict[str, Any], span: Span | None, at: At | None) -> Any:
        line = WrittenLine.of(raw)
        values = {k: self._item(v, k, span, at) for k, v in raw.items()}
        if line.wired is not None or line.callee not in self.library:
            return values
        return BlockValue(line.callee, tuple((key, values[key]) for key in line.options))

    def _text(self, text: str, span: Span | None) -> Any:
        try:
            tree = expr.parse(text)
        except ValueError:
            return Word(text)
        if tree.op == "name":
            return self._named(tree.args[0])
        try:
            return expr.evaluate(tree, self.number)
        except ValueError as error:
            hint, words = self._unknown(tree), f"`{text}`: "
            reads = self.config_names(text)
            raise DsvError.of(
                error, span, Code.NO_RESULT, words, notes=self.origins(text), hint=hint, names=reads
            ) from None

    def _named(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        return BlockValue(name) if name in self.library else Word(name)

    def number(self, name: str) -> Any:
        """Return the value of a name inside an expression; raise ValueError if there is none.

        A block is a value too, so that `moe if index >= 3 else mlp` says which layers are dense.
        """
        if name not in self.values and name in self.library:
            return BlockValue(name)
        if name not in self.values:
            raise Fault(Code.NO_VALUE, f"there is no name `{name}` here")
        return self.values[name]

    def _unknown(self, tree: expr.Expr) -> str:
        missing = [n for n in sorted(tree.names()) if n not in self.values and n not in self.library]
        if tree.op == "field" and missing == ["config"]:
            return f"config values stand bare: `{tree.args[1]}`"
        return self.meant(missing[0]) if missing else ""

    def size(self, raw: Any, span: Span | None, least: int = 1) -> Size:
        """``raw`` as a size; raise DsvError if it is none."""
        value = self.value(raw, span)
        try:
            return as_size(value, least)
        except ValueError as error:
            raise self.fault(raw, value, span, error) from None

    # -- what is wrong, and where it was written ---------------------------------------------

    def fault(
        self, raw: Any, value: Any, span: Span | None, error: ValueError, key: str = "", hint: str = ""
    ) -> DsvError:
        """Return the mistake in ``value``, where that was written; ``raw`` at ``span`` uses it as ``key``."""
        blame = self._blame(value)
        source, reads = self.source(raw), self.config_names(raw)
        if source is None or source.span is None:
            words = f"{key}: " if key and not blame else ""
            notes, hint = self.origins(raw), hint or self.near(value)
            return DsvError.of(blame or error, span, Code.BAD_VALUE, words, notes=notes, hint=hint).on_line(reads)
        used = f"used here as {key}" if key else "used here"
        notes = [(used, span), *source.scope.origins(source.raw)]
        hint = hint or source.scope.near(value)
        return DsvError.of(blame or error, source.span, Code.BAD_VALUE, notes=notes, hint=hint).on_line(reads)

    def _blame(self, value: Any) -> ValueError | None:
        """Why a word is no number: it is a name that nothing has, or broken arithmetic."""
        if isinstance(value, BlockValue):
            return Fault(Code.BAD_VALUE, f"a number is expected, `{value.name}` is a block")
        if not isinstance(value, Word):
            return None
        try:
            expr.parse(value)
        except ValueError as error:
            return Fault(getattr(error, "code", Code.NO_ARITHMETIC), f"`{value}`: {error}")
        return Fault(Code.NO_VALUE, f"there is no name `{value}` here")

    def near(self, value: Any) -> str:
        """Return what a word that has no value may be meant to be."""
        if not isinstance(value, Word):
            return ""
        if found := UNIT.match(value):
            return f"write {float(found[1]) / 100:g}" if found[2] == "%" else "a number has no unit: 256 * 1024"
        return self.meant(value) if NAME.match(value) else ""

    def meant(self, name: str) -> str:
        """Return the visible name that ``name`` most resembles, or those that there are."""
        return nearest(name, self.values) or (f"there are: {listed(self.values, 6)}" if self.values else "")

    def find_given(self, name: str) -> Given | None:
        """Return how ``name`` got its value, one step back."""
        return self.given.get(name)

    def source(self, raw: Any, steps: int = 2 * MAX_CHAIN) -> Given | None:
        """Return where the value of the name ``raw`` was written, however often it was handed on."""
        given = self.find_given(raw) if isinstance(raw, str) else None
        if given is None or not steps or (given.raw == raw and given.scope is self):
            return given
        return given.scope.source(given.raw, steps - 1) or given

    def config_names(self, raw: Any) -> frozenset[str]:
        """Return the config names that ``raw`` depends on; a name that has no value here stands for itself."""
        found, seen = set[str](), set[tuple[Scope, str]]()
        left: list[tuple[Scope, str]] = [(self, name) for name in free_names(raw)]
        while left:
            scope, name = here = left.pop()
            if here not in seen:
                seen.add(here)
                given = scope.find_given(name)
                found |= {name} if given is None or scope is given.scope else set()
                left += [(given.scope, inner) for inner in free_names(given.raw)] if given else []
        return frozenset(found)

    def overridden(self, given: Given) -> list[Note]:
        """Return the place of the value that ``given`` stands over; arguments have none."""
        return []

    def origins(self, raw: Any) -> list[Note]:
        """For each name that ``raw`` reads: its value and where that was written."""
        found = []
        for name in sorted(free_names(raw)):
            source = self.source(name)
            if source is not None:
                words = f"`{source.name}` is {clipped(shown(self.values.get(name)), 80)}"
                found.append((words, source.span))
                found += source.scope.overridden(source)
        return list(dict.fromkeys(found))


class ConfigScope(Scope):
    """Config values, which may be written in terms of each other."""

    def __init__(self, config: Mapping[str, ConfigEntry], library: Library, symbolic: Iterable[str]) -> None:
        super().__init__({}, library)
        self.config = config
        self.symbolic = frozenset(symbolic)
        self.open: list[str] = []
        self.done: dict[str, Any] = {}
        self.broken: dict[str, DsvError] = {}  # reported once, however many values depend on it
        self.values = _Lazy(self)

    def get(self, name: str) -> Any:
        """Return the value of config name ``name``."""
        if name in self.broken:
            raise self.broken[name]
        if name not in self.done:
            try:
                self.done[name] = symbol(name) if name in self.symbolic else self._evaluate(name)
            except DsvError as error:
                self.broken[name] = error
                raise
        return self.done[name]

    def _evaluate(self, name: str) -> Any:
        entry = self.config[name]
        if name in self.open:
            chain = " -> ".join([*self.open[self.open.index(name) :], name])
            raise DsvError(
                f"config values are defined by each other in a circle: {chain}", entry.span, code=Code.CONFIG_CIRCLE
            )
        if len(self.open) >= MAX_CHAIN:
            raise DsvError(
                f"config values are defined by each other at most {MAX_CHAIN} deep", entry.span, code=Code.CONFIG_CIRCLE
            )
        if entry.value == name:
            return BlockValue(name) if name in self.library else Word(name)
        self.open.append(name)
        try:
            return self.value(entry.value, entry.span)
        finally:
            self.open.pop()

    def find_given(self, name: str) -> Given | None:
        entry = self.config.get(name)
        return Given(name, entry.value, entry.span, self) if entry else None

    def overridden(self, given: Given) -> list[Note]:
        entry = self.config.get(given.name)
        places = entry.overrides[:1] if entry and entry.span == given.span else ()
        return [("the value that it overrides", span) for span in places]


class _Lazy(Mapping[str, Any]):
    """A view of the config that evaluates what is asked for."""

    def __init__(self, scope: ConfigScope) -> None:
        self.scope = scope

    def __getitem__(self, name: str) -> Any:
        if name not in self.scope.config:
            raise KeyError(name)
        return self.scope.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self.scope.config

    def __iter__(self) -> Iterator[str]:
        return iter(self.scope.config)

    def __len__(self) -> int:
        return len(self.scope.config)


def free_names(raw: Any) -> frozenset[str]:
    """Return names that a raw value reads, as far as it is an expression."""
    if isinstance(raw, (list, Mapping)):
        items = raw if isinstance(raw, list) else raw.values()
        return frozenset[str]().union(*(free_names(item) for item in items))
    if not isinstance(raw, str):
        return frozenset()
    try:
        return expr.parse(raw).names()
    except ValueError:
        return frozenset()


def freeze(value: Any) -> Any:
    """Return a value as a dictionary key."""
    if isinstance(value, Mapping):
        return ("mapping", *((k, freeze(v)) for k, v in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(freeze(v) for v in value)
    if isinstance(value, BlockValue):
        return (value.name, freeze(value.presets))
    return (type(value).__name__, value)
