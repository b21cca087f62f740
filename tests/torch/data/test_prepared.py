"""Prepared data: the same documents as read directly, whole or not at all, and never read if changed."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")

from runs import plain, quiet, small  # noqa: E402

from dsvgraph.backends.training import Packing  # noqa: E402
from dsvgraph.errors import DsvError  # noqa: E402
from dsvgraph_torch.data.documents import DocumentSource  # noqa: E402
from dsvgraph_torch.data.opened import chosen, open_corpus, vocabulary  # noqa: E402
from dsvgraph_torch.data.rows import prepared  # noqa: E402
from dsvgraph_torch.data.tokens import text_of  # noqa: E402
from dsvgraph_torch.decoding.generation import generate  # noqa: E402
from dsvgraph_torch.runs.folder import Run  # noqa: E402
from dsvgraph_torch.training import loop  # noqa: E402
from dsvgraph_torch.training.options import TrainOptions  # noqa: E402

TEXTS = [f"{i} bottles of béér on the wall, {i} bottles; text {'on ' * (i % 9)}<|endoftext|>" for i in range(150)]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


@pytest.fixture(scope="module")
def folder(lines: Path) -> Path:
    """The lines, prepared with a tokenizer that was trained on them."""
    out, source = lines.with_name("prepared"), DocumentSource(lines)
    told: list[tuple[int, int]] = []
    prepared.prepare(source, chosen("bpe:300", source.texts), out, lambda *at: told.append(at))
    assert told and told == sorted(told) and all(done <= total == lines.stat().st_size for done, total in told)
    return out


def options(**given: object) -> TrainOptions:
    return TrainOptions.given(**{"seq": 16, "batch": 4, "device": "cpu", **given})


def test_prepared_data_is_the_text(folder: Path) -> None:
    data = prepared.open_prepared(folder, Packing.CUT)
    pieces, end = data.pieces, data.tokens.end
    starts = pieces.starts.tolist()
    documents = [pieces.ids_N[a:b].tolist() for a, b in pairwise(starts)]
    assert [ids.count(end) for ids in documents] == [1] * 150  # a text that spells the end does not end a document
    assert ["".join(text_of(ids[:-1], data.tokens)) for ids in documents] == TEXTS
    header = prepared.read_header(folder)
    assert (header.documents, header.tokens) == (150, len(pieces.ids_N)) and header.vocabulary.size == 300
    assert header.heldout_tokens == sum(len(ids) for ids, held in zip(documents, pieces.heldout_P) if held) > 0


@pytest.mark.parametrize("pack", ["cut", "whole"])
def test_prepared_rows_are_those_of_the_text(lines: Path, folder: Path, pack: str) -> None:
    one = open_corpus(options(data=folder, pack=pack))
    other = open_corpus(options(data=lines, tokenizer="bpe:300", pack=pack))
    assert one.digest == other.digest and one.tokens.sha256 == other.tokens.sha256
    a, b = one.batch(4, 16, 0, 3), other.batch(4, 16, 0, 3)
    assert (
        torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets) and torch.equal(a.documents, b.documents)
    )


def test_a_folder_that_is_there(lines: Path, folder: Path) -> None:
    with pytest.raises(DsvError, match=r"-o: .* exists"):
        prepared.prepare(DocumentSource(lines), chosen("bytes", tuple), folder, lambda *_: None)


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"body": 1}\n')
    with pytest.raises(DsvError, match=r"a\.jsonl:2 has no text"):
        prepared.prepare(
            DocumentSource(tmp_path / "a.jsonl"), chosen("bytes", tuple), tmp_path / "out", lambda *_: None
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_what_a_killed_process_left_is_removed(lines: Path, tmp_path: Path) -> None:
    ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, check=True).stdout.decode().strip()
    left, kept = tmp_path / f".out.{ended}.tmp", tmp_path / f".out.{os.getppid()}.tmp"
    for path in (left, kept):
        path.mkdir()
        (path / "tokens.bin").write_bytes(b"half")
    prepared.prepare(DocumentSource(lines), chosen("bytes", tuple), tmp_path / "out", lambda *_: None)
    assert not left.exists() and kept.exists() and (tmp_path / "out/dataset.json").exists()


@pytest.mark.parametrize("name", ["tokens.bin", "starts.bin", "heldout.bin", "tokenizer.json", "dataset.json"])
def test_changed_files_are_refused(lines: Path, tmp_path: Path, name: str) -> None:
    source, out = DocumentSource(lines), tmp_path / "out"
    prepared.prepare(source, chosen("bpe:260", source.texts), out, lambda *_: None)
    content = bytearray((out / name).read_bytes())
    content[content.index(b"b" if "json" in name else content[0:1])] ^= 1
    (out / name).write_bytes(content)
    with pytest.raises(DsvError, match=r"was changed|is damaged|is no tokenizer"):
        prepared.open_prepared(out, Packing.NONE)


def test_tokenizers_that_are_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    for text, message in (
        ("bpe:256", "has a size from 257"),
        ("bpe:x", "has a size from 257"),
        (str(tmp_path / "none.json"), "none.json does not exist"),
        (str(tmp_path), "is no tokenizer"),
    ):
        with pytest.raises(DsvError, match="--tokenizer: .*" + message):
            chosen(text, tuple)
    with pytest.raises(DsvError, match="is prepared data, which has its own"):
        loop.train(small(), options(data=folder, tokenizer="bytes", out=tmp_path / "run"), quiet())


def test_a_tokenizer_file_is_one_of_transformers(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    ours = chosen(str(folder), tuple)
    text = "99 béér bottles, 日本"
    assert theirs.encode(text, add_special_tokens=False) == ours.encode(text)
    assert theirs.eos_token_id == ours.end and "".join(text_of(ours.encode(text), ours)) == text


def test_ids_become_text_as_soon_as_they_are_one(folder: Path) -> None:
    ours = chosen(str(folder), tuple)
    ids = ours.encode("日本")  # bytes that are no token together
    pieces = list(text_of(ids, ours))
    assert pieces == ["日", "本"] and len(ids) > 2
    assert "".join(text_of(ids[:-1], ours)).startswith("日")


def test_a_run_on_prepared_data(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed rows train, the vocabulary is in the run's folder, and generate writes text with it."""
    plain(monkeypatch)
    given = options(data=folder, pack="whole", steps=2, out=tmp_path / "run")
    assert vocabulary(given) == (300, "the tokenizer bpe:300 has 300 tokens")
    with pytest.raises(DsvError, match="the tokenizer bpe:300 has 300 tokens"):
        loop.train(small(vocab_size=299), given, quiet())
    console = quiet()
    result = loop.train(small(vocab_size=320), given, console)
    assert result.step == 2 and "token i + 1" in console.file.getvalue()
    assert Run(tmp_path / "run").tokens().size == 300
    told = generate(tmp_path / "run", ["9 bottles"], {"tokens": 4})
    assert "".join(piece for _, piece in told)
    (tmp_path / "run/tokenizer.json").unlink()
    with pytest.raises(DsvError, match=r"tokenizer\.json does not exist"):
        generate(tmp_path / "run", ["9 bottles"], {"tokens": 4})
