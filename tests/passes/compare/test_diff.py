"""What differs is told once, at its place, with what it costs."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.passes.compare.diff import Diff, depths, diff
from dsvgraph.passes.compare.lines import Change


def load(name: str, **config: Any) -> dsvgraph.Model:
    return dsvgraph.load(name, config)


def told(found: Diff) -> list[str]:
    """A diff as text, one fact per line."""
    lines = [_line(change) for change in found.changes]
    lines += [f"config {s}" for s in found.config] + [f"loss {s}" for s in found.losses]
    lines += [f"section {s}" for s in found.sections]
    deltas = {f"{s}.{n}": v for s, numbers in found.deltas().items() for n, v in numbers.items() if v}
    return [*lines, *(f"{name} {value:+,}" for name, value in deltas.items())]


def _line(change: Change) -> str:
    also = f" (and {', '.join(change.also)})" if change.also else ""
    texts = f"{change.before} -> {change.after}; reaches {', '.join(change.reaches)}"
    return f"{change.kind} {change.path}{also}: {change.line}: {texts}"


def test_released_against_paper() -> None:
    assert told(diff(load("deepseek_v3"), load("deepseek_v3_paper"))) == [
        "rewired model.layers: mtp: h norm (carried) -> h sparse (carried); reaches mtp_logits",
        "rewired model.layers.[61].eh: eh: x0 enorm, x1 hnorm -> x0 hnorm, x1 enorm; reaches mtp_logits",
        "rewired model.layers.[61]: out h: norm -> layer; reaches mtp_logits",
        "loss next_token.divide: valid -> B * T",
        "loss mtp.divide: valid -> B * T",
    ]


def test_a_layer_more_is_one_line() -> None:
    found = diff(load("deepseek_v3"), load("deepseek_v3", num_hidden_layers=62))
    assert [(c.kind, c.line, c.before, c.after) for c in found.changes] == [
        ("resized", "sparse", "copies 58", "copies 59")
    ]
    assert found.deltas()["parameters"]["total"] == 11_507_286_272


def rewritten(*changes: tuple[str, str]) -> dsvgraph.Model:
    """The tiny spec with every match of a pattern in its text replaced."""
    text = dsvgraph.show(load("deepseek_v3_tiny"))
    for before, after in changes:
        assert re.search(before, text), before
        text = re.sub(before, after, text)
    return dsvgraph.loads(text)


def texts(found: Diff) -> list[tuple[str, str, str, str]]:
    return [(c.kind, c.line, c.before, c.after) for c in found.changes]


def test_a_renamed_block_is_the_same() -> None:
    assert not diff(rewritten(), rewritten((r"\bmoe\b", "experts_ffn"))).changes


def test_renamed_lines_are_told_once() -> None:
    """A chain of new names, whose lines read each other, and a weight's name."""
    found = diff(
        rewritten(), rewritten((r"\bact\b", "activated"), (r"\bgated\b", "product"), (r"\bq_a_layernorm\b", "q_norm"))
    )
    assert texts(found) == [
        ("renamed", "q_norm", "q_a_layernorm", "q_norm"),
        ("renamed", "activated", "act", "activated"),
        ("renamed", "product", "gated", "product"),
    ]
    assert not any(found.deltas()["parameters"].values())


def test_a_line_put_between() -> None:
    line, norm = r"( +)h: +\{add: \[x, self_attn\]}", r"\1post: {rms_norm: self_attn}\n\1h: {add: [x, post]}"
    assert texts(diff(rewritten(), rewritten((line, norm)))) == [
        ("rewired", "h", "x1 self_attn", "x1 post"),
        ("added", "post", "", "rms_norm, 128 parameters"),
    ]


def test_a_layer_put_between() -> None:
    """One dense layer among six of experts: what is after it is still beside its like."""
    plain = rewritten((r"(num_hidden_layers:) 4", r"\1 7"))
    cycle = "ffn: [moe, moe, moe, mlp, moe, moe, moe]"
    mixed = rewritten((r"(num_hidden_layers:) 4", r"\1 8"), (r"(dense, )ffn: moe", rf"\1{cycle}"))
    added = ("added", "sparse", "", "decoder_layer x 1, 199,008 parameters")
    found = diff(plain, mixed)
    assert texts(found) == [("resized", "sparse", "copies 6", "copies 7"), added]
    assert found.changes[1].path == "model.layers.[3]"
    back = diff(mixed, plain)
    assert texts(back)[1] == ("removed", "sparse", "decoder_layer x 1, 199,008 parameters", "")
    same = rewritten((r"(dense, )ffn: moe", r"\1ffn: [moe, mlp, moe]"))
    assert [kind for kind, *_ in texts(diff(rewritten(), same))] == ["replaced"]


def test_lines_of_yaml_are_told() -> None:
    before, after = (dsvgraph.load(name) for name in ("deepseek_v3", "deepseek_v3_paper"))
    eh = next(c for c in diff(before, after).changes if c.line == "eh")
    lines = [span.source.line(span.line) for span in eh.places if span]
    assert ["[enorm, hnorm]" in lines[0], "[hnorm, enorm]" in lines[1]] == [True, True]
    places = eh.as_dict()["places"]
    assert [place["file"].endswith("mtp.yaml") for place in places] == [True, True]


def test_nothing_differs() -> None:
    found = diff(load("deepseek_v3"), load("deepseek_v3"))
    assert not found
    assert told(found) == []


def test_depth_zero() -> None:
    found = diff(load("deepseek_v3"), load("deepseek_v3", num_nextn_predict_layers=0))
    assert [str(s) for s in found.losses] == ["mtp.depths: 1 -> none"]
    assert found.deltas()["parameters"]["total"] == -11_610_068_224
    assert found.deltas()["parameters"]["inference"] == 0


PAIRS = {
    "tiny_sizes": (load("deepseek_v3_tiny"), load("deepseek_v3_tiny", hidden_size=64, hidden_act="gelu")),
    "v3_tiny": (load("deepseek_v3"), load("deepseek_v3_tiny")),
    "v3_tutorial": (load("deepseek_v3_tiny"), load("tutorial_mtp")),
    "patterns": (
        load("tests/specs/patterns.yaml"),
        load("tests/specs/patterns.yaml", layer_types=["sliding", "gqa"]),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_golden(name: str, golden: Any) -> None:
    golden(f"diff/{name}.txt", "\n".join(told(diff(*PAIRS[name]))))


def edited(*changes: tuple[str, str]) -> dsvgraph.Model:
    text = dsvgraph.show(load("deepseek_v3_tiny"))
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return dsvgraph.loads(text)


def kinds(found: Diff) -> set[tuple[str, str]]:
    return {(c.kind, c.line) for c in found.changes}


def test_another_feed_forward_is_one_replacement() -> None:
    found = diff(load("deepseek_v3_tiny"), edited(("{decoder_layer: embed, at", "{decoder_layer: embed, ffn: moe, at")))
    assert kinds(found) == {("replaced", "mlp")}
    (change,) = found.changes
    assert change.before == "mlp, 147,456 parameters"
    assert change.after.startswith("moe, ")


def test_lines_added_and_removed() -> None:
    lines = "lm_head: {linear: norm, out: vocab_size}"
    more = "capped:  {times: norm, by: 0.5}\n    lm_head: {linear: capped, out: vocab_size}"
    found = diff(load("deepseek_v3_tiny"), edited((lines, more)))
    assert kinds(found) == {("added", "capped"), ("rewired", "lm_head")}
    back = diff(edited((lines, more)), load("deepseek_v3_tiny"))
    assert kinds(back) == {("removed", "capped"), ("rewired", "lm_head")}
    assert all(c.reaches == ("logits",) for c in found.changes if c.line == "capped")


def test_tied_weight_is_rewired() -> None:
    tied = (
        "lm_head: {linear: norm, out: vocab_size}",
        "lm_head: {linear: norm, out: vocab_size, weight: embed.weight}",
    )
    uses = ("head: lm_head.weight", "head: embed.weight")
    found = diff(load("deepseek_v3_tiny"), edited(tied, uses))
    head = next(c for c in found.changes if c.line == "lm_head")
    assert (head.before, head.after) == ("weight its own", "weight embed.weight")
    assert ("rewired", "lm_head") in kinds(found) and ("rewired", "mtp") in kinds(found)
    assert found.deltas()["parameters"]["total"] == -256 * 128


def test_another_name_of_a_line_is_no_difference() -> None:
    renamed = (
        ("norm:    {rms_norm", "final:   {rms_norm"),
        ("linear: norm, out: vocab_size}", "linear: final, out: vocab_size}"),
    )
    assert not diff(
        load("deepseek_v3_tiny"), edited(*renamed, ("{h: norm, ids: input_ids", "{h: final, ids: input_ids"))
    )


def test_another_address_is_a_renamed_weight() -> None:
    found = diff(load("deepseek_v3_tiny"), edited(("at: model.norm}", "at: model.final_norm}")))
    assert [(c.kind, c.before, c.after) for c in found.changes] == [("renamed", "model.norm", "model.final_norm")]


def test_sections_and_losses() -> None:
    changes = ('"**norm.weight": ones', '"**norm.weight": {normal: 1}'), ("balance:    ", "balanced:   ")
    found = diff(load("deepseek_v3_tiny"), edited(*changes))
    assert [str(s) for s in found.sections] == ["init **norm.weight: ones -> normal(1)"]
    assert [s.name for s in found.losses] == ["balance", "balanced"]


def test_as_dict() -> None:
    found = diff(load("deepseek_v3"), load("deepseek_v3_paper")).as_dict()
    assert [len(found[kind]) for kind in ("added", "removed", "resized", "rewired")] == [0, 0, 0, 3]
    assert found["cost"]["delta"]["parameters"]["total"] == 0
    assert found["cost"]["a"]["parameters"] == found["cost"]["b"]["parameters"]


def test_depths() -> None:
    found = depths(load("deepseek_v3"), [0, 1, 2])
    assert [c.parameters.total for c in found] == [671_026_419_200 + d * 11_610_068_224 for d in (0, 1, 2)]
    steps = [b.flops.train_per_token - a.flops.train_per_token for a, b in pairwise(found)]
    assert [round(step / 1e9, 2) for step in steps] == [10.19, 10.19]


def test_depths_need_the_name() -> None:
    with pytest.raises(DsvError, match="no config value `num_nextn_predict_layers`"):
        depths(load("tests/specs/patterns.yaml"), [1])
