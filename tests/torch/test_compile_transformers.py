"""Compiled models against transformers: checkpoints load strictly; logits and gradients are the same."""

import dsvgraph
import dsvgraph_torch
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import torch.nn.functional as F  # noqa: E402
from helpers import SPECS, built, furthest, gradients, hub_names, randomised, tokens  # noqa: E402
from transformers import modeling_layers  # noqa: E402

YARN = dict(
    type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=32, beta_slow=1, mscale=1.0,
    mscale_all_dim=1.0,
)  # fmt: skip
VARIANTS = {
    "as released": {},
    "halves rotated": dict(rope_interleave=False),
    "yarn": dict(rope_scaling=YARN, softmax_scale=48**-0.5 * (0.1 * torch.tensor(4.0).log().item() + 1) ** 2),
    "yarn, two mscales": dict(rope_scaling={**YARN, "mscale": 0.7, "mscale_all_dim": 0.0}),
    "no query rank": dict(q_lora_rank=None),
    "one group, no renormalisation": dict(n_group=1, topk_group=1, norm_topk_prob=False, n_shared_experts=2),
}


def twin(model, kind="DeepseekV3", **other):
    """The model of transformers with the sizes of a graph's config, random weights."""
    config_class = getattr(transformers, f"{kind}Config")
    known = {k: v for k, v in model.config.items() if k in config_class.__dataclass_fields__}
    if "hidden_act" in known:
        known["hidden_act"] = str(known["hidden_act"])
    scaling = model.config.get("rope_scaling") or {"type": "default"}
    rope = {"rope_type": scaling["type"], "rope_theta": 10000.0, **scaling}
    config = config_class(**{**known, "rope_parameters": rope, "max_position_embeddings": 64, **other})
    found = getattr(transformers, f"{kind}ForCausalLM")(config)
    return randomised(found.eval())


def spec(q_lora_rank=64, **config):
    """The tiny spec, or the same with the block whose query has no rank."""
    if q_lora_rank is None:
        return dsvgraph.load(str(SPECS / "full_query.yaml"), {"num_nextn_predict_layers": 0, **config})
    return dsvgraph.load("deepseek_v3_tiny", {"num_nextn_predict_layers": 0, **config})


def assert_same(ours, theirs, vocab):
    """Logits within 1e-5, the gradient of every weight within 1e-4 of its largest entry."""
    row = tokens(2, 33, vocab)
    ids, targets = row[:, :-1], row[:, 1:]
    want = theirs(ids, use_cache=False).logits
    assert (ours.predict(ids) - want).abs().max() < 1e-5
    assert (ours(ids)["logits"] - want).abs().max() < 1e-5
    F.cross_entropy(want.flatten(0, 1), targets.flatten()).backward()
    ours(ids, targets)["next_token"].backward()
    wanted = hub_names({k: p.grad for k, p in theirs.named_parameters()})
    assert furthest({k: g for k, g in gradients(ours).items() if k in wanted}, wanted) < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_deepseek_v3_loads_strictly_and_is_the_same(variant):
    model = spec(**VARIANTS[variant])
    theirs = twin(model, q_lora_rank=model.config.get("q_lora_rank"))
    ours = dsvgraph_torch.compile(model)
    ours.load_state_dict(hub_names(theirs.state_dict()), strict=True)
    assert_same(ours, theirs, 256)
