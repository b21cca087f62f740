"""The tensors of a folder by weight of a spec. Matching is strict; what differs is reported as ranges of names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dsvgraph.errors import DsvError
from dsvgraph_hf.weights import fp8, packed_experts
from dsvgraph_hf.weights.packed_experts import Shape, StoredTensor
from dsvgraph_hf.weights.ranges import as_ranges
from dsvgraph_hf.weights.shards import Folder

LAYER = re.compile(r"model\.layers\.(\d+)\.")
IGNORED = re.compile(r".*rotary_emb\.inv_freq")
"""Frequencies in old checkpoints, which follow from the config."""

MAX_RANGES = 12
"""Ranges of names of one kind in an error."""


@dataclass
class WeightMap:
    """The tensors that are read from a folder: ``stored`` by name, with the weights in each.

    ``copies`` maps second names of tied weights to the name that is read, ``scales`` float8 matrices to the names of
    their scales; ``left_out`` has the tensors that are not read.
    """

    stored: dict[str, StoredTensor]
    copies: dict[str, str] = field(default_factory=dict)
    scales: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def weight_map(
    folder: Folder, shapes: Mapping[str, Shape], aliases: Mapping[str, str], name: str, layers: int, drop_mtp: bool
) -> WeightMap:
    """Find every weight of the spec ``name``, by path and shape, in ``folder``.

    ``aliases`` maps second names to owners; ``layers`` is the number of layers of the main model, from which MTP
    modules are numbered. Raise DsvError with all names that are missing, unexpected or of another shape, and if a
    second name does not hold the numbers of its owner.
    """
    scales = fp8.scales_of(folder)
    known = folder.entries.keys() - scales.values()
    wanted = (packed_experts.packed if _is_packed(folder, known) else packed_experts.one_by_one)(shapes)
    found = WeightMap(*_with_copies(wanted, aliases, known), scales)
    unexpected = known - found.stored.keys() - found.copies.keys()
    missing = found.stored.keys() - known
    ours, theirs = (mtp_modules(names, layers) for names in (wanted, known))
    spare = theirs.keys() - ours.keys() if drop_mtp else set()  # whole modules: no part of one that the spec has
    found.left_out = sorted(n for n in unexpected if IGNORED.fullmatch(n) or layer_number(n) in spare)
    unexpected -= set(found.left_out)
    shaped = dict(_other_shapes(folder, found, known))
    if missing or unexpected or shaped:
        faults = {"missing": as_ranges(sorted(missing), known)} if missing else {}
        faults |= {"unexpected": as_ranges(sorted(unexpected), found.stored)} if unexpected else {}
        hint = "" if shaped else _hint(folder, missing, unexpected, ours, theirs)
        raise _mismatch(f"the weights in {folder.path} are not those of {name}", faults, shaped, hint)
    _check_copies(folder, found.copies)
    return found


def _is_packed(folder: Folder, names: Iterable[str]) -> bool:
    """Return whether the folder packs its experts. Raise DsvError if it is of a family that packs them otherwise."""
    if not packed_experts.is_packed(names):
        return False
    family = packed_experts.PACKING_FAMILY
    if (kind := folder.config.get("model_type", family)) != family:
        raise DsvError(
            f"{folder.path} packs its experts (experts.gate_up_proj), which is read for {family}, not {kind}"
        )
    return True


def layer_number(name: str) -> int | None:
    """Return the number of the layer that has a weight."""
    found = LAYER.match(name)
    return int(found[1]) if found else None


def is_mtp(name: str, layers: int) -> bool:
    """Return whether a weight is of an MTP module: a layer numbered after those of the main model."""
    return (layer_number(name) or 0) >= layers


def mtp_modules(names: Iterable[str], layers: int) -> dict[int, set[str]]:
    """Return the weights of each MTP module by its number."""
    found: dict[int, set[str]] = {}
    for name in names:
        if (number := layer_number(name)) is not None and number >= layers:
            found.setdefault(number, set()).add(name)
    return found


def _with_copies(
    wanted: dict[str, StoredTensor], aliases: Mapping[str, str], known: Iterable[str]
) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return the tensors to read, and copies to compare: a tied weight is read by the first name in the folder."""
    names: dict[str, list[str]] = {owner: [owner] for owner in aliases.values()}
    for second, owner in aliases.items():
        names[owner].append(second)
    stored, copies, there = dict(wanted), dict[str, str](), set(known)
    for owner, all_names in names.items():
        source, *others = [n for n in all_names if n in there] or [owner]
        stored[source] = stored.pop(owner)
        copies |= dict.fromkeys(others, source)
    return stored, copies


def _other_shapes(folder: Folder, found: WeightMap, known: Iterable[str]) -> Iterator[tuple[str, tuple[Shape, Shape]]]:
    """Yield each name with its shapes in the folder and in the spec where they differ."""
    there = set(known)
    pairs = {name: name for name in found.stored} | found.copies
    for name, source in pairs.items():
        if name in there and (has := folder.entries[name].shape) != (want := found.stored[source].shape):
            yield name, (has, want)


def _mismatch(
    words: str, faults: dict[str, dict[str, int]], shaped: dict[str, tuple[Shape, Shape]], hint: str
) -> DsvError:
    """Return the error with all differences as ranges of names."""
    by_shape: dict[tuple[Shape, Shape], list[str]] = {}
    for path, shapes in shaped.items():
        by_shape.setdefault(shapes, []).append(path)
    if shaped:
        faults["of another shape"] = {
            f"{text}: {[*has]}, the spec has {[*want]}": count
            for (has, want), paths in by_shape.items()
            for text, count in as_ranges(sorted(paths)).items()
        }
    counts = ", ".join(f"{sum(found.values()):,} {kind}" for kind, found in faults.items())
    notes = [note for kind, found in faults.items() for note in _notes(kind, found)]
    return DsvError(f"{words}: {counts}", notes=notes, hint=hint)


def _notes(kind: str, found: dict[str, int]) -> list[tuple[str, None]]:
    """Return a note for each range, up to MAX_RANGES of them."""
    lines = [f"{kind}: {text}" + (f" ({count:,})" if count > 1 else "") for text, count in found.items()]
    rest = [f"{kind}: {len(lines) - MAX_RANGES:,} more patterns"] if len(lines) > MAX_RANGES else []
    return [(line, None) for line in [*lines[:MAX_RANGES], *rest]]


def _hint(
    folder: Folder, missing: set[str], unexpected: set[str], ours: dict[int, set[str]], theirs: dict[int, set[str]]
) -> str:
    """Return the most likely remedy; ``ours`` and ``theirs`` are the MTP modules of the spec and of the folder."""
    more, fewer = theirs.keys() - ours.keys(), ours.keys() - theirs.keys()
    if more and not missing and unexpected <= {name for number in more for name in theirs[number]}:
        return (
            f"the folder holds {len(more)} more MTP module{'s' if len(more) > 1 else ''} than the spec: "
            "set num_nextn_predict_layers to load, --drop-mtp (drop_mtp=True) to leave out"
        )
    if fewer and not unexpected and missing <= {name for number in fewer for name in ours[number]}:
        return "the folder holds fewer MTP modules than the spec: set num_nextn_predict_layers"
    if missing == {"lm_head.weight"} and folder.config.get("tie_word_embeddings"):
        return "the folder's config.json says tie_word_embeddings: wire the embedding's weight to the spec's lm_head"
    return ""


def _check_copies(folder: Folder, copies: dict[str, str]) -> None:
    """Raise DsvError if a second name does not hold the same numbers as the first."""
    errors = []
    for second, first in copies.items():
        found = dict(folder.read([second, first]))
        if furthest := _difference(found[second], found[first]):
            words = f"`{second}` must hold the numbers of `{first}`, which the spec shares with it"
            errors.append(DsvError(f"{folder.path}: {words}; they differ by up to {furthest:.3g}"))
    if errors:
        raise DsvError.collect(errors)


def _difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference of two tensors of one shape."""
    if a.dtype == b.dtype and torch.equal(a, b):
        return 0.0
    rows = zip(a.reshape(-1).split(2**20), b.reshape(-1).split(2**20), strict=True)
    return max(float((x.double() - y.double()).abs().max()) for x, y in rows)
