"""`dsvgraph explain`: what the code of an error or a warning means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dsvgraph.cli import output
from dsvgraph.cli.options import JsonOption
from dsvgraph.errors import DsvError
from dsvgraph.names import nearest

if TYPE_CHECKING:
    from dsvgraph.codes.stories import Example, Story


def _codes(incomplete: str) -> list[str]:
    """Return the codes that complete what was typed in a shell."""
    from dsvgraph.codes import Code

    return [code for code in Code if code.startswith(incomplete.upper())]


CodeArgument = Annotated[
    str | None,
    typer.Argument(metavar="CODE", help="As in error[E0301].", autocompletion=_codes, show_default=False),
]


def run(code: CodeArgument = None, as_json: JsonOption = False) -> None:
    """Explain the code of an error, with a wrong and a right example; without CODE, list all."""
    from dsvgraph.codes.stories import stories

    found = stories()
    if code is not None:
        _print(_story(code, found), as_json)
    elif as_json:
        output.data([story.as_dict() for story in found.values()])
    else:
        _list(found)


def _story(code: str, found: dict[str, Story]) -> Story:
    name = code.upper()
    if name not in found:
        raise DsvError(f"there is no code `{code}`", hint=nearest(name, found) or "`dsvgraph explain` lists all")
    return found[name]


def _print(story: Story, as_json: bool) -> None:
    if as_json:
        output.data(story.as_dict())
        return
    output.write(f"{story.code}: {story.title}", "", " ".join(story.words.split()))
    for example in story.examples:
        print(f"\n{_heading(example)}:\n")
        print("".join(f"    {line}".rstrip() + "\n" for line in example.text.splitlines()), end="")


def _heading(example: Example) -> str:
    """Return the heading of an example: wrong or right, and the options that it is checked with."""
    return " ".join(
        [example.kind.capitalize() if example.kind in ("wrong", "right") else example.kind, *example.options]
    )


def _list(found: dict[str, Story]) -> None:
    """Print the codes and their titles by area."""
    area = ""
    for story in found.values():
        if story.area != area:
            print(f"{'' if not area else chr(10)}{story.area}")
            area = story.area
        print(f"  {story.code}  {story.title}")
