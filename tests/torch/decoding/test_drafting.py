"""Drafting with a model's own heads: the same text, the same distribution, what is refused; rows of other lengths."""

from __future__ import annotations

import pytest

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph.passes.graph.drafting import drafting

torch = pytest.importorskip("torch")
scipy_stats = pytest.importorskip("scipy.stats")

import decodes  # noqa: E402
from test_decoding import SMALL, small  # noqa: E402

from dsvgraph.loader import bundled  # noqa: E402
from dsvgraph_torch.decoding import absorbed  # noqa: E402
from dsvgraph_torch.decoding.heads import Heads  # noqa: E402
from dsvgraph_torch.decoding.rows import Rows  # noqa: E402
from dsvgraph_torch.decoding.sampling import Sampler, Sampling  # noqa: E402

GREEDY = Sampling(temperature=0)
PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [9, 8, 7], [5], [30, 31, 32, 33, 34]]
SIZES = SMALL | {"num_hidden_layers": 4}
BUNDLED = ("fastmtp", "eagle3", "jtp", "l_mtp", "hyper_connections")
VARIANTS = ["deepseek_v3_tiny", "its own vocabulary", *(f"variants/{name}" for name in BUNDLED)]


OWN_VOCABULARY = """
extends: variants/eagle3.yaml
config: {{draft_vocab_size: {count}}}
loss:
  next_token: {{cross_entropy: logits, target: input_ids, shift: 1}}
  mtp: {{kl: mtp_logits, against: logits, shift: depth, vocabulary: {ids}}}
"""


def own_vocabulary(size=61):
    """A model whose heads follow the divergence from its own output, over half of its tokens in no order."""
    ids = torch.randperm(size, generator=torch.Generator().manual_seed(2))[: size // 2 + 1].tolist()
    text = OWN_VOCABULARY.format(count=len(ids), ids=ids)
    names = dsvgraph.loads(text).config
    return dsvgraph.loads(text, {k: v for k, v in SIZES.items() if k in names} | {"vocab_size": size})


def of(name, **settings):
    """A small model of a bundled spec, and its module in float64, ready to decode."""
    if name == "its own vocabulary":
        model = own_vocabulary(settings.get("vocab_size", 61))
    else:
        model = small(bundled() / f"{name}.yaml", num_hidden_layers=2, **settings)
    return model, decodes.module_of(model, kernels="decoding")


def texts(module, prompts, tokens, heads=None, context=500, sampling=GREEDY):
    """The tokens that follow each prompt, and the rows in the end."""
    rows = Rows(module, prompts, tokens, context, Sampler(sampling, len(prompts)), 61, heads)
    found = [[] for _ in prompts]
    for row, new in rows.run():
        found[row] += new
    return found, rows


def greedy(module, prompt, tokens, context):
    """The likeliest tokens by whole rows, without a cache: the judge."""
    window, found = list(prompt), []
    with torch.no_grad():
        for _ in range(tokens):
            found.append(int(module.predict(torch.tensor([window]))[0, -1].argmax()))
            window.append(found[-1])
            window = window if len(window) <= context else window[-(context // 2) :]
    return found


@pytest.mark.parametrize("name", VARIANTS)
def test_greedy_text_is_the_same(name):
    """With drafts and without, of rows alone and beside others of other lengths, and across a full context."""
    model, module = of(name)
    want = [greedy(module, prompt, 9, 12) for prompt in PROMPTS]
    assert texts(module, PROMPTS, 9, context=12)[0] == want
    most = drafting(model).count
    for count, reuse in ((most, False), (most + 1, True)):
        try:
            heads = Heads(module, drafting(model, count, reuse))
        except DsvError as error:
            assert reuse and "side by side" in error.diagnostics[0].message
            continue
        assert texts(module, PROMPTS, 9, heads, 12)[0] == want
        assert texts(module, PROMPTS[:1], 9, heads, 12)[0] == want[:1]


class Watched(Heads):
    """Remembers the logits that drafts were drawn from, with the tokens that they were made of."""

    def draft(self, ids_BC, read_B, *more):
        self.logits_of_step, self.seen = [], getattr(self, "seen", [])
        drafted = super().draft(ids_BC, read_B, *more)
        for b, read in enumerate(read_B.tolist()):
            row, ids = ids_BC[b, : read + 1].tolist(), drafted.ids_BK[b].tolist()
            self.seen.append((row, ids, [logits_BV[b] for logits_BV in self.logits_of_step]))
        return drafted

    def logits(self, *given):
        self.logits_of_step.append(super().logits(*given))
        return self.logits_of_step[-1]


@pytest.mark.parametrize("name", ["deepseek_v3_tiny", "its own vocabulary", "variants/fastmtp", "variants/l_mtp"])
def test_drafts_are_what_the_heads_say_of_the_whole_row(name):
    """Each draft's logits against the forward of the row with the drafts before it: no stale entry, no shift by one."""
    model, module = of(name, num_nextn_predict_layers=3)
    heads = Watched(module, drafting(model))
    texts(module, PROMPTS[:2], 8, heads)
    drafts = [draft for stage in heads.drafting.drafts for draft in stage]
    compared = 0
    for row, ids, logits in heads.seen:
        for number, (draft, found) in enumerate(zip(drafts, logits, strict=True)):
            at = len(row) - 2 - draft.back
            if at < 0:
                continue
            whole = torch.tensor([[*row, *ids[:number], *[0] * 9]])  # behind what is known, anything
            with torch.no_grad():
                want = module(whole)["mtp_logits"][draft.drafter.depth - 1, 0, at]
            if ids_of_logits := draft.drafter.vocabulary:
                want = torch.full_like(found, -torch.inf).index_copy_(0, torch.tensor(ids_of_logits), want)
            torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-9)
            compared += 1
    assert compared > 20


def test_the_cache_holds_what_cost_counts():
    for name in ("deepseek_v3_tiny", "variants/fastmtp", "variants/parallel_heads"):
        model, module = of(name)
        counted = dsvgraph.cost(model, 1, 8, formulas=False).kv_cache
        _, rows = texts(module, PROMPTS[:1], 6)
        assert rows.cache.elements() == counted.elements_per_token * rows.cache.slots
        for prompts in (PROMPTS[:1], PROMPTS):
            heads = Heads(module, drafting(model))
            _, rows = texts(module, prompts, 6, heads)
            kept = counted.elements_per_token_all_outputs - counted.elements_per_token
            assert rows.cache.elements() == counted.elements_per_token * rows.cache.slots * len(prompts)
            assert heads.cache.elements() == kept * heads.cache.slots * len(prompts)


def test_a_sliding_window_keeps_no_more_than_its_positions():
    model, module = of("gpt_oss_20b", sliding_window=3)
    counted = dsvgraph.cost(model, 1, 20, formulas=False).kv_cache
    _, rows = texts(module, [list(range(10))], 10)
    assert rows.cache.elements() == counted.elements_per_token * rows.cache.slots + counted.elements_per_row
    assert texts(module, PROMPTS, 9, context=12)[0] == [greedy(module, prompt, 9, 12) for prompt in PROMPTS]


# -- distributions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rows"), [("deepseek_v3_tiny", 4000), ("its own vocabulary", 2000)])
def test_what_is_drawn_follows_the_models_distribution(name, rows):
    """The pair of tokens after a prompt, of rows that draft, against the exact chances of all pairs."""
    model, module = of(name, vocab_size=7)
    sampling, prompt = Sampling(temperature=1.3, top_k=5, top_p=0.95, seed=3), [1, 2, 3]
    heads = Heads(module, drafting(model))
    made = Rows(module, [prompt] * rows, 3, 50, Sampler(sampling, rows, together=True), 7, heads)
    found = [[] for _ in range(rows)]
    for row, new in made.run():
        found[row] += new
    counts = torch.zeros(7, 7, dtype=torch.float64)
    for _, second, third in found:
        counts[second, third] += 1
    want = _chances_of_pairs(module, prompt, sampling)
    kept = want * rows >= 5
    counts, want = (torch.cat([x[kept], x[~kept].sum()[None]]) for x in (counts, want * rows))
    assert sum(made.counts.accepted) > rows / 10 and made.counts.accepted[0] < made.counts.reached[0]
    assert scipy_stats.chisquare(counts[want > 0], want[want > 0]).pvalue > 0.01


@torch.no_grad()
def _chances_of_pairs(module, prompt, sampling):
    """The chance of the second and third token, over all first ones."""
    first = sampling.chances(module.predict(torch.tensor([prompt]))[0, -1])
    pairs = torch.zeros(7, 7, dtype=torch.float64)
    for one in range(7):
        second = sampling.chances(module.predict(torch.tensor([[*prompt, one]]))[0, -1])
        rows = torch.tensor([[*prompt, one, two] for two in range(7)])
        pairs += first[one] * second[:, None] * sampling.chances(module.predict(rows)[:, -1])
    return pairs


@pytest.mark.parametrize(
    "options", [dict(temperature=0.7), dict(top_k=3), dict(top_p=0.6), dict(min_p=0.2), dict(top_k=9, top_p=0.8)]
)
def test_the_options_of_sampling_are_transformers(options):
    from transformers import generation

    logits = torch.randn(5, 20, generator=torch.Generator().manual_seed(0)) * 2
    processors = {
        "temperature": generation.TemperatureLogitsWarper, "top_k": generation.TopKLogitsWarper,
        "top_p": generation.TopPLogitsWarper, "min_p": generation.MinPLogitsWarper,
    }  # fmt: skip
    want = logits.clone()
    for name, value in options.items():
        want = processors[name](value)(torch.zeros(5, 1, dtype=torch.long), want)
    got = Sampling(**{"temperature": 1.0, "top_k": None, **options}).chances(logits)
    torch.testing.assert_close(got, want.softmax(-1))


def test_a_row_draws_the_same_beside_others():
    _, module = of("deepseek_v3_tiny")
    sampling = Sampling(temperature=1.0, seed=4)
    assert texts(module, PROMPTS, 8, sampling=sampling)[0][0] == texts(module, PROMPTS[:1], 8, sampling=sampling)[0][0]


# -- refused ---------------------------------------------------------------------------------------

SPEC = """
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: 17, dim: 8}}
    y: {{linear: e, out: 17}}
{body}
  out: {{logits: y{out}}}
loss:
  next: {{cross_entropy: logits, target: ids, shift: 1}}
{loss}
"""
HEAD = "    z: {linear: e, out: 17, bias: true}"
FAR = "  far: {cross_entropy: more, target: ids, shift: 2}"
REFUSED = {
    "nothing to draft with": ("", "", ""),
    "makes no distribution over one token": (HEAD, ", more: z", "  far: {binary_cross_entropy: more, target: ids, shift: 2, window: 3}"),  # noqa: E501
    "over 9 tokens, the model over 17": ("    z: {linear: e, out: 9}", ", more: z", FAR),
    "`far` reads a later position": ("    far: {shift: e, by: 1}\n    z: {linear: far, out: 17}", ", more: z", FAR.replace("2", "3")),  # noqa: E501
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_draft_is_refused_by_name(words):
    body, out, loss = REFUSED[words]
    model = dsvgraph.loads(SPEC.format(body=body, out=out, loss=loss))
    with pytest.raises(DsvError, match=words):
        drafting(model)


def test_more_drafts_than_heads_need_an_option():
    model = small(bundled() / "deepseek_v3_tiny.yaml")
    with pytest.raises(DsvError, match="drafts 2 tokens a step, as it was trained; asked for 3"):
        drafting(model, 3)
    assert drafting(model, 5, True).count == 5


# -- the absorbed form -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "found"), [("deepseek_v2_lite", True), ("variants/qk_norms", False)])
def test_attention_moves_to_the_latents_where_they_are_linear(name, found, monkeypatch):
    """A norm between the latent and the keys is not: there keys are made again."""
    _, module = of(name)
    taken = []
    pays = absorbed._pays
    monkeypatch.setattr(absorbed, "_pays", lambda *args: taken.append(pays(*args)) or taken[-1])
    want = [greedy(module, prompt, 12, 500) for prompt in PROMPTS]
    assert texts(module, PROMPTS, 12)[0] == want
    assert (True in taken, False in taken) == (found, found)  # a prompt is read as it is written
