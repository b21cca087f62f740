"""What a run says before it begins, a line each: data left out, rates that surprise, numbers that are emulated."""

from __future__ import annotations

import json
import math
import os
import platform
import re

import pytest
import torch
from runs import SEVEN_LINES, TEXT, plain, quiet, records, refused, run

import dsvgraph
import dsvgraph_torch
from dsvgraph.errors import DsvError
from dsvgraph_torch.runs import notices
from dsvgraph_torch.runs.tokens import check_embeddings
from dsvgraph_torch.training import loop, preflight
from dsvgraph_torch.training.options import TrainOptions

quick = pytest.fixture(autouse=True)(plain)
GRAPH = dsvgraph.loads(SEVEN_LINES)


def said(folder, **options):
    """What a run prints."""
    console = quiet()
    run(folder, GRAPH, console=console, **options)
    return console.file.getvalue()


# -- data --------------------------------------------------------------------------------------------


def test_what_of_a_folder_is_no_data_is_named(tmp_path):
    data = tmp_path / "data"
    (data / "below").mkdir(parents=True)
    for name in ("a.txt", "below/b.txt"):
        (data / name).write_bytes(TEXT)
    (data / "below/latin.txt").write_bytes(b"\xe9")
    (data / "picture.png").write_bytes(b"\0")
    (data / ".hidden").write_bytes(TEXT)
    (data / "gone").symlink_to("nowhere")
    (data / "linked").symlink_to(tmp_path)
    os.mkfifo(data / "pipe")
    words = re.search(r"--data: left out of .*", said(tmp_path, steps=1, data=data))[0]
    for part in (
        "gone: a broken link", "linked: a link to a folder", "pipe: not a regular file", "1 hidden",
        "below/latin.txt: no UTF-8 at offset 0", "and 1 more",
    ):  # fmt: skip
        assert part in words
    assert "--data" not in said(other(tmp_path), steps=1)


def other(folder):
    (folder / "other").mkdir()
    return folder / "other"


def test_a_run_inside_its_data_is_no_part_of_them(tmp_path):
    """Else a resumed run would read what it has written itself."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.txt").write_bytes(TEXT)
    run(tmp_path, GRAPH, steps=1, data=data, out=data / "runs/mine")
    assert run(tmp_path, GRAPH, steps=2, data=data, out=data / "runs/mine", resume=True).step == 2


# -- the learning rate -------------------------------------------------------------------------------


def test_a_warm_up_longer_than_the_run(tmp_path):
    words = said(tmp_path, steps=4, warmup=10, lr=0.01)
    assert (
        "--warmup: 10 steps are more than the 4 of the run: the learning rate ends at 0.004 and never reaches 0.01"
    ) in words
    assert [r["lr"] for r in records(tmp_path)] == pytest.approx([0.001, 0.002, 0.003, 0.004])
    assert "--warmup" not in said(other(tmp_path), steps=4, warmup=4)


def test_a_rate_that_jumps_where_a_run_goes_on(tmp_path):
    said(tmp_path, steps=4, lr=0.01)
    words = said(tmp_path, steps=8, resume=True)
    found = [r["lr"] for r in records(tmp_path)]
    jump = f"from {found[3]:.4g} at step 4 to {found[4]:.4g} at step 5"
    assert f"--steps: the learning rate goes {jump}, since its schedule is over 8 steps and was over 4" in words
    assert found[4] > 3 * found[3]


def test_a_rate_that_goes_on_as_it_was_is_not_told_of(tmp_path, monkeypatch):
    def stopped(self, stop):
        stop.requested = True
        return fit(self, stop)

    fit = loop.Trainer.fit
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "fit", stopped)
        run(tmp_path, GRAPH, steps=8)
    words = said(tmp_path, steps=8, resume=True)
    assert "--steps" not in words and "begins again" in words


def test_a_rate_at_which_training_diverges(tmp_path):
    """The step is told, and it is written down."""
    words = refused(tmp_path, GRAPH, lr=1e30, steps=8)
    assert re.search(r"training diverged (at|after) step \d+\b", words) and "a lower --lr may help" in words
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["step"] == 1 and math.isfinite(json.loads(lines[0])["loss"])


def test_no_clipping(tmp_path):
    run(tmp_path, GRAPH, steps=2, clip=0)
    run(other(tmp_path), GRAPH, steps=2, clip=1e-6)
    whole, clipped = records(tmp_path), records(tmp_path / "other")
    assert whole[0]["grad_norm"] == clipped[0]["grad_norm"] and whole[1]["loss"] != clipped[1]["loss"]


# -- numbers -----------------------------------------------------------------------------------------

FLAGS = {
    ("x86_64", "flags\t\t: fpu avx2 avx512f avx512bw"): True,
    ("x86_64", "flags\t\t: fpu avx512f avx512_bf16"): False,
    ("x86_64", "flags\t\t: fpu amx_bf16 amx_tile"): False,
    ("aarch64", "Features\t: fp asimd"): True,
    ("aarch64", "Features\t: fp asimd bf16"): False,
    ("riscv64", "isa\t\t: rv64imafdc"): False,
    ("x86_64", "nothing that is known"): False,
}


@pytest.mark.parametrize(("machine", "line"), FLAGS)
def test_a_processor_that_emulates_bfloat16(machine, line, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    monkeypatch.setattr(notices, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    seconds = {torch.bfloat16: 0.0066, torch.float32: 0.0011}
    monkeypatch.setattr(preflight, "product_seconds", lambda device, dtype: seconds[dtype])
    options = dict(steps=1, precision="bfloat16", batch=1)
    measured = "--precision bfloat16: this processor emulates bfloat16: "
    measured += "a product of 384 x 384 takes 6.6 ms, in float32 1.1 ms"
    if FLAGS[machine, line]:
        words = refused(tmp_path, GRAPH, **options)
        assert measured in words and "--emulate" in words and not (tmp_path / "run").exists()
        assert measured in said(tmp_path, emulate=True, **options)
    else:
        assert "--precision" not in said(tmp_path, **options)


def test_a_product_is_timed():
    assert 0 < preflight.product_seconds(torch.device("cpu"), torch.bfloat16) < 1


def test_nothing_is_said_where_the_processor_tells_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(notices, "CPUINFO", tmp_path / "nowhere")
    assert not notices.emulated(torch.device("cpu"))


# -- what cannot be trained --------------------------------------------------------------------------

EMBED = "embed: {embedding: ids, num: 256, dim: 4}"
UNTRAINABLE = {
    "an embedding without a row for each byte": (
        SEVEN_LINES.replace("num: 256", "num: 255"), "the embedding `embed` has 255 rows, but text is read as bytes", 5,
    ),
    "an embedding without a row for what a shift fills in": (
        SEVEN_LINES.replace(EMBED, "s: {shift: ids, fill: 256}\n    embed: {embedding: s, num: 256, dim: 4}").replace(
            "shift: 1}", "shift: 2}"
        ), "has 256 rows, but `fill` puts in token 256", 6,
    ),
    "everything is frozen": (
        SEVEN_LINES + 'trained: {"**": false}\n', "has nothing to train: `trained` freezes every parameter", 9,
    ),
    "what is trained is reached by no loss": (
        SEVEN_LINES.replace("head:  {", "b: {linear: embed, out: 2}\n    head:  {").replace("head}", "head, b: b}")
        + 'trained: {"**": false, "b.weight": true}\n', "no loss reaches a parameter that is trained", 9,
    ),
}  # fmt: skip


INNER = """
blocks:
  deep:
    in: {ids: "int[B, T]", h: [B, T, 4]}
    body: {s: {shift: ids, fill: FILL}, e: {embedding: s, num: 256, dim: 4}, y: {add: [h, e]}}
    out: {ids: s, h: y}
graph:
  in: {ids: "int[B, T]"}
  body:
    first: {shift: ids, fill: FIRST}
    small: {embedding: ids, num: 256, dim: 4}
    large: {embedding: first, num: 999, dim: 4}
    d: {deep: {ids: ids, h: small}, repeat: 2}
    y: {add: [d.h, large]}
    head: {linear: y, out: 256}
  out: {logits: head}
loss: {next_token: {cross_entropy: logits, target: ids, shift: 4}}
"""


@pytest.mark.parametrize(
    ("first", "fill", "place"), [(998, 255, ""), (999, 0, ":12:"), (0, 256, ":5:"), (-1, 0, ":12:")]
)
def test_ids_are_followed_to_the_embedding_that_reads_them(first, fill, place):
    """What fills in for one table need not be in another; a block's copies read what those before have shifted."""
    model = dsvgraph.loads(INNER.replace("FIRST", str(first)).replace("FILL", str(fill)))
    if not place:
        check_embeddings(model, 256)
        return
    with pytest.raises(DsvError, match=re.escape(place)):
        check_embeddings(model, 256)
    with pytest.raises(DsvError, match=re.escape(place)):
        dsvgraph_torch.verify(model, 1, 8)


@pytest.mark.parametrize("case", UNTRAINABLE)
def test_what_cannot_be_trained_is_refused_at_its_line(case, tmp_path):
    text, words, line = UNTRAINABLE[case]
    message = refused(tmp_path, dsvgraph.loads(text))
    assert words in message and f"--> <spec>:{line}:" in message
    assert not (tmp_path / "run").exists()


def test_the_bounds_of_the_command_line_are_those_of_the_program():
    """What help allows is accepted, what the program refuses is refused by the option's name: at its own bounds."""
    import inspect

    from dsvgraph.cli.make import compile

    for name, field in TrainOptions.model_fields.items():
        bounds = {type(m).__name__: m for m in field.metadata}
        if "Ge" in bounds:
            option = inspect.signature(compile.run, eval_str=True).parameters[name].annotation.__metadata__[0]
            assert option.min == bounds["Ge"].ge
            most = bounds["Lt"].lt - 1 if "Lt" in bounds else bounds["Le"].le if "Le" in bounds else None
            assert option.max == most
