"""Hugging Face's config.json and model folders: in as a spec, out as what transformers loads."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .importer import spec_of

if TYPE_CHECKING:
    from .tensors import check, fill, load, report, save

__all__ = ["check", "fill", "load", "report", "save", "spec_of"]


def __getattr__(name: str) -> Any:
    """What reads or writes tensors, imported when it is first asked for: configs need no torch."""
    if name not in ("check", "fill", "load", "report", "save"):
        raise AttributeError(f"module `dsvgraph_hf` has no attribute `{name}`")
    globals()[name] = getattr(import_module("dsvgraph_hf.tensors"), name)
    return globals()[name]
