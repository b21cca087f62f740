"""What holds of every bundled variant, so that a new one is judged without a line: it learns, sees as far as the graph
says, takes documents, and its emitted file is its module. `test_verify`, `test_decoding` and the tests of pictures go
through the variants too.
"""

from __future__ import annotations

from functools import cache

import pytest

import dsvgraph
import dsvgraph_torch
from dsvgraph.graph import LossKind, Model
from dsvgraph.loader import bundled

torch = pytest.importorskip("torch")

from helpers import built, furthest, gradients  # noqa: E402

VARIANTS = sorted(path.stem for path in (bundled() / "variants").glob("*.yaml"))
EVERY = pytest.mark.parametrize("name", VARIANTS)
SIZES = dict(
    vocab_size=16, hidden_size=32, num_hidden_layers=2, first_k_dense_replace=1, num_nextn_predict_layers=2,
    num_attention_heads=2, q_lora_rank=12, kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8,
    intermediate_size=32, moe_intermediate_size=16, n_routed_experts=4, num_experts_per_tok=2, n_group=2,
    topk_group=1, initializer_range=0.1, prompt_length=4,
)  # fmt: skip
PERIOD, T = 7, 14
AHEAD = {"L-MTP": lambda depth: 2 * depth + 1, "JTP": lambda depth: depth, "MuToR": lambda depth: depth}
"""How far ahead a depth predicts by its paper, where it is not depth + 1; not read from the graph."""
ROUNDING = 1e-9  # of logits near 1, in float64: experts that receive other rows add up in another order


@cache
def graph(name: str) -> Model:
    """A variant at sizes that train in a fraction of a second."""
    known = dsvgraph.load(f"variants/{name}").config
    return dsvgraph.load(f"variants/{name}", {key: value for key, value in SIZES.items() if key in known})


def heads(model: Model) -> dict[str, tuple[str, int, int]]:
    """Output, depth and how far ahead it predicts, for each scored head by the name of its loss."""
    ahead = AHEAD.get(model.name.rpartition(", ")[2], lambda depth: depth + 1)
    scored = [loss for loss in model.losses if loss.kind is LossKind.CROSS_ENTROPY]
    return {
        f"{loss.name}.{d}" if d else loss.name: (str(loss.output), d, ahead(d) if d else 1)
        for loss in scored
        for d in loss.depths
    }


def logits(outputs: dict[str, torch.Tensor], output: str, depth: int) -> torch.Tensor:
    return outputs[output][depth - 1] if depth else outputs[output]


# -- every depth learns its own token -----------------------------------------------------------------


@EVERY
def test_every_depth_learns_a_periodic_sequence(name: str) -> None:
    """A target that is one off at some positions, or that a mask hides, keeps a loss above zero; and each depth says
    the token that is as far ahead as its paper says, not one beside it."""
    model, rows = graph(name), (2 * torch.arange(4)[:, None] + torch.arange(T + 1)) % PERIOD
    module = dsvgraph_torch.compile(model, kernels="fast").train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-2, betas=(0.9, 0.95))
    found = heads(model)
    for _ in range(300):
        losses = module(rows[:, :-1], rows[:, 1:])
        if all(losses[loss] < 0.01 for loss in found):
            break
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        dsvgraph_torch.after_step(module)
    assert {loss: losses[loss].item() for loss in found if losses[loss] >= 0.01} == {}
    with torch.no_grad():
        outputs = module.eval()(rows[:, :-1])
    for output, depth, ahead in found.values():
        said = logits(outputs, output, depth).argmax(-1)[:, : T - ahead]
        assert torch.equal(said, rows[:, ahead:-1]), (output, depth)


# -- no head sees its target --------------------------------------------------------------------------


@EVERY
@torch.no_grad()
def test_every_head_sees_as_far_as_the_graph_says(name: str) -> None:
    """Tokens are changed one by one: the furthest that reaches a position is the horizon that the graph states."""
    model = graph(name)
    module = built(model).double().eval()
    ids = torch.randint(SIZES["vocab_size"], (2, T), generator=torch.Generator().manual_seed(0))
    changed = ids.repeat(T, 1, 1).transpose(0, 1).contiguous()  # [2, T, T]: row j has another token j
    changed += torch.eye(T, dtype=ids.dtype)
    outputs, before = module(changed.flatten(0, 1) % SIZES["vocab_size"]), module(ids)
    for output, depth, ahead in heads(model).values():
        after = logits(outputs, output, depth).unflatten(0, (2, T))
        moved = ((after - logits(before, output, depth)[:, None]).abs().amax(-1) > ROUNDING).any(0)  # [j, i]
        furthest_seen = max(j - i for j, i in moved.nonzero().tolist())
        node = model.nodes[model.outputs[output].node]
        pieces = node.copy_horizons.get(model.outputs[output].port, [])
        stated = (pieces[depth - 1] if depth else model.horizons[output]).ahead("input_ids")
        assert furthest_seen == stated < ahead, (output, depth)
    assert all(model.horizons["logits"].ahead(i) == 0 for i in model.inputs)  # what is left without heads


# -- documents ----------------------------------------------------------------------------------------


def alone(ids: torch.Tensor, targets: torch.Tensor, lengths: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each document of a row by itself: ids, and the tokens after them; that after its last one is another's."""
    found = []
    for start, end in zip([0, *torch.tensor(lengths).cumsum(0)], torch.tensor(lengths).cumsum(0), strict=False):
        after = targets[:, start:end].clone()
        if end < ids.shape[1]:
            after[:, -1] = -100
        found.append((ids[:, start:end], after))
    return found


@EVERY
def test_packed_documents_are_the_documents_alone(name: str) -> None:
    """Losses and gradients are the sum over the documents, each weighted by its targets."""
    model, lengths = graph(name), [3, 1, 6, 4]
    row = torch.randint(SIZES["vocab_size"], (1, T + 1), generator=torch.Generator().manual_seed(1))
    documents = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))[None]
    packed, apart = (built(model).double() for _ in range(2))
    found = packed(row[:, :-1], row[:, 1:], documents=documents)
    sums, counts = dict.fromkeys(heads(model), 0.0), dict.fromkeys(heads(model), 0)
    for ids, after in alone(row[:, :-1], row[:, 1:], lengths):
        losses = apart(ids, after)
        for loss, (output, _, ahead) in heads(model).items():
            vocabulary = model.type(model.outputs[output]).shape[-1]  # a draft's may be smaller
            valid = int(((after[:, ahead - 1 :] >= 0) & (after[:, ahead - 1 :] < vocabulary)).sum())
            sums[loss], counts[loss] = sums[loss] + losses[loss] * valid, counts[loss] + valid
    want = {loss: sums[loss] / max(1, counts[loss]) for loss in sums}
    for loss, value in want.items():
        assert found[loss].item() == pytest.approx(value.item(), rel=1e-6), loss
    sum(found[loss] for loss in want).backward()
    sum(want.values()).backward()
    assert furthest(gradients(packed), gradients(apart)) < 1e-6


# -- the emitted file ---------------------------------------------------------------------------------


@EVERY
@torch.no_grad()
def test_the_emitted_file_is_the_module(name: str) -> None:
    model = graph(name)
    space: dict[str, object] = {"__name__": "emitted"}
    exec(compile(dsvgraph_torch.emit(model), "emitted.py", "exec"), space)
    module = built(model).eval()
    other = space[type(module).__name__]().eval()  # type: ignore[operator]
    other.load_state_dict(module.state_dict())
    ids = torch.arange(T).remainder(SIZES["vocab_size"])[None]
    found, want = other(ids), module(ids)
    assert all(torch.equal(found[output], want[output]) for output in want)
