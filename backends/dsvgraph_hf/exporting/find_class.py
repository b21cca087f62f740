"""Find the class of transformers that computes a graph: the family whose config imports as the same graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dsvgraph
from dsvgraph.errors import DsvError, Note
from dsvgraph.graph import Model
from dsvgraph.names import listed
from dsvgraph_hf.config import config_file
from dsvgraph_hf.config.graph_reader import GraphReader, Missing, main_output
from dsvgraph_hf.exporting.graph_differences import differences
from dsvgraph_hf.exporting.value_numbering import NumberedModel, ValueNumbers
from dsvgraph_hf.families import architecture, failures, families
from dsvgraph_hf.importer import to_text

MAX_NOTES = 8  # differences in an error
MAX_POSITIONS = "max_position_embeddings"
MTP_DEPTH = "num_nextn_predict_layers"
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class _Candidate:
    """The config that a family reads from a graph, and the model that this config imports as."""

    kind: str
    config: dict[str, Any]
    model: Model
    numbered: NumberedModel


def config_of(model: Model, dtype: str = "float32", drop_mtp: bool = False) -> dict[str, Any]:
    """Return the config.json with which transformers computes what ``model`` does.

    A family computes a graph if its config imports as the same ops, attributes, wiring and paths of weights; names of
    lines and blocks, losses and initialization are not compared. ``drop_mtp`` ignores outputs that only train.
    Raise DsvError if no class does, with the nearest one and the differences.
    """
    number = ValueNumbers()
    numbered = number.of(_numeric(model))
    candidates: list[_Candidate] = []
    reasons: dict[str, str] = {}
    for kind in families():
        try:
            candidates.append(_candidate(kind, GraphReader(model, numbered.ops), number))
        except (Missing, DsvError, ValueError) as error:
            reasons[kind] = str(error.diagnostics[0].message if isinstance(error, DsvError) else error)
        else:
            if not _other_outputs(candidates[-1], numbered, drop_mtp):
                more = {MTP_DEPTH: 0} if drop_mtp and MTP_DEPTH in candidates[-1].config else {}
                return _finished(candidates[-1], more, dtype)
    raise _refusal(model, numbered, candidates, reasons)


def _other_outputs(candidate: _Candidate, numbered: NumberedModel, drop_mtp: bool) -> list[str]:
    """Return the outputs that a candidate does not have; with ``drop_mtp`` none if the main one is the same."""
    if _main(candidate.numbered) == _main(numbered) and drop_mtp:
        return []
    return [name for name, number in numbered.outputs.items() if number not in candidate.numbered.outputs.values()]


def _numeric(model: Model) -> Model:
    if model.spec is not None and model.spec.symbolic:
        raise DsvError(f"a size that is a name cannot be exported: {listed(sorted(model.spec.symbolic))}")
    if not model.outputs:
        raise DsvError("a graph without outputs cannot be exported")
    return model


def _candidate(kind: str, reader: GraphReader, number: ValueNumbers) -> _Candidate:
    family = families()[kind]
    defaults = {MAX_POSITIONS: family.Config.model_fields[MAX_POSITIONS].default}
    config = {"model_type": kind, **defaults, **family.from_graph(reader)}
    model = dsvgraph.loads(to_text(config_file.from_dict(config), canonical=False))
    return _Candidate(kind, config, model, number.of(model))


def _main(numbered: NumberedModel) -> int:
    """Return the number of the main output; -1 without outputs."""
    return numbered.outputs[main_output(numbered.outputs)] if numbered.outputs else -1


def _finished(candidate: _Candidate, more: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Return a whole config.json; its special tokens are null, as a graph has none."""
    names = {"architectures": [architecture(candidate.kind)]}
    return {**names, **candidate.config, **more, **dict.fromkeys(TOKENS), "dtype": dtype, "torch_dtype": dtype}


def _refusal(model: Model, numbered: NumberedModel, candidates: list[_Candidate], reasons: dict[str, str]) -> DsvError:
    """Return the error that no class computes ``model``: its differences from the nearest, or what it lacks."""
    if not candidates:
        notes: list[Note] = [(f"{architecture(kind)}: {reason}", None) for kind, reason in reasons.items()]
        return DsvError("no class of transformers that is known here computes this graph", notes=_notes(notes))
    found = [(candidate, differences(candidate.model, model, candidate.numbered, numbered)) for candidate in candidates]
    candidate, notes = min(found, key=lambda pair: (_main(pair[0].numbered) != _main(numbered), len(pair[1])))
    if _main(candidate.numbered) != _main(numbered):
        words = f"no class of transformers computes this graph; the nearest is {architecture(candidate.kind)}"
        return DsvError(words, notes=_notes(notes))
    has_chain = MTP_DEPTH in candidate.config
    chain = "the MTP chain of the released DeepSeek-V3 alone" if has_chain else "no output but its logits"
    others = listed(_other_outputs(candidate, numbered, drop_mtp=False))
    words = f"transformers' {architecture(candidate.kind)} has {chain}, not {others}"
    setting = f"`--set {MTP_DEPTH}=0` or " if MTP_DEPTH in model.config else ""
    return DsvError(words, notes=_notes(notes), hint=f"{setting}`--drop-mtp` leaves it out")


def _notes(found: list[Note]) -> list[Note]:
    more: list[Note] = [(f"and {len(found) - MAX_NOTES} differences more", None)] if len(found) > MAX_NOTES else []
    return [*found[:MAX_NOTES], *more, *((failure, None) for failure in failures())]
