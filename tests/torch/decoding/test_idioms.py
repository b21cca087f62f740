"""The idioms of docs/language.md compute what they say, judged by torch; sums over stacks look at no other position."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest
import torch
from helpers import randomised
from torch import Tensor
from torch.nn.functional import conv1d, scaled_dot_product_attention

import dsvgraph
import dsvgraph_torch

IDS = torch.arange(22).reshape(2, 11) * 7 % 256


def example(title: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """The module of an idiom, with random weights, in float64; `x` of the frame is an output too."""
    monkeypatch.chdir(folder)
    text = (pages.DOCS / "language.md").read_text(encoding="utf-8")
    (small,) = re.findall(r"^```yaml small\.yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    Path("small.yaml").write_text(small, encoding="utf-8")
    found = re.search(rf"^\*\*{re.escape(title)}.*?^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    whole = re.sub(r"\n  out: \{y: (\w+)\}", r"\n  out: {y: \1, x: x}", pages.whole(found[1]))
    Path("idiom.yaml").write_text(whole, encoding="utf-8")
    return randomised(dsvgraph_torch.compile(dsvgraph.load("idiom.yaml")), seed=3).double()


def outputs(module: torch.nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    with torch.no_grad():
        return module(IDS), module.state_dict()


def computed_weight(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    return x @ state["down.weight"].T @ state["up.weight"].T


def ones(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    return torch.ones(2, 11, 128, dtype=x.dtype)


def columns(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    gates = x @ state["gates.weight"].T
    return x * gates[..., :1] * gates[..., 2:]


def partly_rotary(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    q = (x @ state["q.weight"].T).reshape(2, 11, 4, 16).transpose(1, 2)
    angles = torch.arange(11)[:, None] * 10000.0 ** (-torch.arange(4, dtype=x.dtype) / 4)
    turn = torch.polar(torch.ones_like(angles), angles)
    pairs = torch.complex(q[..., :4].contiguous(), q[..., 4:8].contiguous()) * turn
    turned = torch.cat([pairs.real, pairs.imag, q[..., 8:]], -1)
    found = scaled_dot_product_attention(turned, turned, q, is_causal=True)
    return found.transpose(1, 2).reshape(2, 11, 64) @ state["y.weight"].T


def convolution(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    kernel = state["kernel.weight"].flip(0).T[:, None]  # of each channel, the oldest token first
    return conv1d(torch.nn.functional.pad(x.transpose(1, 2), (3, 0)), kernel, groups=64).transpose(1, 2)


IDIOMS = {
    "A computed weight.": computed_weight,
    "Ones, and one minus.": ones,
    "Columns.": columns,
    "Rotary positions on a part of each head": partly_rotary,
    "A short causal convolution": convolution,
}


@pytest.mark.parametrize("title", IDIOMS)
def test_an_idiom_is_what_it_says(title, tmp_path, monkeypatch):
    found, state = outputs(example(title, tmp_path, monkeypatch))
    assert torch.allclose(found["y"], IDIOMS[title](found["x"], state), atol=1e-9)


STACKS = {
    "k b t d -> b t d": "s",
    "k b t d -> b t k d": "s",
    "k b t d, b t e -> k b t": "s, e",
    "k b t d, b t k -> b t d": "s, w",
    "b t h d -> h b t d": "h",
    "b t h d -> d h b t": "h",
}


@pytest.mark.parametrize("equation", STACKS)
def test_a_sum_over_a_stack_is_torch_s_and_sees_no_later_token(equation):
    lines = [
        "e: {embedding: ids, num: 256, dim: 4}", "s: {attend: e, repeat: 3, share: [x]}", "w: {linear: e, out: 3}",
        "h: {linear: e, out: [2, 4]}", f'y: {{einsum: [{STACKS[equation]}], equation: "{equation}"}}',
    ]  # fmt: skip
    block = "attend: {in: {x: [B, T, 4]}, body: {q: {linear: x, out: [1, 4]}, a: {attention: {q: q, k: q, v: q}}, "
    block += "y: {linear: a, contract: 2, out: 4}}, out: {x: y}}"
    names = dict.fromkeys(STACKS[equation].split(", "))
    text = f'blocks: {{{block}}}\ngraph:\n  in: {{ids: "int[B, T]"}}\n  body:\n    ' + "\n    ".join(lines)
    text += f"\n  out: {{y: y, {', '.join(f'{name}: {name}' for name in names)}}}\n"
    module = randomised(dsvgraph_torch.compile(dsvgraph.loads(text)), seed=3).double()
    other = IDS.clone()
    other[:, 6:] += 1
    with torch.no_grad():
        found, changed = module(IDS), module(other)
    assert torch.allclose(found["y"], torch.einsum(equation.replace(" ", ""), *(found[name] for name in names)))
    axis = equation.partition("-> ")[2].split().index("t")
    assert torch.equal(found["y"].narrow(axis, 0, 6), changed["y"].narrow(axis, 0, 6))
    assert not torch.equal(found["y"].narrow(axis, 6, 5), changed["y"].narrow(axis, 6, 5))
