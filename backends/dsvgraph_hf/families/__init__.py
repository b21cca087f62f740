"""The families of models that can be imported and exported: one module for each model_type.

The modules of this folder are the bundled families. A package adds one as an entry point of the group
`dsvgraph_hf.families`: its name is the model_type, its value the module. A module has the names of `Family`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any, Protocol

from dsvgraph_hf.config.graph_reader import GraphReader
from dsvgraph_hf.config.hub_config import HubConfig
from dsvgraph_hf.config.spec_text import SpecDraft

GROUP = "dsvgraph_hf.families"


class Family(Protocol):
    """The names that the module of a family has."""

    Config: type[HubConfig]

    def to_spec(self, config: Any, /) -> SpecDraft:
        """Return the spec that a config means."""

    def from_graph(self, graph: GraphReader, /) -> dict[str, Any]:
        """Return the config that a graph of this family has; raise Missing if a part of it is absent."""


def families() -> dict[str, Family]:
    """Return the families by model_type."""
    return _loaded()[0]


def failures() -> list[str]:
    """Return a sentence for each family of a package that cannot be used."""
    return _loaded()[1]


@cache
def _loaded() -> tuple[dict[str, Family], list[str]]:
    found: dict[str, Any] = {}
    failed: list[str] = []
    for module in iter_modules(__path__):
        if not module.ispkg:
            found[module.name] = import_module(f"{__name__}.{module.name}")
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            found[point.name] = _checked(point.name, point.load(), found)
        except Exception as error:  # noqa: BLE001 - the module is of another package
            why = f"{type(error).__name__}: {error}"
            failed.append(f"the family `{point.name}` of {point.value} cannot be used: {why}")
    return found, failed


def _checked(name: str, module: Any, known: dict[str, Any]) -> Any:
    """Return ``module``; raise TypeError if it is no family, or if its name is taken."""
    if name in known:
        raise TypeError("there is a family of this name already")
    lacking = [part for part in ("Config", "to_spec", "from_graph") if not hasattr(module, part)]
    if lacking:
        raise TypeError(f"it does not define {', '.join(lacking)}")
    if not getattr(module.Config, "architecture", ""):
        raise TypeError("Config does not declare `architecture`")
    return module


def architecture(model_type: str) -> str:
    """Return the class of transformers that computes the models of a family."""
    return families()[model_type].Config.architecture
