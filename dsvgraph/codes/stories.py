"""The story of each code, with a wrong and a right example: the Markdown files of this folder.

A file is an area. `## CODE: title` begins a story; a fence says after ```yaml whether it is wrong or
right (and what the command line adds), or names a file that the examples read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dsvgraph.codes import Code

ORDER = (
    "text", "keys", "names", "sizes", "arithmetic", "copies", "losses", "weights", "files", "warnings",
)  # fmt: skip
STORY = re.compile(r"^## (\w+): ([^\n]*)\n\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```yaml (\S+)(?: ([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A whole spec: ``kind`` is wrong, right, or the name of a file that the others read."""

    kind: str
    options: tuple[str, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class Story:
    """What a code means."""

    code: Code
    area: str
    title: str
    words: str
    examples: tuple[Example, ...]

    def example(self, kind: str) -> Example:
        """Return the wrong or the right one."""
        return next(example for example in self.examples if example.kind == kind)

    def as_dict(self) -> dict[str, object]:
        """Return the story for ``--json``."""
        return {
            "code": self.code,
            "area": self.area,
            "title": self.title,
            "story": self.words,
            "wrong": self.example("wrong").text,
            "right": self.example("right").text,
        }


@lru_cache(maxsize=1)
def stories() -> dict[str, Story]:
    """Return every story by its code, area after area."""
    found: dict[str, Story] = {}
    for area in ORDER:
        text = _text(area)
        heading = text.partition("\n")[0].removeprefix("# ")
        for match in STORY.finditer(text):
            examples = tuple(Example(m[1], tuple((m[2] or "").split()), m[3]) for m in FENCE.finditer(match[3]))
            words = match[3][: match[3].index("```")].strip()
            found[match[1]] = Story(code=Code(match[1]), area=heading, title=match[2], words=words, examples=examples)
    return found


def page() -> str:
    """Return all stories as one page of Markdown, docs/errors.md."""
    areas = (re.sub("^(?=#+ )", "#", _text(area), flags=re.MULTILINE) for area in ORDER)
    return "\n".join([_text("introduction"), *areas])


def _text(area: str) -> str:
    return (Path(__file__).parent / f"{area}.md").read_text(encoding="utf-8")
