"""Emitted source as a live Python module, of which nothing is left once its last class and function are gone."""

from __future__ import annotations

import linecache
import sys
import types
import weakref
from itertools import count
from typing import Any

from dsvgraph_torch.lowering.source import one_line

_serial = count(1)


def load_source(source: str, name: str, known: dict[str, Any] | None = None) -> types.ModuleType:
    """Run emitted source as a module of its own, beside the names in ``known``, and return it.

    Tracebacks, debuggers and `inspect.getsource` show its lines, and its classes can be pickled in this process.
    """
    number = next(_serial)
    title, filename = f"dsvgraph_emitted_{number}", f"<{one_line(name)}, compiled by dsvgraph ({number})>"
    module = types.ModuleType(title)
    names = module.__dict__
    names.update({n: v for n, v in (known or {}).items() if not n.startswith("__")})
    owner = names["__owner__"] = _Owner(names)
    sys.modules[title] = _Registered(title, filename, owner)
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    weakref.finalize(owner, _forget, title, filename).atexit = False
    exec(compile(source, filename, "exec", dont_inherit=True), names)
    return module


class _Owner:
    """The names of an emitted module, which hold it in turn: it is collected when nothing else holds any of them."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names


class _Registered(types.ModuleType):
    """What stands in `sys.modules` for an emitted module: it finds its names, and does not keep them alive."""

    def __init__(self, title: str, filename: str, owner: _Owner) -> None:
        super().__init__(title)
        self.__file__ = filename
        self._owner = weakref.ref(owner)

    def __getattr__(self, name: str) -> Any:
        owner = self._owner()
        if owner is None or name not in owner.names:
            raise AttributeError(f"module `{self.__name__}` has no attribute `{name}`")
        return owner.names[name]


def _forget(title: str, filename: str) -> None:
    sys.modules.pop(title, None)
    linecache.cache.pop(filename, None)
