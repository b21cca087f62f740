"""Weights in and out: a folder of safetensors fills a module, a run or a seed fills a folder.

Everything goes tensor by tensor: nothing here holds a model twice, and an export holds none at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dsvgraph.backends import module_builder
from dsvgraph.backends.contracts import Progress
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph.passes.graph.instances import aliases
from dsvgraph_hf.config.graph_reader import training_only
from dsvgraph_hf.weights import fp8, layout
from dsvgraph_hf.weights.layout import Part, Shape, Stored
from dsvgraph_hf.weights.matching import Match, is_mtp, match
from dsvgraph_hf.weights.shards import Folder
from dsvgraph_hf.weights.writer import Planned, Writer, bytes_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SHARD = "5GB"
UNNUMBERED = 2**31
"""More layers than any model has: where nothing says how many there are, none is an MTP module."""


@dataclass(frozen=True)
class Loaded:
    """What was read: files and tensors, their bytes and kinds of numbers.

    ``dequantised`` counts float8 matrices, ``copies`` second names that hold the same numbers,
    ``left_out`` tensors that were not asked for.
    """

    folder: Path
    files: int
    tensors: int
    bytes: int
    dtypes: tuple[str, ...]
    dequantised: int
    copies: int
    left_out: int

    def as_dict(self) -> dict[str, Any]:
        """Return names and values as plain data."""
        return {**vars(self), "folder": str(self.folder), "dtypes": ", ".join(self.dtypes)}


@dataclass(frozen=True)
class Saved:
    """What was written: ``tensors`` of ``bytes`` in ``files``."""

    folder: Path
    files: tuple[str, ...]
    tensors: int
    bytes: int
    dtype: str


def load(
    model: Model,
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    *,
    drop_mtp: bool = False,
    kernels: str = "plain",
    progress: Progress | None = None,
) -> nn.Module:
    """The module of ``model`` with the weights of a folder of Hugging Face safetensors.

    Strict: every weight has to be there, by path and by shape, and nothing else but second names of
    shared weights, which have to hold the same numbers, and, with ``drop_mtp``, MTP modules that the
    spec has not. float8 matrices are dequantised. ``dtype`` is that of what is trained (float32 if
    not given); statistics such as a router's selection bias stay in float32.
    Raises DsvError where the folder is damaged or is not of this spec.
    """
    module = module_builder().empty(model, device, dtype, kernels)
    fill(module, model, folder, drop_mtp=drop_mtp, progress=progress)
    return module


def check(model: Model, folder: str | Path, *, drop_mtp: bool = False) -> Match:
    """Raises DsvError where ``load`` would: only headers, and weights with two names, are read."""
    return _matched(model, _opened(folder), _shapes(_meta(model)), drop_mtp)


def fill(
    module: nn.Module,
    model: Model,
    folder: str | Path,
    *,
    drop_mtp: bool = False,
    progress: Progress | None = None,
) -> Loaded:
    """Fills the weights of ``module`` in place, as ``load`` does.

    Raises DsvError before the first weight is changed, but for a file that goes bad while it is read.
    """
    source = _opened(folder)
    state = module.state_dict()
    found = _matched(model, source, _shapes(module), drop_mtp)
    done, total = 0, sum(weight.nbytes for weight in state.values())
    for path, tensor in _read(source, found):
        done += state[path].copy_(tensor).nbytes
        if progress:
            progress(done, total)
    read = [source.entries[name] for name in found.stored]
    return Loaded(
        folder=source.path,
        files=len({entry.file for entry in read}),
        tensors=len(read),
        bytes=sum(entry.bytes for entry in read),
        dtypes=tuple(sorted({entry.dtype for entry in read})),
        dequantised=len(found.scales.keys() & found.stored.keys()),
        copies=len(found.copies),
        left_out=len(found.left_out),
    )


def save(
    model: Model,
    folder: str | Path,
    config: dict[str, Any],
    *,
    run: str | Path | None = None,
    seed: int = 0,
    dtype: str = "float32",
    max_shard_size: int | str = SHARD,
    drop_mtp: bool = False,
    progress: Progress | None = None,
) -> Saved:
    """Writes the weights of a run, or without one those that ``seed`` gives, as transformers reads them.

    ``config`` is the folder's config.json, which this function does not write: it says the family
    and how many layers the main model has. MTP modules hold copies of the embedding and the head,
    as the released checkpoints do; a tied head has none. Trained weights are written as ``dtype``,
    statistics in float32. Raises DsvError where ``folder`` holds weights already, the disk is full,
    or the run's weights are not those of ``model``; then nothing is left behind.
    """
    if dtype not in DTYPES:
        raise DsvError(f"weights are written as {' or '.join(DTYPES)}, not as `{dtype}`")
    module = _meta(model)
    output = _planned(model, module, config, drop_mtp)
    exact = {name for name, _ in module.named_buffers()}
    plan = [
        Planned(name, stored.shape, torch.float32 if stored.parts[0].path in exact else DTYPES[dtype])
        for name, stored in output.stored.items()
    ]
    plan += [Planned(name, output.stored[owner].shape, DTYPES[dtype]) for name, owner in output.copies.items()]
    source = _of_run(model, module, Path(run)) if run is not None else module_builder().initial(module, seed)
    with Writer(Path(folder), plan, bytes_of(max_shard_size)) as writer:
        _write(writer, source, output, progress)
    return Saved(Path(folder), tuple(writer.files), len(plan), writer.size, dtype)


def _planned(model: Model, module: nn.Module, config: dict[str, Any], drop_mtp: bool) -> Match:
    """What transformers expects in the folder: the tensors, and the copies that MTP modules have."""
    layers = int(config.get("num_hidden_layers", UNNUMBERED))
    left_out = training_only(model) if drop_mtp else ()
    shapes = {path: shape for path, shape in _shapes(module).items() if not path.startswith(left_out)}
    stored = (layout.packed if config.get("model_type") == "gpt_oss" else layout.plain)(shapes)
    seconds = {} if drop_mtp else aliases(model)
    return Match(stored, {name: owner for name, owner in seconds.items() if is_mtp(name, layers)})


def _write(writer: Writer, source: Iterator[tuple[str, Tensor]], output: Match, progress: Progress | None) -> None:
    """Writes each weight as it comes, and its copies; packed tensors wait for their last part."""
    places = {part.path: (name, part) for name, stored in output.stored.items() for part in stored.parts}
    copies = {owner: [name for name, o in output.copies.items() if o == owner] for owner in output.copies.values()}
    waiting: dict[str, tuple[Tensor, set[str]]] = {}
    done = 0
    for path, tensor in source:
        if path not in places:
            continue
        name, part = places[path]
        whole = _gathered(waiting, name, output.stored[name], part, tensor) if part.where else tensor
        for each in [name, *copies.get(path, ())] if whole is not None else ():
            done += writer.put(each, whole)
        if progress:
            progress(done, writer.size)


def _gathered(
    waiting: dict[str, tuple[Tensor, set[str]]], name: str, stored: Stored, part: Part, tensor: Tensor
) -> Tensor | None:
    """The packed tensor ``name``, once ``tensor`` was the last of its parts."""
    if name not in waiting:
        waiting[name] = torch.empty(stored.shape, dtype=tensor.dtype), {p.path for p in stored.parts}
    whole, lacking = waiting[name]
    part.of(whole).copy_(tensor)
    lacking.discard(part.path)
    return None if lacking else waiting.pop(name)[0]


def _of_run(model: Model, module: nn.Module, run: Path) -> Iterator[tuple[str, Tensor]]:
    """The weights of a run folder; raises DsvError where they are missing or of another spec."""
    source = _opened(run)
    return _read(source, _matched(model, source, _shapes(module), drop_mtp=False))


def _opened(folder: str | Path) -> Folder:
    """The tensors of a folder, or of the newest checkpoint where it is that of a run; raises DsvError."""
    return Folder(module_builder().checkpoint(Path(folder)) or Path(folder))


def _read(source: Folder, found: Match) -> Iterator[tuple[str, Tensor]]:
    """Every weight of the spec once, by path, as views of the files or dequantised."""
    scales = {
        name: scale.clone() for name, scale in source.read(found.scales[n] for n in found.stored if n in found.scales)
    }
    block = fp8.block_size(source)
    for name, tensor in source.read(found.stored):
        if name in found.scales:
            tensor = fp8.dequantised(tensor, scales[found.scales[name]], block)
        for part in found.stored[name].parts:
            yield part.path, part.of(tensor)


def _matched(model: Model, folder: Folder, shapes: dict[str, Shape], drop_mtp: bool) -> Match:
    layers = folder.config.get("num_hidden_layers", model.config.get("num_hidden_layers"))
    layers = layers if isinstance(layers, int) else UNNUMBERED
    return match(folder, shapes, aliases(model), model.name, layers, drop_mtp)


def _meta(model: Model) -> nn.Module:
    """The module with shapes and no numbers."""
    module: nn.Module = module_builder().empty(model, "meta")
    return module


def _shapes(module: nn.Module) -> dict[str, Shape]:
    return {path: tuple(weight.shape) for path, weight in module.state_dict().items()}
