"""A text token by token on a terminal: coloured by the probability of the right token, or with a digit for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dsvgraph.backends.probes import Passage
from dsvgraph.cli import output
from dsvgraph.errors import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

WIDTH = 80
SHOWN = {"\n": "↵", "\t": "→", " ": " "}
SCALE = ((158, 42, 43), (214, 129, 57), (214, 188, 92), (128, 170, 98), (45, 125, 90))
"""Colours of a probability from 0 to 1."""


def coloured(passage: Passage, names: Sequence[str], colours: bool) -> Iterator[RenderableType]:
    """Yield the text once for each prediction, coloured; without colours once, with a line of digits for each."""
    if not colours:
        yield from digits(passage, names)
        return
    yield "\nthe text, coloured by the probability of the right token: 0 % to 100 %"
    yield legend()
    for name in names:
        yield ""
        yield painted(passage, name)


def legend() -> Text:
    """Return the scale of colours."""
    from rich.text import Text

    found = Text()
    for tenth in range(11):
        found.append(f" {10 * tenth} ", style=style(tenth / 10))
    return found


def painted(passage: Passage, name: str) -> Text:
    """Return the text in the colours of one prediction."""
    from rich.text import Text

    found = Text(f"{name}: ", style="bold")
    for token, chance in zip(passage.tokens, passage.probability[name], strict=True):
        found.append(visible(token), style="dim" if chance is None else style(chance))
        if "\n" in token:
            found.append("\n")
    return found


def style(chance: float) -> str:
    """Return black or white on the colour of a probability."""
    r, g, b = mixed(chance)
    return f"rgb(255,255,255) on rgb({r},{g},{b})" if r + g + b < 330 else f"rgb(0,0,0) on rgb({r},{g},{b})"


def mixed(chance: float) -> tuple[int, int, int]:
    """Return the colour of a probability."""
    at = min(1.0, max(0.0, chance)) * (len(SCALE) - 1)
    low = min(int(at), len(SCALE) - 2)
    share = at - low
    r, g, b = (round(a + share * (z - a)) for a, z in zip(SCALE[low], SCALE[low + 1], strict=True))
    return r, g, b


def visible(token: str) -> str:
    """Return a token without control characters; a line feed is shown as an arrow."""
    return "".join(SHOWN.get(c, "") or printable(c) for c in token)


def digits(passage: Passage, names: Sequence[str]) -> Iterator[RenderableType]:
    """Yield lines of the text, and below each a digit for every token and prediction: its probability in tenths."""
    yield "\nthe text; below it the probability of the right token in tenths, . where it is not predicted"
    wide = max(len(name) for name in ("", *names))
    for first, last in lines(passage.tokens):
        shown = [visible(token) for token in passage.tokens[first:last]]
        yield f"{'':{wide}}  {output.cell(''.join(shown))}"
        for name in names:
            marks = (digit(chance).ljust(len(text)) for chance, text in
                     zip(passage.probability[name][first:last], shown, strict=True))  # fmt: skip
            yield f"{name:{wide}}  {''.join(m if text else '' for m, text in zip(marks, shown, strict=True))}".rstrip()


def digit(chance: float | None) -> str:
    """Return a probability in tenths, 9 for all above nine."""
    return "." if chance is None else str(min(9, int(10 * chance)))


def lines(tokens: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the first token of each line and the one behind it: at line feeds, and where it would get too wide."""
    first, wide = 0, 0
    for place, token in enumerate(tokens):
        wide += len(visible(token))
        if "\n" in token or wide >= WIDTH:
            yield first, place + 1
            first, wide = place + 1, 0
    if first < len(tokens):
        yield first, len(tokens)
