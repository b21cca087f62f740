"""Registration of ops, those of installed packages too; a class without all declarations is refused."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from dsvgraph.ops.base import RESERVED, Drawn, Kind, Op, Pointwise, Positions, Saved

GROUP = "dsvgraph.ops"
NAME = re.compile(r"[a-z][a-z0-9_]*\Z", re.ASCII)

DECLARATIONS = {  # what a class declares itself, or a base between it and Op, and for whom
    "kind": "what it is in pictures and in sums by role: a Kind",
    "title": "what pictures call it: a text",
    "formula": "the formula that its page shows: a text",
    "drawn": "how pictures show it: Drawn; `CARD` for a card of its own",
    "details": "what a card of a picture says under its name; `by_label` for its label",
    "positions": "whether it looks along the axis of positions: Positions",
    "side_by_side": "whether it can run inside experts, on rows of tokens: true or false",
    "differentiable": "whether gradients pass from its outputs to its inputs: true or false",
    "outputs": "the rule that gives the types of the outputs",
    "weights": "the weights that it owns; `Weightless` for none",
    "wired_weights": "the names of the weights that a line may wire: a tuple of texts",
    "vectors": "how many vectors meet the weights; `Weightless` for none",
    "products": "its products with their operands; `Uncounted` for none",
    "keep": "what autograd keeps for the backward",
    "shift": "how far ahead of its own position it looks; `PerPosition` for not at all",
    "decoding_state": "what it needs of earlier positions while decoding; `decoding.stateless` for nothing",
    "keeps_first": "whether pieces along the first axis stay apart; `PerPosition` or `AlongRow`",
    "moved": "the axes that it puts elsewhere; `PerPosition` or `AlongRow` for none",
    "mixed": "the axes that it mixes",
}
OWN = ("title", "formula", "__doc__")  # of the class itself: an inherited one would speak of another op
TYPES = {
    "kind": Kind, "title": str, "formula": str, "drawn": Drawn, "positions": Positions, "side_by_side": bool,
    "differentiable": bool, "saved": Saved, "variadic": bool, "ports": tuple, "wired_weights": tuple,
}  # fmt: skip


class Incomplete(TypeError):
    """A class that cannot be registered as an op, and why."""


class Registry(dict[str, type[Op]]):
    """The ops by name. ``failed`` holds, by the name of a package that could not be loaded, the reason."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: dict[str, str] = {}

    def register(self, *classes: type[Op]) -> None:
        """Add ops. Raise Incomplete if a class leaves out a declaration, or if its name is taken."""
        for cls in classes:
            check(cls)
            if self.get(cls.op, cls) is not cls:
                raise Incomplete(f"op `{cls.op}`: there is an op of this name already")
        self.update((cls.op, cls) for cls in classes)

    def load(self, points: Iterable[EntryPoint] | None = None) -> None:
        """Add the ops of installed packages: entry points of the group `dsvgraph.ops`, each a list of classes."""
        for point in entry_points(group=GROUP) if points is None else points:
            try:
                self.register(*point.load())
            except Exception as error:  # noqa: BLE001 - it is somebody else's code: a spec that calls its ops reports it
                self.failed[point.name] = f"{type(error).__name__}: {error}"

    def failures(self) -> list[str]:
        """Return a sentence for each package whose ops could not be loaded."""
        return [f"the ops of the package `{name}` could not be loaded: {why}" for name, why in self.failed.items()]


def check(cls: type[Op]) -> None:
    """Raise Incomplete, which names what is missing or wrong, unless ``cls`` declares all that passes ask for."""
    if not NAME.match(cls.op or ""):
        raise Incomplete(f"{cls.__name__}: `op` is its name in specs, small letters, digits and _, found {cls.op!r}")
    wanted = DECLARATIONS | ({"saved": "what autograd keeps of it: a Saved"} if issubclass(cls, Pointwise) else {})
    bases = cls.__mro__[: cls.__mro__.index(Op)]
    for name, words in wanted.items():
        if not any(name in vars(base) for base in bases):
            raise Incomplete(f"op `{cls.op}` does not declare `{name}`: {words}")
        if name in TYPES and not isinstance(getattr(cls, name), TYPES[name]):
            raise Incomplete(f"op `{cls.op}` declares `{name}` as {getattr(cls, name)!r}: {words}")
    for name in OWN:
        if not (vars(cls).get(name) or "").strip():
            raise Incomplete(f"op `{cls.op}` has no {'docstring' if name == '__doc__' else f'`{name}` of its own'}")
    if "->" not in (inspect.getdoc(cls) or ""):
        raise Incomplete(f"op `{cls.op}`: the docstring tells its shapes, [..., in] -> [..., out]")
    _check_names(cls)


def _check_names(cls: type[Op]) -> None:
    """Raise Incomplete if a port or an attribute has a name that means something else on a line."""
    ports, attributes = set(cls.ports), set(cls.model_fields)
    if wrong := sorted(str(name) for name in ports if not NAME.match(str(name))):
        raise Incomplete(f"op `{cls.op}`: `{wrong[0]}` is no name of a port")
    if taken := sorted(attributes & {*RESERVED, cls.op}):
        raise Incomplete(f"op `{cls.op}`: the attribute `{taken[0]}` is a key of every line")
    if both := sorted(attributes & ports):
        raise Incomplete(f"op `{cls.op}`: `{both[0]}` is a port and an attribute")
