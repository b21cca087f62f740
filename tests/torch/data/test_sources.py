"""Documents of every kind of file are the same texts, and what is wrong with one is told with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

from dsvgraph.errors import DsvError  # noqa: E402
from dsvgraph_torch.data.documents import DocumentSource  # noqa: E402

TEXTS = ["first", "zweite – naïve", "", "line\nbreak", "日本"]
SOME = [text for text in TEXTS if text]


def table(texts: list[str] = TEXTS) -> object:
    return pyarrow.table({"id": list(range(len(texts))), "text": texts})


def arrow(folder: Path, texts: list[str] = TEXTS) -> None:
    """A dataset as Hugging Face's `save_to_disk` lays it out."""
    folder.mkdir(parents=True)
    made = table(texts)
    name = str(folder / "data-00000-of-00001.arrow")
    with pyarrow.OSFile(name, "wb") as file, pyarrow.ipc.new_stream(file, made.schema) as writer:
        writer.write_table(made)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train", "_fingerprint": "0"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def lines(texts: list[str] = TEXTS) -> str:
    return "\n".join(json.dumps({"id": i, "text": text}) for i, text in enumerate(texts)) + "\n\n"


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.parquet", "saved", "several", "folder"])
def test_documents_of_every_kind(tmp_path: Path, name: str) -> None:
    path, left = tmp_path / name, ["1 empty documents"]
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines().encode()))
    elif "json" in name:
        path.write_text(lines())
    elif name.endswith("parquet"):
        parquet.write_table(table(), path)
    elif name == "saved":
        arrow(path)
    elif name == "several":
        arrow(path / "train")
        arrow(path / "test", ["other"])
        (path / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
        left.insert(0, "the split test")
    else:
        path.mkdir()
        (path / "a.jsonl").write_text(lines(TEXTS[:2]))
        (path / "b.txt").write_bytes(b"line\nbreak")
        parquet.write_table(table(TEXTS[2:3] + TEXTS[4:]), path / "c.parquet")
        (path / "d.bin").write_bytes(b"\0")
        left.insert(0, "d.bin: a NUL byte at offset 0")
    source = DocumentSource(path)
    assert list(source.texts()) == SOME and source.left_out == left and source.done == source.total > 0
    assert source.has_records


def test_another_column(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x"}\n')
    assert list(DocumentSource(tmp_path / "a.jsonl", "body").texts()) == ["x"]


def test_text_files_are_documents(tmp_path: Path) -> None:
    for name, text in (("b.txt", "two"), ("a.md", "one")):
        (tmp_path / name).write_text(text)
    source = DocumentSource(tmp_path)
    assert list(source.texts()) == ["one", "two"] and not source.has_records


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text"}\n', "a.jsonl:2 is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n[1]\n', "a.jsonl:2 is no JSON object"),
        ("a.jsonl", b'{"body": "x", "id": 1}\n', "a.jsonl:1 has no text `text`; it has `body`, `id`"),
        ("a.jsonl", b'{"text": 5}\n', "a.jsonl:1 has no text `text`"),
        ("a.jsonl", b"\n", "no text in"),
        ("a.jsonl.gz", b"no gzip", "cannot read"),
        ("a.parquet", b"no parquet", "a.parquet is no Parquet file"),
        ("a.txt", b"x\0", "a.txt is not text: a NUL byte at offset 1"),
        ("state.json", b"{}", "state.json does not describe a saved dataset: it has no _data_files"),
        ("state.json", b'{"_data_files": [], "_indices_files": [1]}', "is a selection of rows"),
        ("dataset_dict.json", b'{"splits": ["a", "b"]}', "has the splits `a`, `b` and no `train`"),
        (None, b"", "does not exist"),
    ],
)
def test_documents_that_are_refused(tmp_path: Path, name: str | None, content: bytes, message: str) -> None:
    path = tmp_path / (name or "nothing")
    if name:
        path.write_bytes(content)
    with pytest.raises(DsvError) as caught:
        list(DocumentSource(tmp_path if path.suffix == ".json" else path).texts())
    assert message in str(caught.value)


def test_columns_that_are_no_text(tmp_path: Path) -> None:
    parquet.write_table(table(), tmp_path / "a.parquet")
    for column in ("body", "id"):
        with pytest.raises(DsvError, match=f"has no text `{column}`; it has"):
            list(DocumentSource(tmp_path / "a.parquet", column).texts())
