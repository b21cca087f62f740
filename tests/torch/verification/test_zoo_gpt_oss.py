"""gpt-oss against transformers and its published counts."""

import pytest

import dsvgraph
import dsvgraph_torch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import torch.nn.functional as F  # noqa: E402
from helpers import furthest, gradients, randomised, split, tokens  # noqa: E402

SMALL = dict(
    vocab_size=211, hidden_size=48, num_hidden_layers=4, sliding_window=6, num_attention_heads=6,
    num_key_value_heads=2, head_dim=12, intermediate_size=40, num_local_experts=8, num_experts_per_tok=3,
)  # fmt: skip
PAIR = ("gate_proj", "up_proj")


def pair(kernels="plain", **other):
    """A small gpt-oss and transformers' with the same random weights."""
    model = dsvgraph.load("gpt_oss_20b", {**SMALL, **other})
    scaling = {**model.config["rope_scaling"], "rope_theta": model.config["rope_theta"]}
    config = transformers.GptOssConfig(
        **{**SMALL, **other}, rope_parameters=scaling, max_position_embeddings=131072, attn_implementation="eager"
    )  # fmt: skip
    theirs = transformers.GptOssForCausalLM(config).eval()
    with torch.no_grad():
        for path, weight in randomised(theirs).state_dict().items():
            weight.mul_(8 if "gate_up" in path else 1)  # far enough for the clamp to cut
    ours = dsvgraph_torch.compile(model, kernels=kernels)
    ours.load_state_dict(unpacked(theirs.state_dict()), strict=True)
    return ours, theirs


def unpacked(state):
    """transformers' packed experts [E, in, out] by name; gate and up stand in turns."""
    found = {k: w for k, w in state.items() if ".experts." not in k}
    for path, weight in state.items():
        head, inside, last = path.partition(".experts.")
        if not inside:
            continue
        kind = "bias" if last.endswith("_bias") else "weight"
        for i, one in enumerate(weight):
            one = one if kind == "bias" else one.T
            parts = zip(PAIR, (one[::2], one[1::2])) if last.startswith("gate_up") else [("down_proj", one)]
            found.update({f"{head}.experts.{i}.{name}.{kind}": part for name, part in parts})
    return found


def test_counts_are_the_published_ones():
    counted = dsvgraph.cost(dsvgraph.load("gpt_oss_20b"), formulas=False).parameters
    with torch.device("meta"):
        theirs = transformers.GptOssForCausalLM(transformers.GptOssConfig(num_hidden_layers=24, num_local_experts=32))
    assert counted.total == 20_914_757_184 == sum(p.numel() for p in theirs.parameters())
    assert round(counted.total / 1e9, 2) == 20.91  # model card, table 1
    assert round(counted.active_without_embedding / 1e9, 2) == 3.61


def test_one_layer_in_two_sees_a_window():
    layers = dsvgraph.load("gpt_oss_20b").nodes["layers"].copy_graphs()
    kinds = [graph.nodes["self_attn"].copies[0].graph.nodes["attn"].op.window for _, graph in layers]
    config = transformers.GptOssConfig(num_hidden_layers=24)
    assert kinds == [128 if kind == "sliding_attention" else None for kind in config.layer_types]
    assert config.sliding_window == 128


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@pytest.mark.parametrize("other", [{}, dict(attention_bias=False, num_key_value_heads=6)], ids=["biases", "none"])
def test_logits_and_gradients_are_those_of_transformers(kernels, other):
    ours, theirs = pair(kernels, **other)
    ids, targets = split(tokens(2, 33, 211))
    want = theirs(ids, use_cache=False).logits
    assert (ours.predict(ids) - want).abs().max() < 1e-5
    F.cross_entropy(want.flatten(0, 1), targets.flatten()).backward()
    ours(ids, targets)["next_token"].backward()
    wanted = unpacked({k: p.grad for k, p in theirs.named_parameters()})
    assert furthest(gradients(ours), wanted) < 1e-4


def test_the_clamp_cuts_here():
    """Else the test above would not see a wrong limit."""
    ours, _ = pair()
    cut = []
    hook = lambda m, _, y: cut.append(float((y.abs() > 7).float().mean()))  # noqa: E731
    for layer in ours.model.layers:
        layer.mlp.experts.gate_proj.register_forward_hook(hook)
        layer.mlp.experts.up_proj.register_forward_hook(hook)
    ours.predict(tokens(2, 33, 211))
    assert min(cut) > 0.01


@torch.no_grad()
def test_greedy_generation_is_the_same_cached_and_not():
    ours, theirs = pair()
    ids = tokens(1, 5, 211)
    asked = dict(max_new_tokens=64, do_sample=False, pad_token_id=0)
    want = [theirs.generate(ids, use_cache=cached, **asked)[0].tolist() for cached in (True, False)]
    assert want[0] == want[1] and len(set(want[0][5:])) > 10
    assert greedy(ours, ids, {}) == greedy(ours, ids, None) == want[0]


def greedy(model, ids, cache):
    """The ids and 64 more, the likeliest each."""
    model, piece = model.eval(), ids
    for _ in range(64):
        last = model.predict(piece, cache)[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, last], 1)
        piece = ids if cache is None else last
    return ids[0].tolist()
