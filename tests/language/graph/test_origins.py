"""Errors tell where a size came from: the config, --set, the call, or a default."""

from __future__ import annotations

import pytest
from small import spec

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.errors import Diagnostic

BLOCKS = """
cut:   {args: {left, right: left}, in: {x: [...]}, body: {y: {split: x, into: {a: left, b: right}}}, out: y}
outer: {args: {part: 3}, in: {x: [...]}, body: {y: {cut: x, left: part}}, out: y}
"""


def told(body: str, config: str = "{d: 4, V: 9}", **settings: object) -> Diagnostic:
    with pytest.raises(DsvError) as caught:
        dsvgraph.loads(spec(body, blocks=BLOCKS, config=config), settings)
    (found,) = caught.value.diagnostics
    return found


def notes(found: Diagnostic) -> list[str]:
    return [f"{words} ({span})" for words, span in found.notes if " is " in words]


@pytest.mark.parametrize(
    ("line", "config", "settings", "wanted"),
    [
        ("{cut: e, left: 3}", "{d: 4, V: 9}", {}, ["`left` is 3 (<spec>:9:23)"]),
        ("{outer: e}", "{d: 4, V: 9}", {}, ["`part` is 3 (<spec>:4:24)"]),
        ("{outer: e}", "{d: 4, V: 9, part: 5}", {}, ["`part` is 5 (<spec>:1:28)"]),
        ("{outer: e}", "{d: 4, V: 9, part: 5}", {"part": 7}, ["`part` is 7 (--set:1:6)"]),
        ("{outer: e, part: wide}", "{d: 4, V: 9, wide: 5}", {}, ["`wide` is 5 (<spec>:1:28)"]),
        ("{outer: e, part: d + 1}", "{d: 4, V: 9}", {}, ["`part` is 5 (<spec>:9:25)"]),
    ],
)
def test_a_mismatch_tells_the_sizes_of_its_line(
    line: str, config: str, settings: dict[str, object], wanted: list[str]
) -> None:
    found = told(f"y: {line}", config, **settings)
    assert found.message.startswith("the parts do not add up to the last axis")
    assert found.path.split(" > ")[0] == "y"
    own = [note for note in notes(found) if not note.startswith("`x`")]
    assert own == wanted


def test_a_mismatch_tells_what_was_wired_and_the_sizes_of_that_line() -> None:
    found = told("a: {linear: e, out: wide}\ny: {add: [a, e]}", "{d: 4, V: 9, wide: 5}")
    assert notes(found) == [
        "`x0` is [B, T, 5], from `a.y` (<spec>:9:5)", "`x1` is [B, T, 4], from `e.y` (<spec>:8:5)",
        "`d` is 4 (<spec>:1:13)", "`wide` is 5 (<spec>:1:28)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "settings", "place"),
    [("{d: 4, V: 9, n: 0}", {}, "<spec>:1:25"), ("{d: 4, V: 9, n: m, m: 0}", {}, "<spec>:1:31"),
     ("{d: 4, V: 9, n: 4}", {"n": 0}, "--set:1:3"), ("{d: 4, V: 9, n: d - 4}", {}, "<spec>:1:25")],
)  # fmt: skip
def test_a_bad_value_is_told_where_it_was_written(config: str, settings: dict[str, int], place: str) -> None:
    found = told("y: {outer: e, part: n}", config, **settings)
    assert (found.message, str(found.span)) == ("a size is at least 1, found 0", place)
    assert found.notes[0][0] == "used here as `into` of `split`"


def test_many_uses_of_a_bad_value_are_one_mistake() -> None:
    found = told("a: {linear: e, out: n}\nb: {linear: e, out: n}\ny: {expand: e, size: n}", "{d: 4, V: 9, n: 0.5}")
    assert found.message == "a size is a whole number, found `0.5`"


def test_the_calls_that_led_there_are_told() -> None:
    found = told("y: {outer: e}")
    assert [words for words, _ in found.notes][-2:] == ["in `cut`, called from here", "in `outer`, called from here"]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("y: {lineer: e, out: 4}", "did you mean `linear`?"),
        ("y: {outr: e}", "did you mean `outer`?"),
        ("y: {outer: e, prt: 3}", "did you mean `part`?"),
        ("y: {linear: e, owt: 4}", "did you mean `out`?"),
        ("y: {linear: e, out: VV}", "did you mean `V`?"),
        ("y: {linear: f, out: 4}", "there are: `ids`, `e`"),
        ("y: {linear: [e], out: 4}", "write `linear: e`"),
        ("y: {dispatch: [e], experts: 4}", "write {x: ..., ...}"),
        ("y: {add: {a: e, b: e}}", "write `add: [e, e]`"),
        ("y: {linear: e, out = 4}", "write `out: 4`"),
        ("y: {silu: e, linear: e, out: 4}", "a line calls one thing: give `linear` a line of its own"),
        ("y: {silu:e}", "a blank follows a colon: write `silu: e`"),
        ("y: {linear: e, out: config.d}", "config values stand bare: `d`"),
        ("y: {linear: e, out: 50%}", "write 0.5"),
        ("y: {linear: e, out: 4K}", "a number has no unit: 256 * 1024"),
        ("y: {linear: e, out: d +}", ""),
        ("y: {linear: e, out: nowhere}", "there are: `d`, `V`"),
        ("y: {repeat: 3, silu: e}", "the first key says what the line is: put `silu` first"),
        ("y: {silu: e.x.y}", "there are: `y`, `weight`, `x`"),
        ("y: {silu: z}\nz: {silu: e}", "`z` stands further down; a line reads only what is above it"),
        ("y: {silu: e, each: 4}", "`share: [x]` gives every copy the whole"),
    ],
)
def test_hints(line: str, hint: str) -> None:
    assert told(line).hint == hint


def test_the_text_of_an_error() -> None:
    assert str(told("y: {linear: e, out: hiden}", "{hidden: 3, d: 4, V: 9}")) == (
        "error[E0303]: there is no name `hiden` here\n"
        " --> <spec>:9:25\n"
        "  |\n"
        "9 |     y: {linear: e, out: hiden}\n"
        "  |                         ^^^^^\n"
        "  = help: did you mean `hidden`?"
    )


def test_a_value_that_is_overridden_tells_what_it_stands_over() -> None:
    found = told("y: {outer: e}", "{d: 4, V: 9, part: 5}", part=7)
    place = found.notes.index(("the value that it overrides", next(s for w, s in found.notes if "overrides" in w)))
    assert [str(span) for _, span in found.notes[place - 1 : place + 1]] == ["--set:1:6", "<spec>:1:28"]


def test_an_input_that_does_not_fit_tells_what_was_wired() -> None:
    blocks = "narrow: {args: {d}, in: {x: [B, T, d]}, body: {y: {silu: x}}, out: y}"
    text = spec("wide: {linear: e, out: big}\ny: {narrow: wide}", blocks=blocks, config="{d: 4, V: 9, big: 5}")
    with pytest.raises(DsvError) as caught:
        dsvgraph.loads(text)
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.wanted, diagnostic.found) == ("d (= 4)", "5")
    assert [words for words, _ in diagnostic.notes] == [
        "declared here", "`d` is 4", "`x` is [B, T, 5], from `wide.y`", "`big` is 5",
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["{<<: *a, rms_norm: e}", "{rms_norm: e, <<: [*a, {}]}"])
def test_an_alias_is_told_with_what_it_stands_for(line: str) -> None:
    found = told(f"y: {line}", "{d: 4, V: 9, some: &a {eps: -1}}")
    assert found.span is not None
    assert (found.span.text, str(found.span.written)) == ("*a", "<spec>:1:37")
    assert found.labels[-1] == ("written here", found.span.written)


def test_what_an_alias_repeats_is_one_mistake() -> None:
    found = told("x: &a {silu: e, by: 1}\ny: *a\nz: {<<: *a}")
    assert (found.message, str(found.span)) == ("there is no attribute `by` on `silu`", "<spec>:9:21")


def test_other_places_are_shown_with_their_lines() -> None:
    assert str(told("a: {linear: e, out: 2 * d}\ny: {add: [a, e]}")) == (
        "error[E0403]: operands have different shapes: [B, T, 8] against [B, T, 4]\n"
        "  --> <spec>:10:5\n"
        "   |\n"
        " 1 | config: {d: 4, V: 9}\n"
        "   |             - `d` is 4\n"
        "...\n"
        " 8 |     e: {embedding: ids, num: V, dim: d}\n"
        "   |     - `x1` is [B, T, 4], from `e.y`\n"
        " 9 |     a: {linear: e, out: 2 * d}\n"
        "   |     - `x0` is [B, T, 8], from `a.y`\n"
        "10 |     y: {add: [a, e]}\n"
        "   |     ^\n"
        "  = in: y"
    )
