"""Any small legal sizes of the tiny model and of variants: they compile, are what was counted, and train."""

import pytest

torch = pytest.importorskip("torch")

from helpers import randomised, split, tokens  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph_torch import after_step, compile, expert_load, prove  # noqa: E402


@st.composite
def sizes(draw):
    """A config of deepseek_v3_tiny with everything that may differ, and nothing that may not."""
    upto = lambda most, least=1: draw(st.integers(least, most))  # noqa: E731
    layers, groups, each = upto(3, 0), upto(3), upto(3, 2)
    kept, dense = upto(groups), upto(layers, 0)
    return dict(
        vocab_size=upto(19, 2),
        hidden_size=upto(17),
        num_hidden_layers=layers,
        first_k_dense_replace=dense,
        num_nextn_predict_layers=upto(3, 1 if dense == layers else 0),  # the losses speak of routers: there is one
        num_attention_heads=upto(3),
        q_lora_rank=upto(9),
        kv_lora_rank=upto(9),
        qk_nope_head_dim=upto(9),
        qk_rope_head_dim=2 * upto(3),
        v_head_dim=upto(12),
        rope_interleave=draw(st.booleans()),
        intermediate_size=upto(9),
        moe_intermediate_size=upto(9),
        n_routed_experts=groups * each,
        n_shared_experts=upto(2),
        num_experts_per_tok=upto(kept * each),
        n_group=groups,
        topk_group=kept,
        norm_topk_prob=draw(st.booleans()),
        routed_scaling_factor=draw(st.sampled_from([1.0, 2.5])),
        hidden_act=draw(st.sampled_from(["silu", "gelu", "relu"])),
    )


SPECS = st.sampled_from(["deepseek_v3_tiny", "variants/hyper_connections", "variants/mtp_sum"])


@settings(max_examples=24, deadline=None, derandomize=True, database=None)
@given(
    name=SPECS, config=sizes(), rows=st.integers(1, 3), length=st.integers(1, 7),
    kernels=st.sampled_from(["plain", "fast"]),
)  # fmt: skip
def test_any_legal_sizes_compile_count_and_train(name, config, rows, length, kernels):
    graph = dsvgraph.load(name, config)
    module = randomised(compile(graph, kernels=kernels))
    assert prove(module, graph) == sum(w.numel() for w in module.state_dict().values())
    assert prove(module, graph) == dsvgraph.cost(graph).parameters.total
    vocab, depth = config["vocab_size"], config["num_nextn_predict_layers"]
    ids, targets = split(tokens(rows, length + 1, vocab))
    found = module(ids)
    assert found["logits"].shape == (rows, length, vocab)
    assert ("mtp_logits" in found) == (depth > 0)
    assert depth == 0 or found["mtp_logits"].shape == (depth, rows, length, vocab)
    torch.testing.assert_close(module.predict(ids), found["logits"])
    losses = module(ids, targets)
    assert len(losses) == 3 + depth and all(torch.as_tensor(v).isfinite() for v in losses.values())
    losses["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
    counted = [load.sum().item() for load in expert_load(module).values()]
    main = config["num_hidden_layers"] - config["first_k_dense_replace"]
    positions = [length] * main + [max(0, length - k) for k in range(1, depth + 1)]
    assert counted == [rows * n * config["num_experts_per_tok"] for n in positions]
    after_step(module)
    assert module.predict(ids).isfinite().all()
