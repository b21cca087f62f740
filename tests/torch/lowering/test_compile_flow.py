"""Copies, blocks and addresses, run, against the same written in plain torch with the module's weights."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from bodies import LAYER, D, V, close, loaded, logits, model  # noqa: E402

from dsvgraph_torch import compile  # noqa: E402


def test_repeat_is_a_chain():
    module, w, ids = model("l: {layer: e, repeat: n}\n    y: {linear: l, out: V}", LAYER)
    x = w["e.weight"][ids]
    for i in range(3):
        x = x + x @ w[f"l.{i}.up.weight"].T
    close(logits(module, ids), x @ w["y.weight"].T)


def test_repeat_nought_times_is_nothing():
    module, w, ids = model("l: {layer: e, repeat: n}\n    y: {linear: l, out: V}", LAYER, n=0)
    assert set(w) == {"e.weight", "y.weight"}
    close(logits(module, ids), w["e.weight"][ids] @ w["y.weight"].T)


def test_an_op_repeats():
    module, w, ids = model("l: {linear: e, out: d, bias: true, repeat: n, at: deep.l}\n    y: {linear: l, out: V}")
    x = w["e.weight"][ids]
    for i in range(3):
        x = x @ w[f"deep.l.{i}.weight"].T + w[f"deep.l.{i}.bias"]
    close(logits(module, ids), x @ w["y.weight"].T)


def test_an_op_without_weights_repeats():
    module, w, ids = model("l: {silu: e, repeat: n}\n    y: {linear: l, out: V}")
    close(logits(module, ids), F.silu(F.silu(F.silu(w["e.weight"][ids]))) @ w["y.weight"].T)


def test_copies_that_differ_by_index_have_arguments():
    blocks = """
  wide:
    args: {width: , act: silu}
    in: {x: "[B, T, d]"}
    body:
      up:   {linear: x, out: width}
      a:    {act: up}
      down: {linear: a, out: d}
    out: {x: down}
"""
    body = "l: {wide: e, width: 2 * index + 3, act: [silu, gelu], repeat: n}\n    y: {linear: l, out: V}"
    module, w, ids = model(body, blocks)
    x = w["e.weight"][ids]
    for i, act in enumerate((F.silu, F.gelu, F.silu)):
        assert w[f"l.{i}.up.weight"].shape == (2 * i + 3, D)
        x = act(x @ w[f"l.{i}.up.weight"].T) @ w[f"l.{i}.down.weight"].T
    close(logits(module, ids), x @ w["y.weight"].T)


def test_sliced_ports_are_skip_connections():
    blocks = """
  down:
    in: {x: "[B, T, d]"}
    body: {y: {linear: x, out: d}}
    out: {x: y, kept: y}
  up:
    in: {x: "[B, T, d]", skip: "[B, T, d]"}
    body: {y: {linear: x, out: d}, z: {mul: [y, skip]}}
    out: {x: z}
"""
    body = """
    a: {down: e, repeat: n}
    b: {up: {x: a.x, skip: a.kept}, slice: skip, repeat: n}
    y: {linear: b, out: V}"""
    module, w, ids = model(body, blocks)
    x, kept = w["e.weight"][ids], []
    for i in range(3):
        x = x @ w[f"a.{i}.y.weight"].T
        kept.append(x)
    for i in range(3):
        x = x @ w[f"b.{i}.y.weight"].T * kept[i]
    close(logits(module, ids), x @ w["y.weight"].T)


def test_each_over_a_stacked_value():
    blocks = """
  step:
    in: {x: "[B, T, d]"}
    body: {y: {linear: x, out: d}}
    out: {x: y, kept: y}
  head:
    in: {x: "[B, T, d]", table: "[V, d]"}
    args: {V}
    body: {norm: {rms_norm: x}, y: {linear: norm, out: V, weight: table}}
    out: {y: y}
"""
    body = """
    a: {step: e, repeat: n}
    y: {linear: a.x, out: V}
    h: {head: {x: a.kept, table: y.weight}, each: n, share: table}"""
    module, w, ids = model(body, blocks, out="logits: y, more: h.y")
    x, more = w["e.weight"][ids], []
    for i in range(3):
        x = x @ w[f"a.{i}.y.weight"].T
        more.append(F.rms_norm(x, (D,), w[f"h.{i}.norm.weight"], 1e-6) @ w["y.weight"].T)
    close(module(ids)["more"], torch.stack(more))
    close(logits(module, ids), x @ w["y.weight"].T)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_stacked_output_of_any_length(n):
    blocks = """
  step:
    in: {x: "[B, T, d]", table: "[V, d]"}
    args: {V}
    body: {y: {linear: x, out: d}, z: {linear: y, out: V, weight: table}}
    out: {x: y, z: z}
"""
    body = "y: {linear: e, out: V}\n    a: {step: {x: e, table: y.weight}, repeat: n}"
    module, _, ids = model(body, blocks, out="logits: y, more: a.z", n=n)
    found = module(ids)
    assert ("more" in found) == (n > 0) and (n == 0 or found["more"].shape == (n, 2, 5, V))


def test_blocks_without_an_address_stand_where_they_are_called():
    blocks = """
  twice:
    in: {x: "[B, T, d]"}
    body:
      a: {linear: x, out: d}
      b: {inner: a, at: .}
    out: b
  inner:
    in: {x: "[B, T, d]"}
    body:
      c: {linear: x, out: d}
      y: {silu: c}
    out: y
  other:
    in: {x: "[B, T, d]"}
    body: {z: {linear: x, out: d, at: deep.er.z}}
    out: z
"""
    body = """
    t: {twice: e, at: .}
    o: {other: t, at: .}
    u: {twice: o}
    y: {linear: u, out: V, at: deep.y}"""
    module, w, ids = model(body, blocks)
    assert set(w) == {
        "e.weight",
        "a.weight",
        "c.weight",
        "deep.er.z.weight",
        "u.a.weight",
        "u.c.weight",
        "deep.y.weight",
    }
    x = F.silu(w["e.weight"][ids] @ w["a.weight"].T @ w["c.weight"].T) @ w["deep.er.z.weight"].T
    x = F.silu(x @ w["u.a.weight"].T @ w["u.c.weight"].T)
    close(logits(module, ids), x @ w["deep.y.weight"].T)


def test_weights_of_the_root_itself():
    module, w, ids = model("n1: {rms_norm: e, at: .}\n    y: {linear: n1, out: V}")
    assert set(w) == {"e.weight", "weight", "y.weight"}
    close(logits(module, ids), F.rms_norm(w["e.weight"][ids], (D,), w["weight"], 1e-6) @ w["y.weight"].T)


def test_a_block_given_with_arguments():
    blocks = """
  wide:
    args: {width: 3}
    in: {x: "[B, T, d]"}
    body: {up: {linear: x, out: width}, down: {linear: up, out: d}}
    out: down
  outer:
    args: {f: {wide: , width: 5}, g: wide}
    in: {x: "[B, T, d]"}
    body: {a: {f: x}, b: {g: a}}
    out: b
"""
    module, w, ids = model("o: {outer: e}\n    y: {linear: o, out: V}", blocks)
    assert w["o.a.up.weight"].shape == (5, D) and w["o.b.up.weight"].shape == (3, D)
    x = w["e.weight"][ids]
    for part in "ab":
        x = x @ w[f"o.{part}.up.weight"].T @ w[f"o.{part}.down.weight"].T
    close(logits(module, ids), x @ w["y.weight"].T)


# -- what is asked for by path ------------------------------------------------------------------------


def test_a_copy_can_begin_otherwise_than_its_siblings():
    module = compile(
        loaded("l: {layer: e, repeat: n}\n    y: {linear: l, out: V}", LAYER, more='init: {"l.1.**": ones}')
    )
    ones = [path for path, w in module.state_dict().items() if (w == 1).all()]
    assert ones == ["l.1.up.weight"]


def test_names_that_end_alike_begin_as_their_ops_say():
    module = compile(loaded("norm: {rms_norm: e}\n    m: {linear: norm, out: d}\n    y: {linear: m, out: V}"))
    assert (module.norm.weight == 1).all() and not (module.m.weight == 1).any()
