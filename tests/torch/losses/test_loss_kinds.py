"""Every kind of loss over outputs against loops over positions in float64, and its gradients against differences."""

import math
from functools import cache

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from helpers import furthest, gradients, randomised, tokens  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph_torch import compile, verify  # noqa: E402
from dsvgraph_torch.runtime import losses as runtime  # noqa: E402

V, D, FEW = 13, 2, [3, 7, 1, 12]
SPEC = """
name: kinds
config: {d: 8, V: 13, D: 2, few: [3, 7, 1, 12]}
blocks:
  step:
    args: {d, V}
    in: {h: "[B, T, d]", ids: "int[B, T]", head: "[V, d]"}
    body:
      n: {shift: ids, by: 1}
      e: {embedding: n, num: V, dim: d}
      s: {add: [h, e]}
      m: {linear: s, out: d}
      o: {linear: m, out: V, weight: head}
      c: {linear: m, out: 1, bias: true}
    out: {h: m, ids: n, o: o, state: m, c: c}
graph:
  in: {ids: "int[B, T]"}
  body:
    e: {embedding: ids, num: V, dim: d}
    q: {linear: e, out: [2, 4]}
    a: {attention: {q: q, k: q, v: q}}
    h: {linear: a, contract: 2, out: d}
    l: {linear: h, out: V}
    m: {step: {h: h, ids: ids, head: l.weight}, repeat: D}
    top: {linear: h, out: V}
    small: {linear: h, out: 4}
    far: {shift: h, by: 2}
    back: {shift: far, by: -2}                     # nothing of ahead, but the end of a document is fill
    late: {linear: back, out: V}
    one: {linear: h, out: 1}
  out: {logits: l, deep: m.o, states: m.state, trunk: h, top: top, small: small, late: late, sure: m.c, one: one}
loss:
  plain: {cross_entropy: logits, target: ids}
  smooth: {cross_entropy: deep, target: ids, shift: depth + 1, smoothing: 0.2}
  few: {cross_entropy: small, target: ids, vocabulary: few}
  first: {cross_entropy: small, target: ids, vocabulary: 4, weight: 0}
  bag: {binary_cross_entropy: top, target: ids, shift: 2, window: 3, decay: 0.5}
  order: {listnet: top, target: ids, window: 4}
  kl: {kl: deep, against: logits, shift: depth, temperature: 2}
  self: {kl: deep, against: deep, shift: 1}
  soft: {soft_cross_entropy: deep, against: logits, shift: depth, target_gradient: true}
  tv: {total_variation: deep, against: logits, shift: depth, weight: 0.5 ** depth}
  chain: {total_variation: deep, against: logits, shift: depth, end_to_end: true}
  some: {kl: small, against: logits, vocabulary: few}
  lag: {binary_cross_entropy: late, target: ids, window: 2}
  lag_kl: {kl: late, against: logits}
  onto: {soft_cross_entropy: top, against: late, target_gradient: true}
  l1: {smooth_l1: states, against: trunk, shift: depth, beta: 0.5}
  sure: {confidence: sure, draft: deep, against: logits, shift: depth, temperature: 2}
  few_sure: {confidence: one, draft: small, against: logits, vocabulary: few}
  z: {z_loss: deep, shift: depth + 1, weight: 0.01}
"""


@cache
def model():
    return dsvgraph.loads(SPEC, name="kinds.yaml")


@cache
def module(kernels="plain"):
    return randomised(compile(model(), kernels=kernels)).double()


# -- the losses as loops ---------------------------------------------------------------------------


class Loops:
    """Losses by name as (values of the positions that count), from the outputs of a model."""

    def __init__(self, out, targets, documents):
        self.out, (self.B, self.T) = out, targets.shape
        self.targets, self.documents = targets.tolist(), documents.tolist()

    def token(self, b, i, ahead):
        """The token i + ahead, where it lies in the document of i and is a target; else nothing."""
        last = i + ahead - 1
        if last >= self.T or self.documents[b][last] != self.documents[b][i]:
            return None
        ends = last + 1 < self.T and self.documents[b][last + 1] != self.documents[b][last]
        return None if ends or self.targets[b][last] == -100 else self.targets[b][last]

    def positions(self, ahead):
        found = ((b, i, self.token(b, i, ahead)) for b in range(self.B) for i in range(self.T))
        return [(b, i, token) for b, i, token in found if token is not None]

    def windows(self, ahead, size):
        """Positions with the place of the first occurrence of each token of their window."""
        for b in range(self.B):
            for i in range(self.T):
                first = {}
                for d in range(size):
                    if (token := self.token(b, i, ahead + d)) is not None:
                        first.setdefault(token, d)
                if first:
                    yield b, i, first

    def logits(self, name, b, i, depth=0):
        return (self.out[name][depth - 1] if depth else self.out[name])[b, i]

    def pairs(self, one, other, shift, depth):
        """What is compared at each position: an output there and another further on."""
        for b, i, _ in self.positions(shift + 1):
            against = self.logits(other, b, i + shift, depth if other == "deep" else 0)
            fill = max({"deep": shift + depth, "late": shift + 2}.get(other, 0), 2 * (one == "late"))
            if self.reaches(b, i, fill):
                yield self.logits(one, b, i, depth), against

    def reaches(self, b, i, by):
        return i + by < self.T and self.documents[b][i + by] == self.documents[b][i]

    def all(self):
        yield "plain", [-self.logits("logits", b, i).log_softmax(-1)[t] for b, i, t in self.positions(1)]
        few = [(b, i, FEW.index(t)) for b, i, t in self.positions(1) if t in FEW]
        yield "few", [-self.logits("small", b, i).log_softmax(-1)[t] for b, i, t in few]
        first = [(b, i, t) for b, i, t in self.positions(1) if t < 4]
        yield "first", [-self.logits("small", b, i).log_softmax(-1)[t] for b, i, t in first]
        yield "bag", [self.bag("top", b, i, first) for b, i, first in self.windows(2, 3)]
        late = [place for place in self.windows(1, 2) if self.reaches(*place[:2], 2)]
        yield "lag", [self.bag("late", b, i, dict.fromkeys(first, 0)) for b, i, first in late]
        yield "lag_kl", [divergence(x, y) for x, y in self.pairs("late", "logits", 0, 0)]
        yield "onto", [-(y.softmax(-1) * x.log_softmax(-1)).sum() for x, y in self.pairs("top", "late", 0, 0)]
        yield "order", [self.order(b, i, first) for b, i, first in self.windows(1, 4)]
        yield "some", [divergence(x, y[FEW]) for x, y in self.pairs("small", "logits", 0, 0)]
        shared = [common(x.softmax(-1), y.softmax(-1)[FEW]) for x, y in self.pairs("small", "logits", 0, 0)]
        said = [x for x, _ in self.pairs("one", "logits", 0, 0)]
        yield "few_sure", [entropy(s, a) for s, a in zip(said, shared, strict=True)]
        yield "chain", [1 - (a + a * b) / D for a, b in self.overlaps()]
        for k in range(1, D + 1):
            yield from self.at(k)

    def at(self, k):
        """The losses of one depth."""
        ahead = [(self.logits("deep", b, i, k).log_softmax(-1), t) for b, i, t in self.positions(k + 1)]
        yield f"smooth.{k}", [-0.8 * log_p[t] - 0.2 * log_p.mean() for log_p, t in ahead]
        pairs = list(self.pairs("deep", "logits", k, k))
        yield f"kl.{k}", [4 * divergence(x / 2, y / 2) for x, y in pairs]
        yield f"soft.{k}", [-(y.softmax(-1) * x.log_softmax(-1)).sum() for x, y in pairs]
        yield f"tv.{k}", [(x.softmax(-1) - y.softmax(-1)).abs().sum() / 2 for x, y in pairs]
        shared, said = (
            [common((x / 2).softmax(-1), (y / 2).softmax(-1)) for x, y in pairs],
            self.pairs("sure", "logits", k, k),
        )
        yield f"sure.{k}", [entropy(s, a) for (s, _), a in zip(said, shared, strict=True)]
        yield f"self.{k}", [divergence(x, y) for x, y in self.pairs("deep", "deep", 1, k)]
        yield f"l1.{k}", [self.distance(x - y) for x, y in self.pairs("states", "trunk", k, k)]
        yield f"z.{k}", [self.logits("deep", b, i, k).exp().sum().log() ** 2 for b, i, _ in self.positions(k + 1)]

    def bag(self, name, b, i, first):
        p = self.logits(name, b, i).sigmoid()
        y = [0.5 ** first[v] if v in first else 0.0 for v in range(V)]
        return -sum(y[v] * p[v].log() + (1 - y[v]) * (1 - p[v]).log() for v in range(V))

    def order(self, b, i, first):
        weights = {v: math.exp(4 - d) for v, d in first.items()}
        log_p = self.logits("top", b, i).log_softmax(-1)
        return -sum(w / sum(weights.values()) * log_p[v] for v, w in weights.items())

    def overlaps(self):
        for b, i, _ in self.positions(D + 1):
            if all(self.token(b, i, k + 1) is not None for k in range(1, D + 1)):
                yield [
                    torch.minimum(
                        self.logits("deep", b, i, k).softmax(-1), self.logits("logits", b, i + k).softmax(-1)
                    ).sum()
                    for k in range(1, D + 1)
                ]

    @staticmethod
    def distance(x):
        return sum(v**2 if abs(v) < 0.5 else abs(v) - 0.25 for v in x) / len(x)


def common(p, q):
    return sum(min(a, b) for a, b in zip(p.tolist(), q.tolist(), strict=True))


def entropy(x, share):
    """The binary cross-entropy of one logit against a share."""
    return -(share * x.sigmoid().log() + (1 - share) * (1 - x.sigmoid()).log()).sum()


def divergence(x, y):
    """KL of the softmax of x from that of y."""
    return sum(p * (p.log() - q.log()) for p, q in zip(y.softmax(-1), x.softmax(-1), strict=True))


@st.composite
def batches(draw):
    """Ids, targets with some that are none, and documents."""
    rows, length = draw(st.integers(1, 2)), draw(st.integers(1, 7))
    ids = tokens(rows, length + 1, V, draw(st.integers(0, 99)))
    targets = ids[:, 1:].clone()
    none = draw(st.lists(st.booleans(), min_size=rows * length, max_size=rows * length))
    everything = draw(st.sampled_from([True, False, False]))  # no target at all
    targets[torch.tensor(none).view(rows, length) if not everything else torch.ones(rows, length, dtype=bool)] = -100
    steps = draw(st.lists(st.sampled_from([0, 0, 1]), min_size=rows * length, max_size=rows * length))
    return ids[:, :-1], targets, torch.tensor(steps).view(rows, length).cumsum(1)


@given(batches())
@settings(max_examples=12, deadline=None)
def test_losses_are_those_of_loops_over_positions(batch):
    ids, targets, documents = batch
    with torch.no_grad():
        found, out = module()(ids, targets, documents=documents), module()(ids, documents=documents)
    want = dict(Loops(out, targets, documents).all())
    assert want.keys() == found.keys() - {"loss"}
    for name, values in want.items():
        mean = float(sum(values) / len(values)) if values else 0.0
        assert found[name].item() == pytest.approx(mean, rel=1e-9, abs=1e-12), name
    weights = {"first": 0, "tv.1": 0.5, "tv.2": 0.25, "z.1": 0.01, "z.2": 0.01}
    total = sum(weights.get(name, 1) * found[name] for name in want)
    assert found["loss"].item() == pytest.approx(total.item(), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_packed_rows_have_the_losses_and_gradients_of_their_documents(kernels):
    packed, alone = (randomised(compile(model(), kernels=kernels)).double() for _ in range(2))
    ids, lengths = tokens(2, 12, V), [[5, 1, 6], [3, 9]]
    documents = torch.stack([torch.repeat_interleave(torch.arange(len(n)), torch.tensor(n)) for n in lengths])
    after = ids.roll(-1, 1)
    after[:, :-1][documents.diff() != 0] = -100  # of the last token of a document
    found = packed(ids, after, documents=documents)
    where = [(b, documents[b] == n) for b in range(2) for n in documents[b].unique()]
    rows = [(ids[b][own][None], after[b][own][None]) for b, own in where]
    losses = [alone(*row) for row in rows]
    counts = [{n: len(v) for n, v in Loops(alone(row), t, torch.zeros_like(row)).all()} for row, t in rows]
    names = counts[0].keys()
    want = {n: sum(x[n] * c[n] for x, c in zip(losses, counts)) / max(1, sum(c[n] for c in counts)) for n in names}
    for name in names:
        assert found[name].item() == pytest.approx(want[name].item(), rel=1e-9, abs=1e-12), name
        packed.zero_grad(), alone.zero_grad()
        found[name].backward(retain_graph=True), want[name].backward(retain_graph=True)
        assert furthest(gradients(packed), gradients(alone)) < 1e-9, name


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_a_batch_without_a_target_costs_nothing_and_moves_nothing(kernels):
    found = module(kernels)(tokens(2, 5, V), torch.full((2, 5), -100))
    assert {v.item() for v in found.values()} == {0.0}
    module(kernels).zero_grad()
    found["loss"].backward()
    assert all(p.grad is None or not p.grad.any() for p in module(kernels).parameters())


def test_the_flops_of_a_step_are_those_that_torch_counts():
    step = verify(model(), batch=2, seq=9).step
    assert step.equal and step.without_target < 0  # heads that several losses multiply


# -- the functions alone ---------------------------------------------------------------------------


CALLS = {
    "smoothed_cross_entropy": {"smoothing": 0.3},
    "z_loss": {},
    "binary_cross_entropy": {"window": 3, "decay": 0.7},
    "listnet": {"window": 3},
    "kl": {"temperature": 3.0},
    "soft_cross_entropy": {"temperature": 0.5},
    "total_variation": {},
    "smooth_l1": {"beta": 0.3},
}


class Whole:
    """A context of rows that are one document."""

    documents = None


def call(name, x, w, y, targets):
    factors, more = (x, w), CALLS[name]
    if name in ("kl", "soft_cross_entropy", "total_variation", "smooth_l1"):
        return getattr(runtime, name)(factors, y, targets, 1, Whole(), **more)[0]
    return getattr(runtime, name)(factors, targets, 2, Whole(), **more)[0]


@pytest.mark.parametrize("name", CALLS)
def test_gradients_are_those_of_differences_and_chunks_change_nothing(name, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    x, w, y = (torch.randn(*s, generator=generator, dtype=torch.double) for s in ((2, 5, 3), (7, 3), (2, 5, 7)))
    targets = tokens(2, 5, 7)
    targets[0, 3] = -100
    x, w, y = (v.requires_grad_() for v in (x, w, y))
    assert torch.autograd.gradcheck(lambda *v: call(name, *v, targets), (x, w, y), atol=1e-6)
    whole = call(name, x, w, y, targets)
    grads = torch.autograd.grad(whole, (x, w, y), allow_unused=True)
    monkeypatch.setattr(runtime, "CHUNK", 14)
    chunked = call(name, x, w, y, targets)
    others = torch.autograd.grad(chunked, (x, w, y), allow_unused=True)
    assert chunked.item() == pytest.approx(whole.item(), rel=1e-12)
    for one, other in zip(grads, others, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_no_more_logits_than_a_chunk_exist_at_once(monkeypatch):
    monkeypatch.setattr(runtime, "CHUNK", 3 * 7)
    rows = []
    runtime.by_rows(lambda z: rows.append(len(z)) or z.sum(-1), [(torch.zeros(10, 2), torch.zeros(7, 2))])
    assert rows == [3, 3, 3, 1]


def test_torch_has_the_same_functions():
    """The kinds that torch.nn.functional has, over all positions of one row."""
    x, y = (torch.randn(1, 6, V, generator=torch.Generator().manual_seed(s), dtype=torch.double) for s in (1, 2))
    t = tokens(1, 6, V)
    total = lambda name, *args, **more: getattr(runtime, name)(*args, Whole(), **more)[0]  # noqa: E731
    flat = (x[0], y[0])
    assert total("kl", x, y, t, 0).item() == pytest.approx(
        F.kl_div(flat[0].log_softmax(-1), flat[1].softmax(-1), reduction="sum").item()
    )
    assert total("soft_cross_entropy", x, y, t, 0).item() == pytest.approx(
        F.cross_entropy(flat[0], flat[1].softmax(-1), reduction="sum").item()
    )
    assert total("smooth_l1", x, y, t, 0, beta=0.2).item() == pytest.approx(
        F.smooth_l1_loss(*flat, reduction="none", beta=0.2).mean(-1).sum().item()
    )
    assert total("binary_cross_entropy", x, t, 1).item() == pytest.approx(
        F.binary_cross_entropy_with_logits(flat[0], F.one_hot(t[0], V).double(), reduction="sum").item()
    )
    assert total("listnet", x, t, 1).item() == pytest.approx(F.cross_entropy(flat[0], t[0], reduction="sum").item())


def test_losses_are_float32_where_products_are_bfloat16():
    """Close to those of float32, and computed in it: the distributions of a row sum to one."""
    made, ids = randomised(compile(model())), tokens(2, 9, V)
    want = made(ids[:, :-1], ids[:, 1:])
    with torch.autocast("cpu", torch.bfloat16):
        found = made(ids[:, :-1], ids[:, 1:])
    assert {name: value.dtype for name, value in found.items() if value.dtype != torch.float32} == {}
    for name, value in want.items():
        assert found[name].item() == pytest.approx(value.item(), rel=0.05, abs=0.01), name
