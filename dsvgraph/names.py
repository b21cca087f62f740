"""Names in a spec: what one may be, why a text is none, which one was meant, and how several are listed."""

from __future__ import annotations

import difflib
import keyword
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from heapq import nlargest
from itertools import islice

MAX = 64
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z", re.ASCII)
CONSTANTS = ("true", "false", "null")  # what an expression reads as a value
MAX_COMPARED = 1000  # names that a misspelt one is compared with
MAX_CLOSE = 50  # of them, letter by letter
MADE_OF = "names are ASCII letters, digits and _"


def is_name(text: str) -> bool:
    """Return whether ``text`` may be the name of a line, a value, a block, a port or a segment of a path."""
    return bool(NAME.match(text)) and not _taken(text)


def _taken(text: str) -> bool:
    return keyword.iskeyword(text) or text.startswith("__") or text in CONSTANTS


def why_no_name(text: str) -> str:
    """Return what keeps ``text`` from being a name, in words that follow `X is no name:`.

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
    """Return a character for a message, by its Unicode name where it looks like one of ASCII or cannot be seen.

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


# -- which one was meant -------------------------------------------------------------------------


class Nearest(str):
    """The hint `did you mean ...?`, with the word to replace and the one to write instead."""

    wrong: str = ""
    right: str = ""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a hint with the name that ``name`` most resembles, or nothing."""
    if not (right := closest(name, names)):
        return ""
    hint = Nearest(f"did you mean `{right}`?")
    hint.wrong, hint.right = name, right
    return hint


def closest(name: str, names: Iterable[str]) -> str:
    """Return the one of ``names`` that ``name`` most resembles, or nothing."""
    known = [n for n in islice(names, MAX_COMPARED) if n != name]
    if len(known) > MAX_CLOSE:
        pairs = _pairs(name[:100])
        known = nlargest(MAX_CLOSE, known, key=lambda n: 2 * len(pairs & _pairs(n)) - len(n))
    close = difflib.get_close_matches(name[:100], known, n=3, cutoff=0.6)
    swapped = [n for n in close if sorted(n) == sorted(name)]  # letters that have changed places
    return [*swapped, *close, ""][0]


@lru_cache(maxsize=4 * MAX_COMPARED)
def _pairs(name: str) -> frozenset[str]:
    """Return the pairs of neighbouring letters, a cheap measure of similarity."""
    padded = f" {name} "
    return frozenset(padded[i : i + 2] for i in range(len(padded) - 1))


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Return names for a message, cut to a readable number."""
    found = [f"`{n}`" for n in names]
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more if found else "none"
