"""What text is generated with: the model of a run, or of a folder of weights with a config or a spec."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import dsvgraph
from dsvgraph.backends import importer, weight_reader
from dsvgraph.backends.training import RunWeights
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph_torch.allocation import empty
from dsvgraph_torch.data.tokenizer import read_tokenizer
from dsvgraph_torch.data.tokens import BYTES, Tokens
from dsvgraph_torch.runs.folder import Run, check_single
from dsvgraph_torch.training.options import TrainOptions

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass(frozen=True)
class TextModel:
    """A compiled model that is ready to decode, its vocabulary, and the rows that it was trained on.

    ``context`` is None where nothing says how long rows may be, ``ends`` the ids that end a text.
    """

    model: Model
    module: Any
    tokens: Tokens
    context: int | None
    ends: tuple[int, ...]


def read_source(
    folder: Path, spec: Model | None = None, device: str = "auto", dtype: str | None = None,
    progress: Callable[[int, int], object] | None = None, weights: RunWeights = RunWeights.LAST,
) -> TextModel:  # fmt: skip
    """Return what a folder holds: a run, or weights that ``spec`` or the folder's config.json describes.

    ``weights`` are those of a run that are read. Raise DsvError if it holds neither, if there are none of these, or if
    they are not those of the model.
    """
    if dtype is not None and dtype not in DTYPES:
        raise DsvError(f"--dtype: there are {', '.join(DTYPES)}, found {dtype}")
    if Run(folder).exists() or (spec is None and not (folder / "config.json").is_file()):
        found = _of_run(folder, spec, device, weights)
    else:
        check_single(folder, weights)
        found = _of_weights(folder, spec, device, dtype, progress)
    if dtype is not None:
        for parameter in found.module.parameters():
            parameter.data = parameter.data.to(DTYPES[dtype])
    return found


def _of_run(folder: Path, spec: Model | None, device: str, weights: RunWeights) -> TextModel:
    run = Run(folder)
    options, checkpoint = run.read_about().options, run.trained(weights)
    if spec is not None:
        raise DsvError(f"{folder} is a run, which has its spec", hint="leave --spec out")
    model = dsvgraph.load(str(run.spec))
    target = options.model_copy(update={"device": device}).torch_device()
    module = empty(model, target, kernels="decoding")
    checkpoint.load_weights(module)
    tokens = run.tokens()
    ends = () if tokens.end is None else (tokens.end,)
    return TextModel(model, module.eval(), tokens, options.seq, ends)


def _of_weights(
    folder: Path, spec: Model | None, device: str, dtype: str | None, progress: Callable[[int, int], object] | None
) -> TextModel:
    config = folder / "config.json"
    model = spec or dsvgraph.loads(importer(config).spec_of(config))
    target = TrainOptions.given(device=device).torch_device()
    module = empty(model, target, DTYPES[dtype or "float32"], kernels="decoding")
    weight_reader().fill(module, model, folder, progress=progress)
    said = _said(config)
    tokens = tokens_of(folder, model)
    return TextModel(model, module.eval(), tokens, said.get("max_position_embeddings"), _ends(folder, said, tokens))


def _said(path: Path) -> dict[str, Any]:
    """Return what a JSON file of a folder of weights says, nothing if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise DsvError(f"cannot read {path}: {error}") from error
    return found if isinstance(found, dict) else {}


def _ends(folder: Path, config: dict[str, Any], tokens: Tokens) -> tuple[int, ...]:
    """Return the ids that end a text: of generation_config.json, of config.json, of the vocabulary."""
    said = {**config, **_said(folder / "generation_config.json")}.get("eos_token_id")
    found = said if isinstance(said, list) else [said]
    ids = tuple(i for i in found if isinstance(i, int) and not isinstance(i, bool))
    return ids or (() if tokens.end is None else (tokens.end,))


def tokens_of(folder: Path, model: Model) -> Tokens:
    """Return the vocabulary of a folder of weights: its tokenizer.json, or bytes where the model has 256 tokens.

    Raise DsvError if there is neither, or if the tokenizer has more tokens than the model.
    """
    size, path = model.type(next(iter(model.outputs.values()))).shape[-1], folder / "tokenizer.json"
    if path.is_file():
        found = read_tokenizer(path)
        if isinstance(size, int) and found.size > size:
            raise DsvError(f"{path} has {found.size:,} tokens, and {model.name} {size}")
        return found
    if size != BYTES.size:
        words = f"{folder} has no tokenizer.json, and the {size} tokens of {model.name} are not bytes"
        raise DsvError(words, hint="put the model's tokenizer.json beside its weights")
    return BYTES
