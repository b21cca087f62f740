"""Decoding is right by construction: random graphs, every bundled spec, and the ways in which it went wrong."""

from __future__ import annotations

import re

import pytest

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph.loader import bundled
from dsvgraph.passes.lint.unused import lint

torch = pytest.importorskip("torch")

import decodes  # noqa: E402
from drawn import Drawing  # noqa: E402

import dsvgraph_torch  # noqa: E402
from dsvgraph_torch.data.tokens import BYTES, text_of  # noqa: E402
from dsvgraph_torch.decoding import generation, sampling  # noqa: E402
from dsvgraph_torch.decoding.source import TextModel  # noqa: E402

T = 7

# -- random graphs --------------------------------------------------------------------------------


def loaded(seed, ahead=False):
    """A drawn graph; where a list `cache` is refused, the same without lists, and whether it was."""
    text = Drawing(seed, ahead).text()
    try:
        return dsvgraph.loads(text), False
    except DsvError as error:
        assert {str(d.code) for d in error.diagnostics} == {"E0415"}, f"{error}\n{text}"
        return dsvgraph.loads(re.sub(r"\n +cache: .*", "", text)), True


def context(seed):
    """Positions or documents for a third of the graphs each."""
    documents = torch.tensor([0] * 3 + [1] * 4).expand(2, -1)
    return [{}, {"positions": torch.arange(T) * 2 + seed}, {"documents": documents}][seed % 3]


@pytest.mark.parametrize("part", range(10))
def test_random_graphs(part):
    seeds = range(20 * part, 20 * part + 20)
    graphs = [(*loaded(seed, ahead=seed % 5 == 0), seed) for seed in seeds]
    kept = [decodes.check(graph, [[1] * T, [3, 1, 2, 1]], **context(seed)) for graph, _, seed in graphs]
    assert sum(bool(one) for one in kept) >= 10 and sum(cut for _, cut, _ in graphs) < 15


# -- every spec -----------------------------------------------------------------------------------

SMALL = dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=3, first_k_dense_replace=1, num_nextn_predict_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8, q_lora_rank=12, kv_lora_rank=8, qk_nope_head_dim=8,
    qk_rope_head_dim=4, v_head_dim=6, rope_dim=4, intermediate_size=40, moe_intermediate_size=12,
    shared_intermediate_size=16, n_routed_experts=8, num_local_experts=8, num_experts=8, num_experts_per_tok=3,
    n_group=4, topk_group=2, sliding_window=3,
)  # fmt: skip
SPECS = sorted(p for folder in ("", "variants", "losses", "templates") for p in (bundled() / folder).glob("*.yaml"))


def small(path, **settings):
    """A spec at sizes that run in milliseconds."""
    model = dsvgraph.load(str(path))
    return dsvgraph.load(str(path), {name: n for name, n in (SMALL | settings).items() if name in model.config})


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_bundled_spec(path):
    assert decodes.check(small(path)) > 0


@pytest.mark.parametrize("path", [p for p in SPECS if p.stem in ("deepseek_v3", "gpt_oss_20b")], ids=lambda p: p.stem)
def test_emitted_files_with_documents_and_positions(path):
    documents, positions = torch.tensor([0] * 3 + [1] * 4).expand(3, -1), torch.arange(T) * 3
    decodes.check(small(path), rows=3, kernels="plain", documents=documents, positions=positions)


# -- the ways in which it went wrong --------------------------------------------------------------


def spec(body, blocks="", out="y", more=""):
    return dsvgraph.loads(f"""
{"blocks:" if blocks else ""}{blocks}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: 17, dim: 8}}
{body.rstrip()}
    y: {{linear: last, out: 17}}
  out: {{logits: {out}}}
{more}
""")


HEADS = """
    k: {linear: e, out: [2, 4]}
    v: {linear: e, out: [2, 4]}"""
ATTEND = """
    a: {attention: {q: k, k: k, v: v}}
    last: {linear: a, contract: 2, out: 8}"""
LAYER = """
  layer:
    in: {{x: "[B, T, 8]"{ins}}}
    body:
      q: {{linear: x, out: [2, 4]}}
      k: {{rope: q}}
{body}
      o: {{linear: a, contract: 2, out: 8}}
      sum: {{add: [x, o]}}
    out: {{x: sum{outs}}}
{cache}"""


def layer(body="      a: {attention: {q: k, k: k, v: q}}", ins="", outs="", cache=""):
    return LAYER.format(body=body, ins=ins, outs=outs, cache=cache and f"    cache: {cache}")


CASES = {
    "a shift": ("    last: {shift: e, by: -1}", "", 0, 8),
    "shifts of one value": ("    a: {shift: e, by: -1}\n    b: {shift: e, by: -3}\n    last: {add: [a, b]}", "", 0, 24),
    "a rotation and nothing to keep": ("    last: {rope: e}", "", 0, 0),
    "attention without a list": (HEADS + ATTEND, "", 16, 0),
    "a value residual": (HEADS + """
    a: {attention: {q: k, k: k, v: v}}
    b: {add: [a, v]}
    last: {linear: b, contract: 2, out: 8}""", "", 16, 0),
    "a cut that others read": ("    l: {layer: e}\n    last: {add: [e, l]}", layer(cache="[x]"), 8, 0),
    "a listed input": (HEADS + "\n    last: {layer: {x: e, v: v}}", layer(
        "      a: {attention: {q: q, k: k, v: v}}\n      sumv: {add: [a, v]}", ', v: "[B, T, 2, 4]"', "", "[v, k]"
    ).replace("linear: a,", "linear: sumv,"), 16, 0),
    "a chain": ("    last: {layer: e, repeat: 3}", layer(), 48, 0),
    "a chain with one set of weights": ("    last: {layer: e, repeat: 3, tied: true}", layer(cache="[x]"), 24, 0),
    "keys and values shared by layers": (HEADS + "\n    last: {layer: {x: e, k0: k, v0: v}, repeat: 3}", layer(
        "      a: {attention: {q: q, k: k0, v: v0}}\n      b: {add: [a, v0, k]}",
        ', k0: "[B, T, 2, 4]", v0: "[B, T, 2, 4]"').replace("linear: a,", "linear: b,"), 16, 0),
    "keys of one block in another": ("""
    l: {layer: e}
    m: {linear: l.key, contract: 2, out: 8}
    a: {attention: {q: l.key, k: l.key, v: l.key}}
    o: {linear: a, contract: 2, out: 8}
    last: {add: [l, m, o]}""", layer(outs=", key: k"), 16, 0),
    "a block given all rows by a cut outside": ("    last: {outer: e}", layer(cache="[k, q]") + """
  outer:
    in: {x: "[B, T, 8]"}
    body: {n: {rms_norm: x}, l: {layer: n}, s: {add: [l, x]}}
    out: s
    cache: [n]""", 8, 0),
    "a block in line": ("    last: {layer: e, at: .}", layer(cache="[x]"), 8, 0),
    "sliced copies": ("""
    s: {linear: e, out: 8, each: 3, share: [x]}
    last: {layer: {x: e, s: s}, slice: [s], repeat: 3}""", layer(
        "      k2: {linear: s, out: [2, 4]}\n      a: {attention: {q: q, k: k2, v: k}}", ', s: "[B, T, 8]"'), 48, 0),
    "a list of the whole": (HEADS + ATTEND, "", 8, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_kept(name):
    """So many numbers per token and per row, by hand; decoding them gives what the whole row gives."""
    body, blocks, per_token, per_row = CASES[name]
    graph = spec(body, blocks, more="  cache: [e]" if name == "a list of the whole" else "")
    cost = dsvgraph.cost(graph, 2, T, formulas=False).kv_cache
    assert (cost.elements_per_token, cost.elements_per_row) == (per_token, per_row)
    assert decodes.check(graph) == 2 * T * per_token + 2 * per_row
    assert decodes.check(graph, [[2, 4, 1], [7]], kernels="plain") == 2 * T * per_token + 2 * per_row


@pytest.mark.parametrize("line", ["{shift: e, by: 1}", "{attend: e}"])
def test_what_looks_ahead_is_refused_by_name(line):
    """In a block too, and where a later shift takes it back."""
    attend = """
  attend:
    in: {x: "[B, T, 8]"}
    body: {k: {linear: x, out: [2, 4]}, all: {attention: {q: k, k: k, v: k}, causal: false}, o: {linear: all, contract: 2, out: 8}}
    out: o"""  # noqa: E501
    graph = spec(f"    ahead: {line}\n    last: {{shift: ahead, by: -1}}", attend)
    assert decodes.check(graph) is None
    with pytest.raises(DsvError, match="looks ahead"):
        from dsvgraph.passes.estimate import PlanOptions, plan

        plan(graph, PlanOptions(phase="decode"))


def test_a_line_that_looks_ahead_for_a_head_alone_does_no_harm():
    graph = dsvgraph.loads("""
graph:
  in: {ids: "int[B, T]"}
  body:
    e: {embedding: ids, num: 17, dim: 8}
    y: {linear: e, out: 17}
    next: {shift: e, by: 1}
    z: {linear: next, out: 17}
  out: {logits: y, more: z}
""")
    assert decodes.check(graph) == 0


@pytest.mark.parametrize(
    ("cache", "needed"),
    [("[k]", "`a` needs `q`"), ("[sum]", "`a` needs `k`"), ("[a]", "`a` needs `k`")],
)
def test_a_list_that_is_not_enough_is_refused_at_its_line(cache, needed):
    with pytest.raises(DsvError) as caught:
        spec("    last: {layer: e}", layer(cache=cache))
    (told,) = caught.value.diagnostics
    assert told.code == "E0415" and told.message.startswith(needed) and told.span.text in cache


def test_a_list_outside_that_is_not_enough_for_a_block_inside():
    outer = """
  outer:
    in: {x: "[B, T, 8]"}
    body: {first: {layer: x}, second: {layer: first}}
    out: second
    cache: [x]"""
    with pytest.raises(DsvError, match=r"`a` needs `k` at earlier positions, which cannot be made of `x`"):
        spec("    last: {outer: e}", layer() + outer)
    graph = spec("    last: {outer: e}", layer(cache="[x]") + outer)  # the second keeps its own
    assert decodes.check(graph) == 2 * T * 16


def test_a_value_that_nothing_needs_is_warned_of():
    graph = spec("    last: {layer: e}", layer(cache="[x, sum]"))
    assert [str(w.code) for w in lint(graph) if "earlier positions of `sum`" in w.message] == ["W0107"]
    assert decodes.check(graph) == 2 * T * 8


def test_a_cache_of_another_model_or_of_a_failed_step_is_refused():
    module = decodes.module_of(spec(CASES["a chain"][0], layer()))
    ids = torch.zeros(1, 3, dtype=torch.long)
    module.predict(ids, cache := {})
    other = decodes.module_of(spec(CASES["a chain"][0], layer()))
    with pytest.raises(ValueError, match="filled otherwise"):
        other.predict(ids, cache)


def test_rows_are_put_in_another_order_and_cut_back():
    """Entries are [B, positions, ...], the one that counts too: beams and rejected drafts are plain indexing."""
    graph = spec(CASES["a chain"][0], layer())
    module, (ids,) = decodes.module_of(graph), decodes.inputs_of(graph, 3, T)
    with torch.no_grad():
        module.predict(ids[:, :5], cache := {})
        order = torch.tensor([2, 0, 1])
        cache = {key: kept[order, :4] for key, kept in cache.items()}
        found, whole = module.predict(ids[order, 4:], cache), module.predict(ids)[order]
    torch.testing.assert_close(found, whole[:, 4:], rtol=1e-10, atol=1e-10)


def test_generate_says_that_every_token_takes_a_whole_row(monkeypatch, capsys):
    text = """
graph:
  in: {ids: "int[B, T]"}
  body: {e: {embedding: ids, num: 256, dim: 8}, ahead: {shift: e, by: 1}, y: {linear: ahead, out: 256}}
  out: {logits: y}
"""
    model = dsvgraph.loads(text)
    module = dsvgraph_torch.compile(model, kernels="decoding").eval()
    monkeypatch.setattr(generation, "read_source", lambda *_: TextModel(model, module, BYTES, 8, ()))
    found = "".join(dsvgraph_torch.generate("run", "ab", 5, temperature=0))
    whole = sampling.sample(module, [*b"ab"], 5, 8, sampling.Sampler(sampling.Sampling(temperature=0)), cached=False)
    assert found == "".join(text_of(whole))
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "`ahead` (<spec>:4) looks ahead" in told and "whole row" in told
