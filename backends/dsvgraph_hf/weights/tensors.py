"""Loading a folder of safetensors into a module, and saving the weights of a run or of a seed as one.

Tensors are read and written one by one: loading holds one copy of the model in memory, saving none.
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
from dsvgraph_hf.weights import fp8, packed_experts
from dsvgraph_hf.weights.packed_experts import Shape, Slice, StoredTensor
from dsvgraph_hf.weights.shards import Folder
from dsvgraph_hf.weights.weight_map import WeightMap, is_mtp, weight_map
from dsvgraph_hf.weights.writer import Planned, Writer, bytes_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SHARD_SIZE = "5GB"
UNKNOWN_LAYERS = 2**31
"""The number of layers if it is not known: more than any model has, so that none is an MTP module."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What was read: numbers of files, tensors and bytes, and the dtypes.

    ``dequantised`` counts float8 matrices, ``copies`` second names that hold the same numbers, ``left_out`` tensors
    of the folder that were not read.
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


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What was written: the files, and numbers of tensors and bytes."""

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
    """Return the module of ``model`` with the weights of a folder of Hugging Face safetensors.

    The folder has to hold every weight by path and shape, and nothing else but second names of tied weights, with the
    same numbers, and, with ``drop_mtp``, MTP modules that the spec does not have. float8 matrices are dequantized.
    ``dtype`` is that of trained weights (None: float32); others, such as a router's selection bias, are float32.
    Raise DsvError if the folder is damaged or is not of this spec.
    """
    module = module_builder().empty(model, device, dtype, kernels)
    fill(module, model, folder, drop_mtp=drop_mtp, progress=progress)
    return module


def check(model: Model, folder: str | Path, *, drop_mtp: bool = False) -> WeightMap:
    """Raise DsvError if ``load`` would; only headers, and weights with two names, are read."""
    return _matched(model, _opened(folder), _shapes(_meta(model)), drop_mtp)


def fill(
    module: nn.Module,
    model: Model,
    folder: str | Path,
    *,
    drop_mtp: bool = False,
    progress: Progress | None = None,
) -> Loaded:
    """Fill the weights of ``module`` in place, as ``load`` does.

    Raise DsvError before the first weight is changed, unless a file is damaged in its data.
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
    max_shard_size: int | str = SHARD_SIZE,
    drop_mtp: bool = False,
    progress: Progress | None = None,
) -> Saved:
    """Write the weights of a run, or without one the first values that ``seed`` gives, as transformers reads them.

    ``config`` is the folder's config.json, which is not written here: it has the family and the number of layers of
    the main model. MTP modules get copies of the embedding and of the output layer, as in the released checkpoints,
    unless that is tied. Trained weights are written as ``dtype``, others in float32. Raise DsvError, and leave nothing
    behind, if ``folder`` has weights already, the disk is full, or the run's weights are not those of ``model``.
    """
    if dtype not in DTYPES:
        raise DsvError(f"weights are written as {' or '.join(DTYPES)}, not as `{dtype}`")
    module = _meta(model)
    output = _planned(model, module, config, drop_mtp)
    exact = {name for name, _ in module.named_buffers()}
    plan = [
        Planned(name, stored.shape, torch.float32 if stored.slices[0].path in exact else DTYPES[dtype])
        for name, stored in output.stored.items()
    ]
    plan += [Planned(name, output.stored[owner].shape, DTYPES[dtype]) for name, owner in output.copies.items()]
    source = _of_run(model, module, Path(run)) if run is not None else module_builder().initial(module, seed)
    with Writer(Path(folder), plan, bytes_of(max_shard_size)) as writer:
        _write(writer, source, output, progress)
    return Saved(folder=Path(folder), files=tuple(writer.files), tensors=len(plan), bytes=writer.size, dtype=dtype)


def _planned(model: Model, module: nn.Module, config: dict[str, Any], drop_mtp: bool) -> WeightMap:
    """Return the tensors that transformers expects in the folder, and the copies in MTP modules."""
    layers = int(config.get("num_hidden_layers", UNKNOWN_LAYERS))
    left_out = training_only(model) if drop_mtp else ()
    shapes = {path: shape for path, shape in _shapes(module).items() if not path.startswith(left_out)}
    is_packed = config.get("model_type") == packed_experts.PACKING_FAMILY
    stored = packed_experts.packed(shapes) if is_packed else packed_experts.one_by_one(shapes)
    seconds = {} if drop_mtp else aliases(model)
    return WeightMap(stored, {name: owner for name, owner in seconds.items() if is_mtp(name, layers)})


def _write(writer: Writer, source: Iterator[tuple[str, Tensor]], output: WeightMap, progress: Progress | None) -> None:
    """Write each weight as it comes, with its copies; a packed tensor is written after its last slice."""
    places = {part.path: (name, part) for name, stored in output.stored.items() for part in stored.slices}
    copies = {owner: [name for name, o in output.copies.items() if o == owner] for owner in output.copies.values()}
    waiting: dict[str, tuple[Tensor, set[str]]] = {}
    done = 0
    for path, tensor in source:
        if path not in places:
            continue
        name, part = places[path]
        whole = _gathered(waiting, name, output.stored[name], part, tensor) if part.region else tensor
        for each in [name, *copies.get(path, ())] if whole is not None else ():
            done += writer.put(each, whole)
        if progress:
            progress(done, writer.size)


def _gathered(
    waiting: dict[str, tuple[Tensor, set[str]]], name: str, stored: StoredTensor, part: Slice, tensor: Tensor
) -> Tensor | None:
    """Return the packed tensor ``name`` if ``tensor`` is the last of its slices, else None."""
    if name not in waiting:
        waiting[name] = torch.empty(stored.shape, dtype=tensor.dtype), {p.path for p in stored.slices}
    whole, lacking = waiting[name]
    part.of(whole).copy_(tensor)
    lacking.discard(part.path)
    return None if lacking else waiting.pop(name)[0]


def _of_run(model: Model, module: nn.Module, run: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of a run folder. Raise DsvError if they are missing or of another spec."""
    source = _opened(run)
    return _read(source, _matched(model, source, _shapes(module), drop_mtp=False))


def _opened(folder: str | Path) -> Folder:
    """Return the tensors of a folder, or of the newest checkpoint if it is that of a run. Raise DsvError as Folder."""
    return Folder(module_builder().checkpoint(Path(folder)) or Path(folder))


def _read(source: Folder, found: WeightMap) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight of the spec once, by path, as a view of a file or dequantized."""
    scales = {
        name: scale.clone() for name, scale in source.read(found.scales[n] for n in found.stored if n in found.scales)
    }
    block = fp8.block_size(source)
    for name, tensor in source.read(found.stored):
        if name in found.scales:
            tensor = fp8.dequantize(tensor, scales[found.scales[name]], block)
        for part in found.stored[name].slices:
            yield part.path, part.of(tensor)


def _matched(model: Model, folder: Folder, shapes: dict[str, Shape], drop_mtp: bool) -> WeightMap:
    layers = folder.config.get("num_hidden_layers", model.config.get("num_hidden_layers"))
    layers = layers if isinstance(layers, int) else UNKNOWN_LAYERS
    return weight_map(folder, shapes, aliases(model), model.name, layers, drop_mtp)


def _meta(model: Model) -> nn.Module:
    """Return the module on the device `meta`."""
    module: nn.Module = module_builder().empty(model, "meta")
    return module


def _shapes(module: nn.Module) -> dict[str, Shape]:
    return {path: tuple(weight.shape) for path, weight in module.state_dict().items()}
