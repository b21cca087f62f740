"""Compiling: the emitted source becomes a live module, proved against the count."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from dsvgraph.codes import Code
from dsvgraph.dims import Size
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Model, join
from dsvgraph.names import listed
from dsvgraph.patterns import regex
from dsvgraph_torch.decoding.absorbed import absorb, absorbed
from dsvgraph_torch.decoding.experts import repeating
from dsvgraph_torch.decoding.functions import NAMES as DECODING
from dsvgraph_torch.emitted import load_source
from dsvgraph_torch.kernels import choice
from dsvgraph_torch.kernels.cpu import gated
from dsvgraph_torch.lowering.emit import classes_of, emit
from dsvgraph_torch.lowering.names import class_names
from dsvgraph_torch.lowering.registry import extensions
from dsvgraph_torch.lowering.source import printed


def compile(
    model: Model, device: str | torch.device | None = None, seed: int = 0, kernels: str = "plain",
    functions: Mapping[str, Any] | None = None,
) -> nn.Module:  # fmt: skip
    """Return a torch module of the model, initialised, whose weights are at the graph's paths.

    ``kernels="plain"`` runs exactly what `emit` writes; ``"fast"`` runs the same classes on
    functions that train faster on the device, equal up to rounding, and ``"decoding"`` on functions besides
    that know a preallocated cache (`dsvgraph_torch.decoding`). ``functions`` stand behind their names in
    place of any others. ``device="meta"`` allocates nothing and initialises nothing. Raise DsvError if
    the module's parameters differ from the graph's, by path or by shape.
    """
    module = constructed(model, device or "cpu", kernels, functions)
    if str(device) != "meta":
        module.initialise(seed)
    return module


def constructed(
    model: Model,
    device: str | torch.device,
    kernels: str,
    functions: Mapping[str, Any] | None = None,
    runs_on: str | torch.device | None = None,
) -> nn.Module:
    """Return the module as its classes leave it, its weights proved to be the graph's by path and shape.

    ``runs_on`` is the device that it will run on, if it is constructed elsewhere.
    """
    if kernels not in ("plain", "fast", "decoding"):
        raise ValueError(f"kernels are plain, fast or decoding, not {kernels!r}")
    if kernels == "plain" and not functions:
        namespace = load_source(emit(model, full=True), model.name).__dict__
    else:
        fast = {} if kernels == "plain" else choice.functions("cpu" if kernels == "decoding" else runs_on or device)
        known = {**fast, **(functions or {})}
        namespace = _decoding(model, known) if kernels == "decoding" else _on_functions(model, classes_of(model), known)
    with torch.device(device), Uninitialised():
        module: nn.Module = namespace[class_names(model)[model]]()
    prove(module, model)
    return module


class Uninitialised(TorchFunctionMode):
    """Leaves out how torch's modules begin by themselves: `initialise` follows, or nothing is allocated."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))


def _decoding(model: Model, fast: dict[str, Any]) -> dict[str, Any]:
    """Return the model's classes on ``fast`` functions, and on functions that know a preallocated cache."""
    functions = {**fast, **DECODING, "absorbed": absorbed}
    namespace = _on_functions(model, [absorb(one) for one in classes_of(model)], functions)
    namespace["dispatch"] = repeating(namespace["dispatch"])
    return namespace


def _on_functions(model: Model, classes: list[ast.stmt], functions: dict[str, Any]) -> dict[str, Any]:
    """Return ``classes`` on ``functions``, which stand behind the names of plain ones."""
    from dsvgraph_torch.runtime import interleaving, losses, modules, plain, scoring

    known = {**vars(plain), **vars(interleaving), **vars(scoring), **vars(losses), **vars(modules)}
    for file in extensions():
        exec(builtins.compile(file.read_text(encoding="utf-8"), str(file), "exec", dont_inherit=True), known)
    known |= functions
    classes = choice.classes_for(classes, functions)
    if "Linear" in functions:
        classes = [_FastLinear().visit(definition) for definition in classes]
    if gated.NAME in functions:
        classes = [gated.with_gated(definition) for definition in classes]
    return load_source(printed(classes), model.name, known).__dict__


class _FastLinear(ast.NodeTransformer):
    """``Linear`` in place of torch's own."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        torchs = ast.unparse(node) == "nn.Linear"
        return ast.Name("Linear", ast.Load()) if torchs else self.generic_visit(node)


def expert_load(module: nn.Module) -> dict[str, torch.Tensor]:
    """Tokens sent to each expert since the last step, by router path: [experts] each."""
    return {n: m.tokens_per_expert for n, m in module.named_modules() if hasattr(m, "tokens_per_expert")}


def after_step(module: nn.Module) -> None:
    """Once per optimizer step, after it: the biases of routers move and their counts begin anew."""
    getattr(module, "after_step", lambda: None)()


def report(model: Model) -> dict[str, Any]:
    """Return what compiling gives, without allocating: the module is built on the meta device and proved.

    Raise DsvError if its weights differ from the graph's.
    """
    source = emit(model)
    module = compile(model, device="meta")
    return {
        "name": model.name,
        "parameters": prove(module, model),
        "weights": len(weights(model)),
        "modules": sum(1 for _ in module.modules()),
        "classes": source.count("\nclass "),
        "lines": source.count("\n"),
    }


def weights(graph: Graph, prefix: str = "") -> dict[str, tuple[Size, ...]]:
    """Return path -> shape of every weight that the graph owns, copies written out."""
    found: dict[str, tuple[Size, ...]] = {}
    below: dict[Graph, dict[str, tuple[Size, ...]]] = {}
    for node in graph.nodes.values():
        path = join(prefix, node.at)
        found.update({join(path, w): weight.shape for w, weight in node.weights.items()})
        for number, copy in node.copy_graphs():
            inner = join(prefix, node.segment(number))
            if copy not in below:
                below[copy] = weights(copy)
            found.update({join(inner, p): shape for p, shape in below[copy].items()})
    return found


def prove(module: nn.Module, model: Model) -> int:
    """Check that the module holds the graph's weights, by path, shape and whether they train; return their number.

    Raise DsvError if it does not.
    """
    want = weights(model)
    have = {path: tuple(tensor.shape) for path, tensor in module.state_dict().items()}
    if want == have:
        _prove_training(module, model)
        return sum(torch.Size(shape).numel() for shape in have.values())
    missing, extra = want.keys() - have.keys(), have.keys() - want.keys()
    other = [f"{p}: {want[p]} counted, {have[p]} built" for p in want.keys() & have.keys() if want[p] != have[p]]
    raise DsvError(
        "the module's weights differ from the graph's",
        notes=[
            (f"counted, not built: {listed(sorted(missing))}", None),
            (f"built, not counted: {listed(sorted(extra))}", None),
            (f"of another shape: {listed(other)}", None),
        ],
        hint="this is a mistake of the compiler, please report it with the spec",
    )


def _prove_training(module: nn.Module, model: Model) -> None:
    """Raise DsvError if the section `trained` tells experts apart: the weights of all are one parameter."""
    rules = [(re.compile(regex(pattern)), pattern, on) for pattern, on in model.trained]
    for path, weight in module.state_dict(keep_vars=True).items() if rules else ():
        stack = weight if weight._base is None else weight._base
        said = [(pattern, on) for rule, pattern, on in rules if rule.fullmatch(path)]
        if isinstance(stack, nn.Parameter) and stack.requires_grad != (said[-1][1] if said else True):
            at = model.spec.trained[(said or [(rules[-1][1], True)])[-1][0]].key() if model.spec else None
            words = f"`{path}` trains and others of its stack do not: `each` runs all copies as one parameter"
            raise DsvError(words, at, code=Code.NOT_LOWERED, hint="freeze all of them, or none")
