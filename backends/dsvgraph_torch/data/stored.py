"""The vocabulary of a run or of prepared data, kept in a folder."""

from __future__ import annotations

import json
from pathlib import Path

from dsvgraph.errors import DsvError
from dsvgraph_torch.data import tokenizer, words
from dsvgraph_torch.data.tokenizer import FileTokens
from dsvgraph_torch.data.tokens import BYTES, Tokens
from dsvgraph_torch.data.words import WordTokens
from dsvgraph_torch.runs.files import read


def described(tokens: Tokens) -> dict[str, object]:
    """Return what identifies a vocabulary, for JSON."""
    return {"name": tokens.name, "size": tokens.size, "sha256": tokens.sha256}


def write_tokens(tokens: Tokens, folder: Path) -> None:
    """Write what ``tokens`` need to be read again; bytes need nothing."""
    if isinstance(tokens, FileTokens | WordTokens):
        tokens.write(folder)


def read_tokens(folder: Path, name: str, sha256: str) -> Tokens:
    """Return the vocabulary that was written to ``folder``. Raise DsvError if it is missing or was changed."""
    if sha256 == BYTES.sha256:
        return BYTES
    file = folder / words.FILE
    found = _words(file) if file.exists() else tokenizer.read_tokenizer(folder, name)
    if found.sha256 != sha256:
        raise DsvError(f"the vocabulary in {folder} was changed since it was written")
    return found


def _words(file: Path) -> WordTokens:
    try:
        stored = json.loads(read(file))
        return WordTokens(str(stored["name"]), tuple(map(str, stored["words"])))
    except (ValueError, TypeError, KeyError):
        raise DsvError(f"{file} is damaged: it holds no vocabulary") from None
