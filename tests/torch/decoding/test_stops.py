"""Texts that end a continuation: over several tokens, inside of one, in a run of drafts."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest

import dsvgraph

torch = pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")

import dsvgraph_torch  # noqa: E402
from dsvgraph_torch.data.tokenizer import FileTokens  # noqa: E402
from dsvgraph_torch.decoding.generation import GenerateOptions, Generation  # noqa: E402
from dsvgraph_torch.decoding.source import TextModel  # noqa: E402

PIECES = [
    b"Hel", b"lo, w", b"orl", b"d: ", b"\xe2", b"\x82", b"\xac 5", b" a", b"aa", b"ab", b" st", b"op", b"ped\n", b"\n",
    b"STOP\xe2\x82", b"\xac", b" the e", b"nd",
]  # fmt: skip
TEXT = b"".join(PIECES).decode()
SIZE = 256 + len(PIECES) + 1
SPEC = f"""
blocks:
  head:
    in: {{h: "[B, T, {SIZE}]"}}
    body:
      z: {{linear: h, out: {SIZE}}}
    out: {{logits: z}}
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: {SIZE}, dim: {SIZE}}}
    y: {{linear: e, out: {SIZE}}}
    heads: {{head: e, repeat: 3}}
  out: {{logits: y, more: heads.logits}}
loss:
  next: {{cross_entropy: logits, target: ids, shift: 1}}
  further: {{cross_entropy: more, target: ids, shift: depth + 1}}
"""


def byte_level(piece):
    """A piece as a byte-level vocabulary writes it."""
    letters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    table = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(rest)}
    assert set(table.values()) == set(letters)
    return "".join(table[b] for b in piece)


@cache
def source():
    """A model that says PIECES in order after the byte A; of every fourth token its three heads are wrong."""
    words = [byte_level(bytes([b])) for b in range(256)] + [byte_level(piece) for piece in PIECES] + ["<end>"]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({w: i for i, w in enumerate(words)}, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    model = dsvgraph.loads(SPEC)
    module = dsvgraph_torch.compile(model, kernels="decoding").eval()
    after = torch.arange(1, SIZE + 1) % SIZE
    after[ord("A")] = 256
    state = module.state_dict()
    state["e.weight"].copy_(torch.eye(SIZE))
    state["y.weight"].copy_(onto(after))
    far = after
    for k in range(3):
        far = after[far]
        said = far.clone()
        said[k::4] = 0
        state[f"heads.{k}.z.weight"].copy_(onto(said))
    return TextModel(model, module, FileTokens("pieces", tokenizer.to_str(), None), 64, (SIZE - 1,))


def onto(after):
    """The weight of a line that makes token t the likeliest at after[t]."""
    weight = torch.zeros(SIZE, SIZE)
    weight[after, torch.arange(SIZE)] = 1.0
    return weight


def made(stops, tokens=18, **options):
    """What was streamed, the text, and why it ended after how many tokens."""
    given = {"tokens": tokens, "temperature": 0, "stop": stops, **options}
    found = Generation(source(), ["A"], GenerateOptions.given(given), print)
    pieces = [piece for _, piece in found]
    (result,) = found.result()["texts"]
    assert "".join(pieces) == result["text"] and all(pieces)
    return pieces, result["text"], result["tokens"], result["end"]


def expected(stops, tokens=18):
    """The text of the first tokens that complete a stop text, up to the first of these.

    A token that ends inside of a character has no text before the next.
    """
    for count in range(1, min(tokens, len(PIECES)) + 1):
        text = b"".join(PIECES[:count]).decode(errors="replace")
        if text.endswith("\ufffd"):
            continue
        if found := [text.find(stop) for stop in stops if stop in text]:
            return text[: min(found)], count, "stop"
    text = b"".join(PIECES[:tokens]).decode(errors="replace")
    return (text, tokens, "length") if tokens <= len(PIECES) else (text, len(PIECES) + 1, "end")


STOPS = [TEXT[at : at + size] for at in range(0, len(TEXT), 3) for size in (1, 2, 5)]


@pytest.mark.parametrize("drafts", [{}, {"draft": "mtp"}, {"draft": "mtp", "drafts": 2}])
def test_a_stop_text_cuts_where_it_begins(drafts):
    for stop in STOPS:
        assert made([stop], **drafts)[1:] == expected([stop]), stop
    for stops in (["nd", "st"], ["zz", "world: €", "d:"], ["aab", "aaa"], ["zz"]):
        assert made(stops, **drafts)[1:] == expected(stops), stops


@pytest.mark.parametrize("drafts", [{}, {"draft": "mtp"}])
@pytest.mark.parametrize("tokens", [5, 6, 15, 18, 40])
def test_what_is_held_back_comes_once_and_in_the_end(tokens, drafts):
    """Bytes of a character that never comes, and the beginning of a stop text that does not go on."""
    for stops in ([], ["world: €€", "the end."], ["zz"]):
        assert made(stops, tokens, **drafts)[1:] == expected(stops, tokens)


def test_an_end_between_the_bytes_of_a_character():
    """What stayed incomplete comes once."""
    ends = dataclasses.replace(source(), ends=(256 + PIECES.index(b"\xac 5"),))
    found = Generation(ends, ["A"], GenerateOptions.given({"tokens": 18, "temperature": 0, "draft": "mtp"}), print)
    assert "".join(piece for _, piece in found) == "Hello, world: \ufffd"
    assert found.result()["texts"][0]["end"] == "end"


@pytest.mark.parametrize("drafts", [{}, {"draft": "mtp"}])
def test_text_streams_token_by_token_but_for_what_a_stop_text_may_begin_with(drafts):
    assert made(["zz"], **drafts)[0] == [
        "Hel", "lo, w", "orl", "d: ", "€ 5", " a", "aa", "ab", " st", "op", "ped\n", "\n", "STOP€", " the e", "nd",
    ]  # fmt: skip
    assert made(["a stop"], **drafts)[0][4:9] == ["€ 5", " ", "aa", "aab", " st"]


def test_drafts_are_taken_and_rejected():
    found = Generation(source(), ["A"], GenerateOptions.given({"tokens": 18, "temperature": 0, "draft": "mtp"}), print)
    list(found)
    counts = found.rows.counts
    assert 4 < sum(counts.accepted) < sum(counts.reached)
