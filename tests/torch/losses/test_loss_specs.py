"""The bundled specs of losses: what their papers say, and that they train."""

from functools import cache

import pytest

torch = pytest.importorskip("torch")

from helpers import V3, built, gradients, split, tokens  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph.build.losses.lines import number  # noqa: E402
from dsvgraph.loader import bundled  # noqa: E402
from dsvgraph.passes.lint.unused import lint  # noqa: E402

SPECS = sorted(path.stem for path in (bundled() / "losses").glob("*.yaml"))


@cache
def graph(name):
    config = dsvgraph.load(f"losses/{name}").config
    return dsvgraph.load(
        f"losses/{name}", {k: v for k, v in V3.items() if k in config and k != "num_nextn_predict_layers"}
    )


@pytest.mark.parametrize("name", SPECS)
def test_two_steps(name):
    assert lint(graph(name)) == []
    module = built(graph(name)).train()
    optimizer, found = torch.optim.AdamW(module.parameters(), lr=3e-3), []
    for _ in range(3):
        losses = module(*split(tokens(4, 17)))
        found.append(losses["loss"].item())
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert found[-1] < found[0]
    assert all(v.isfinite() for v in losses.values())


def moved(module, loss):
    """Parameters with a gradient of one loss."""
    module.zero_grad()
    loss.backward(retain_graph=True)
    return {name for name, weight in module.named_parameters() if weight.grad is not None and weight.grad.any()}


@pytest.mark.parametrize(("name", "heads"), [("eagle", ["regression.1", "mtp.2"]), ("end_to_end_tv", ["acceptance"])])
def test_a_draft_learns_and_the_model_does_not_learn_from_it(name, heads):
    module = built(graph(name))
    losses = module(*split(tokens(4, 17)))
    for head in heads:
        found = moved(module, losses[head])
        assert found and all(path.split(".")[2] in ("3", "4", "5") for path in found)  # layers beyond the model's three
    assert not any(path.split(".")[2:3] == ["3"] for path in moved(module, losses["next_token"]))


def test_end_to_end_total_variation_is_equation_13():
    """1 - (1/D) sum over j of prod over i <= j of sum_v min(p, q), by hand."""
    module = built(graph("end_to_end_tv")).double()
    ids, targets = split(tokens(2, 9))
    with torch.no_grad():
        found, out = module(ids, targets)["acceptance"], module(ids)
    p, q = out["logits"].softmax(-1), out["mtp_logits"].softmax(-1)
    total = 0
    for b in range(2):
        for i in range(8 - 2):
            a = [torch.minimum(p[b, i + k], q[k - 1, b, i]).sum() for k in (1, 2)]
            total += 1 - (a[0] + a[0] * a[1]) / 2
    assert found.item() == pytest.approx(total.item() / 12, rel=1e-12)


def test_top_is_the_papers_target():
    """Scores window - distance of the next occurrence, -inf beyond; softmax; cross-entropy (2508.19228, section 3)."""
    window, module = (
        5,
        built(dsvgraph.load("losses/top", {"hidden_size": 32, "vocab_size": 61, "top_window": 5})).double(),
    )
    row = tokens(1, 13, 6)
    with torch.no_grad():
        found, y = module(*split(row))["top"], module(row[:, :-1])["top_logits"][0].log_softmax(-1)
    total = 0
    for t in range(12):
        scores = torch.full((61,), -torch.inf, dtype=torch.double)
        for d in range(min(window, 12 - t), 0, -1):
            scores[row[0, t + d]] = window - d
        total -= (scores.softmax(-1) * y[t])[scores > -torch.inf].sum()
    assert found.item() == pytest.approx(total.item() / 12, rel=1e-12)


@cache
def curriculum(name):
    return dsvgraph.load(f"losses/{name}", {"num_nextn_predict_layers": 3, "curriculum_tokens": 4000})


def weights(name, tokens_seen):
    loss = next(loss for loss in curriculum(name).losses if loss.name == "mtp")
    return [number(loss.weight, depth=k, tokens=tokens_seen) for k in (1, 2, 3)]


def test_curricula_switch_heads_on_and_off_by_stages():
    """min(k_max, floor(e / (E / k_max)) + 1) and max(1, k_max - floor(e / (E / k_max))) heads, the next token's one
    of them (2505.22757, section 3)."""
    for tokens_seen in range(0, 4001, 125):
        stage = tokens_seen * 4 // 4000
        assert 1 + sum(weights("curriculum_forward", tokens_seen)) == min(4, stage + 1)
        assert 1 + sum(weights("curriculum_reverse", tokens_seen)) == max(1, 4 - stage)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_head_that_is_off_gets_a_gradient_of_zero(depth):
    module = built(graph("curriculum_forward")).train()
    module.tokens_seen = 1_000_000 * depth // 3  # the second head is off before two thirds
    module(*split(tokens(2, 9)))["loss"].backward()
    norms = {k: module.get_parameter(f"model.heads.{k}.norm.weight") for k in (0, 1)}  # no balance loss reaches these
    on = {k for k, weight in norms.items() if weight.grad is not None and weight.grad.any()}
    assert on == ({0, 1} if module.tokens_seen >= 666_667 else {0} if module.tokens_seen >= 333_334 else set())


def test_sampled_depths_are_all_depths_on_average():
    """Each draw trains one depth, which counts twice; both draws together are the loss and the gradient of all."""
    module, (ids, targets) = built(graph("sampled_depth")).double().train(), split(tokens(2, 9))
    with torch.no_grad():
        whole = module.eval()(ids, targets)
    assert whole["loss"].item() == pytest.approx(
        sum(whole[n].item() * w for n, w in {"next_token": 1, "mtp.1": 0.15, "mtp.2": 0.15, "balance": 1e-4}.items())
    )
    module.zero_grad()
    module(ids, targets)["loss"].backward()
    want = gradients(module)
    module.train()
    drawn = {}
    for seed in range(20):
        torch.manual_seed(seed)
        module.zero_grad()
        losses = module(ids, targets)
        losses["loss"].backward()
        drawn[round(losses["loss"].item(), 9)] = gradients(module)
    assert len(drawn) == 2 and sum(drawn) / 2 == pytest.approx(whole["loss"].item())
    first, second = drawn.values()
    for path, grad in want.items():
        torch.testing.assert_close((first[path] + second[path]) / 2, grad, rtol=1e-9, atol=1e-12)
