"""Lowerings of other packages: entry points of the group `dsvgraph_torch.lowerings`, each a module.

Importing such a module registers its lowerings (`lowers`) and the file that holds the functions and
modules that they write calls of (`runtime_file`).
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

GROUP = "dsvgraph_torch.lowerings"
FOLDER = Path(__file__).parents[1] / "runtime"
OWN = tuple(FOLDER / name for name in ("context.py", "plain.py", "scoring.py", "modules.py"))
RUNTIME = [*OWN]
"""Files whose functions and classes are copied into emitted models as far as they are used."""
_failed: dict[str, str] = {}


def load() -> None:
    """Import every module of lowerings that an installed package declares; remember which failed, and why."""
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:  # noqa: BLE001 - it is somebody else's code: a model that uses its ops tells
            _failed[point.name] = f"{type(error).__name__}: {error}"


def failed() -> str:
    """Return which modules of lowerings could not be imported, and why; nothing if all could."""
    return "; ".join(f"the lowerings `{name}` could not be imported: {why}" for name, why in _failed.items())


def extensions() -> list[Path]:
    """Return the files of functions that other packages brought."""
    return [file for file in RUNTIME if file not in OWN]


def runtime_file(path: Path) -> None:
    """Add a file of functions and classes that lowerings write calls of.

    It is Python source that needs no more than torch, and names them as emitted models do: `torch`, `nn`,
    `F`, `math`, `re`, `NamedTuple`, `checkpoint`. It may call what plain.py defines.
    """
    if path not in RUNTIME:
        RUNTIME.append(path)
