"""Token ids of a loss: as ids and ranges, in the spec or in a file beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dsvgraph
from dsvgraph.errors import DsvError
from dsvgraph.spec.vocabulary import is_ids, token_ids, written

SPEC = """
graph:
  in: {{ids: "int[B, T]"}}
  body:
    e: {{embedding: ids, num: 300, dim: 4}}
    y: {{linear: e, out: 300}}
    few: {{linear: e, out: 5}}
  out: {{logits: y, few: few}}
loss:
  next: {{cross_entropy: logits, target: ids, shift: 1}}
  few: {{cross_entropy: few, target: ids, shift: 1, vocabulary: {ids}}}
"""


def of(ids: str) -> tuple[int, ...]:
    found = dsvgraph.loads(SPEC.format(ids=ids)).losses[1].vocabulary
    assert isinstance(found, tuple)
    return found


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=40, unique=True))
def test_a_text_says_the_ids_again(ids: list[int]) -> None:
    text = written(ids)
    assert token_ids(text, "ids") == tuple(ids)
    assert is_ids(text) or len(ids) == 1


def test_in_the_spec() -> None:
    assert of('"7 0..2 299"') == of("[7, 0, 1, 2, 299]") == (7, 0, 1, 2, 299)


def test_in_a_file_beside_the_spec(tmp_path: Path) -> None:
    """Its ids are part of what `show` writes, so that a run's spec needs no file."""
    (tmp_path / "kept.txt").write_text("# most frequent\n7  # a newline\n0..2 299\n", encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(SPEC.format(ids="kept.txt"), encoding="utf-8")
    model = dsvgraph.load(str(tmp_path / "spec.yaml"))
    assert model.losses[1].vocabulary == (7, 0, 1, 2, 299)
    assert dsvgraph.loads(dsvgraph.show(model)).losses[1].vocabulary == (7, 0, 1, 2, 299)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "7\n0..2 x9\n",
            "kept.txt:2:6: token ids are numbers below 1,048,576, such as `7`, or ranges such as `0..127`;",
        ),
        ("7 9..8", "kept.txt:1:3: token ids are numbers"),
        ("1048576", "kept.txt:1:1: token ids are numbers below"),
        ("0..3\n\n 2", "kept.txt:3:2: the token id 2 stands there twice"),
        ("# none\n", "kept.txt:1:1: `"),
        ("0..3", "spec.yaml:11:64: `vocabulary` has 4 token ids, and `few` 5 logits"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_at_its_place(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "kept.txt").write_text(text, encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(SPEC.format(ids="kept.txt"), encoding="utf-8")
    with pytest.raises(DsvError) as error:
        dsvgraph.load(str(tmp_path / "spec.yaml"))
    (found,) = error.value.diagnostics
    assert f"{found.span}: {found.message}".removeprefix(f"{tmp_path}/").startswith(words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.txt", "there is no file `none.txt` of token ids beside the spec"),
        ("../outside.txt", "`../outside.txt` lies outside the spec's folder"),
        ("more.txt", "are more than 100,000 characters"),
    ],
)
def test_a_file_that_is_not_read(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "outside.txt").write_text("0..4", encoding="utf-8")
    (tmp_path / "specs/more.txt").write_text(" ".join(map(str, range(0, 60_000, 2))), encoding="utf-8")
    (tmp_path / "specs/spec.yaml").write_text(SPEC.format(ids=name), encoding="utf-8")
    with pytest.raises(DsvError, match=words):
        dsvgraph.load(str(tmp_path / "specs/spec.yaml"))
