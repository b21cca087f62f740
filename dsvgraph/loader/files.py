"""Which file a name means, and its text."""

from __future__ import annotations

import os
from pathlib import Path

from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Span, clipped
from dsvgraph.files import opened
from dsvgraph.loader.compose import MAX_BYTES, Doc, parse
from dsvgraph.names import nearest

PARTS = ("blocks", "losses", "templates", "variants")  # folders in a folder of specs


def bundled() -> Path:
    """Return the folder of the specs that come with the package."""
    package = Path(__file__).parents[1]
    return package / "specs" if (package / "specs").is_dir() else package.parent / "specs"


def homes(folder: Path) -> list[Path]:
    """Return the folders that files in ``folder`` read from: itself, and that of the specs that it is a part of.

    A folder of specs has a folder `blocks`, as the bundled one: what lies in its `blocks`, `variants`,
    `losses` or `templates` names files as seen from it, and so means the same wherever the whole is copied.
    """
    whole = folder.resolve().parent
    return [folder, whole] if folder.resolve().name in PARTS and (whole / "blocks").is_dir() else [folder]


def find(name: str, near: Path | None = None, span: Span | None = None) -> Path:
    """Return the file that ``name`` means: a path, one of the folders that a file in ``near`` reads, or a bundled spec.

    Raise DsvError with the nearest bundled name where there is none.
    """
    candidates = [Path(name)] if near is None else [home / name for home in homes(near)]
    library = bundled()
    if ".." not in Path(name).parts and not Path(name).is_absolute():
        candidates += [library / name, library / f"{name}.yaml"]
    try:
        for path in candidates:
            if path.is_file():
                return path
        there = candidates[0].exists()
    except OSError as error:  # a name that no file can have, a folder that may not be entered
        words = f"`{clipped(name, 80)}` cannot be read: {error.strerror}"
        raise DsvError(words, span, code=Code.NOT_A_FILE) from None
    if there:
        raise DsvError(f"`{name}` is not a regular file", span, code=Code.NOT_A_FILE)
    known = sorted(p.relative_to(library).as_posix().removesuffix(".yaml") for p in library.rglob("*.yaml"))
    raise DsvError(
        f"there is no spec `{name}`",
        span,
        code=Code.NO_FILE,
        hint=_meant(name, known) or f"bundled: {', '.join(known)}",
    )


def _meant(name: str, known: list[str]) -> str:
    """Return a hint with the bundled spec that ``name`` is the end of, or resembles with the same digits.

    Other digits are another version or size, and so another model.
    """
    if found := [f"`{other}`" for other in known if other.endswith(f"/{name}")]:
        return f"did you mean {' or '.join(found)}?"
    return nearest(
        name, [other for other in known if set(filter(str.isdigit, other)) == set(filter(str.isdigit, name))]
    )


def read(path: Path, span: Span | None = None, text: str | None = None) -> Doc:
    """Read and parses a YAML file, or ``text`` in its place; raise DsvError if it is none."""
    return parse(text_of(path, span) if text is None else text, shown(path))


def shown(path: Path) -> str:
    """Return a file's name as errors have it: from the working folder on, where it lies in there."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)


def text_of(path: Path, span: Span | None = None, most: int = MAX_BYTES) -> str:
    """Return the text of a regular file; raise DsvError if it is none, too large, or not UTF-8."""
    try:
        with opened(path) as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise DsvError(f"`{path}` cannot be read: {error.strerror}", span, code=Code.NOT_A_FILE) from None
    if len(raw) > most:
        words = f"`{path}` is larger than {most:,} bytes, the most that such a file may have"
        raise DsvError(words, span, code=Code.TEXT_LIMIT)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DsvError(
            f"`{path}` is not UTF-8 text (line {line}, byte {error.start})", span, code=Code.NOT_TEXT
        ) from None
