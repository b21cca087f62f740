"""Which class of transformers computes a graph: the config that imports as the same graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dsvgraph
from dsvgraph.errors import DsvError, Note, listed
from dsvgraph.graph import Model
from dsvgraph_hf.config import source
from dsvgraph_hf.config.importer import FAMILIES, module, spec_text
from dsvgraph_hf.exporting.facts import Facts, Missing, main_output
from dsvgraph_hf.exporting.numbering import Numbered, Numbers

SHOWN = 8  # differences in a refusal
LENGTH = "max_position_embeddings"
CHAIN = "num_nextn_predict_layers"
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class _Guess:
    """A family's config for a graph, the graph that it means, and what that graph computes."""

    kind: str
    config: dict[str, Any]
    model: Model
    numbered: Numbered


def config_of(model: Model, dtype: str = "float32", drop_mtp: bool = False) -> dict[str, Any]:
    """The config.json with which transformers computes what ``model`` does.

    A family expresses a graph where importing its config gives the same ops, attributes and wires,
    and the same paths of weights; names of lines and blocks, losses and initialisation do not
    count. ``drop_mtp`` leaves the heads that only train out of account. Raises DsvError where no
    class does, with the nearest one and what differs.
    """
    number = Numbers()
    numbered = number.of(_numeric(model))
    guesses: list[_Guess] = []
    reasons: dict[str, str] = {}
    for kind in FAMILIES:
        try:
            guesses.append(_guess(kind, Facts(model, numbered), number))
        except (Missing, DsvError, ValueError) as error:
            reasons[kind] = str(error.diagnostics[0].message if isinstance(error, DsvError) else error)
        else:
            if not _others(guesses[-1], numbered, drop_mtp):
                more = {CHAIN: 0} if drop_mtp and CHAIN in guesses[-1].config else {}
                return _finished(guesses[-1], more, dtype)
    raise _refusal(model, numbered, guesses, reasons)


def _others(guess: _Guess, numbered: Numbered, drop_mtp: bool) -> list[str]:
    """Outputs that are not those of a guess; where heads are left out, only the main one counts."""
    if _main(guess.numbered) == _main(numbered) and drop_mtp:
        return []
    return [name for name, number in numbered.outputs.items() if number not in guess.numbered.outputs.values()]


def _numeric(model: Model) -> Model:
    if model.spec is not None and model.spec.symbolic:
        raise DsvError(f"a size that is a name cannot be exported: {listed(sorted(model.spec.symbolic))}")
    if not model.outputs:
        raise DsvError("a graph without outputs cannot be exported")
    return model


def _guess(kind: str, facts: Facts, number: Numbers) -> _Guess:
    usual = {LENGTH: module(kind).Config.model_fields[LENGTH].default}
    config = {"model_type": kind, **usual, **module(kind).config(facts)}
    model = dsvgraph.loads(spec_text(source.of(config), canonical=False))
    return _Guess(kind, config, model, number.of(model))


def _main(numbered: Numbered) -> int:
    """What the main output computes: `logits`, or the first there is."""
    return numbered.outputs[main_output(numbered.outputs)] if numbered.outputs else -1


def _finished(guess: _Guess, more: dict[str, Any], dtype: str) -> dict[str, Any]:
    """A config.json, whole: tokens that end a text are nobody's unless somebody says so."""
    names = {"architectures": [FAMILIES[guess.kind]]}
    return {**names, **guess.config, **more, **dict.fromkeys(TOKENS), "dtype": dtype, "torch_dtype": dtype}


def _refusal(model: Model, numbered: Numbered, guesses: list[_Guess], reasons: dict[str, str]) -> DsvError:
    """Why no class computes ``model``: how it differs from the nearest, or what it lacks."""
    from dsvgraph_hf.exporting.differences import differences

    if not guesses:
        notes: list[Note] = [(f"{FAMILIES[kind]}: {reason}", None) for kind, reason in reasons.items()]
        return DsvError("no class of transformers that is known here computes this graph", notes=_notes(notes))
    found = [(guess, differences(guess.model, model, guess.numbered, numbered)) for guess in guesses]
    guess, told = min(found, key=lambda pair: (_main(pair[0].numbered) != _main(numbered), len(pair[1])))
    if _main(guess.numbered) != _main(numbered):
        words = f"no class of transformers computes this graph; the nearest is {FAMILIES[guess.kind]}"
        return DsvError(words, notes=_notes(told))
    chain = "the MTP chain of the released DeepSeek-V3 alone" if CHAIN in guess.config else "no output but its logits"
    words = f"transformers' {FAMILIES[guess.kind]} has {chain}, not {listed(_others(guess, numbered, False))}"
    setting = f"`--set {CHAIN}=0` or " if CHAIN in model.config else ""
    return DsvError(words, notes=_notes(told), hint=f"{setting}`--drop-mtp` leaves it out")


def _notes(found: list[Note]) -> list[Note]:
    more: list[Note] = [(f"and {len(found) - SHOWN} differences more", None)] if len(found) > SHOWN else []
    return [*found[:SHOWN], *more]
