"""Losses over stacked outputs, however the logits are made, against losses of the logits that forward gives."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from helpers import furthest, gradients, randomised, split, tokens  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph.build.losses.lines import number  # noqa: E402
from dsvgraph_torch import compile, emit  # noqa: E402
from dsvgraph_torch.module import load_source  # noqa: E402
from dsvgraph_torch.verification.report import verify  # noqa: E402

SPEC = """
name: stacked
blocks:
  b: {in: {x: "[B, T, 8]"}, body: {y: {linear: x, out: 8}}, out: {y: y}}
  many: {in: {x: "[B, T, 8]"}, body: {m: {b: x, repeat: 2}}, out: {y: m}}
  score: {in: {x: "[..., 8]"}, body: {n: {rms_norm: x}, y: {linear: n, out: 61}}, out: {y: y}}
  whole: {in: {x: "[B, T, 8]"}, body: {m: {b: x, repeat: 2}, y: {linear: m, out: 61}}, out: {y: y}}
  chain: {in: {x: "[B, T, 8]"}, body: {y: {linear: x, out: 8}, z: {linear: y, out: 61}}, out: {x: y, y: z}}
graph:
  in: {ids: "int[B, T]"}
  body:
    embed: {embedding: ids, num: 61, dim: 8}
    first: {linear: embed, out: 61}
    br: {b: embed, repeat: 2}
    LINES
  out: {logits: first, ahead: OUT}
loss:
  a: {cross_entropy: logits, target: ids}
  b: {cross_entropy: ahead, target: ids, shift: depth, weight: 0.5}
  MORE
"""
AHEAD = "c: {cross_entropy: ahead, target: ids, shift: 3}"
HEADS = {
    "one linear": ("head: {linear: br, out: 61}", "head", ""),
    "a norm before": ("norm: {rms_norm: br}\n    head: {linear: norm, out: 61}", "head", ""),
    "a bias": ("head: {linear: br, out: 61, bias: true}", "head", ""),
    "tied to the embedding": ("head: {linear: br, out: 61, weight: embed.weight}", "head", ""),
    "tied to the first head": ("head: {linear: br, out: 61, weight: first.weight}", "head", ""),
    "no gradient into the states": ("stop: {detach: br}\n    head: {linear: stop, out: 61}", "head", ""),
    "einsum": ('head: {einsum: [br, embed.weight], equation: "k b t d, v d -> k b t v"}', "head", ""),
    "a head for each": ("head: {linear: br, out: 61, each: 2}", "head", ""),
    "a block for each": ("head: {score: br, each: 2}", "head", ""),
    "in a block": ("head: {score: br}", "head", ""),
    "in a block without an address": ("head: {score: br, at: .}", "head", ""),
    "stacked in a block": ("m: {many: embed}\n    head: {linear: m, out: 61}", "head", ""),
    "wholly in a block": ("head: {whole: embed}", "head", ""),
    "a repeated op": ("head: {linear: embed, out: 61, repeat: 2, share: x}", "head", ""),
    "a chain": ("c: {chain: embed, repeat: 2}", "c.y", ""),
    "a chain of one set of weights": ("c: {chain: embed, repeat: 2, tied: true}", "c.y", ""),
    "two losses of one head": ("head: {linear: br, out: 61}", "head", AHEAD),
    "two losses of the first": ("head: {linear: br, out: 61}", "head", AHEAD.replace("ahead", "logits")),
    "logits that are read": ("pre: {linear: br, out: 61}\n    head: {times: pre, by: 2.0}", "head, raw: pre", ""),
    "two names": ("head: {linear: br, out: 61}", "head, again: head", AHEAD.replace("ahead", "again")),
    "what a head reads": ("up: {linear: br, out: 61}\n    head: {linear: up, out: 3}", "head.x", ""),
}  # fmt: skip


def graph(head: str) -> dsvgraph.Model:
    lines, out, more = HEADS[head]
    return dsvgraph.loads(SPEC.replace("LINES", lines).replace("OUT", out).replace("MORE", more))


def by_hand(model: dsvgraph.Model, module: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """The weighted sum of the losses of a whole row, from the logits that forward returns."""
    outputs, total = module(ids), 0.0
    assert outputs["ahead"].shape == (2, *ids.shape, outputs["ahead"].shape[-1])
    for loss in model.losses:
        for depth in loss.depths:
            logits, ahead = outputs[loss.output], int(number(loss.shift, depth=depth))
            piece = logits[depth - 1] if depth else logits
            scored, target = piece[:, :-ahead].flatten(0, 1), ids[:, ahead:].flatten()
            total = total + number(loss.weight, depth=depth, tokens=0) * F.cross_entropy(scored, target)
    return total


@pytest.mark.parametrize("head", HEADS)
def test_losses_and_gradients_are_those_of_the_logits(head):
    model, row = graph(head), tokens(2, 10)
    ids, targets = split(row)
    modules = {kernels: randomised(compile(model, kernels=kernels)) for kernels in ("plain", "fast")}
    modules["emitted"] = randomised(load_source(emit(model), "emitted").Stacked().initialise())
    double = randomised(compile(model)).double()
    want = by_hand(model, double, torch.cat([ids, targets[:, -1:]], 1))
    want.backward()
    for kernels, module in modules.items():
        found = module(ids, targets)["loss"]
        found.backward()
        assert found.item() == pytest.approx(want.item(), rel=1e-5), kernels
        assert furthest(gradients(module), {k: v.float() for k, v in gradients(double).items()}) < 1e-4, kernels


@pytest.mark.parametrize("head", HEADS)
def test_what_torch_counts_of_a_step_is_what_the_cost_says(head):
    assert verify(graph(head), seq=16).equal


def test_a_stack_as_the_first_output_is_predicted_as_one_value():
    """Before, `predict` handed out the list of what the copies made, and decoding could not join it."""
    graph = dsvgraph.loads("""
blocks:
  head: {in: {h: [B, T, 8]}, body: {y: {linear: h, out: 16}}, out: {logits: y}}
graph:
  in: {ids: "int[B, T]"}
  body:
    e: {embedding: ids, num: 16, dim: 8}
    back: {shift: e, by: -1}
    h: {add: [e, back]}
    heads: {head: {h: h}, repeat: 3}
  out: {logits: heads.logits}
""")
    module, row, cache = compile(graph).eval(), torch.arange(5)[None], {}
    with torch.no_grad():
        whole = module.predict(row)
        assert whole.shape == (3, 1, 5, 16) and torch.equal(whole, module(row)["logits"])
        steps = [module.predict(row[:, i : i + 1], cache=cache) for i in range(5)]
    torch.testing.assert_close(torch.cat(steps, 2), whole)
