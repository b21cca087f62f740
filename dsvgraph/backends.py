"""Backends by name: found as entry points, so that one can be somebody else's package."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from os import PathLike
from pathlib import Path
from typing import Any

from dsvgraph.errors import DsvError

GROUP = "dsvgraph.backends"
EXTRAS = {"graphviz": "draw"}  # where the extra is not called like the backend


def backend(name: str, purpose: str) -> Any:
    """The module of the backend ``name``; raises DsvError that says how to install it."""
    try:
        return _found(name)
    except ImportError as error:
        extra = EXTRAS.get(name, name)
        why = f"`{error.name}` is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
        hint = f"pip install 'dsvgraph[{extra}]'"
        raise DsvError(f"{purpose} needs the backend `{name}`: {why}", hint=hint) from error


def artist(path: str | PathLike[str]) -> Any:
    """The backend that draws into ``path``: the page's for `.html`, graphviz's for every other ending."""
    return backend("html" if Path(path).suffix.lower() == ".html" else "graphviz", "drawing")


def _found(name: str) -> Any:
    for point in entry_points(group=GROUP, name=name):
        return point.load()
    return import_module(f"dsvgraph_{name}")  # a checkout that is not installed
