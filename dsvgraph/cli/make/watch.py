"""`render --watch`: draw again when a file of the spec is saved; an error is drawn in place of the picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from dsvgraph import loader
from dsvgraph.cli import output
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model, walk

PAUSE = 0.3  # seconds between two checks

Stamp = dict[Path, int]


def watch(names: list[str], draw: Callable[[], list[Model]], show: Callable[[DsvError], object]) -> None:
    """Call ``draw`` now and after every change, until interrupted; call ``show`` with the errors of a spec.

    ``names`` are the specs, and ``draw`` returns their models. Raise DsvError if a spec does not exist at first; wait
    for one that is gone later, as while an editor saves it.
    """
    models: list[Model] = []
    paths = [Path(name) if Path(name).is_file() else loader.find(name) for name in names]
    while True:
        try:
            models = draw()
        except DsvError as error:
            output.errors(error)
            show(error)
        _wait(files(paths, models))


def files(specs: Iterable[Path], models: Iterable[Model]) -> Stamp:
    """Return the time stamps of the specs (gone or not), of the files beside them, and of those of their lines."""
    specs = list(specs)
    beside = [path for spec in specs for path in spec.parent.glob("*.yaml")]
    lines = {Path(v.node.span.source.name) for model in models for v in walk(model) if v.node.span}
    return stamp([*specs, *beside, *lines])


def stamp(paths: Iterable[Path]) -> Stamp:
    """Return when each file was last written; 0 for one that is gone."""
    return {path: path.stat().st_mtime_ns if path.is_file() else 0 for path in paths}


def _wait(before: Stamp) -> None:
    """Wait until a file is written, or comes back."""
    while stamp(before) == before:
        time.sleep(PAUSE)
