"""Tokens of a tokenizer.json: read from a file, or trained on texts. It needs the library tokenizers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsvgraph.errors import DsvError
from dsvgraph_torch.data.tokens import Decoder
from dsvgraph_torch.runs.files import read, write_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
END = "<|endoftext|>"
ENDS = (
    END,
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "<|eot_id|>",
    "<|im_end|>",
    "</s>",
    "<eos>",
)
"""Names under which the end of a document is known where no tokenizer_config.json names it."""

ALPHABET = 256
"""Tokens that every byte needs, before any merge."""


class FileTokens:
    """The tokens of a tokenizer.json; ``text`` is the file."""

    unit = "token"

    def __init__(self, name: str, text: str, end: str | None) -> None:
        self.name, self.text, self.end_word = name, text, end
        self.tokenizer = _parsed(text, name)
        self.tokenizer.encode_special_tokens = True  # a text that spells the end of a document does not end one
        self.size = 1 + max(self.tokenizer.get_vocab().values(), default=-1)
        self.end: int | None = None if end is None else self.tokenizer.token_to_id(end)
        self.meaning = f"the tokenizer {name} has {self.size} tokens"

    @property
    def sha256(self) -> str:
        """The digest of the vocabulary and of what ends a document."""
        return hashlib.sha256(json.dumps([self.text, self.end_word]).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, without those that a tokenizer puts around it."""
        ids: list[int] = self.tokenizer.encode(_valid(text), add_special_tokens=False).ids
        return ids

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of every text, computed in parallel."""
        found = self.tokenizer.encode_batch_fast([_valid(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def decoder(self) -> Decoder:
        """Return a decoder of one sequence."""
        return _StreamDecoder(self.tokenizer)

    def write(self, folder: Path) -> None:
        """Write the tokenizer to ``folder``, as Hugging Face lays it out."""
        write_text(folder / FILE, self.text)
        write_text(folder / CONFIG, json.dumps({"eos_token": self.end_word}) + "\n")


class _StreamDecoder:
    """Holds ids back until the text that they stand for can no longer change."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers.decoders import DecodeStream

        self.tokenizer, self.stream = tokenizer, DecodeStream(skip_special_tokens=False)
        self.pending: list[int] = []

    def add(self, token: int) -> str:
        self.pending.append(token)
        piece = self.stream.step(self.tokenizer, token)
        if piece is None:
            return ""
        self.pending = []
        return piece

    def rest(self) -> str:
        return self.tokenizer.decode(self.pending, skip_special_tokens=False) if self.pending else ""


def read_tokenizer(path: Path, name: str = "") -> FileTokens:
    """Return the tokenizer of a file tokenizer.json, or of a folder that holds one.

    Raise DsvError if it is none, or the library that reads it is missing.
    """
    file = path / FILE if path.is_dir() else path
    if not file.exists():
        raise DsvError(f"--tokenizer: {file} does not exist", hint="bytes, bpe:4096, or the path of a tokenizer.json")
    try:
        text = read(file).decode()
    except UnicodeDecodeError:
        raise DsvError(f"--tokenizer: {file} is not UTF-8 text") from None
    found = FileTokens(name or str(path), text, None)
    return FileTokens(found.name, text, _end(file.parent / CONFIG, found.tokenizer))


def _end(config: Path, tokenizer: Tokenizer) -> str | None:
    """Return the token that ends a document: as the config says, else one of the names that are known."""
    if config.is_file():
        try:
            content: Any = json.loads(read(config))
        except ValueError:
            raise DsvError(f"--tokenizer: {config} is not JSON") from None
        named = content.get("eos_token") if isinstance(content, dict) else None
        named = named.get("content") if isinstance(named, dict) else named
        if isinstance(named, str) and tokenizer.token_to_id(named) is None:
            raise DsvError(f"--tokenizer: {config} names the eos_token {named}, which the tokenizer does not have")
        if isinstance(named, str):
            return named
    return next((word for word in ENDS if tokenizer.token_to_id(word) is not None), None)


def train_tokenizer(texts: Iterable[str], size: int) -> FileTokens:
    """Return a byte-level BPE tokenizer of at most ``size`` tokens, trained on ``texts``."""
    library = _library()
    trained = library.Tokenizer(library.models.BPE())
    trained.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator(map(_valid, texts), trainer)
    return FileTokens(f"bpe:{size}", trained.to_str(), END)


def bpe_size(text: str) -> int | None:
    """Return the size of `bpe:SIZE`, None for another text. Raise DsvError if the size makes no sense."""
    kind, colon, number = text.partition(":")
    if kind != "bpe" or (colon and not number.isdecimal() and Path(text).exists()):
        return None
    size = int(number) if number.isdecimal() else 0
    if not ALPHABET < size <= 2**24:
        words = f"bpe:SIZE has a size from {ALPHABET + 1} (every byte, and the end of a document) to {2**24}"
        raise DsvError(f"--tokenizer: {words}, got {text}", hint="bpe:4096")
    return size


def _valid(text: str) -> str:
    """Return ``text`` with a question mark for what is no character, half a surrogate pair for example."""
    return text.encode(errors="replace").decode()


def _parsed(text: str, name: str) -> Tokenizer:
    try:
        return _library().Tokenizer.from_str(text)
    except DsvError:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises no class of its own
        raise DsvError(f"--tokenizer: {name} is no tokenizer: {error}") from None


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        hint = "pip install 'dsvgraph[data]'"
        raise DsvError("--tokenizer: the library `tokenizers` is not installed", hint=hint) from None
    return tokenizers
