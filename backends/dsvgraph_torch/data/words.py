"""The vocabulary of a task: words, each a token."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dsvgraph.errors import DsvError, clipped
from dsvgraph_torch.data.tokens import Decoder
from dsvgraph_torch.runs.files import write_text

FILE = "vocabulary.json"


@dataclass(frozen=True)
class WordTokens:
    """Words as tokens, written with a space between them; the last word fills rows up and ends them."""

    name: str
    vocabulary: tuple[str, ...]
    unit = "token"

    @property
    def size(self) -> int:
        """How many words there are."""
        return len(self.vocabulary)

    @property
    def end(self) -> int | None:
        """The word that ends a row."""
        return self.size - 1

    @property
    def meaning(self) -> str:
        """What ids stand for."""
        return f"the task {self.name} has {self.size} tokens"

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of every word."""
        return {word: index for index, word in enumerate(self.vocabulary)}

    @property
    def sha256(self) -> str:
        """The digest of the vocabulary."""
        return hashlib.sha256(self._text().encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Return the ids of the words of ``text``. Raise DsvError if one is not known."""
        for word in text.split():
            if word not in self.ids:
                known = clipped(" ".join(self.vocabulary), 100)
                raise DsvError(f"`{clipped(word, 40)}` is no word of the task {self.name}: {known}")
        return [self.ids[word] for word in text.split()]

    def decoder(self) -> Decoder:
        """Return a decoder that puts a space between words."""
        return _WordDecoder(self.vocabulary)

    def write(self, folder: Path) -> None:
        """Write the vocabulary to ``folder``."""
        write_text(folder / FILE, self._text())

    def _text(self) -> str:
        return json.dumps({"name": self.name, "words": self.vocabulary}) + "\n"


class _WordDecoder:
    def __init__(self, vocabulary: tuple[str, ...]) -> None:
        self.vocabulary, self.space = vocabulary, ""

    def add(self, token: int) -> str:
        space, self.space = self.space, " "
        return space + self.vocabulary[token]

    def rest(self) -> str:
        return ""
