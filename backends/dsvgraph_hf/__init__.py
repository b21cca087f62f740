"""Hugging Face's config.json and model folders: in as a spec, out as what transformers loads."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dsvgraph_hf.importer import spec_of

if TYPE_CHECKING:
    from dsvgraph_hf.exporting.exporter import export
    from dsvgraph_hf.exporting.find_class import config_of
    from dsvgraph_hf.weights.tensors import check, fill, load, save

__all__ = ["check", "config_of", "export", "fill", "load", "save", "spec_of"]

PLACES = dict.fromkeys(("check", "fill", "load", "save"), "weights.tensors")
PLACES |= {"config_of": "exporting.find_class", "export": "exporting.exporter"}


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for: configs need no torch, an import needs no export."""
    if name not in PLACES:
        raise AttributeError(f"module `dsvgraph_hf` has no attribute `{name}`")
    globals()[name] = getattr(import_module(f"dsvgraph_hf.{PLACES[name]}"), name)
    return globals()[name]
