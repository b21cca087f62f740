"""A model folder that transformers loads: config.json and, unless it is left out, the weights."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from dsvgraph.backends.contracts import Progress
from dsvgraph.errors import DsvError
from dsvgraph.files import told, write_atomic
from dsvgraph.graph import Model
from dsvgraph_hf.config.config_file import NAME
from dsvgraph_hf.exporting.find_class import config_of


def export(
    model: Model,
    folder: Path | str,
    *,
    config_only: bool = False,
    run: Path | str | None = None,
    seed: int = 0,
    dtype: str = "float32",
    max_shard_size: int | str = "5GB",
    drop_mtp: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes ``model`` into a new folder (or an empty one) as transformers reads it; what was written, by name.

    The weights are those of a run's folder, or those that ``seed`` begins with; config.json is
    written last, so that a folder with one is whole. ``config_only`` needs no torch.
    Raises DsvError where no class of transformers computes the model, or the folder is in use.
    """
    config, folder = config_of(model, dtype, drop_mtp), Path(folder)
    fresh = _made(folder)
    facts: dict[str, Any] = {"folder": str(folder), "class": config["architectures"][0]}
    try:
        if not config_only:
            facts |= _weights(model, folder, config, run, seed, dtype, max_shard_size, drop_mtp, progress)
        write_atomic(folder / NAME, json.dumps(config, indent=2) + "\n")
    except BaseException:
        if fresh:
            with suppress(OSError):
                folder.rmdir()  # it is empty: what is written is there whole or not at all
        raise
    return {**facts, "files": sorted(path.name for path in folder.iterdir())}


def _made(folder: Path) -> bool:
    """Makes the folder; whether it is new. Raises DsvError where something is in it."""
    if folder.exists() and not folder.is_dir():
        raise DsvError(f"{folder} is a file, not a folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise DsvError(f"{folder} exists and is not empty", hint="name another folder, or empty it")
    fresh = not folder.is_dir()
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return fresh


def _weights(model: Model, folder: Path, config: dict[str, Any], run: Any, seed: int, *options: Any) -> dict[str, Any]:
    from dsvgraph_hf.weights.tensors import save

    dtype, size, drop_mtp, progress = options
    saved = save(
        model, folder, config, run=run, seed=seed, dtype=dtype, max_shard_size=size, drop_mtp=drop_mtp,
        progress=progress,
    )  # fmt: skip
    return {"tensors": saved.tensors, "bytes": saved.bytes, "dtype": saved.dtype}
