"""Models of two rows: what reaches which position, by gradients of the real module, and the whole way of an encoder."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from helpers import randomised, tokens  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from two_rows import model, programs  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph.passes.estimate import PlanOptions, plan  # noqa: E402
from dsvgraph_torch import compile, emit  # noqa: E402
from dsvgraph_torch.emitted import load_source  # noqa: E402
from dsvgraph_torch.verification.report import verify  # noqa: E402

T, S, V = 6, 5, 13
SPEC = """
name: seq2seq
blocks:
  look:
    args: {causal: true}
    in: {x: "[B, T, 8]", y: "[B, S, 8]"}
    body:
      nx: {rms_norm: x}
      q: {linear: nx, out: [2, 4]}
      k: {linear: y, out: [1, 4]}
      v: {linear: y, out: [1, 6]}
      rq: {rope: q}
      rk: {rope: k}
      a: {attention: {q: rq, k: rk, v: v}, causal: causal}
      o: {linear: a, contract: 2, out: 8}
      s: {add: [x, o]}
    out: {x: s}
  decoder:
    in: {x: "[B, T, 8]", memory: "[B, S, 8]"}
    body:
      own: {look: {x: x, y: x}}
      other: {look: {x: own, y: memory}, causal: false}
    out: {x: other}
  step:
    in: {h: "[B, T, 8]", ids: "int[B, T]", memory: "[B, S, 8]", table: "[13, 8]"}
    body:
      next: {shift: ids, by: 1}
      e: {embedding: next, weight: table}
      sum: {add: [h, e]}
      layer: {decoder: {x: sum, memory: memory}}
      logits: {linear: layer, out: 13, weight: table}
    out: {h: layer, ids: next, logits: logits}
graph:
  in: {src: "int[B, S]", ids: "int[B, T]"}
  body:
    es: {embedding: src, num: 13, dim: 8}
    enc: {look: {x: es, y: es}, causal: false, repeat: 2}
    e: {embedding: ids, num: 13, dim: 8}
    dec: {decoder: {x: e, memory: enc}, repeat: 2}
    head: {linear: dec, out: 13}
    mtp: {step: {h: dec, ids: ids, memory: enc, table: e.weight}, repeat: 2}
  out: {logits: head, ahead: mtp.logits}
loss:
  next: {cross_entropy: logits, target: ids}
  mtp:  {cross_entropy: ahead, target: ids, shift: depth + 1, weight: 0.3}
"""


@given(programs(), st.sampled_from(["S", "T"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_position_reaches_further_than_the_graph_says(program, length, fast):
    """The gradient of position i by position j of either input is zero outside of the horizon."""
    graph = model(program.lines, program.rows["x"][-1], length)
    module = randomised(compile(graph, kernels="fast" if fast else "plain")).double()
    inputs = {"x": torch.randn(1, T, 4), "z": torch.randn(1, S if length == "S" else T, 4)}
    inputs = {name: value.double().requires_grad_() for name, value in inputs.items()}
    y_BTD = module(**inputs)["y"]
    for i in range(T):
        if not y_BTD.requires_grad:
            break  # fill alone
        found = torch.autograd.grad(y_BTD[0, i].sum(), [*inputs.values()], retain_graph=True, allow_unused=True)
        for name, grad in zip(inputs, found, strict=True):
            reached = [] if grad is None else grad[0].abs().amax(-1).nonzero().flatten().tolist()
            assert all(j - i <= graph.horizons["y"].ahead(name) for j in reached), (name, i, reached)


def by_hand(w, src, ids):
    """The same encoder and decoder, written out with torch's functions; logits of the three heads."""

    def look(x, y, path, mask):
        q = F.linear(F.rms_norm(x, (8,), w[f"{path}.nx.weight"], 1e-6), w[f"{path}.q.weight"]).unflatten(-1, (2, 4))
        k, v = (F.linear(y, w[f"{path}.{n}.weight"]) for n in "kv")
        scores = torch.einsum("bthq,bcq->bhtc", turned(q), turned(k[:, :, None])[:, :, 0]) / 2
        p = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        return x + F.linear(torch.einsum("bhtc,bcv->bthv", p, v).flatten(2), w[f"{path}.o.weight"])

    def turned(x):
        angle = torch.arange(x.shape[1])[:, None] * torch.tensor([1.0, 0.01])  # theta 10000, four wide
        pair = torch.complex(*x.chunk(2, -1)) * torch.polar(torch.ones_like(angle), angle)[:, None]
        return torch.cat([pair.real, pair.imag], -1)

    def decoder(x, path):
        lower = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        own = look(x, x, f"{path}.own", lower)
        return look(own, memory, f"{path}.other", torch.ones(x.shape[1], memory.shape[1], dtype=torch.bool))

    memory = es = w["es.weight"][src]
    for i in range(2):  # keys and values are the embeddings in both
        memory = look(memory, es, f"enc.{i}", torch.ones(es.shape[1], es.shape[1], dtype=torch.bool))
    x = w["e.weight"][ids]
    for i in range(2):
        x = decoder(x, f"dec.{i}")
    logits, row = [F.linear(x, w["head.weight"])], ids
    for i in range(2):
        row = torch.cat([row[:, 1:], torch.zeros_like(row[:, :1])], 1)
        x = decoder(x + w["e.weight"][row], f"mtp.{i}.layer")
        logits.append(F.linear(x, w["e.weight"]))
    return logits


@pytest.mark.parametrize("kernels", ["plain", "fast", "emitted"])
def test_an_encoder_and_a_decoder_with_a_chain(kernels):
    graph = dsvgraph.loads(SPEC)
    made = load_source(emit(graph, full=True), "two").Seq2seq().initialise() if kernels == "emitted" else None
    module = randomised(made or compile(graph, kernels=kernels)).double()
    src, ids, targets = tokens(2, S, V), tokens(2, T, V, seed=1), tokens(2, T, V, seed=2)
    w = {k: v.detach().clone().requires_grad_() for k, v in module.state_dict().items()}
    logits = by_hand(w, src, ids)
    found = module(src, ids)
    torch.testing.assert_close(found["logits"], logits[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found["ahead"], torch.stack(logits[1:]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(module.predict(src, ids), logits[0], rtol=1e-6, atol=1e-6)
    losses = [F.cross_entropy(x[:, : T - k].flatten(0, 1), targets[:, k:].flatten()) for k, x in enumerate(logits)]
    want = losses[0] + 0.3 * (losses[1] + losses[2])
    got = module(src, ids, targets)
    assert got["loss"].item() == pytest.approx(want.item(), rel=1e-6)
    got["loss"].backward()
    want.backward()
    for path, weight in module.named_parameters():
        torch.testing.assert_close(weight.grad, w[path].grad, rtol=1e-6, atol=1e-7)
    assert torch.equal(
        module(src, ids, labels=ids)["loss"], module(src, ids, F.pad(ids[:, 1:], (0, 1), value=-100))["loss"]
    )


def test_what_a_model_of_two_rows_refuses():
    module = compile(dsvgraph.loads(SPEC))
    src, ids = tokens(2, S, V), tokens(2, T, V)
    with pytest.raises(ValueError, match=r"found \[2, 5\] for ids \[2, 6\]"):
        module(src, ids, src)
    for name in ("documents", "positions", "cache"):
        with pytest.raises(TypeError, match=name):
            module.predict(src, ids, **{name: None})
    with pytest.raises(dsvgraph.DsvError, match="`a` looks ahead, so `seq2seq` cannot be decoded step by step"):
        plan(dsvgraph.loads(SPEC), PlanOptions(phase="decode"))
    apart = model(["n: {silu: z}", "y: {look: {x: x, y: x}}"], "y")
    with pytest.raises(dsvgraph.DsvError, match="rows of T and S positions: what decoding keeps of them is not known"):
        plan(apart, PlanOptions(phase="decode"))


def test_torch_counts_what_the_cost_says():
    assert verify(dsvgraph.loads(SPEC), seq=16).equal
