"""Names in a spec: what one may be, and why a text is none."""

from __future__ import annotations

import keyword
import re
import unicodedata

MAX = 64
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z", re.ASCII)
CONSTANTS = ("true", "false", "null")  # what an expression reads as a value
MADE_OF = "names are ASCII letters, digits and _"


def is_name(text: str) -> bool:
    """Whether ``text`` may be the name of a line, a value, a block, a port or a segment of a path."""
    return bool(NAME.match(text)) and not _taken(text)


def _taken(text: str) -> bool:
    return keyword.iskeyword(text) or text.startswith("__") or text in CONSTANTS


def why_no_name(text: str) -> str:
    """What keeps ``text`` from being a name, in words that follow `X is no name:`.

    >>> why_no_name("größe"), why_no_name("2nd"), why_no_name("class")
    ('names are ASCII letters, digits and _, not `ö`', 'it begins with a digit', 'it is a keyword of Python')
    """
    if not text:
        return "it is empty"
    if other := next((c for c in text if not re.match(r"\w", c, re.ASCII)), ""):
        return f"{MADE_OF}, not {described(other)}"
    if text[0].isdigit():
        return "it begins with a digit"
    if text.startswith("__"):
        return "names that begin with __ are Python's"
    if text in CONSTANTS:
        return "it is a constant of the language"
    return "it is a keyword of Python" if keyword.iskeyword(text) else f"a name has at most {MAX} characters"


def described(character: str) -> str:
    """A character for a message, by its Unicode name where it looks like one of ASCII or cannot be seen.

    >>> described("ö"), described("\\u0430"), described(" ")
    ('`ö`', '`а` (CYRILLIC SMALL LETTER A)', 'a blank')
    """
    if character == " ":
        return "a blank"
    name = unicodedata.name(character, f"U+{ord(character):04X}")
    if not character.isprintable():
        return name
    plain = character.isascii() or name.startswith("LATIN")
    return f"`{character}`" if plain else f"`{character}` ({name})"
