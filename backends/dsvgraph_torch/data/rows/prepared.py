"""Token files: documents that were encoded once, in a folder that training maps into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsvgraph.backends.training import Packing
from dsvgraph.errors import DsvError
from dsvgraph.files import remove_abandoned, write_folder
from dsvgraph_torch.data.documents import DocumentSource
from dsvgraph_torch.data.rows.packed import PackedCorpus
from dsvgraph_torch.data.rows.pieces import Encoder, Pieces, write_ids
from dsvgraph_torch.data.stored import described, read_tokens, write_tokens
from dsvgraph_torch.data.tokens import Tokens
from dsvgraph_torch.runs.files import read, write_text
from dsvgraph_torch.training.options import fault

HEADER, IDS, STARTS, HELDOUT = "dataset.json", "tokens.bin", "starts.bin", "heldout.bin"
Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Vocabulary(BaseModel):
    """The tokens of prepared data; ``sha256`` is empty where they are bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size: Annotated[int, Field(ge=1)]
    sha256: str


class Header(BaseModel):
    """dataset.json: what the token files hold, and the digests of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["dsvgraph tokens 1"] = "dsvgraph tokens 1"
    source: str
    documents: Count
    tokens: Count
    heldout_tokens: Count
    dtype: Annotated[str, Field(pattern="^<u[124]$")]
    vocabulary: Vocabulary
    digest: Digest
    left_out: tuple[str, ...] = ()
    sha256: dict[Annotated[str, Field(pattern=r"^(tokens|starts|heldout)\.bin$")], Digest] = Field(min_length=3)


def is_prepared(path: Path | None) -> bool:
    """Return whether ``path`` is a folder of token files."""
    return path is not None and (path / HEADER).is_file()


def prepare(source: DocumentSource, tokens: Tokens, folder: Path, progress: Callable[[int, int], object]) -> Header:
    """Encode the documents of ``source`` into the new folder ``folder``, which is there whole or not at all.

    ``progress`` is called with the bytes that are read so far, and all. Raise DsvError if there is no text, or the
    folder is there already.
    """
    if folder.exists():
        hint = "it holds prepared data: use it, or name another folder" if is_prepared(folder) else "name a new folder"
        raise DsvError(f"-o: {folder} exists", hint=hint)
    remove_abandoned(folder)
    found = list[Header]()
    write_folder(folder, lambda temporary: found.append(_write(source, tokens, temporary, progress)))
    return found[0]


def _write(source: DocumentSource, tokens: Tokens, folder: Path, progress: Callable[[int, int], object]) -> Header:
    encoder = Encoder(tokens)
    with (folder / IDS).open("wb") as file:
        for _ in write_ids(encoder, source.texts(), file):
            progress(source.done, source.total)
    starts, heldout_P = encoder.cut()
    (folder / STARTS).write_bytes(starts.astype("<i8").tobytes())
    (folder / HELDOUT).write_bytes(heldout_P.astype("<u1").tobytes())
    write_tokens(tokens, folder)
    header = Header(
        source=source.name,
        documents=len(encoder.digests),
        tokens=encoder.starts[-1],
        heldout_tokens=int(np.diff(starts)[heldout_P].sum()),
        dtype=encoder.dtype.str.replace("|", "<"),
        vocabulary=Vocabulary.model_validate(described(tokens)),
        digest=encoder.digest,
        left_out=tuple(source.left_out),
        sha256={name: _sha256(folder / name) for name in (IDS, STARTS, HELDOUT)},
    )
    write_text(folder / HEADER, header.model_dump_json(indent=2) + "\n")
    return header


def read_header(folder: Path) -> Header:
    """Return what a folder of token files says of itself. Raise DsvError if it is damaged."""
    try:
        return Header.model_validate_json(read(folder / HEADER))
    except ValidationError as error:
        raise DsvError(f"{folder / HEADER} is damaged: {fault(error)}") from None


def open_prepared(folder: Path, packing: Packing) -> PackedCorpus:
    """Return prepared data, its tokens mapped into memory. Raise DsvError if a file is not what was written."""
    header = read_header(folder)
    for name, digest in header.sha256.items():
        if _sha256(folder / name) != digest:
            raise DsvError(f"{folder / name} was changed since it was prepared", hint="prepare the data again")
    ids_N: Any = np.memmap(folder / IDS, np.dtype(header.dtype), "r")
    starts, heldout_P = np.fromfile(folder / STARTS, "<i8"), np.fromfile(folder / HELDOUT, "<u1") == 1
    return PackedCorpus(
        source=str(folder),
        digest=header.digest,
        tokens=tokens_of(folder, header),
        pieces=Pieces(ids_N, starts, heldout_P),
        packing=packing,
        left_out=header.left_out,
    )


def tokens_of(folder: Path, header: Header) -> Tokens:
    """Return the vocabulary of prepared data."""
    return read_tokens(folder, header.vocabulary.name, header.vocabulary.sha256)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DsvError(f"cannot read {path}: {error.strerror}") from None
