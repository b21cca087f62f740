"""Find backends by the entry points of installed packages. A package is imported when its backend is asked for."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from os import PathLike
from pathlib import Path
from typing import Any

from dsvgraph.backends import contracts
from dsvgraph.errors import DsvError
from dsvgraph.names import listed, nearest

DISTRIBUTION = "dsvgraph"
"""The package whose backends are taken by default."""

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
"""Where a checkout that is not installed declares its entry points."""


def compiler(name: str | None = None, purpose: str = "compiling") -> contracts.Compiler:
    """Return the compiler ``name``, or the default one. Raise DsvError if it is missing."""
    found: contracts.Compiler = _load("compilers", contracts.Compiler, purpose, name)
    return found


def trainer(name: str | None = None, purpose: str = "training") -> contracts.Trainer:
    """Return the trainer ``name``, or the default one. Raise DsvError if it is missing."""
    found: contracts.Trainer = _load("trainers", contracts.Trainer, purpose, name)
    return found


def generator(name: str | None = None) -> contracts.Generator:
    """Return the generator of text ``name``, or the default one. Raise DsvError if it is missing."""
    found: contracts.Generator = _load("generators", contracts.Generator, "generating text", name)
    return found


def run_reader(name: str | None = None) -> contracts.RunReader:
    """Return the reader of runs ``name``, or the default one. Raise DsvError if it is missing."""
    found: contracts.RunReader = _load("runs", contracts.RunReader, "reading runs", name)
    return found


def datasets(name: str | None = None) -> contracts.Datasets:
    """Return what prepares and shows training data, ``name`` or the default one. Raise DsvError if it is missing."""
    found: contracts.Datasets = _load("datasets", contracts.Datasets, "preparing data", name)
    return found


def verifier(name: str | None = None) -> contracts.Verifier:
    """Return the verifier ``name``, or the default one. Raise DsvError if it is missing."""
    found: contracts.Verifier = _load("verifiers", contracts.Verifier, "verifying", name)
    return found


def prober(name: str | None = None) -> contracts.Prober:
    """Return the prober ``name``, or the default one. Raise DsvError if it is missing."""
    found: contracts.Prober = _load("probers", contracts.Prober, "probing", name)
    return found


def module_builder(name: str | None = None, purpose: str = "reading and writing weights") -> contracts.ModuleBuilder:
    """Return the builder of modules ``name``, or the default one. Raise DsvError if it is missing."""
    found: contracts.ModuleBuilder = _load("modules", contracts.ModuleBuilder, purpose, name)
    return found


def weight_reader(name: str | None = None) -> contracts.WeightReader:
    """Return the reader of weights ``name``, or the default one. Raise DsvError if it is missing."""
    found: contracts.WeightReader = _load("weights", contracts.WeightReader, "loading weights", name)
    return found


def exporter(name: str | None = None) -> contracts.Exporter:
    """Return the exporter ``name``, or the default one. Raise DsvError if it is missing."""
    found: contracts.Exporter = _load("exporters", contracts.Exporter, "exporting", name)
    return found


def testbed(name: str | None = None) -> contracts.Testbed:
    """Return the testbed ``name``, or the default one. Raise DsvError if it is missing."""
    found: contracts.Testbed = _load("testbeds", contracts.Testbed, "comparing", name)
    return found


def language_server() -> contracts.LanguageServer:
    """Return the language server. Raise DsvError if it is missing."""
    found: contracts.LanguageServer = _load("servers", contracts.LanguageServer, "the language server")
    return found


def importer(path: str | PathLike[str]) -> contracts.Importer:
    """Return the importer of files that end like ``path``, else the default one. Raise DsvError if it is missing."""
    ending = _ending(path)
    name = ending if any(point.name == ending for point in _points("importers")) else None
    found: contracts.Importer = _load("importers", contracts.Importer, "importing", name)
    return found


def renderer(path: str | PathLike[str]) -> contracts.Renderer:
    """Return what draws files that end like ``path``. Raise DsvError if nothing does, or if it is missing."""
    ending = _ending(path)
    if ending not in (known := endings()):
        words = f"ends in `.{ending}`" if ending else "has no ending"
        raise DsvError(f"-o: `{path}` {words}", hint=f"a picture ends in {', '.join(f'.{end}' for end in known)}")
    found: contracts.Renderer = _load("renderers", contracts.Renderer, "drawing", ending)
    return found


def endings() -> list[str]:
    """Return the endings, without the dot, of the files that installed packages draw."""
    return sorted({point.name for point in _points("renderers")})


def _ending(path: str | PathLike[str]) -> str:
    return Path(path).suffix.lower().removeprefix(".")


def _load(group: str, contract: type, purpose: str, name: str | None = None) -> Any:
    """Return what an entry point of ``group`` names. Raise DsvError if it cannot be imported or lacks a method."""
    point = _choose(group, purpose, name)
    needs = f"{purpose} needs the backend `{point.name}`"
    try:
        found = point.load()
    except ImportError as error:
        why = f"`{error.name}` is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
        raise DsvError(f"{needs}: {why}", hint=_installation(point)) from error
    except Exception as error:
        words = f"{needs}: {_package(point)} cannot be imported: {type(error).__name__}: {error}"
        raise DsvError(words) from error
    missing = [method for method in vars(contract) if not method.startswith("_") and not hasattr(found, method)]
    if missing:
        words = f"`{point.value}` of {_package(point)} has no {listed(missing)}"
        raise DsvError(f"{needs}: {words}", hint=f"it must meet dsvgraph.backends.{contract.__name__}")
    return found


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
