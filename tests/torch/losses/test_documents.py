"""Packed rows: every number is that of the documents alone, and `labels` are the row itself."""

import pytest

torch = pytest.importorskip("torch")

from helpers import SMALL, SPECS, V3, built, furthest, gradients, randomised, split, tokens  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph_torch import compile, expert_load  # noqa: E402

T = 16
PACKED = [[8, 9], [3, 1, 2, 11], [17]]  # tokens of the documents of each row, T + 1 together
VARIANTS = SPECS.parents[1] / "specs" / "variants"
WIRINGS = {
    "the released chain": ("deepseek_v3", V3),
    "the paper's divisor": ("deepseek_v3_paper", V3),
    "one module for all depths": (str(VARIANTS / "eagle.yaml"), V3),
    "parallel heads": (str(VARIANTS / "parallel_heads.yaml"), V3),
    "a tutorial's chain": ("tutorial_mtp", SMALL["tutorial_mtp"]),
}
BOTH_WAYS = """
name: both_ways
blocks:
  layer:
    in: {x: "[B, T, 8]"}
    body:
      r: {rope: x}                                 # positions themselves are seen, not differences alone
      q: {linear: r, out: [2, 4]}
      a: {attention: {q: q, k: q, v: q}, window: 3}
      o: {linear: a, contract: 2, out: 8}
      back: {shift: o, by: -2, fill: 1}
      y: {add: [r, back]}
    out: {x: y}
graph:
  in: {ids: "int[B, T]"}
  body:
    embed: {embedding: ids, num: 61, dim: 8}
    trunk: {layer: embed, repeat: 2}
    further: {shift: trunk, by: 2}
    late: {shift: further, by: -2}                 # fill at the end of a document, nothing ahead
    first: {linear: trunk, out: 61}
    second: {linear: late, out: 61}
  out: {first: first, second: second}
loss:
  a: {cross_entropy: first, target: ids}
  b: {cross_entropy: second, target: ids}
"""


def graph(wiring):
    return dsvgraph.load(*WIRINGS[wiring]) if wiring in WIRINGS else dsvgraph.loads(BOTH_WAYS)


def packed():
    """Ids, targets and documents of the rows."""
    rows = tokens(len(PACKED), T + 1)
    documents = torch.stack([torch.repeat_interleave(torch.arange(len(n)), torch.tensor(n)) for n in PACKED])
    return rows[:, :-1], rows[:, 1:], documents[:, :-1]


def alone():
    """Each document by itself, one row: ids, and the tokens after them, the last of which it may not have."""
    ids, targets, documents = packed()
    for row in range(len(ids)):
        for document in documents[row].unique():
            where = documents[row] == document
            after = targets[row][where].clone()
            if document != documents[row, -1]:
                after[-1] = -100
            yield ids[row][where][None], after[None]


def by_document(module, names, positions):
    """Losses by name as the mean over all documents, weighted by their targets, or by their positions."""
    sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    for ids, after in alone():
        found = module(ids, after)
        for name in names:
            ahead = int(name.rpartition(".")[2]) + 1 if "." in name else 1
            valid = after[0, ahead - 1 :] if name != "b" else after[0, : max(0, ids.shape[1] - 2)]  # it reads two on
            count = ids.numel() if positions else int((valid != -100).sum())
            sums[name], counts[name] = sums[name] + found[name] * count, counts[name] + count
    return {name: sums[name] / max(1, counts[name]) for name in names}


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@pytest.mark.parametrize("wiring", [*WIRINGS, "both ways"])
def test_losses_and_gradients_are_those_of_the_documents_alone(wiring, kernels):
    model = graph(wiring)
    modules = [randomised(compile(model, kernels=kernels)).double() for _ in range(2)]
    ids, targets, documents = packed()
    found = modules[0](ids, targets, documents=documents)
    names = [n for n in found if n not in ("loss", "balance")]
    want = by_document(modules[1], names, "divisor" in wiring)
    for name in names:
        assert found[name].item() == pytest.approx(want[name].item(), rel=1e-6), name
    sum(found[n] for n in names).backward()
    sum(want.values()).backward()
    assert furthest(gradients(modules[0]), gradients(modules[1])) < 1e-6
    apart = modules[0](ids, targets)
    assert all(abs(apart[n].item() - found[n].item()) > 1e-4 for n in names)  # documents matter


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@pytest.mark.parametrize("wiring", ["the released chain", "one module for all depths", "parallel heads"])
def test_routers_count_the_positions_of_documents_alone(wiring, kernels):
    modules = [randomised(compile(graph(wiring), kernels=kernels)).train() for _ in range(2)]
    ids, targets, documents = packed()
    modules[0](ids, targets, documents=documents)
    for row, after in alone():
        modules[1](row, after)
    packed_load, want = (expert_load(m) for m in modules)
    assert packed_load and all(torch.equal(packed_load[path], want[path]) for path in want)


def test_the_balance_of_a_row_leaves_out_the_fill_of_every_document():
    """Equations 17 to 20 over the positions that are no fill, the row being the sequence."""
    module, found = randomised(compile(graph("the released chain"))), []
    ids, targets, documents = packed()
    for path, router in module.named_modules():
        if hasattr(router, "tokens_per_expert"):
            router.register_forward_hook(
                lambda r, x, _, p=path: found.append((p, (x[0].double() @ r.weight.double().T).sigmoid()))
            )
    losses, total = module(ids, targets, documents=documents), 0.0
    for path, s in found:
        by = max(0, int(path.split(".")[2]) - 2)  # layers 3 and 4 are depths 1 and 2
        for b in range(len(ids)):
            kept = [t for t in range(T - by) if documents[b, t] == documents[b, t + by]]
            for i in range(8):
                chosen = sum(bool(s[b, t, i] >= s[b, t].sort(descending=True).values[2]) for t in kept)
                share = sum(s[b, t, i] / s[b, t].sum() for t in kept) / len(kept)
                total += 8 / (3 * len(kept)) * chosen * share / len(ids)
    assert len(found) == 4 and losses["balance"].item() == pytest.approx(total.item(), rel=1e-5)


def test_documents_without_a_target_cost_nothing():
    """A token alone has no next one; documents of two have none of depth 1."""
    module = randomised(compile(graph("the released chain"))).train()
    ids, after = tokens(1, 6), tokens(1, 6, seed=1)
    single = module(ids, after, documents=torch.arange(6)[None])
    assert [single[n].item() for n in ("mtp.1", "mtp.2")] == [0, 0] and single[
        "next_token"
    ] > 0  # the last has a target
    nothing = module(ids[:, :5], torch.full((1, 5), -100), documents=torch.arange(5)[None])
    assert nothing["next_token"] == nothing["mtp.1"] == nothing["mtp.2"] == 0
    for found in (single, nothing):
        found["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_positions_begin_anew_in_every_document_unless_they_are_given():
    module = randomised(compile(graph("both ways"))).double()
    ids, _, documents = packed()
    by_hand = torch.tensor([[i for n in lengths for i in range(n)][:T] for lengths in PACKED])
    with torch.no_grad():
        derived = module(ids, documents=documents)["first"]
        given = module(ids, documents=documents, positions=by_hand)["first"]
        on = module(ids, documents=documents, positions=torch.arange(T).expand(3, -1))["first"]
    assert torch.equal(derived, given) and not torch.allclose(derived, on)


# -- what the losses are given ------------------------------------------------------------------------


def test_labels_are_the_tokens_themselves():
    module = randomised(compile(graph("the released chain")))
    row = tokens(2, 9)
    after = torch.cat([row[:, 1:], torch.full((2, 1), -100)], 1)
    found, want = module(row, labels=row), module(row, after)
    assert all(torch.equal(found[k], want[k]) for k in want)
    masked = row.where(torch.arange(9) > 3, -100)  # a prompt that is not learned
    want = module(row, after.where(torch.arange(9) > 2, -100))
    assert module(row, labels=masked)["loss"] == want["loss"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda row: {"targets": row}, "found the ids"),
        (lambda row: {"targets": row.clone()}, "found the ids"),
        (lambda row: {"targets": row[:, 1:]}, r"found \[2, 8\] for ids \[2, 9\]"),
        (lambda row: {"targets": row.T}, r"found \[9, 2\] for ids \[2, 9\]"),
        (lambda row: {"labels": row[:, 1:]}, r"found \[2, 8\] for ids \[2, 9\]"),
        (lambda row: {"labels": row, "targets": row}, "found both"),
    ],
)
def test_what_cannot_be_the_token_after_each_position_is_refused(given, words):
    row = tokens(2, 9)
    module = compile(graph("the released chain"))
    with pytest.raises(ValueError, match=r"targets are the token after each position, row\[:, 1:\].* " + words):
        module(row, **given(row))


def test_rows_of_one_token_have_themselves_as_targets():
    row = torch.full((2, 9), 5)
    module = compile(graph("the released chain"))
    assert module(row, row.clone())["loss"].isfinite() and module(row[:, :1], row[:, 1:2])["loss"].isfinite()


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_a_number_that_comes_again_is_another_document(kernels):
    module = built("deepseek_v3_tiny", kernels=kernels)
    ids, targets = split(tokens(2, 9))
    again, others = torch.tensor([[7, 7, 0, 7, 7, 7, 3, 7]] * 2), torch.tensor([[0, 0, 1, 2, 2, 2, 3, 4]] * 2)
    one, two = (module(ids, targets, documents=documents) for documents in (again, others))
    assert all(torch.equal(one[name], two[name]) for name in one)
