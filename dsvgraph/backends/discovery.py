"""Find backends by the entry points of installed packages. A package is imported when its backend is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from os import PathLike
from pathlib import Path
from typing import Generic, TypeVar

from dsvgraph.backends import contracts
from dsvgraph.errors import DsvError
from dsvgraph.names import listed, nearest

DISTRIBUTION = "dsvgraph"
"""The package whose backends are taken by default."""

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
"""Where a checkout that is not installed declares its entry points."""


Contract = TypeVar("Contract")


@dataclass(frozen=True)
class Finder(Generic[Contract]):
    """Call it with a name (the default: None) to get what an installed package brings for one contract."""

    group: str  # of entry points, behind `dsvgraph.`
    contract: type[Contract]
    purpose: str  # for error messages

    def __call__(self, name: str | None = None, purpose: str | None = None) -> Contract:
        """Return the backend ``name``, or the default one.

        Raise DsvError if there is none, if it cannot be imported, or if it lacks a method of the contract.
        """
        point = _choose(self.group, purpose or self.purpose, name)
        needs = f"{purpose or self.purpose} needs the backend `{point.name}`"
        try:
            found: Contract = point.load()
        except ImportError as error:
            why = f"`{error.name}` is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
            raise DsvError(f"{needs}: {why}", hint=_installation(point)) from error
        except Exception as error:
            words = f"{needs}: {_package(point)} cannot be imported: {type(error).__name__}: {error}"
            raise DsvError(words) from error
        missing = [
            method for method in vars(self.contract) if not method.startswith("_") and not hasattr(found, method)
        ]
        if missing:
            words = f"`{point.value}` of {_package(point)} has no {listed(missing)}"
            raise DsvError(f"{needs}: {words}", hint=f"it must meet dsvgraph.backends.{self.contract.__name__}")
        return found


compiler = Finder("compilers", contracts.Compiler, "compiling")
trainer = Finder("trainers", contracts.Trainer, "training")
generator = Finder("generators", contracts.Generator, "generating text")
run_reader = Finder("runs", contracts.RunReader, "reading runs")
datasets = Finder("datasets", contracts.Datasets, "preparing data")
verifier = Finder("verifiers", contracts.Verifier, "verifying")
benchmarker = Finder("benchmarkers", contracts.Benchmarker, "measuring")
peer = Finder("peers", contracts.Peer, "measuring against another library")
prober = Finder("probers", contracts.Prober, "probing")
module_builder = Finder("modules", contracts.ModuleBuilder, "reading and writing weights")
weight_reader = Finder("weights", contracts.WeightReader, "loading weights")
exporter = Finder("exporters", contracts.Exporter, "exporting")
testbed = Finder("testbeds", contracts.Testbed, "comparing")
language_server = Finder("servers", contracts.LanguageServer, "the language server")

_importer = Finder("importers", contracts.Importer, "importing")
_renderer = Finder("renderers", contracts.Renderer, "drawing")


def importer(path: str | PathLike[str]) -> contracts.Importer:
    """Return the importer of files that end like ``path``, else the default one. Raise DsvError if it is missing."""
    ending = _ending(path)
    name = ending if any(point.name == ending for point in _points("importers")) else None
    return _importer(name)


def renderer(path: str | PathLike[str]) -> contracts.Renderer:
    """Return what draws files that end like ``path``. Raise DsvError if nothing does, or if it is missing."""
    ending = _ending(path)
    if ending not in (known := endings()):
        words = f"ends in `.{ending}`" if ending else "has no ending"
        raise DsvError(f"-o: `{path}` {words}", hint=f"a picture ends in {', '.join(f'.{end}' for end in known)}")
    return _renderer(ending)


def endings() -> list[str]:
    """Return the endings, without the dot, of the files that installed packages draw."""
    return sorted({point.name for point in _points("renderers")})


def _ending(path: str | PathLike[str]) -> str:
    return Path(path).suffix.lower().removeprefix(".")


def _choose(group: str, purpose: str, name: str | None) -> EntryPoint:
    """Return the entry point ``name``; by default the one that comes with dsvgraph, else the only one."""
    points = _points(group)
    named = [point for point in points if name in (None, point.name)]
    chosen = [point for point in named if _package(point) == DISTRIBUTION] or named
    if len(chosen) == 1:
        return chosen[0]
    names = sorted({point.name for point in points})
    if chosen and name is None:
        raise DsvError(f"{purpose}: there are the backends {listed(names)}", hint="choose one with --backend NAME")
    if chosen:
        packages = listed(sorted(map(_package, chosen)))
        raise DsvError(f"{purpose}: the packages {packages} all bring a backend `{name}`", hint="uninstall all but one")
    if not names:
        raise DsvError(f"{purpose} needs a backend, and no installed package brings one (`dsvgraph.{group}`)")
    hint = nearest(name or "", names) or f"there are {listed(names)}"
    raise DsvError(f"{purpose}: there is no backend `{name}`", hint=hint)


def _points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group, those of a checkout that is not installed included."""
    found = list(entry_points(group=f"dsvgraph.{group}"))
    if any(_package(point) == DISTRIBUTION for point in found) or not PROJECT.is_file():
        return found
    import tomllib

    declared = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"].get("entry-points", {})
    own = declared.get(f"dsvgraph.{group}", {})
    return [*found, *(EntryPoint(name, value, f"dsvgraph.{group}") for name, value in own.items())]


def _package(point: EntryPoint) -> str:
    """Return the name of the distribution that an entry point belongs to."""
    return point.dist.name if point.dist else DISTRIBUTION


def _installation(point: EntryPoint) -> str:
    """Return the command that installs what an entry point needs: the extras that it names."""
    extras = f"[{','.join(point.extras)}]" if point.extras else ""
    return f"pip install '{_package(point)}{extras}'"
