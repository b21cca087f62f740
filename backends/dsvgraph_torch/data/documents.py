"""Documents of text files, JSON lines, Parquet files and Hugging Face datasets on disk, one text at a time."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsvgraph.errors import DsvError
from dsvgraph.names import listed
from dsvgraph_torch.data.text import library_files, name_of, not_text, read_bytes, reading, visible_files
from dsvgraph_torch.runs.files import read

JSON_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
STATE, SPLITS = "state.json", "dataset_dict.json"
"""Files in the folder of one saved dataset, and of several by the names of their splits."""


@dataclass
class DocumentSource:
    """What is read at ``path`` (None for the standard library), but for the folder ``run``.

    ``column`` is the field of records that holds the text. ``done`` counts the bytes of the files that were read so
    far, out of ``total``; ``left_out`` says what is not read, and why.
    """

    path: Path | None
    column: str = "text"
    run: Path | None = None
    left_out: list[str] = field(default_factory=list)
    done: int = 0
    total: int = 0

    @property
    def name(self) -> str:
        """What is read, for people."""
        return name_of(self.path)

    @property
    def has_records(self) -> bool:
        """Whether documents are records of some file, so that a text alone does not tell where one ends."""
        with reading(self.name):
            return any(_is_records(file) for file in self._files())

    def texts(self) -> Iterator[str]:
        """Yield the documents that are not empty. Raise DsvError where there is none, or one cannot be read."""
        self.done, self.left_out[:], empty, found = 0, [], 0, False
        with reading(self.name):
            files = self._files()
            self.total = sum(file.stat().st_size for file in files)
            for file in files:
                for text in self._of_file(file, alone=len(files) == 1 and file == self.path):
                    empty, found = empty + (not text), found or bool(text)
                    if text:
                        yield text
                self.done += file.stat().st_size
        self.left_out += [f"{empty:,} empty documents"] if empty else []
        if not found:
            raise DsvError(f"--data: no text in {self.name}: it holds {len(files):,} files (hidden ones are not read)")

    def _files(self) -> list[Path]:
        if self.path is None:
            return library_files()
        if not self.path.is_dir():
            if self.path.exists() and not self.path.is_file():
                raise DsvError(f"--data: {self.path} is neither a file nor a folder")
            return [self.path]
        if (self.path / SPLITS).exists() or (self.path / STATE).exists():
            return _arrow_files(self.path, self.left_out)
        return visible_files(self.path, self.run, self.left_out)

    def _of_file(self, file: Path, alone: bool) -> Iterator[str]:
        if file.name.endswith(JSON_LINES):
            yield from _json_lines(file, self.column)
        elif file.suffix == ".parquet":
            yield from _column(_parquet(file, self.column), file, self.column)
        elif _is_records(file):
            yield from _column(_arrow(file, self.column), file, self.column)
        else:
            content = read_bytes(file)
            if not (why := not_text(content)):
                yield content.decode()
            elif alone:
                hint = "a text file is UTF-8, without NUL bytes"
                raise DsvError(f"--data: {file} is not text: {why}", hint=hint)
            else:
                self.left_out.append(f"{file.name}: {why}")


def _is_records(file: Path) -> bool:
    return file.name.endswith(JSON_LINES) or file.suffix in (".parquet", ".arrow")


def _json_lines(file: Path, name: str) -> Iterator[str]:
    """Yield the field ``name`` of every line that is not blank."""
    with _opened(file) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DsvError(f"--data: {file}:{number} is not JSON: {error}") from None
            if not isinstance(record, dict):
                raise DsvError(f"--data: {file}:{number} is no JSON object")
            if not isinstance(record.get(name), str):
                raise _no_field(f"{file}:{number}", name, record)
            yield record[name]


def _opened(file: Path) -> Any:
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")


def _no_field(place: str, name: str, there: Any) -> DsvError:
    """Return the error about records without a text of this name."""
    words = f"has no text `{name}`; it has {listed(sorted(map(str, there))) or 'nothing'}"
    return DsvError(f"--data: {place} {words}", hint="dsvgraph data prepare PATH --field NAME names another one")


def _column(batches: Iterator[Any], file: Path, name: str) -> Iterator[str]:
    """Yield the texts of a column of Arrow batches, an empty one where there is none."""
    for batch in batches:
        for value in batch.column(0).to_pylist():
            if not isinstance(value, str | None):
                raise _no_field(str(file), name, batch.schema.names)
            yield value or ""


def _parquet(file: Path, name: str) -> Iterator[Any]:
    parquet, problem = _library("parquet")
    try:
        with parquet.ParquetFile(file) as opened:
            if name not in opened.schema_arrow.names:
                raise _no_field(str(file), name, opened.schema_arrow.names)
            yield from opened.iter_batches(columns=[name], batch_size=1024)
    except problem as error:
        raise DsvError(f"--data: {file} is no Parquet file: {error}") from None


def _arrow(file: Path, name: str) -> Iterator[Any]:
    """Yield the batches of a file that Hugging Face's `save_to_disk` has written."""
    arrow, problem = _library("")
    try:
        with arrow.memory_map(str(file)) as mapped, arrow.ipc.open_stream(mapped) as batches:
            if name not in batches.schema.names:
                raise _no_field(str(file), name, batches.schema.names)
            for batch in batches:
                yield batch.select([name])
    except problem as error:
        raise DsvError(f"--data: {file} is no Arrow file of a dataset: {error}") from None


def _library(part: str) -> tuple[Any, type[Exception]]:
    """Return pyarrow, or a module of it, and the class of its errors."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        hint = "pip install 'dsvgraph[data]'"
        raise DsvError("--data: the library `pyarrow`, which reads it, is not installed", hint=hint) from None
    return (getattr(pyarrow, part) if part else pyarrow), pyarrow.ArrowException


def _arrow_files(folder: Path, left_out: list[str]) -> list[Path]:
    """Return the files of a saved dataset, of its split `train` where it has several."""
    if (folder / SPLITS).exists():
        splits = _listed(folder / SPLITS, "splits")
        chosen = "train" if "train" in splits else splits[0] if len(splits) == 1 else None
        if chosen is None:
            hint = f"name the folder of one: {folder / str(splits[0]) if splits else folder}"
            raise DsvError(f"--data: {folder} has the splits {listed(splits)} and no `train`", hint=hint)
        left_out += [f"the split {name}" for name in splits if name != chosen]
        folder = folder / chosen
    return [folder / str(entry["filename"]) for entry in _listed(folder / STATE, "_data_files")]


def _listed(file: Path, key: str) -> list[Any]:
    """Return a list of the JSON that describes a saved dataset."""
    try:
        description = json.loads(read(file))
        found: list[Any] = description[key]
        if description.get("_indices_files") or description.get("_indices_data_files"):
            raise DsvError(f"--data: {file.parent} is a selection of rows", hint="save it after flatten_indices()")
        return [*found]
    except (ValueError, TypeError, KeyError):
        raise DsvError(f"--data: {file} does not describe a saved dataset: it has no {key}") from None
