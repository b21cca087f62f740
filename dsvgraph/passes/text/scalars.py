"""Values as YAML text: without quotes where that reads as the same value."""

from __future__ import annotations

import json
import re
import textwrap

LINE_WIDTH = 132  # of a line of a spec
PROSE_WIDTH = 100
PLAIN = re.compile(  # inside braces
    r"(?:[A-Za-z_(]|\d[\d.]* [a-z*/+-])(?:[\w .()*/+<>=%-]*[\w)])?\Z|\.\Z|\.\.\.\Z", re.ASCII
)
LINE = re.compile(r"[A-Za-z](?:(?!: | #)[ -~])*[!-9;-~]\Z")  # on a line of its own
CONSTANTS = ("true", "false", "null")


def in_braces(text: str) -> str:
    """Return a text as it is written inside braces or brackets."""
    return text if PLAIN.match(text) and not is_constant(text) else quoted(text)


def on_line(text: str) -> str:
    """Return a text as it is written after `name: ` on a line of its own."""
    return text if is_plain_line(text) else in_braces(text)


def is_plain_line(text: str) -> bool:
    """Return whether a text needs no quotes after `name: ` on a line of its own."""
    return bool(LINE.match(text)) and not is_constant(text)


def is_constant(text: str) -> bool:
    """Return whether YAML reads a text without quotes as true, false or null."""
    return text.lower() in CONSTANTS


def quoted(text: str) -> str:
    """Return a text in quotes, as JSON writes it; what cannot be printed is escaped as YAML does."""
    found = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in found)


def prose(text: str, indent: str) -> list[str] | None:
    """Return the lines of a text after `>` or `>-`, empty ones between paragraphs; None if folding changes it."""
    paragraphs = text.removesuffix("\n").split("\n")
    plain = all(" ".join(p.split()) == p and p.isprintable() for p in paragraphs)
    if not plain or not paragraphs[0] or not paragraphs[-1]:
        return None
    wrap = textwrap.TextWrapper(
        PROSE_WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line for p in paragraphs for line in ("", *wrap.wrap(p))][1:]


def literal(text: str, indent: str) -> list[str] | None:
    """Return the lines of a text after `|` or `|-`; nothing where they would not be read as they are."""
    lines = text.removesuffix("\n").split("\n")
    if not all(line.isprintable() for line in lines) or not lines[0].strip() or lines[0][0] == " " or not lines[-1]:
        return None
    return [f"{indent}{line}" if line else "" for line in lines]
