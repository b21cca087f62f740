"""Export: a model folder that transformers loads, with config.json and, by default, the weights."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from dsvgraph.backends.contracts import Progress
from dsvgraph.errors import DsvError
from dsvgraph.files import write_atomic, write_errors
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
    """Write ``model`` into a new or empty folder as transformers reads it, and return what was written by name.

    The weights are those of a run's folder, or the first values that ``seed`` gives. config.json is written last, so
    that a folder with one is complete. ``config_only`` writes no weights and needs no torch.
    Raise DsvError if no class of transformers computes the model, or if the folder is in use.
    """
    config, folder = config_of(model, dtype, drop_mtp), Path(folder)
    fresh = _created(folder)
    written: dict[str, Any] = {"folder": str(folder), "class": config["architectures"][0]}
    try:
        if not config_only:
            from dsvgraph_hf.weights.tensors import save

            saved = save(
                model,
                folder,
                config,
                run=run,
                seed=seed,
                dtype=dtype,
                max_shard_size=max_shard_size,
                drop_mtp=drop_mtp,
                progress=progress,
            )
            written |= {"tensors": saved.tensors, "bytes": saved.bytes, "dtype": saved.dtype}
        write_atomic(folder / NAME, json.dumps(config, indent=2) + "\n")
    except BaseException:
        if fresh:
            with suppress(OSError):
                folder.rmdir()  # it is empty: what is written is there whole or not at all
        raise
    return {**written, "files": sorted(path.name for path in folder.iterdir())}


def _created(folder: Path) -> bool:
    """Create the folder and return whether it is new. Raise DsvError if it is not empty."""
    if folder.exists() and not folder.is_dir():
        raise DsvError(f"{folder} is a file, not a folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise DsvError(f"{folder} exists and is not empty", hint="name another folder, or empty it")
    fresh = not folder.is_dir()
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return fresh
