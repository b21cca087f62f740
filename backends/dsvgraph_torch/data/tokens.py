"""How text becomes token ids and ids become text: bytes, a tokenizer.json, or the words of a task."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Protocol


class Decoder(Protocol):
    """Turns ids into text as they come."""

    def add(self, token: int) -> str:
        """Return the text that ``token`` completes; nothing while a character is incomplete."""

    def rest(self) -> str:
        """Return the text of what stayed incomplete."""


class Tokens(Protocol):
    """The vocabulary of a run. Ids are 0 to ``size - 1``."""

    @property
    def name(self) -> str:
        """What --tokenizer takes, or the name of a task."""

    @property
    def meaning(self) -> str:
        """What ids stand for, as the subject of a sentence: "text is read as bytes, which are 256"."""

    @property
    def unit(self) -> str:
        """What one id is called: `byte` or `token`."""

    @property
    def sha256(self) -> str:
        """The digest of the vocabulary; nothing for bytes."""

    @property
    def size(self) -> int:
        """How many ids there are: what vocab_size must be at least."""

    @property
    def end(self) -> int | None:
        """The id that ends a document; None where there is none."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, without one that ends it."""

    def decoder(self) -> Decoder:
        """Return a decoder of one sequence."""


class ByteTokens:
    """Every byte of UTF-8 is a token."""

    name, unit, size, sha256 = "bytes", "byte", 256, ""
    meaning = "text is read as bytes, which are 256"
    end: int | None = None

    def encode(self, text: str) -> list[int]:
        """Return the bytes of ``text``."""
        return list(text.encode(errors="replace"))

    def decoder(self) -> Decoder:
        """Return a decoder that writes a replacement character for what is no UTF-8."""
        return _ByteDecoder()


class _ByteDecoder:
    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        return self.decoder.decode(bytes([token]))

    def rest(self) -> str:
        return self.decoder.decode(b"", final=True)


BYTES: Tokens = ByteTokens()


def prompt_ids(tokens: Tokens, prompt: str) -> list[int]:
    """Return the ids of a prompt, at least one: an empty one is what comes before a document or a line."""
    return tokens.encode(prompt) or ([tokens.encode("\n")[0]] if tokens.end is None else [tokens.end])


def text_of(ids: Iterable[int], tokens: Tokens = BYTES) -> Iterator[str]:
    """Yield ids as text, piece by piece."""
    decoder = tokens.decoder()
    for token in ids:
        if piece := decoder.add(token):
            yield piece
    if rest := decoder.rest():
        yield rest
