"""Variants of a spec: with other config values, or with one of its features left out."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from ruamel.yaml import YAML

from dsvgraph import spec
from dsvgraph.build import build
from dsvgraph.errors import DsvError
from dsvgraph.graph import Loss, LossKind, Model
from dsvgraph.names import listed, nearest
from dsvgraph.passes.text.show import show


def over(name: str, settings: Mapping[str, Any], grid: Mapping[str, Iterable[Any]]) -> Iterator[tuple[str, Model]]:
    """Yield the models of a spec with every combination of the values of ``grid``, each with what tells it apart.

    Raise DsvError at the first combination that does not check.

    >>> [words for words, _ in over("deepseek_v3_tiny", {}, {"num_hidden_layers": [2, 3]})]
    ['num_hidden_layers=2', 'num_hidden_layers=3']
    """
    for values in product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        yield " ".join(f"{n}={v}" for n, v in chosen.items()), build(spec.read(name, {**settings, **chosen}))


def main_loss(model: Model) -> Loss:
    """Return the loss of the next token: the first that scores the model's first output, else the first that scores.

    Raise DsvError if no line of the section `loss` scores an output.
    """
    scored = [loss for loss in model.losses if loss.output is not None and loss.depths]
    if not scored:
        raise DsvError(f"`{model.name}` has no loss that scores an output, so nothing can be compared")
    first = next(iter(model.outputs))
    plain = [loss for loss in scored if loss.kind is LossKind.CROSS_ENTROPY] or scored
    return next((loss for loss in plain if loss.output == first), plain[0])


def features(model: Model) -> list[str]:
    """Return what `--drop each` leaves out, one at a time: every line of the section `loss` but the main one.

    >>> import dsvgraph
    >>> features(dsvgraph.load("deepseek_v3_tiny"))
    ['mtp', 'balance', 'bias']
    """
    main = main_loss(model).name
    return [loss.name for loss in model.losses if loss.name != main]


def without(model: Model, feature: str) -> Model:
    """Return ``model`` without a line of its loss, and without the lines of the graph that nothing else needs then.

    An output that only this loss scores goes with it, the first output excepted.
    Raise DsvError if the spec has no such line, or does not check without it.

    >>> import dsvgraph
    >>> list(without(dsvgraph.load("deepseek_v3_tiny"), "mtp").outputs)
    ['logits']
    """
    known = features(model)
    if feature not in known:
        hint = nearest(feature, known) or f"there are {listed(known)}"
        raise DsvError(f"--drop: `{model.name}` has no loss `{feature}` to leave out", hint=hint)
    left = [loss for loss in model.losses if loss.name != feature]
    scored = {name for loss in left for name in (loss.output, loss.target)}
    dropped = [loss.output for loss in model.losses if loss.name == feature and loss.output not in scored]
    outputs = [name for i, name in enumerate(model.outputs) if i == 0 or name not in dropped]
    return build(spec.read_text(_cut(model, feature, outputs), {}, f"{model.name} without {feature}"))


def _cut(model: Model, feature: str, outputs: list[str]) -> str:
    """Return the text of the spec less a loss, the other outputs, and the lines that they alone needed."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    data = yaml.load(show(model))
    data["name"] = f"{model.name} without {feature}"
    del data["loss"][feature]
    gone = model.needed(model.outputs) - model.needed(outputs)
    for name in [name for name in data["graph"]["body"] if name in gone]:
        del data["graph"]["body"][name]
    if isinstance(data["graph"]["out"], dict):
        for name in [name for name in data["graph"]["out"] if name not in outputs]:
            del data["graph"]["out"][name]
    text = io.StringIO()
    yaml.dump(data, text)
    return text.getvalue()
