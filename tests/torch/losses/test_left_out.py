"""Losses that weigh nothing in a step, and the copies that only they read, do not run: and nothing else changes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from helpers import V3, built, gradients, split, tokens  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph.passes.graph.optional import optional_losses, skippable_lines  # noqa: E402
from dsvgraph_torch.data.batch import Batch  # noqa: E402
from dsvgraph_torch.measuring.contenders import weigh_all  # noqa: E402
from dsvgraph_torch.optimizers.optimizer import optimizer_for  # noqa: E402
from dsvgraph_torch.training.options import TrainOptions  # noqa: E402
from dsvgraph_torch.training.step import backward, reached, take_step  # noqa: E402
from dsvgraph_torch.verification.counter import counted_step  # noqa: E402
from dsvgraph_torch.verification.step_flops import StepFlops, expected, named_depths  # noqa: E402

CPU = torch.device("cpu")
CHAIN, HEADS, REUSED = "deepseek_v3_tiny", "variants/parallel_heads", "variants/fastmtp"
MAIN = "next_token: {cross_entropy: logits, target: input_ids, shift: 1}"
DEEP = "mtp: {cross_entropy: mtp_logits, target: input_ids, shift: depth + 1, "
ROUTERS = 'balance: {sequence_balance: "**.gate", weight: 0.01}'
TRUNK = [f'balance{i}: {{sequence_balance: "model.layers.{i}.mlp.gate", weight: 0.01}}' for i in (1,)]
PARTLY = 'balance: {sequence_balance: "model.layers.3.mlp.gate", weight: 0.01}'
FORWARD = f"{DEEP}weight: 1 if step >= depth else 0}}"
CASES = {
    "chain": (CHAIN, [MAIN, FORWARD, ROUTERS]),
    "chain, routers of the trunk": (CHAIN, [MAIN, FORWARD, *TRUNK]),
    "chain, no routers": (CHAIN, [MAIN, FORWARD]),
    "chain, drawn": (CHAIN, [MAIN, f"{DEEP}weight: 0.5, sample: 1}}"]),
    "chain, one depth": (CHAIN, [MAIN, f"{DEEP}weight: (1 if step == depth else 0) / 3}}", *TRUNK]),
    "heads": (HEADS, [MAIN, FORWARD, *TRUNK]),
    "heads, drawn": (HEADS, [MAIN, f"{DEEP}weight: 1, sample: 1}}"]),
    "one module": (REUSED, [MAIN, FORWARD]),
    "two losses": (CHAIN, [MAIN, FORWARD, "z: {z_loss: mtp_logits, shift: depth + 1, weight: step // 2}"]),
    "one more": (CHAIN, [MAIN, f"{DEEP}weight: 0.3}}", "z: {z_loss: logits, weight: 0.1 if step >= 2 else 0}"]),
    "against": (CHAIN, [MAIN, "follow: {kl: mtp_logits, against: logits, shift: depth, weight: step / 2}"]),
    "end to end": (
        CHAIN,
        [MAIN, FORWARD, "all: {total_variation: mtp_logits, against: logits, shift: depth, end_to_end: true,"
         " weight: 1 if step == 2 else 0}"],
    ),
}  # fmt: skip


@cache
def graph(case: str) -> dsvgraph.Model:
    return model_of(*CASES[case])


def model_of(base: str, lines: list[str]) -> dsvgraph.Model:
    text = "\n".join([f"extends: {base}.yaml", "loss:", *(f"  {line}" for line in lines)])
    return dsvgraph.loads(
        text, {**V3, "num_nextn_predict_layers": 2, "num_hidden_layers": 2, "n_routed_experts": 4, "n_group": 2}
    )


def taken(module: torch.nn.Module, step: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Losses and gradients of a step."""
    module.train().zero_grad()
    module.steps_taken = step
    torch.manual_seed(step)
    losses = module(*split(tokens(2, 11)))
    losses["loss"].backward()
    return losses, gradients(module)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_the_whole_step(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit; a weight that the step does not reach has no gradient, or one of 0 in the whole step."""
    module, names = built(graph(case)), {name for loss in graph(case).losses for name in loss.names if loss.output}
    assert module.eval()(*split(tokens(2, 11))).keys() >= names  # evaluation computes all
    shorter = 0
    for step in range(3):
        found = taken(module, step)
        with monkeypatch.context() as patch:
            patch.setitem(type(module).forward.__globals__, "skips", lambda model, weight: False)
            whole = taken(module, step)
        assert whole[0].keys() >= names
        for name, value in found[0].items():
            assert torch.equal(value, whole[0][name]), name
        for path, value in found[1].items():
            assert torch.equal(value, whole[1][path]), path
        shorter += found[0].keys() < whole[0].keys()
    assert shorter


COUNTED = [case for case in CASES if case not in ("chain, no routers", "heads, drawn", "two losses", "one more")]


@pytest.mark.parametrize("case", COUNTED)
def test_flops_are_those_that_torch_counts(case: str) -> None:
    model, module = graph(case), built(graph(case))
    ids, targets = split(tokens(2, 13))
    flops, seen = StepFlops(model, 2, 12, "square"), set()
    for step in range(3):
        module.steps_taken = step
        torch.manual_seed(step)
        computed = module.train()(ids, targets).keys()
        torch.manual_seed(step)
        counts = counted_step(module, {"input_ids": ids}, targets, training=True)
        left_out = frozenset(
            one for loss in model.losses if loss.output for name, ones in named_depths(loss).items()
            if name not in computed for one in ones
        )  # fmt: skip
        forward, backward, _ = expected(model, 2, 12, left_out)
        assert forward == sum(n for phase, n in counts.sites.items() if not phase.backward)
        assert backward == sum(n for phase, n in counts.sites.items() if phase.backward)
        once = case == "end to end"  # an output that another loss scores is counted anyway
        assert once or (flops.saved(computed) > 0) == bool(left_out)
        seen.add(left_out)
    assert len(seen) > 1


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_weights_are_those_of_the_whole_steps(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit: momenta fall and weights decay while a loss weighs nothing, also before it ever weighed."""
    model, ids = graph("heads"), tokens(2, 12)
    options = TrainOptions(out=Path("run"), optimizer=optimizer, weight_decay=0.1)
    states = []
    for skipping in (True, False):
        module = built(model)
        chosen, batch = optimizer_for(module, options, model), Batch(*split(ids))
        with monkeypatch.context() as patch:
            if skipping:
                chosen.reached = reached(module, batch, CPU)
            else:
                patch.setitem(type(module).forward.__globals__, "skips", lambda model, weight: False)
            for step in (0, 1, 2, 0, 1):
                module.steps_taken = step
                taken = take_step(module, chosen, [batch], 1e-2, 1.0, CPU)
                assert ("mtp.2" in taken.computed[0]) == (step == 2 or not skipping)
        states.append(module.state_dict())
    for path, weight in states[0].items():
        assert torch.equal(weight, states[1][path]), path


def test_means_are_over_the_batches_that_computed_a_loss() -> None:
    module, batches, computed = built(graph("chain, drawn")).train(), [Batch(*split(tokens(2, 12)))] * 8, []
    torch.manual_seed(1)
    losses = backward(module, batches, CPU, computed=computed)
    alone = module.eval()(batches[0].inputs, batches[0].targets)
    assert 0 < sum("mtp.1" in names for names in computed) < 8
    for name in ("mtp.1", "mtp.2", "next_token"):
        assert losses[name].item() == pytest.approx(alone[name].item(), rel=1e-5)


def test_what_is_never_left_out() -> None:
    """The first cross-entropy, a constant weight, and heads of which a balance loss is over some routers alone."""
    first = [MAIN.replace("shift: 1", "shift: 1, weight: step")]
    constant = [[MAIN, f"{DEEP}weight: {weight}}}"] for weight in ("0.3 / depth", "0")]
    for lines in (first, *constant, [MAIN, FORWARD, PARTLY]):
        assert optional_losses(model_of(CHAIN, lines)) == ()


def test_a_line_that_a_balance_loss_or_an_update_is_over_runs() -> None:
    for line in (ROUTERS, 'bias: {bias_update: "**.gate", speed: 0.001}'):
        assert not skippable_lines(model_of(CHAIN, [MAIN, FORWARD, line]))


@pytest.mark.parametrize("case", ["chain", "one more"])
def test_a_measured_step_computes_all_that_is_counted(case: str) -> None:
    module = built(graph(case)).train()
    before = module(*split(tokens(2, 11))).keys()
    weigh_all(module)
    assert before < module(*split(tokens(2, 11))).keys()
