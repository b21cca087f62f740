"""Losses of compiled models against the report's equations, written out as loops in float64."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from helpers import SMALL, built, furthest, gradients, small, split, tokens  # noqa: E402

from dsvgraph_torch import after_step, compile, emit, expert_load  # noqa: E402
from dsvgraph_torch.emitted import load_source  # noqa: E402

MTP = ["deepseek_v3", "deepseek_v3_paper", "tutorial_mtp", "parallel_heads"]
NAMES = {name.rpartition("/")[2].removesuffix(".yaml"): name for name in SMALL}
B, T, D = 2, 9, 2  # rows, positions, depth of the chain


def by_depth(model, module, ids):
    """Logits by depth, 0 the next token's, in float64."""
    first, *further = (v.detach().double() for v in module(ids).values())
    return [first, *(further[0] if further else [])]


def by_hand(logits, row, ahead):
    """-sum log P of the token `ahead` of each position, and how many there are; -100 is none."""
    total, count = 0.0, 0
    for b in range(len(row)):
        for i in range(logits.shape[1]):
            if i + ahead < row.shape[1] and row[b, i + ahead] != -100:
                total -= logits[b, i].log_softmax(-1)[row[b, i + ahead]]
                count += 1
    return total, count


@pytest.mark.parametrize("spec", MTP)
def test_on_a_row_that_counts_the_target_of_depth_k_at_i_is_i_plus_k_plus_1(spec, monkeypatch):
    module, row, seen = built(NAMES[spec]), torch.arange(T + 1)[None], []
    plain = F.cross_entropy
    monkeypatch.setattr(F, "cross_entropy", lambda x, t, **k: seen.append((x, t)) or plain(x, t, **k))
    ids, targets = split(row)
    losses = module(ids, targets)
    outputs = by_depth(spec, module, ids)
    assert len(seen) == len(outputs) == sum(v.dim() == 0 and "." in k for k, v in losses.items()) + 1
    for depth, ((logits, target), want) in enumerate(zip(seen, outputs)):
        assert target.tolist() == [i + depth + 1 for i in range(T - depth)]
        torch.testing.assert_close(logits.double(), want[0, : T - depth], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_equations_24_and_25_with_the_papers_divisor(kernels):
    graph = small("deepseek_v3_paper")
    module = built(graph, kernels=kernels)
    row = tokens(B, T + 1)
    losses, logits = module(*split(row)), by_depth(graph, module, row[:, :-1])
    main, depths = by_hand(logits[0], row, 1)[0] / (B * T), []
    for k in range(1, D + 1):  # equation 24, 1-based: i from 2 + k to T + 1
        depths.append(-sum(
            logits[k][b, i - k - 2].log_softmax(-1)[row[b, i - 1]] for b in range(B) for i in range(2 + k, T + 2)
        ) / (B * T))  # fmt: skip
        assert losses[f"mtp.{k}"].item() == pytest.approx(depths[-1].item(), rel=1e-6)
    total = main + 0.3 / D * sum(depths) + 1e-4 * losses["balance"].double()  # equation 25
    assert losses["loss"].item() == pytest.approx(total.item(), rel=1e-6)


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@pytest.mark.parametrize("spec", MTP)
def test_the_other_divisor_is_the_number_of_targets(spec, kernels):
    graph = small(NAMES[spec])
    module, row = built(graph, kernels=kernels), tokens(B, T + 1)
    row[0, 4:6] = row[1, -1] = -100  # no targets
    ids, targets = split(row)
    ids = ids.clamp(min=0)
    losses = module(ids, targets)
    found = [v for k, v in losses.items() if k == "next_token" or "." in k]
    for depth, (loss, logits) in enumerate(zip(found, by_depth(graph, module, ids), strict=True)):
        total, count = by_hand(logits, row, depth + 1)
        assert loss.item() == pytest.approx((total / (B * T if spec.endswith("paper") else count)).item(), rel=1e-6)


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_a_row_without_targets_has_no_loss_and_no_nan(kernels):
    module, (ids, targets) = compile(small("deepseek_v3"), kernels=kernels), split(tokens(B, T + 1))
    losses = module(ids, torch.full_like(targets, -100))
    assert losses["next_token"] == losses["mtp.1"] == losses["mtp.2"] == 0
    short = module(ids[:, :1], targets[:, :1])  # shorter than the chain is deep: depths without a target
    assert short["next_token"] > 0 and short["mtp.1"] == short["mtp.2"] == 0
    short["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_losses_in_chunks_are_the_losses():
    graph, (ids, targets) = small("deepseek_v3"), split(tokens(3, 14))
    targets[0, 3] = -100
    whole, text = built(graph), emit(graph)
    assert text.count("2 ** 25 //") == 1
    namespace = load_source(text.replace("2 ** 25 //", "5 * 61 //"), "chunks")  # five rows at once
    chunks = namespace.DeepSeekV3()
    chunks.load_state_dict(whole.state_dict())
    for module in whole, chunks:
        module(ids, targets)["loss"].backward()
    assert chunks(ids, targets)["loss"].item() == pytest.approx(whole(ids, targets)["loss"].item(), rel=1e-6)
    assert furthest(gradients(chunks), gradients(whole)) < 1e-5


def test_in_training_all_logits_never_exist_at_once(monkeypatch):
    graph, largest = small("deepseek_v3"), []
    module = load_source(emit(graph).replace("2 ** 25 //", "5 * 61 //"), "chunks").DeepSeekV3().initialise()
    linear = F.linear

    def watched(x, weight, bias=None):
        y = linear(x, weight, bias)
        largest.append(y.numel() // 61 if y.shape[-1] == 61 else 0)
        return y

    monkeypatch.setattr(F, "linear", watched)
    module(*split(tokens(3, 14)))["loss"].backward()
    assert max(largest) == 5


def test_weights_are_schedules_over_tokens():
    module, batch = built("deepseek_v3"), split(tokens(B, T + 1))

    def share(tokens_seen):
        module.tokens_seen = tokens_seen
        found = module(*batch)
        rest = found["loss"] - found["next_token"] - 1e-4 * found["balance"]
        return (rest / (found["mtp.1"] + found["mtp.2"])).item()

    assert share(0) == share(10**13 - 1) == pytest.approx(0.15, rel=1e-5)
    assert share(10**13) == pytest.approx(0.05, rel=1e-5)


def test_exponentially_decaying_weights():
    found = built("tutorial_mtp", num_nextn_predict_layers=3)(*split(tokens(B, T + 1)))
    want = found["next_token"] + sum(0.3 * 0.8 ** (k - 1) * found[f"mtp.{k}"] for k in (1, 2, 3))
    assert found["loss"].item() == pytest.approx(want.item(), rel=1e-6)


# -- routers ------------------------------------------------------------------------------------------


def scores(module, ids, targets):
    """What each router gave its experts, before biases, in float64, by path."""
    found, handles = {}, []
    for path, router in module.named_modules():
        if hasattr(router, "tokens_per_expert"):

            def keep(r, x, _, path=path):
                found[path] = (x[0].double() @ r.weight.double().T).sigmoid()

            handles.append(router.register_forward_hook(keep))
    losses = module(ids, targets)
    for handle in handles:
        handle.remove()
    return losses, found


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_balance_loss_is_equations_17_to_20(kernels):
    module = built("deepseek_v3", kernels=kernels)
    losses, found = scores(module, *split(tokens(B, T + 1)))
    E, K, total = 8, 3, 0.0
    assert list(found) == ["model.layers.1.mlp.gate", "model.layers.2.mlp.gate", *MTP_GATES]
    for path, s in found.items():
        n = T - ([*MTP_GATES].index(path) + 1 if path in MTP_GATES else 0)  # positions that are no fill
        for b in range(B):
            for i in range(E):
                chosen = [s[b, t, i] >= s[b, t].sort(descending=True).values[K - 1] for t in range(n)]
                f = E / (K * n) * sum(chosen)  # equation 18
                P = sum(s[b, t, i] / s[b, t].sum() for t in range(n)) / n  # equations 19 and 20
                total += f * P / B
    assert losses["balance"].item() == pytest.approx(total.item(), rel=1e-5)


MTP_GATES = ("model.layers.3.mlp.gate", "model.layers.4.mlp.gate")


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_tokens_of_each_expert_are_counted_without_the_fill(kernels):
    module, batch = built("deepseek_v3", kernels=kernels), split(tokens(B, T + 1))
    module(*batch)
    module(batch[0])  # no losses wanted
    module.eval()(*batch)  # no training
    counted = {path: int(load.sum()) for path, load in expert_load(module).items()}
    assert counted == {
        "model.layers.1.mlp.gate": B * T * 3,
        "model.layers.2.mlp.gate": B * T * 3,
        "model.layers.3.mlp.gate": B * (T - 1) * 3,
        "model.layers.4.mlp.gate": B * (T - 2) * 3,
    }
    _, found = scores(module.train(), *batch)
    for path in found:  # the main layers' counts, choice by choice
        router = module.get_submodule(path)
        index, _ = router(router_input(module, path, batch), quiet(module))
        fill = router.fill
        want = index[:, : T - fill].flatten().bincount(minlength=8)
        assert torch.equal(router.tokens_per_expert / 2, want.float())


def router_input(module, path, batch):
    found = []
    handle = module.get_submodule(path).register_forward_pre_hook(lambda _, x: found.append(x[0]))
    with torch.no_grad():
        module(batch[0])
    handle.remove()
    return found[0]


def quiet(module):
    """A context in which nothing is counted."""
    found = []
    gate = module.get_submodule(MTP_GATES[0])
    handle = gate.register_forward_pre_hook(lambda _, x: found.append(x[1]))
    with torch.no_grad():
        module(tokens(1, 4))
    handle.remove()
    return found[0]


def test_biases_move_once_a_step_by_the_sign_of_what_is_missing():
    module, batch = built("deepseek_v3"), split(tokens(B, T + 1))
    module(*batch), module(*batch)  # accumulated
    loads = {path: load.clone() for path, load in expert_load(module).items()}
    before = {path: module.get_submodule(path).e_score_correction_bias.clone() for path in loads}
    assert len(loads) == 4 and all(load.sum() > 0 for load in loads.values())
    after_step(module)
    for path, load in loads.items():
        moved = module.get_submodule(path).e_score_correction_bias - before[path]
        torch.testing.assert_close(moved, 0.001 * (load.mean() - load).sign(), rtol=0, atol=1e-7)
        assert not expert_load(module)[path].any()
    after_step(module)  # nothing was counted since: nothing moves
    module.tokens_seen = 14.3e12
    module(*batch)
    frozen = module.get_submodule(MTP_GATES[1]).e_score_correction_bias.clone()
    after_step(module)
    assert torch.equal(module.get_submodule(MTP_GATES[1]).e_score_correction_bias, frozen)
    assert not any(load.any() for load in expert_load(module).values())


def test_biases_choose_and_do_not_weigh():
    module = built("deepseek_v3")
    router = module.get_submodule("model.layers.1.mlp.gate")
    x = torch.randn(1, 5, 32)
    with torch.no_grad():
        router.e_score_correction_bias.copy_(torch.tensor([9.0, 9, 9, 0, 0, 0, 0, 0]))
    index, score = router(x, quiet(module))
    assert (index.sort(-1).values == torch.tensor([0, 1, 2])).all()
    s = (x @ router.weight.T).sigmoid().gather(-1, index)
    torch.testing.assert_close(score, 2.5 * s / s.sum(-1, keepdim=True))
