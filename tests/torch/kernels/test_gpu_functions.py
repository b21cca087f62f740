"""The functions for a GPU against the plain ones: values, gradients and counts, on random shapes.

They run on the CPU in the suite, and with ``-m gpu`` on a GPU, where products of bfloat16 take other ways.
"""

import ast

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from helpers import SMALL, built, small  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from dsvgraph_torch.kernels import choice, compiling, gpu  # noqa: E402
from dsvgraph_torch.kernels.gpu.experts import counted_rows  # noqa: E402
from dsvgraph_torch.kernels.gpu.losses import linear_cross_entropy  # noqa: E402
from dsvgraph_torch.kernels.gpu.rewriting import rewritten  # noqa: E402
from dsvgraph_torch.kernels.gpu.routing import Router, ranks, router_logits  # noqa: E402
from dsvgraph_torch.runtime import plain  # noqa: E402
from dsvgraph_torch.training.layers import repeated_layers  # noqa: E402
from dsvgraph_torch.training.options import TrainOptions  # noqa: E402

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
on_gpu = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
)
devices = pytest.mark.parametrize("device", ["cpu", on_gpu])
sizes = {"seed": st.integers(0, 99), "rows": st.integers(1, 3), "seq": st.integers(1, 9), "experts": st.integers(1, 9)}


def leaf(*shape, device="cpu", dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64).to(device, dtype).requires_grad_()


def same(ours, theirs, *inputs, **close):
    """Both functions of the inputs agree in value and in every gradient."""
    got, want = ours(*inputs), theirs(*inputs)
    torch.testing.assert_close(got, want, **(close or CLOSE))
    g = torch.randn_like(want)
    mine, others = torch.autograd.grad(got, inputs, g), torch.autograd.grad(want, inputs, g)
    for a, b in zip(mine, others, strict=True):
        torch.testing.assert_close(a, b, **(close or CLOSE))


def error(got, want):
    """The relative error of a tensor."""
    got, want = got.detach().double(), want.detach().double()
    return float((got - want).norm() / want.norm())


# -- experts ------------------------------------------------------------------------------------------


@devices
@given(top_k=st.integers(1, 4), **sizes)
@settings(max_examples=30, deadline=None)
def test_rows_go_to_experts_and_back(device, seed, rows, seq, experts, top_k):
    torch.manual_seed(seed)
    index = torch.randint(experts, (rows, seq, top_k)).to(device)  # a token may choose an expert twice
    x, score = leaf(rows, seq, 5, device=device), leaf(rows, seq, top_k, device=device)
    weight = leaf(experts, 3, 5, device=device)
    want = plain.dispatch(x, index, experts)
    got = gpu.FUNCTIONS["dispatch"](x, index, experts)
    torch.testing.assert_close(got.offsets, want.offsets)
    torch.testing.assert_close(got.inverse.view_as(want.inverse), want.inverse)
    torch.testing.assert_close(got.x, want.x, rtol=0, atol=0)

    def run(names, x, score, weight):
        sent = names["dispatch"](x, index, experts)
        return names["combine"](sent._replace(x=names["grouped"](sent.x, weight, sent.offsets)), score)

    same(lambda *t: run(gpu.FUNCTIONS, *t), lambda *t: run(vars(plain), *t), x, score, weight)


@devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_of_experts_are_those_of_float64(device, dtype):
    torch.manual_seed(0)
    x, weight = leaf(40, 16, device=device, dtype=dtype), leaf(4, 8, 16, device=device, dtype=dtype)
    offsets = torch.tensor([7, 7, 30, 40], dtype=torch.int32, device=device)
    got = gpu.FUNCTIONS["grouped"](x, weight, offsets)
    g = torch.randn_like(got)
    wide = [t.detach().double().requires_grad_() for t in (x, weight)]
    want = plain.grouped(*wide, offsets)
    pairs = [(got, want), *zip(torch.autograd.grad(got, (x, weight), g), torch.autograd.grad(want, wide, g.double()))]
    assert max(error(*pair) for pair in pairs) < (1e-6 if dtype == torch.float32 else 5e-3)


def test_rows_are_in_the_order_of_a_stable_sort():
    index = torch.tensor([[2, 0], [2, 2], [0, 2]])
    offsets, rows = counted_rows(index, 4)
    assert offsets.tolist() == [2, 2, 6, 6]
    assert rows.flatten().argsort().tolist() == index.flatten().sort(stable=True).indices.tolist()


# -- routers ------------------------------------------------------------------------------------------

ROUTERS = [
    {},
    {"score": "softmax", "normalize": False, "correction_bias": False},
    {"groups": 4, "top_groups": 2, "scaling": 2.5, "bias": True},
    {"groups": 2, "top_groups": 1, "group_score": "max", "filled": False},
    {"balanced": False},
]


def routers(options, device, dtype=torch.float64):
    """A plain router and one for a GPU, with equal weights."""
    found = [kind(6, 8, 3, **options).to(device, dtype).train() for kind in (plain.Router, Router)]
    torch.nn.init.normal_(found[0].weight)
    if options.get("bias"):
        torch.nn.init.normal_(found[0].bias)
    if found[0].corrected:
        found[0].e_score_correction_bias.normal_(0, 0.3)
    found[1].load_state_dict(found[0].state_dict())
    for router in found:
        router.fill = 2
    return found


@devices
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("options", ROUTERS)
def test_ranks_choose_what_topk_chooses(options, documents, device):
    torch.manual_seed(1)
    theirs, ours = routers(options, device)
    numbers = torch.tensor([[0, 0, 0, 1, 1, 1, 1]] * 2, device=device) if documents else None
    x, found = leaf(2, 7, 6, device=device), []
    for router, forward in ((theirs, theirs.forward), (ours, ours.by_ranks)):
        ctx = plain.Context(documents=numbers, collect=True)
        index, score = forward(x, ctx)
        index, order = index.sort(-1)
        spread = torch.arange(1.0, 4.0, dtype=torch.float64, device=device)
        value = (score.gather(-1, order) * spread).sum() + sum(ctx.balance.values())
        grads = torch.autograd.grad(value, (x, router.weight))
        found.append((index, score.gather(-1, order), router.tokens_per_expert, value, *grads))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@given(seed=st.integers(0, 99), few=st.booleans(), width=st.sampled_from([1, 5, 200]))
@settings(max_examples=20, deadline=None)
def test_ranks_are_those_of_a_stable_sort(seed, few, width):
    torch.manual_seed(seed)
    scores = torch.randint(3, (4, width)).double() if few else torch.randn(4, width)
    want = scores.argsort(dim=-1, descending=True, stable=True).argsort(-1)
    assert torch.equal(ranks(scores), want)


def test_scores_that_are_no_numbers_still_choose_an_expert():
    _, ours = routers({"groups": 4, "top_groups": 2}, "cpu")
    index, _ = ours.by_ranks(torch.full((1, 3, 6), float("nan"), dtype=torch.float64), plain.Context())
    assert int(index.min()) >= 0 and int(index.max()) < 8


@devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_of_routers_keep_the_digits_of_float32(device, dtype, monkeypatch):
    torch.manual_seed(0)
    x, weight = leaf(300, 64, device=device, dtype=torch.bfloat16), leaf(8, 64, device=device, dtype=dtype)
    got = gpu_logits(x, weight)
    g = torch.randn_like(got)
    gx, gw = torch.autograd.grad(got, (x, weight), g)
    wide = [t.detach().double().requires_grad_() for t in (x, weight)]
    want = F.linear(*wide)
    wants = torch.autograd.grad(want, wide, g.double())
    assert error(got, want) < 1e-6
    assert error(gx, wants[0]) < 3e-3  # a bfloat16 number has an error of up to 2**-9
    assert error(gw, wants[1]) < (1e-5 if dtype == torch.float32 else 3e-3)


def gpu_logits(x, weight):
    """`router_logits`, on its way for a GPU also where there is none."""
    from dsvgraph_torch.kernels.gpu.routing import NarrowLogits

    return router_logits(x, weight) if x.device.type == "cuda" else NarrowLogits.apply(x, weight)


# -- losses -------------------------------------------------------------------------------------------


@devices
@given(seed=st.integers(0, 99), rows=st.integers(1, 12), chunk=st.integers(1, 13), kept=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_the_loss_over_an_output_layer(device, seed, rows, chunk, kept):
    torch.manual_seed(seed)
    x, weight = leaf(rows, 5, device=device), leaf(7, 5, device=device)
    targets = torch.where(torch.rand(rows) < kept, torch.randint(7, (rows,)), -100).to(device)
    same(
        lambda x, w: linear_cross_entropy(x, w, targets, chunk),
        lambda x, w: F.cross_entropy(x @ w.t(), targets, reduction="sum"),
        x,
        weight,
    )
    with torch.no_grad():
        torch.testing.assert_close(
            linear_cross_entropy(x, weight, targets, chunk),
            F.cross_entropy(x @ weight.t(), targets, reduction="sum"),
            **CLOSE,
        )


# -- whole models -------------------------------------------------------------------------------------


def losses(module, model, documents=None):
    """Losses and gradients over two rows, by name, and the counts of the routers."""
    torch.manual_seed(3)
    rows = torch.randint(0, 61, (2, 13))
    found = module(rows[:, :-1], rows[:, 1:], documents=documents)
    found["loss"].backward()
    grads = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    counts = {name: b for name, b in module.named_buffers() if name.endswith("tokens_per_expert")}
    return {**{name: value.detach() for name, value in found.items()}, **grads, **counts}


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(choice, "functions", lambda device: gpu.FUNCTIONS)


EAGER = [(name, False) for name in SMALL if name not in ("deepseek_v3", "deepseek_v3_tiny")]


@pytest.mark.parametrize("name, compiled", [*EAGER, ("deepseek_v3", True), ("deepseek_v3_paper", True)])
def test_models_on_functions_for_a_gpu(name, compiled, as_on_a_gpu, monkeypatch):
    model = small(name)
    documents = torch.tensor([[0] * 5 + [1] * 7] * 2) if name == "deepseek_v3_paper" else None
    want = losses(built(model).double().train(), model, documents)
    import dsvgraph_torch

    ours = dsvgraph_torch.compile(model, kernels="fast").double().train()
    ours.load_state_dict(built(model).state_dict())
    if compiled:  # the same calls without torch.compile
        monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        compiling.compile_layers(model, repeated_layers(model, ours, ""))
    got = losses(ours, model, documents)
    assert got.keys() == want.keys()
    for key in want:
        torch.testing.assert_close(got[key], want[key], rtol=1e-7, atol=1e-9, msg=lambda m, key=key: f"{key}: {m}")


def test_layers_are_compiled_once_for_all_copies_and_without_breaks(as_on_a_gpu, monkeypatch):
    import dsvgraph_torch

    model = small("deepseek_v3", num_hidden_layers=5, num_nextn_predict_layers=2)
    module = dsvgraph_torch.compile(model, kernels="fast").train()
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **more: compile_(f, backend="eager", fullgraph=True, **more))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiling.compile_layers(model, repeated_layers(model, module, ""))
    for _ in range(2):
        losses(module, model)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3  # dense layers, those with experts, MTP modules
    torch._dynamo.reset()


# -- choice -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, cpu, cuda",
    [
        ({}, False, True),
        ({"compile": True}, True, True),
        ({"compile": False}, False, False),
        ({"checkpoint_activations": True}, False, False),
        ({"fit_memory": 2**30}, False, False),
        ({"precision": "fp8"}, False, False),
    ],
)
def test_layers_are_compiled_by_default_on_a_gpu(options, cpu, cuda):
    found = TrainOptions.given(**options)
    assert [found.compiles(torch.device(name)) for name in ("cpu", "cuda")] == [cpu, cuda]


MOE = """
class Experts(Each):
    def __init__(self):
        super().__init__()
        self.up = Linears(4, 8, 6{bias})
        self.down = Linears(4, 6, 8)

    def forward(self, x, sent):
        up = self.up(x, sent)
        act = F.relu(up){also}
        return {last}

class Moe(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = Router(8, 4, 2)
        self.experts = Experts()

    def forward(self, x, ctx):
        index, score = self.gate(x, ctx)
        sent = dispatch(x, index, 4)
        y = sent._replace(x=self.experts(sent.x, sent))
        return combine(y, score){more}
"""


@pytest.mark.parametrize(
    "change, fits",
    [
        ({}, True),
        ({"bias": ", bias=True"}, False),
        ({"also": " + x.mean()"}, False),
        ({"last": "self.down(act, sent) * 2"}, False),
        ({"last": "self.down(x, sent)"}, False),
        ({"more": " + sent.x.sum()"}, False),
        ({"more": " + y.x.sum()"}, False),
    ],
)
def test_mixtures_are_one_call_where_nothing_else_reads_what_is_sent(change, fits):
    text = MOE.format(**{"bias": "", "also": "", "last": "self.down(act, sent)", "more": "", **change})
    found = ast.unparse(ast.Module(rewritten(ast.parse(text).body), []))
    assert ("self.experts.mixture(sent, score)" in found) is fits
    assert ("dispatch" not in found) is fits
