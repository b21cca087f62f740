"""A line of a spec as written, parsed once: what it calls, what is wired, and its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from dsvgraph.ops.base import RESERVED


@dataclass(frozen=True, eq=False)
class WrittenLine(Mapping[str, Any]):
    """One line, `{callee: wired, option: value, ...}`; as a mapping, all its keys in the order of the text.

    ``callee`` is the first key, "" for an empty line: an op, a block, an argument that holds one, or a kind of loss.
    """

    callee: str
    wired: Any
    options: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> WrittenLine:
        """Return the line that ``raw`` is the data of."""
        callee = next(iter(raw), "")
        return cls(callee, raw.get(callee), {key: value for key, value in raw.items() if key != callee})

    @property
    def attributes(self) -> dict[str, Any]:
        """Return the options of the callee: without `at`, `repeat` and the other words of the language."""
        return {key: value for key, value in self.options.items() if key not in RESERVED}

    def __getitem__(self, key: str) -> Any:
        return self.wired if self.callee and key == self.callee else self.options[key]

    def __iter__(self) -> Iterator[str]:
        return iter([self.callee, *self.options] if self.callee else ())

    def __len__(self) -> int:
        return bool(self.callee) + len(self.options)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of a mapping with texts as keys, which becomes a line."""
        raw = core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())
        return core_schema.no_info_after_validator_function(cls.of, raw)
