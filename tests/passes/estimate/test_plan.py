"""Plans against published figures, hand-made sums, and the counts of `cost`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.passes.count.cost import cost
from dsvgraph.passes.count.quantity import plain
from dsvgraph.passes.estimate import Plan, PlanOptions, device, devices, expected_tokens, plan

H800_TOKENS = 272.8e9 / 86400 / 2048  # tokens a day on 2,048 GPUs: arXiv 2505.09343, table 4
SPECS = ["deepseek_v3", "deepseek_v3_tiny", "tutorial_mtp", "llama3_8b", "gpt_oss_20b", "variants/hyper_connections"]


def planned(name: str, config: dict[str, int] | None = None, **options: object) -> Plan:
    return plan(loaded(name, tuple((config or {}).items())), PlanOptions(**options))  # type: ignore[arg-type]


@cache
def loaded(name: str, config: tuple[tuple[str, int], ...] = ()) -> dsvgraph.Model:
    return dsvgraph.load(name, dict(config))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("attention", ["causal", "full"])
def test_work_adds_up_to_the_cost(name: str, attention: str) -> None:
    model = loaded(name)
    flops = cost(model, 2, 384, attention, formulas=False).flops  # type: ignore[arg-type]
    train = planned(name, batch=2, seq=384, attention=attention)
    prefill = planned(name, phase="prefill", batch=2, seq=384, attention=attention)
    assert (train.flops.forward.value, train.flops.backward.value) == pytest.approx((flops.forward, flops.backward))
    assert prefill.flops.forward.value == pytest.approx(flops.inference_forward)
    assert sum(one.parameters for one in train.op_costs) == cost(model, formulas=False).parameters.total


def test_hours_and_mfu_of_deepseek_v3() -> None:
    """arXiv 2412.19437: 180 K H800 hours per trillion tokens, 2664 K for 14.8 T; 2505.09343: 38.94 and 43.73 %."""
    given = {"device": device("h800"), "tokens": 14.8e12}
    main = {"num_nextn_predict_layers": 0}  # the published FLOPs are of the main model
    published = planned("deepseek_v3", main, rate=1e12 / 180e3 / 3600, **given).run
    assert published and published.device_hours and published.device_hours.value == pytest.approx(2664e3)
    causal = planned("deepseek_v3", main, rate=H800_TOKENS, **given).run
    full = planned("deepseek_v3", main, rate=H800_TOKENS, attention="full", **given).run
    assert causal and full
    assert causal.mfu.value == pytest.approx(0.3894, abs=0.001)
    assert full.mfu.value == pytest.approx(0.4373, abs=0.001)
    back = planned("deepseek_v3", main, mfu=causal.mfu.value, **given).run
    assert back and back.tokens_per_second.value == pytest.approx(H800_TOKENS)


def test_flops_per_token_of_deepseek_v3() -> None:
    """250.46 GFLOP per token with half of the square, 281.16 with all of it; a depth of MTP adds 10.19."""
    per_token = {
        (depth, attention): planned("deepseek_v3", {"num_nextn_predict_layers": depth}, attention=attention)
        for depth in (0, 1)
        for attention in ("causal", "full")
    }
    giga = {key: found.flops.model_per_token.value / 1e9 for key, found in per_token.items()}
    assert round(giga[0, "causal"], 2) == 250.46
    assert round(giga[0, "full"], 2) == 281.16
    assert round(giga[1, "causal"] - giga[0, "causal"], 2) == 10.19


@pytest.mark.parametrize(("name", "cache"), [("deepseek_v3", 70_272), ("deepseek_v2_lite", 31_104)])
def test_cache_per_token(name: str, cache: int) -> None:
    """arXiv 2505.09343, table 1; facts of the released configurations."""
    memory = planned(name, phase="decode", batch=3, context=1000).memory
    assert (memory.cache_per_token.value, memory.cache.value) == (cache, 3000 * cache)  # type: ignore[union-attr]


def test_drafting_keeps_a_layer_more() -> None:
    memory = planned("deepseek_v3", phase="decode", drafting=True).memory
    assert memory.cache_per_token.value == 71_424  # type: ignore[union-attr]


def test_decoding_by_hand() -> None:
    """Per query, cached key and head: 192 + 128 multiply-adds as written, 576 + 512 absorbed (DeepSeek-V2, 2.1)."""
    context = 4096
    model = loaded("deepseek_v3")
    linear = cost(model, 1, 1, "full", formulas=False).flops.inference_forward - 61 * 2 * 128 * 320
    absorbed = planned("deepseek_v3", phase="decode", context=context)
    assert absorbed.flops.forward.value == linear + 61 * 2 * 128 * context * 1088
    written = planned("deepseek_v3", phase="decode", context=context, attention="full")
    again = 61 * 2 * (context - 1) * 512 * 128 * 256  # keys and values of the whole context from its latents
    assert written.flops.forward.value == linear + again + 61 * 2 * 128 * context * 320
    same = [planned("llama3_8b", phase="decode", attention=a).flops for a in ("absorbed", "full")]
    assert same[0] == same[1]  # nothing stands between this cache and its attention


def test_bytes_of_decoding_by_hand() -> None:
    """One row of Llama 3 8B reads every weight but the table, and the cache; what else moves is small."""
    context, weights, cache = 8192, 8_030_261_248 - 128256 * 4096, 2 * 32 * 8 * 128
    found = planned("llama3_8b", phase="decode", context=context).flops
    assert found.bytes.value == pytest.approx(2 * (weights + context * cache), rel=0.001)
    eight = planned("llama3_8b", phase="decode", context=context, dtype="float8").flops
    assert eight.bytes.value == pytest.approx(weights + 2 * context * cache, rel=0.001)  # a cache stays in 16 bits
    one, many = (planned("mixtral_8x7b", phase="decode", batch=n, context=1).flops.bytes.value for n in (1, 64))
    assert one == pytest.approx(2 * 12.75e9, rel=0.01)  # two experts of eight: its active weights
    assert many == pytest.approx(2 * 46.57e9, rel=0.01)  # all of them


def test_a_window_is_all_that_is_kept() -> None:
    """Of 24 layers of 2 x 8 x 64 numbers, twelve keep the last 128 tokens."""
    for context in (100, 5000):
        memory = planned("gpt_oss_20b", phase="decode", batch=2, context=context).memory
        token = 2 * 2 * 8 * 64
        assert memory.cache.value == 2 * token * 12 * (context + min(context, 128))  # type: ignore[union-attr]
        assert memory.cache_without_windows.value == 2 * token * 24 * context  # type: ignore[union-attr]


def test_a_window_is_all_that_is_read() -> None:
    near, far = (planned("gpt_oss_20b", phase="decode", context=n).flops.forward.value for n in (1128, 2128))
    assert far - near == 12 * 2 * 64 * 1000 * 128  # every second of 24 layers sees 128 tokens alone


def test_expected_tokens() -> None:
    for a, k in ((0.85, 1), (0.6, 3), (0.0, 2)):
        assert expected_tokens(a, k) == pytest.approx((1 - a ** (k + 1)) / (1 - a))
    assert expected_tokens(1.0, 3) == 4
    found = planned("deepseek_v3", phase="decode", drafting=True, device=device("h200"), context=4096)
    best = next(draft for draft in found.drafts if draft.acceptance == 0.9)
    assert best.tokens_per_step.value == pytest.approx(1.9)  # 1.85 to 1.90 is the ceiling of one depth
    assert best.speedup and 1.0 < best.speedup.value < 1.9


def test_roofline_by_hand() -> None:
    found = planned("llama3_8b", phase="decode", batch=1, context=1, device=device("h200")).roofline
    assert found and found.seconds.value == pytest.approx(2 * 7.505e9 / 4.8e12, rel=0.001)  # weights over bandwidth
    assert found.seconds_moving.value > 100 * found.seconds_computing.value and found.fits
    many = planned("llama3_8b", phase="prefill", batch=8, seq=4096, device=device("h200")).roofline
    assert many and many.seconds_computing.value > many.seconds_moving.value and 0.8 < many.mfu.value <= 1


ADDED = ("parameters", "forward", "backward", "bytes", "weights", "cache", "seconds")
RUNS = [
    ("train", {}),
    ("train", {"recompute": "full"}),
    ("prefill", {}),
    ("decode", {"drafting": True}),
    ("decode", {}),
]


@pytest.mark.parametrize("name", ["deepseek_v3", "variants/eagle", "gpt_oss_20b", "variants/hyper_connections"])
def test_parts_add_up_to_the_unit(name: str) -> None:
    model, h200 = loaded(name), device("h200")
    for phase, more in RUNS:
        if "drafting" in more and not model.depths:
            continue
        found = plan(model, PlanOptions(phase=phase, batch=3, seq=300, device=h200, **more))  # type: ignore[arg-type]
        assert found.roofline
        whole = {**plain(found.flops), **plain(found.memory), "seconds": found.roofline.seconds.value}
        for what in ("role", "block", "path"):
            parts = found.by(what, h200)
            sums = {key: sum(plain(part)[key] for part in parts) for key in ADDED}
            assert sums.pop("parameters") == (found.memory.weights.value // (4 if phase == "train" else 2))
            assert sums == pytest.approx({key: whole.get(key, 0) for key in sums}, rel=1e-12)
            assert sum(part.gradients for part in parts) == whole.get("gradients", 0)
            kept = "activations_checkpointed" if more.get("recompute") else "activations"
            assert sum(part.activations.value for part in parts) == whole.get(kept, 0)


def test_activations_by_hand() -> None:
    """Under autocast a lookup keeps 64-bit ids, the head its input: in 16 bits, or as it came where logits are chunks.

    A checkpoint keeps a layer's input.
    """
    for seq, width in ((64, 2), (4096, 4)):
        found = planned("llama3_8b", phase="train", seq=seq).by("role")
        parts = {part.name: part.activations.formula for part in found}
        assert (parts["embedding"], parts["head"]) == ("8*B*T", f"{width * 4096}*B*T")
    rows = {part.name: part for part in planned("llama3_8b", phase="train", recompute="full").by("path")}
    assert rows["model.layers.[0-31]"].activations.formula == f"{32 * 4 * 4096}*B*T"


def test_parts_by_role() -> None:
    roles = {part.name: part for part in planned("deepseek_v3").by("role")}
    assert roles["experts"].parameters == 58 * 256 * 3 * 7168 * 2048
    assert roles["head"].parameters == 129280 * 7168
    assert roles["extra heads"].parameters == 11_610_068_224
    decoding = planned("deepseek_v3", phase="decode", batch=2, context=1000)
    assert {p.name: p.cache.value for p in decoding.by("role") if p.cache.value} == {"attention": 2 * 1000 * 70_272}


def test_frozen_weights_have_no_gradients_in_their_part() -> None:
    found = plan(dsvgraph.loads("extends: gpt_oss_20b.yaml\ntrained:\n  model.layers.3.**: false\n"))
    layer = (20_914_757_184 - 2 * 201088 * 2880 - 2880) // 24
    untrained = sum(part.parameters - part.trained for part in found.by("path"))
    assert untrained == layer
    assert (
        sum(part.gradients for part in found.by("block"))
        == found.memory.gradients.value
        == 4 * (20_914_757_184 - layer)
    )


@pytest.mark.parametrize("name", SPECS)
def test_formulas_give_the_numbers(name: str) -> None:
    model, on, sizes = loaded(name), device("h200"), {"B": 3, "T": 300, "C": 1000}
    for phase in ("train", "prefill", "decode"):
        decode = {"context": 1000, "drafting": model.depths > 0} if phase == "decode" else {}
        share = {"rate": 20.0} if phase == "prefill" else {"mfu": 0.4, "tokens": 1e12}
        found = plan(model, PlanOptions(phase, 3, 300, device=on, **decode, **share))  # type: ignore[arg-type]
        whole = [found.flops, found.memory, found.roofline, found.run]
        for part in [*whole, *found.drafts, *found.by("role", on), *found.by("block", on)]:
            sizes["a"] = getattr(part, "acceptance", 0.0)
            data = plain(part)
            told = {key.removesuffix("_formula"): text for key, text in data.items() if key.endswith("_formula")}
            for key, text in told.items():
                assert (text is None) == (data[key] is None), key
                assert text is None or eval(text, dict(sizes)) == pytest.approx(data[key], rel=1e-12), (key, text)
            if part in whole:
                numbers = {key for key, value in data.items() if type(value) in (int, float)}
                assert numbers - {"peak_flops", "bandwidth", "tokens"} == {key for key in told if told[key] is not None}


def test_the_peak_is_told_with_its_place() -> None:
    """As long as it is there, the formula holds for other numbers of rows and tokens too."""
    small, *others = [{"B": 8, "T": 64}, {"B": 2, "T": 512}, {"B": 5, "T": 300}]
    told = planned("deepseek_v3_tiny", batch=8, seq=64).memory
    assert (told.peak_at, told.peak_checkpointed_at) == ("losses", "model.layers.1")
    assert eval(told.peak.formula, dict(small)) == told.peak.value
    for sizes in others:
        found = planned("deepseek_v3_tiny", batch=sizes["B"], seq=sizes["T"]).memory
        assert eval(told.peak.formula, dict(sizes)) == found.peak.value
        # from another place it is larger: what is told at one place is no more than the peak
        assert eval(told.peak_checkpointed.formula, dict(sizes)) <= found.peak_checkpointed.value
    assert planned("deepseek_v3").memory.peak_at == "model.embed_tokens"  # all gradients are there


def test_recomputation_moves_and_computes_again() -> None:
    once, again = (planned("deepseek_v3_tiny", recompute=r).flops for r in ("none", "full"))
    assert again.total.value - once.total.value == once.forward.value == again.recomputed.value
    assert again.bytes.value > once.bytes.value and again.model_per_token == once.model_per_token


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float8"}, "float32 or bfloat16"),
        ({"attention": "absorbed"}, "a way of decoding"),
        ({"mfu": 0.4}, "need a device"),
        ({"context": 8192}, "what decoding has in its cache"),
        ({"phase": "prefill", "recompute": "full"}, "nothing to recompute"),
        ({"tokens": 1e12, "device": device("h100")}, "--mfu or --tokens-per-second"),
        ({"phase": "decode", "dtype": "float8", "device": device("a100")}, "no peak rate for float8"),
    ],
)
def test_what_does_not_fit(options: dict[str, object], words: str) -> None:
    with pytest.raises(DsvError, match=words):
        planned("deepseek_v3_tiny", **options)


def test_no_heads_to_draft_with() -> None:
    for phase in ("prefill", "decode"):
        with pytest.raises(DsvError, match="no heads to draft with"):
            planned("llama3_8b", phase=phase, drafting=True)


def test_devices(tmp_path: Path) -> None:
    assert {"h100", "h200", "h800", "a100", "b200"} <= devices().keys()
    assert all(found.source for found in devices().values())
    mine = tmp_path / "mine.yaml"
    mine.write_text("mine: {flops: {bfloat16: 1e15}, bandwidth: 2e12, memory: 64e9}\n", encoding="utf-8")
    assert device(str(mine)).peak("bfloat16") == 1e15
    mine.write_text("mine: {flops: {bfloat16: fast}, bandwidth: 2e12, memory: 64e9}\n", encoding="utf-8")
    with pytest.raises(DsvError, match="not of the form"):
        device(str(mine))
    with pytest.raises(DsvError, match="no device is called `h10`"):
        device("h10")


D, HEADS, WORDS, LAYERS = 7168, 128, 129280, 61  # DeepSeek-V3
DEPTHS = [0, 3]


@pytest.mark.parametrize("depth", DEPTHS)
def test_megatrons_formula(depth: int) -> None:
    """Megatron-LM's num_floating_point_operations: no router, and of the norms only the latents' and MTP's three."""
    seq = 4096
    query = 1536 * (D + HEADS * 192 + 1)
    latent = 512 * (D + HEADS * 256 + 1) + D * 64
    attention = query + latent + HEADS * 128 * D + seq * HEADS * (192 + 128) / 2
    dense, experts = 3 * D * 18432, 3 * D * 2048 * (8 + 1)
    layers = (LAYERS + depth) * attention + 3 * dense + (LAYERS - 3 + depth) * experts
    megatron = 6 * (layers + depth * (3 * D + 2 * D * D) + D * WORDS * (depth + 1))
    ours = planned("deepseek_v3", {"num_nextn_predict_layers": depth}).flops.model_per_token.value
    routers = 6 * (LAYERS - 3 + depth) * 256 * D
    gains = 6 * D * (2 * (LAYERS + depth) + 1)  # of each layer's two norms and of the final one
    assert ours - megatron == routers + gains


@pytest.mark.parametrize("depth", DEPTHS)
def test_torchtitans_formula(depth: int) -> None:
    """torchtitan: 6 (N - embedding) with K of E experts, and the full square; one head and no square for MTP layers."""
    seq = 4096
    counts = cost(dsvgraph.load("deepseek_v3", {"num_nextn_predict_layers": depth}), formulas=False).parameters
    biases = 256 * (LAYERS - 3 + depth)
    torchtitan = 6 * (counts.active_all_outputs - D * WORDS - biases) + 6 * LAYERS * HEADS * (192 + 128) * seq
    ours = planned("deepseek_v3", {"num_nextn_predict_layers": depth}, attention="full").flops.model_per_token.value
    assert ours - torchtitan == depth * (6 * D * WORDS + 6 * HEADS * (192 + 128) * seq)
