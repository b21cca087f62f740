"""Whatever an expert holds: side by side, sorted by expert, it gives what a loop over tokens gives, expert by expert.

Each expert alone is compiled as an ordinary block, whose ops other tests hold against torch.
"""

import pytest

torch = pytest.importorskip("torch")

from bodies import D, close, loaded, logits, model  # noqa: E402
from helpers import randomised  # noqa: E402

import dsvgraph  # noqa: E402
from dsvgraph_torch import compile  # noqa: E402
from dsvgraph_torch.runtime.plain import Context  # noqa: E402

MATRIX = "{linear: x, out: w}, m: {linear: l, out: d, bias: true}}, out: m}"
BODIES = {
    "norms": "{a: {layer_norm: x}, b: {rms_norm: a}, c: {affine: b},"
    " y: {affine: c, scalar: true, bias: false}}, out: y}",
    "heads": "{a: {linear: x, out: [2, 4], bias: true}, b: {rms_norm: a}, c: {linear: b, out: 3},"
    " y: {linear: c, contract: 2, out: d}}, out: y}",
    "gains of heads": "{a: {linear: x, out: [2, 4]}, b: {affine: a, axes: 2}, c: {affine: b, scalar: true},"
    " e: {layer_norm: c}, y: {linear: e, contract: 2, out: d}}, out: y}",
    "wide": "{a: {expand: x, size: 2}, c: {linear: a, contract: 2, out: d}, y: {mul: [c, x]}}, out: y}",
    "a block inside": "{a: {inner: x, at: deep.inner}, y: {add: [a, x]}}, out: y}",
    "a block at .": "{a: {inner: x, at: .}, y: {add: [a, x]}}, out: y}",
    "layers inside": "{y: {inner: x, repeat: 3}}, out: y}",
    "one layer twice": "{y: {inner: x, repeat: 2, tied: true}}, out: y}",
    "tied matrices": "{a: {linear: x, out: d}, b: {silu: a}, y: {linear: b, out: d, weight: a.weight}}, out: y}",
    "tied in a block": "{a: {linear: x, out: d}, y: {given: {x: a, w: a.weight}}}, out: y}",
    "nothing": "{y: {times: x, by: 1}}, out: y}",
}
BLOCKS = """
  inner: {in: {x: "[..., d]"}, body: {l: {linear: x, out: d}, n: {rms_norm: l}}, out: {x: n}}
  given: {in: {x: "[..., d]", w: "[q, d]"}, body: {l: {linear: x, out: q, weight: w}}, out: l}
  narrow: {args: {w}, in: {x: "[..., d]"}, body: {l: MATRIX
  zero: {in: {x: "[..., d]"}, body: {y: {times: x, by: 1}}, out: y}
""".replace("MATRIX", MATRIX)
ROUTED = """
    r: {router: e, experts: 4, top_k: 2}
    t: {dispatch: {x: e, index: r.index}, experts: 4}
    x: {%s, each: 4}
    c: {combine: {x: x, index: r.index, score: r.score}}
    y: {linear: c, out: V}"""
ALONE = "x: {%s}\n    y: {linear: x, out: V}"


def held(line, blocks, of=lambda i: None):
    """A model of routed experts gives what its experts give one by one, ``of(i)`` the line of one."""
    module, w, ids = model(ROUTED % line.format(x="t"), blocks)
    e, want = w["e.weight"][ids], torch.zeros(2, 5, D)
    index, score = module.r(e, Context())
    for i in range(4):
        alone = randomised(compile(loaded(ALONE % (of(i) or line).format(x="e"), blocks, "logits: y, inner: x")))
        own = {k: v for k, v in alone.state_dict().items() if not k.startswith("x.")}
        own |= {k.replace(f"x.{i}.", "x."): v for k, v in w.items() if k.startswith(f"x.{i}.")}
        alone.load_state_dict({**own, "e.weight": w["e.weight"], "y.weight": w["y.weight"]})
        chosen = (score * (index == i)).sum(-1, keepdim=True)
        want += chosen * alone(ids)["inner"].detach()
    close(logits(module, ids), want @ w["y.weight"].T)
    return module, w


@pytest.mark.parametrize("name", BODIES)
def test_experts_of_everything_that_acts_on_rows(name):
    held("expert: {x}", f'{BLOCKS}  expert: {{in: {{x: "[..., d]"}}, body: {BODIES[name]}')


@pytest.mark.parametrize(
    "line", ["linear: {x}, out: d", "linear: {x}, out: d, bias: true", "rms_norm: {x}", "silu: {x}"]
)
def test_experts_that_are_one_op(line):
    held(line, BLOCKS)


def test_experts_of_products():
    body = '{a: {einsum: [x, x], equation: "%s"}, y: {linear: a, contract: 2, out: d}}'
    block = f'{{in: {{x: "[..., d]"}}, body: {body}, out: y}}'
    blocks = f"{BLOCKS}  expert: {block % 'si,sj->sij'}\n  alone: {block % 'bti,btj->btij'}"
    held("expert: {x}", blocks, lambda i: "alone: {x}")


def test_experts_that_differ_run_in_runs_of_equal_ones():
    module, w = held("narrow: {x}, w: index + 2", BLOCKS, lambda i: f"narrow: {{x}}, w: {i + 2}")
    assert [w[f"x.{i}.l.weight"].shape[0] for i in range(4)] == [2, 3, 4, 5]
    given = {k: v + 1 for k, v in w.items()}
    module.load_state_dict(given)
    assert all(torch.equal(v, given[k]) for k, v in module.state_dict().items())
    lost = {k: v for k, v in given.items() if k != "x.2.l.weight"}
    assert module.load_state_dict(lost, strict=False).missing_keys == ["x.2.l.weight"]


def test_zero_experts_pass_their_tokens_on():
    """LongCat-Flash (arXiv 2509.01322): some of the experts give back what they get."""
    blocks = (
        BLOCKS
        + """
  either: {args: {f, w: 3}, in: {x: "[..., d]"}, body: {a: {f: x, at: .}}, out: a}"""
    )
    line = "either: {x}, f: 'zero if index >= 2 else inner', each: 4"
    module, w = held(
        line.replace(", each: 4", ""), blocks, lambda i: f"either: {{x}}, f: {'zero' if i >= 2 else 'inner'}"
    )
    assert {k.split(".")[1] for k in w if k.startswith("x.")} == {"0", "1"}
    assert len(module.x.runs) == 2


REFUSED = {
    "only `each` and `combine` read it": ("z: {silu: t}", ""),
    "reads? it": ("z: {expert: t}", ""),
    "one input and one output": ("z: {given: {x: t, w: e.weight}, each: 4, share: [w]}", ""),
    "cannot read them as one value": (
        "z: {odd: t, each: 4}",
        'odd: {in: {x: "[..., d]"}, body: {n: {rms_norm: x}, o: {silu: n.weight}, y: {mul: [x, x]}}, out: y}',
    ),
    "owns its weights": ("z: {silu: t, each: 4}\n    q: {router: e, experts: 4, top_k: 2, at: .}", ""),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_no_expert_is_refused_by_check(words):
    line, block = REFUSED[words]
    body = ROUTED.replace("x: {%s, each: 4}", line).replace("x: x,", "x: z,")
    with pytest.raises(dsvgraph.DsvError, match=words) as caught:
        loaded(body, f'{BLOCKS}  expert: {{in: {{x: "[..., d]"}}, body: {BODIES["nothing"]}\n  {block}')
    assert all(d.span is not None for d in caught.value.diagnostics)


def test_stacked_weights_that_no_allocator_counts_are_refused():
    """Before, torch's own words: Storage size calculation overflowed."""
    text = """
blocks:
  b:
    in: {x: "[..., 4]"}
    body: {a: {linear: x, out: [2 ** 28, 2 ** 20]}, y: {linear: a, contract: 2, out: 4}}
    out: y
graph:
  in: {x: "[B, T, 4]"}
  body:
    r: {router: x, experts: 4096, top_k: 1}
    s: {dispatch: {x: x, index: r.index}, experts: 4096}
    e: {b: s, each: 4096}
    y: {combine: {x: e, index: r.index, score: r.score}}
  out: y
"""
    with pytest.raises(dsvgraph.DsvError, match=r"a weight has at most 2\*\*44 numbers"):
        dsvgraph.loads(text)
    fits = text.replace("2 ** 28, 2 ** 20", "2 ** 23, 2 ** 19")  # with the 4 of the other axis 2 ** 44
    compile(dsvgraph.loads(fits), device="meta")
