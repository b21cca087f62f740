"""Which tensor of a folder is which weight of a spec: strict, and told by patterns where they differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dsvgraph.errors import DsvError
from dsvgraph_hf.weights import fp8, layout
from dsvgraph_hf.weights.layout import Shape, Stored
from dsvgraph_hf.weights.ranges import folded
from dsvgraph_hf.weights.shards import Folder

LAYER = re.compile(r"model\.layers\.(\d+)\.")
IGNORED = re.compile(r".*rotary_emb\.inv_freq")
"""Frequencies that old checkpoints hold: they follow from the config."""

MOST = 12
"""Patterns of a kind that an error tells of."""


@dataclass
class Match:
    """What is read of a folder: ``stored`` by name, with the weights that each tensor fills.

    ``copies`` are second names of shared weights with the name that holds the same numbers,
    ``scales`` those of float8 matrices, ``left_out`` what the spec has no place for and need not have.
    """

    stored: dict[str, Stored]
    copies: dict[str, str] = field(default_factory=dict)
    scales: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def match(
    folder: Folder, shapes: Mapping[str, Shape], aliases: Mapping[str, str], name: str, layers: int, drop_mtp: bool
) -> Match:
    """Finds every weight of the spec ``name``, by path and shape, in ``folder``.

    ``aliases`` are second names -> owners; ``layers`` counts those of the main model: MTP modules are
    numbered from it. Raises DsvError with all that is missing, unexpected, or of another shape, and where
    a second name does not hold the numbers of its owner.
    """
    scales = fp8.scales_of(folder)
    known = folder.entries.keys() - scales.values()
    wanted = (layout.packed if _is_packed(folder, known) else layout.plain)(shapes)
    found = Match(*_sourced(wanted, aliases, known), scales)
    unexpected = known - found.stored.keys() - found.copies.keys()
    missing = found.stored.keys() - known
    ours, theirs = (modules(names, layers) for names in (wanted, known))
    spare = theirs.keys() - ours.keys() if drop_mtp else set()  # whole modules: no part of one that the spec has
    found.left_out = sorted(n for n in unexpected if IGNORED.fullmatch(n) or number_of(n) in spare)
    unexpected -= set(found.left_out)
    shaped = dict(_other_shapes(folder, found, known))
    if missing or unexpected or shaped:
        faults = {"missing": folded(sorted(missing), known)} if missing else {}
        faults |= {"unexpected": folded(sorted(unexpected), found.stored)} if unexpected else {}
        hint = "" if shaped else _hint(folder, missing, unexpected, ours, theirs)
        raise _told(f"the weights in {folder.path} are not those of {name}", faults, shaped, hint)
    _check_copies(folder, found.copies)
    return found


def _is_packed(folder: Folder, names: Iterable[str]) -> bool:
    """Whether the folder packs its experts as gpt-oss does; raises DsvError where another family packs them."""
    if not layout.is_packed(names):
        return False
    if (kind := folder.config.get("model_type", "gpt_oss")) != "gpt_oss":
        raise DsvError(f"{folder.path} packs its experts (experts.gate_up_proj), which is read for gpt_oss, not {kind}")
    return True


def number_of(name: str) -> int | None:
    """The number of the layer that a weight belongs to."""
    found = LAYER.match(name)
    return int(found[1]) if found else None


def is_mtp(name: str, layers: int) -> bool:
    """Whether a weight belongs to an MTP module: a layer numbered after those of the main model."""
    return (number_of(name) or 0) >= layers


def modules(names: Iterable[str], layers: int) -> dict[int, set[str]]:
    """The weights of each MTP module, by its number."""
    found: dict[int, set[str]] = {}
    for name in names:
        if (number := number_of(name)) is not None and number >= layers:
            found.setdefault(number, set()).add(name)
    return found


def _sourced(
    wanted: dict[str, Stored], aliases: Mapping[str, str], known: Iterable[str]
) -> tuple[dict[str, Stored], dict[str, str]]:
    """Tensors to read, and those to compare: a shared weight is read by the first of its names that is there."""
    names: dict[str, list[str]] = {owner: [owner] for owner in aliases.values()}
    for second, owner in aliases.items():
        names[owner].append(second)
    stored, copies, there = dict(wanted), dict[str, str](), set(known)
    for owner, all_names in names.items():
        source, *others = [n for n in all_names if n in there] or [owner]
        stored[source] = stored.pop(owner)
        copies |= dict.fromkeys(others, source)
    return stored, copies


def _other_shapes(folder: Folder, found: Match, known: Iterable[str]) -> Iterator[tuple[str, tuple[Shape, Shape]]]:
    """Name -> (shape in the folder, shape in the spec) where they differ."""
    there = set(known)
    pairs = {name: name for name in found.stored} | found.copies
    for name, source in pairs.items():
        if name in there and (has := folder.entries[name].shape) != (want := found.stored[source].shape):
            yield name, (has, want)


def _told(words: str, faults: dict[str, dict[str, int]], shaped: dict[str, tuple[Shape, Shape]], hint: str) -> DsvError:
    """All that is wrong, by patterns."""
    by_shape: dict[tuple[Shape, Shape], list[str]] = {}
    for path, shapes in shaped.items():
        by_shape.setdefault(shapes, []).append(path)
    if shaped:
        faults["of another shape"] = {
            f"{text}: {[*has]}, the spec has {[*want]}": count
            for (has, want), paths in by_shape.items()
            for text, count in folded(sorted(paths)).items()
        }
    counts = ", ".join(f"{sum(found.values()):,} {kind}" for kind, found in faults.items())
    notes = [note for kind, found in faults.items() for note in _lines(kind, found)]
    return DsvError(f"{words}: {counts}", notes=notes, hint=hint)


def _lines(kind: str, found: dict[str, int]) -> list[tuple[str, None]]:
    """One line for each pattern, up to MOST of them."""
    lines = [f"{kind}: {text}" + (f" ({count:,})" if count > 1 else "") for text, count in found.items()]
    rest = [f"{kind}: {len(lines) - MOST:,} more patterns"] if len(lines) > MOST else []
    return [(line, None) for line in [*lines[:MOST], *rest]]


def _hint(
    folder: Folder, missing: set[str], unexpected: set[str], ours: dict[int, set[str]], theirs: dict[int, set[str]]
) -> str:
    """What is most likely to be done about it; ``ours`` and ``theirs`` are the MTP modules of spec and folder."""
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
    """Second names hold the same numbers as the first; raises DsvError."""
    errors = []
    for second, first in copies.items():
        found = dict(folder.read([second, first]))
        if furthest := difference(found[second], found[first]):
            words = f"`{second}` must hold the numbers of `{first}`, which the spec shares with it"
            errors.append(DsvError(f"{folder.path}: {words}; they differ by up to {furthest:.3g}"))
    if errors:
        raise DsvError.collect(errors)


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference of two tensors of one shape, 0 where they hold the same numbers."""
    if a.dtype == b.dtype and torch.equal(a, b):
        return 0.0
    rows = zip(a.reshape(-1).split(2**20), b.reshape(-1).split(2**20), strict=True)
    return max(float((x.double() - y.double()).abs().max()) for x, y in rows)
