"""What is recomputed to fit a given memory: the cheapest of all choices, the allocator's peak, equal gradients."""

from __future__ import annotations

from itertools import product

import pytest

import dsvgraph
from dsvgraph.passes.estimate.fit import MARGIN, Fitter, Fitting, FittingOptions, fit, grouped

torch = pytest.importorskip("torch")

from dsvgraph_torch.measuring.memory import held, traced  # noqa: E402
from dsvgraph_torch.training.layers import of_fitting  # noqa: E402
from dsvgraph_torch.training.options import TrainOptions  # noqa: E402
from dsvgraph_torch.training.setup import of_state, set_up  # noqa: E402

BATCH, SEQ = 4, 48
NAME = "deepseek_v3_tiny"
CPU = torch.device("cpu")


def model(**config: int) -> dsvgraph.Model:
    return dsvgraph.load(NAME, {"num_hidden_layers": 3, "num_nextn_predict_layers": 0, **config})


def options(limit: float, **more: object) -> FittingOptions:
    given = {"batch": BATCH, "seq": SEQ, "limit": int(limit), "dtype": "float32", "fused": False, **more}
    return FittingOptions(**given)  # type: ignore[arg-type]


def every_choice(fitter: Fitter) -> list[tuple[int, int]]:
    """FLOPs and peak of all that may be recomputed, each followed through the whole step."""
    found = []
    for chosen in product(*map(fitter.choices, fitter.run.layers)):
        parts = [part for choice in chosen for part in choice]
        found.append((sum(flops for _, flops in parts), fitter.peak(path for path, _ in parts)[0]))
    return found


@pytest.mark.parametrize(
    ("config", "more"),
    [({}, {}), ({}, {"dtype": "bfloat16", "accumulated": True}), ({"num_nextn_predict_layers": 1}, {"average": True})],
)
def test_no_other_choice_fits_with_fewer_flops(config: dict[str, int], more: dict[str, object]) -> None:
    graph = model(**config)
    more = {**more, "fused": True}  # without what is left free on a CPU
    fitter = Fitter(graph, options(1, **more))
    known = every_choice(fitter)
    without, least = fitter.peak(())[0], min(peak for _, peak in known)
    assert len(known) >= 125 and least < 0.9 * without
    for share in range(11):
        limit = least + 2**11 + share * (without - least) // 10
        found = fit(graph, options(limit, **more))
        assert found.flops == min(flops for flops, peak in known if peak <= limit)
        assert found.peak == fitter.peak(found.recomputed)[0] <= limit


def test_what_cannot_fit_is_refused_with_the_least_that_can() -> None:
    graph = model()
    known = every_choice(Fitter(graph, options(1)))
    least = min(peak for _, peak in known) / (1 - MARGIN)
    with pytest.raises(dsvgraph.DsvError, match=r"does not train on 4 x 48 tokens in 0\.01863 GiB") as caught:
        fit(graph, options(20e6))
    hint = caught.value.diagnostics[0].hint
    assert hint.startswith(f"recomputing layers reaches {least / 2**30:.4g} GiB, without it ")


def test_what_fits_is_left_alone() -> None:
    found = fit(model(), options(1e9))
    assert (found.recomputed, found.flops, found.peak) == ((), 0, found.peak_without)
    assert of_fitting(found).endswith("of 0.9313 GiB, and nothing is recomputed")


def stepped(limit: int | None, dtype: str, seq: int) -> tuple[list[torch.Tensor], list[torch.Tensor], int, list[str]]:
    """Gradients, loads of experts, the allocator's peak of a step after the first, and what the run prints."""
    given = TrainOptions.given(batch=BATCH, seq=seq, fit_memory=limit, device="cpu", precision=dtype, emulate=True)
    state = set_up(model(), given, CPU, None)
    ids, targets = torch.randint(0, 256, (2, BATCH, seq), generator=torch.Generator().manual_seed(1))

    def backward() -> None:
        state.model(ids, targets)["loss"].backward()

    def step() -> None:
        backward()
        state.optimizer.step()

    state.model.train()
    backward()
    gradients = [p.grad.clone() for p in state.model.parameters() if p.grad is not None]
    loads = [m.tokens_per_expert.clone() for m in state.model.modules() if hasattr(m, "tokens_per_expert")]
    state.optimizer.zero_grad()
    step()
    return gradients, loads, traced(step, lambda: held(state.model, state.optimizer)), [*of_state(state)]


@pytest.mark.parametrize(
    ("dtype", "share", "seq", "within"), [("float32", 0.87, SEQ, 0.1), ("bfloat16", 0.9, 2 * SEQ, 0.15)]
)
def test_a_step_takes_the_predicted_peak_with_equal_gradients(
    dtype: str, share: float, seq: int, within: float
) -> None:
    """Under bfloat16 it takes less: activations are predicted as autocast keeps them."""
    without = fit(model(), options(2**40, dtype=dtype, seq=seq)).peak
    limit = int(share * without)
    chosen = fit(model(), options(limit, dtype=dtype, seq=seq))
    gradients, loads, peak, told = stepped(limit, dtype, seq)
    plain, counted, before, nothing = stepped(None, dtype, seq)
    assert peak < before and peak <= limit and peak == pytest.approx(chosen.peak, rel=within)
    assert told == [of_fitting(chosen)] and not nothing and f"{chosen.share:.1%}" in told[0]
    assert all(torch.equal(a, b) for a, b in zip(loads, counted, strict=True)) and loads
    for ours, wanted in zip(gradients, plain, strict=True):
        assert (ours - wanted).norm() <= 1e-6 * wanted.norm()


def test_layers_that_share_their_weights_are_left_alone() -> None:
    fitter = Fitter(dsvgraph.load("variants/fastmtp"), options(1))
    reused = [layer for layer in fitter.run.layers if layer.node.reused]
    assert reused and all(fitter.choices(layer) == [()] for layer in reused)


def test_paths_are_told_by_ranges() -> None:
    paths = ["model.layers.0.mlp", "model.layers.1.mlp", "model.layers.3.mlp", "model.layers.2"]
    assert dict(grouped(paths)) == {"model.layers.[0-1,3].mlp": 3, "model.layers.[2]": 1}


@pytest.mark.parametrize("other", ["checkpoint_activations", "compile"])
def test_it_goes_without_other_ways(other: str) -> None:
    with pytest.raises(dsvgraph.DsvError, match="leave out --"):
        TrainOptions.given(fit_memory=1000, **{other: True})


def test_a_fitting_is_plain_data() -> None:
    found = fit(model(), options(0.9 * fit(model(), options(2**40)).peak))
    assert Fitting(**{**found.as_dict(), "recomputed": found.recomputed}) == found
