"""Tokens inserted behind those of a row (MuToR, arXiv 2505.10518), against loops over tokens, and what is refused."""

from __future__ import annotations

import math
from functools import cache

import pytest

import dsvgraph
import dsvgraph_torch
from dsvgraph.errors import DsvError
from dsvgraph.passes.graph.drafting import drafting

torch = pytest.importorskip("torch")

from helpers import randomised  # noqa: E402

from dsvgraph_torch.runs.tokens import check_embeddings  # noqa: E402

SPEC = """
config: {D: 2, V: 11}
blocks:
  register:
    in: {ids: "int[B, T]"}
    body: {none: {overwrite: ids, start: 0}, token: {embedding: none, num: 1, dim: 6}}
    out: {tokens: token}
  head:
    in: {h: "[B, T, 6]", w: "[V, 6]"}
    body: {y: {linear: h, out: V, weight: w}}
    out: {logits: y}
    args: {V}
  layer:
    args: {D}
    in: {x: "[B, T, 6]"}
    body:
      q: {linear: x, out: [1, 4]}
      k: {linear: x, out: [1, 4]}
      v: {linear: x, out: [1, 3]}
      q_rope: {rope: q, theta: 9}
      k_rope: {rope: k, theta: 9}
      a: {attention: {q: q_rope, k: k_rope, v: v}, mask: MASK}
      o: {linear: a, contract: 2, out: 6}
      y: {add: [x, o]}
    out: {x: y}
graph:
  in: {ids: "int[B, T]"}
  body:
    e: {embedding: ids, num: V, dim: 6}
    registers: {register: ids, at: r, repeat: D, tied: true}
    rows: {interleave_tokens: {x: e, inserted: registers.tokens}, ahead: AHEAD}
    h: {layer: rows}
    parts: {separate_tokens: h}
    y: {linear: parts.own, out: V}
    more: {head: {h: parts.inserted, w: y.weight}, slice: [h], repeat: D}
  out: {logits: y, more: more.logits}
loss:
  next: {cross_entropy: logits, target: ids, shift: 1}
  more: {cross_entropy: more, target: ids, shift: depth}
"""
MASK, AHEAD = "key % (D + 1) == 0 or key == query", "lane - 1"
B, T = 2, 7


@cache
def model(mask: str = MASK, ahead: str = AHEAD, depths: int = 2) -> dsvgraph.Model:
    return dsvgraph.loads(SPEC.replace("MASK", mask).replace("AHEAD", ahead), {"D": depths})


def module_of(kernels: str = "plain") -> torch.nn.Module:
    return randomised(dsvgraph_torch.compile(model(), kernels=kernels)).double().eval()


def row(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 11, (B, T), generator=torch.Generator().manual_seed(seed))


def turned(x: torch.Tensor, place: int) -> torch.Tensor:
    """A rotary encoding of one vector in halves."""
    pairs = [(x[i], x[i + 2], place * 9 ** -(i / 2)) for i in range(2)]
    first = [a * math.cos(angle) - b * math.sin(angle) for a, b, angle in pairs]
    return torch.stack([*first, *(b * math.cos(angle) + a * math.sin(angle) for a, b, angle in pairs)])


def by_hand(w: dict[str, torch.Tensor], ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of one row, and those of its registers, token by token."""
    tokens, register = [w["e.weight"][i] for i in ids], w["r.0.token.weight"][0]
    made = lambda n, x: w[f"h.{n}.weight"] @ x  # noqa: E731

    def out(x: torch.Tensor, place: int, seen: list[tuple[torch.Tensor, int]]) -> torch.Tensor:
        query = turned(made("q", x), place)
        scores = torch.stack([query @ turned(made("k", key), at) / 2 for key, at in seen]).softmax(0)
        mixed = sum(share * made("v", value) for share, (value, _) in zip(scores, seen, strict=True))
        return w["y.weight"] @ (x + w["h.o.weight"] @ mixed)

    before = lambda i: [(tokens[j], j) for j in range(i + 1)]  # noqa: E731
    own = [out(x, i, before(i)) for i, x in enumerate(tokens)]
    depths = [[out(register, i + d - 1, [*before(i), (register, i + d - 1)]) for i in range(len(ids))] for d in (1, 2)]
    return torch.stack(own), torch.stack([torch.stack(depth) for depth in depths])


@torch.no_grad()
@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_what_is_computed(kernels: str) -> None:
    module, ids = module_of(kernels), row()
    found, whole = module(ids), module.state_dict()
    for i in range(B):
        own, depths = by_hand(whole, ids[i].tolist())
        torch.testing.assert_close(found["logits"][i], own)
        torch.testing.assert_close(found["more"][:, i], depths)


@torch.no_grad()
def test_documents_are_rows_of_their_own() -> None:
    module, ids = module_of(), row()
    found = module(ids, documents=torch.tensor([[0, 0, 0, 1, 1, 1, 1]] * B))
    for first, end in ((0, 3), (3, T)):
        own, depths = by_hand(module.state_dict(), ids[0, first:end].tolist())
        torch.testing.assert_close(found["logits"][0, first:end], own)
        torch.testing.assert_close(found["more"][:, 0, first:end], depths)


@torch.no_grad()
def test_prediction_leaves_them_out() -> None:
    """Step by step and over whole rows the logits are those of a model that has no registers at all."""
    module, ids, kept = module_of(), row(), dict[object, torch.Tensor]()
    plain = dsvgraph_torch.compile(model(depths=0)).double()
    plain.load_state_dict({k: v for k, v in module.state_dict().items() if not k.startswith("r.")})
    want = plain(ids)["logits"]
    steps = torch.cat([module.predict(ids[:, i : i + 1], kept) for i in range(T)], 1)
    for found in (module(ids)["logits"], module.predict(ids), steps):
        torch.testing.assert_close(found, want)
    assert {kept[key].shape[1] for key in kept} == {T}  # one place for each token


def test_what_it_costs() -> None:
    """Training has three rows for each token; what is left at inference is the model without registers."""
    found, alone = (dsvgraph.cost(model(depths=d), 1, T, formulas=False) for d in (2, 0))
    assert found.flops.inference_forward == alone.flops.forward
    assert found.kv_cache == alone.kv_cache
    assert found.parameters.inference == alone.parameters.total == found.parameters.total - 6
    squares = 3 * 3 * T * T * (4 + 3)  # a causal mask of rows three times as long
    assert found.flops.forward == 3 * T * 2 * 6 * (4 + 4 + 3 + 3 + 11) + squares


REFUSED = {
    "a token sees a register": (dict(mask="key <= query"), "does not keep the row's own tokens as they are"),
    "a token does not see all": (dict(mask="key % 3 == 0 and query - key < 6"), "does not keep the row's own tokens"),
    "a register ahead by a half": (dict(ahead="lane / 2"), "`ahead` is a whole number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    changed, words = REFUSED[name]
    with pytest.raises(DsvError, match=words.replace("`", ".")):
        model(**changed)


def test_a_register_that_sees_its_target_is_a_leak() -> None:
    """The next token is two places behind the first register, and one token ahead: the leak is counted in tokens."""
    text = SPEC.replace("v: v}, mask: MASK", "v: v}, causal: false, mask: MASK").replace("AHEAD", AHEAD)
    mask = "key % 3 == 0 and key <= query or query % 3 > 0 and key == query + 2"
    with pytest.raises(DsvError, match=r"label leak: `more` at depth 1 predicts token i \+ 1, but .* up to i \+ 1"):
        dsvgraph.loads(text.replace("MASK", mask))


@pytest.mark.parametrize(
    ("line", "other", "words"),
    [
        ("y: {linear: parts.own, out: V}", "y: {linear: s, out: V}", "first output, `logits`, is made of inserted"),
        ("h: {layer: rows}", "h: {shift: rows}", "`shift` does not keep the row's own tokens as they are"),
        ("parts: {separate_tokens: h}", "parts: {separate_tokens: e}", "no row with inserted tokens"),
    ],
)
def test_where_inserted_tokens_may_not_be(line: str, other: str, words: str) -> None:
    text = SPEC.replace("MASK", MASK).replace("AHEAD", AHEAD)
    added = 's: {einsum: parts.inserted, equation: "n b t d -> b t d"}\n    ' if "linear: s" in other else ""
    with pytest.raises(DsvError, match=words):
        dsvgraph.loads(text.replace(line, added + other))


def test_the_table_of_registers_has_one_row() -> None:
    """No token of the text reaches it: ids are all overwritten before."""
    check_embeddings(model(), 11)
    with pytest.raises(DsvError, match="`e` has 11 rows"):
        check_embeddings(model(), 12)


def test_they_cannot_draft() -> None:
    with pytest.raises(DsvError, match="so it cannot draft"):
        drafting(model())
