"""Text as tokens: what is read, what is held out, and what is refused."""

from __future__ import annotations

import json
import os
import sysconfig
from pathlib import Path

import pytest
import torch

import dsvgraph
import dsvgraph_torch
from dsvgraph import DsvError
from dsvgraph_torch.data.stream import TextCorpus
from dsvgraph_torch.data.text import load_corpus


def read(path: Path | None, batch: int = 2, seq: int = 16) -> TextCorpus:
    return load_corpus(path, batch, seq)


def whole(corpus: TextCorpus) -> bytes:
    """All bytes of both splits, in the order of the text."""
    return corpus.train.ids_N.numpy().tobytes()


def numbered(path: Path, size: int) -> Path:
    """A text in which every 16 bytes occur once."""
    path.write_text("".join(f"{i:07d} " for i in range(size // 8)))
    return path


def test_a_text_of_one_line_has_a_prompt_too(tmp_path: Path) -> None:
    (tmp_path / "line.txt").write_text("one line and no other. " * 400 + "\n")
    assert len(read(tmp_path / "line.txt").prompt(64)) == 64


def test_default_is_the_standard_library() -> None:
    first, second = read(None), read(None)
    assert first.digest == second.digest
    assert sysconfig.get_python_version() in first.source
    text = whole(first)
    for module in (os, json):
        assert Path(module.__file__).read_bytes() in text
    assert Path(pytest.__file__).read_bytes() not in text
    assert Path(torch.__file__).read_bytes() not in text


def test_library_without_tests_and_other_peoples_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"a.py": "a = 1\n" * 60, "json/b.py": "b = 2\n" * 60}
    dropped = [
        "site-packages/c.py",
        "test/d.py",
        "json/tests/e.py",
        "__pycache__/f.py",
        "g.txt",
        "_sysconfigdata_h.py",
    ]
    for name in [*kept, *dropped]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(kept.get(name, "DROPPED\n"))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert whole(read(None)).decode() == "".join(kept.values())


def test_a_file(tmp_path: Path) -> None:
    text = "naïve – 日本\r\n".encode() * 40
    (tmp_path / "text.md").write_bytes(text)
    corpus = read(tmp_path / "text.md")
    assert whole(corpus) == text
    assert corpus.source == str(tmp_path / "text.md")


def test_a_folder(tmp_path: Path) -> None:
    kept = {"a.txt": b"first\n" * 50, "b/c/d": b"second\n" * 50, "z.rst": b"third\n" * 50}
    dropped = {
        ".hidden": b"HIDDEN",
        ".git/x.txt": b"HIDDEN",
        "b/image.png": b"\0PNG",
        "latin.txt": b"\xe9t\xe9",
    }
    for name, content in {**kept, **dropped}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert whole(read(tmp_path)) == b"".join(kept.values())


def test_digest_tells_texts_apart(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("x" * 500)
    two.write_text("x" * 499 + "y")
    assert read(one).digest != read(two).digest


@pytest.mark.parametrize("size", [2_000, 4_000_000])
def test_held_out_text_is_never_trained_on(tmp_path: Path, size: int) -> None:
    corpus = read(numbered(tmp_path / "text", size))
    spans = [(*span, split) for split in (corpus.train, corpus.heldout) for span in split.spans]
    spans.sort(key=lambda span: span[:2])
    assert [stop for _, stop, _ in spans] == [
        *(start for start, *_ in spans[1:]),
        size,
    ]  # all, and nothing twice
    assert spans[0][0] == 0
    assert 0.03 < len(corpus.heldout) / size < 0.05
    text = whole(corpus)

    def inside(row_R: list[int], spans: tuple[tuple[int, int], ...]) -> bool:
        at = text.find(bytes(row_R))
        return any(start <= at and at + len(row_R) <= stop for start, stop in spans)

    held = [torch.cat([b.inputs, b.targets[:, -1:]], 1) for b in corpus.heldout_batches(2, 16, 20)]
    trained = [torch.cat([b.inputs, b.targets[:, -1:]], 1) for b in (corpus.batch(2, 16, 0, i) for i in range(20))]
    assert all(inside(row, corpus.heldout.spans) for rows in held for row in rows.tolist())
    assert all(inside(row, corpus.train.spans) for rows in trained for row in rows.tolist())
    assert len({tuple(row) for rows in trained for row in rows.tolist()}) > 35  # they move about


def test_the_split_is_the_same_each_time(tmp_path: Path) -> None:
    path = numbered(tmp_path / "text", 20_000)
    one, two = read(path), read(path)
    assert (one.train.spans, one.heldout.spans) == (two.train.spans, two.heldout.spans)
    for a, b in zip(one.heldout_batches(2, 16, 10), two.heldout_batches(2, 16, 10), strict=True):
        assert torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)


def test_targets_are_the_bytes_after_the_inputs(tmp_path: Path) -> None:
    corpus = read(numbered(tmp_path / "text", 20_000))
    text = whole(corpus)
    for batch in [corpus.batch(3, 16, 0, 5), next(corpus.heldout_batches(3, 16, 9))]:
        inputs_BT, targets_BT = batch.inputs, batch.targets
        assert inputs_BT.shape == targets_BT.shape == (3, 16)
        assert inputs_BT.dtype == targets_BT.dtype == torch.int64
        for inputs, targets in zip(inputs_BT.tolist(), targets_BT.tolist(), strict=True):
            at = text.index(bytes(inputs))
            assert bytes(targets) == text[at + 1 : at + 17]


def test_batches_depend_on_seed_and_number_alone(tmp_path: Path) -> None:
    corpus = read(numbered(tmp_path / "text", 20_000))
    first = corpus.batch(2, 16, 7, 3).inputs
    torch.rand(5)
    assert torch.equal(first, corpus.batch(2, 16, 7, 3).inputs)
    assert not torch.equal(first, corpus.batch(2, 16, 7, 4).inputs)
    assert not torch.equal(first, corpus.batch(2, 16, 8, 3).inputs)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"text, then \0", "NUL byte at offset 11"),
        (b"\xc3\xa9 is fine, \xe9 is not", "no UTF-8 at offset 12"),
        (b"too little", "10 bytes"),
    ],
)
def test_wrong_files(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DsvError) as caught:
        read(path)
    assert str(path) in str(caught.value) and words in str(caught.value)


@pytest.mark.parametrize(
    ("files", "words"),
    [({}, "no files"), ({"a.bin": b"\0"}, "none of them text"), ({".a": b"text"}, "no files")],
)
def test_wrong_folders(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DsvError) as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value) and words in str(caught.value)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DsvError, match="neither a file nor a folder"):
        read(tmp_path / "pipe")


def test_just_enough_text(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("x" * (17 * 3))
    assert read(path).train.rows(17) >= 1 and read(path).heldout.rows(17) == 1
    path.write_text("x" * (17 * 3 - 1))
    with pytest.raises(DsvError, match="at least 51"):
        read(path)


def test_a_vocabulary_without_room_for_bytes(tmp_path: Path) -> None:
    model = dsvgraph.load("deepseek_v3_tiny", {"vocab_size": 100})
    options = dict(data=numbered(tmp_path / "text", 2_000), out=tmp_path / "run", steps=1, device="cpu")
    with pytest.raises(DsvError, match=r"100.*bytes.*256"):
        dsvgraph_torch.train(model, options)
    assert not (tmp_path / "run").exists()
