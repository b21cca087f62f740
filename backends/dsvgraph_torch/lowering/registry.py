"""The lowerings of ops: how one is registered, by this package or others, and what it gets and gives.

Entry points of the group `dsvgraph_torch.lowerings` are modules of other packages. Importing one registers its
lowerings (`lowers`) and the file with the functions and modules that they write calls of (`runtime_file`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from dsvgraph.codes import Code as ErrorCode
from dsvgraph.errors import DsvError
from dsvgraph.graph import Node
from dsvgraph_torch.lowering.source import expression

GROUP = "dsvgraph_torch.lowerings"
FOLDER = Path(__file__).parents[1] / "runtime"
FILES = ("context.py", "plain.py", "interleaving.py", "scoring.py", "losses.py", "modules.py")
OWN = tuple(FOLDER / name for name in FILES)
RUNTIME = [*OWN]
"""Files whose functions and classes are copied into emitted models as far as they are used."""
_failed: dict[str, str] = {}


@dataclass
class Site:
    """An op where it stands: trees of its inputs and of its own weights.

    ``module`` is the submodule that owns the weights, or None where the op has none
    or must be written as a function (tied weights, or weights on the class itself).
    ``sent`` is the tokens' order where copies run side by side. ``states`` are the places in the cache of
    what the op carries from position to position, for `ctx.state` and `ctx.keep`.
    """

    node: Node
    args: dict[str, ast.expr]
    module: ast.expr | None
    weights: dict[str, ast.expr] = field(default_factory=dict)
    sent: ast.expr | None = None
    copies: int = 0
    chunked: bool = False
    balanced: bool = False
    filled: bool = False
    shared: bool = False
    states: dict[str, ast.expr] = field(default_factory=dict)

    @property
    def op(self) -> Any:
        return self.node.op

    @property
    def x(self) -> ast.expr:
        return next(iter(self.args.values()))

    @property
    def inputs(self) -> list[ast.expr]:
        return list(self.args.values())


@dataclass
class Code:
    """``value`` is what the line computes; ``module`` constructs the submodule; several outputs unpack."""

    value: ast.expr
    module: ast.expr | None = None


Lowering = Callable[[Site], Code]
LOWERINGS: dict[str, Lowering] = {}


def lowers(name: str) -> Callable[[Lowering], Lowering]:
    """Register the decorated function as the lowering of op ``name``. Raise ValueError if it has one already."""

    def register(function: Lowering) -> Lowering:
        if name in LOWERINGS:
            raise ValueError(f"op `{name}` has a lowering already")
        LOWERINGS[name] = function
        return function

    return register


def lower(site: Site) -> Code:
    """Return the code of one op. Raise DsvError if it cannot run here, or if it has no lowering."""
    found = LOWERINGS.get(site.node.callee)
    if found is None:
        words = f"the torch backend has no lowering of `{site.node.callee}`"
        raise refusal(site.node, words, failed() or "its package declares one in the group `dsvgraph_torch.lowerings`")
    return found(site)


def code(template: str, /, **values: Any) -> Code:
    """Return the code of a template: see `source.expression`."""
    return Code(expression(template, **values))


def refusal(node: Node, words: str, hint: str = "", code: ErrorCode = ErrorCode.NOT_LOWERED) -> DsvError:
    """Return what to raise where ``node`` cannot be compiled, at its line."""
    return DsvError(words, node.span, code=code, hint=hint)


def load() -> None:
    """Import every module of lowerings that an installed package declares; remember which failed, and why."""
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:  # noqa: BLE001 - it is somebody else's code: a model that uses its ops reports it
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
