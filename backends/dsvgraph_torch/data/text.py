"""Text as tokens: bytes of files, a held-out split, and rows of T+1 drawn by step.

Shape legend: N bytes of the whole text, B rows, T tokens of a row, R = T + 1.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from dsvgraph.errors import DsvError
from dsvgraph.files import opened
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.data.corpus import seeded
from dsvgraph_torch.data.tokens import BYTES, Tokens

Spans = tuple[tuple[int, int], ...]

HELDOUT_SHARE = 0.04
BLOCK = 32 * 1024
"""Length of one held-out block, in bytes, where the text is long enough."""

LIBRARY_SKIPS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
"""Folders of the standard library that are not read: other people's code, and tests."""


@dataclass(frozen=True)
class Split:
    """The part of a text that lies in ``spans``, each ``(start, stop)`` in bytes.

    Rows never cross the end of a span, so that no row of one split holds text of another.
    """

    bytes_N: Tensor = field(repr=False)
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.spans)

    def rows(self, length: int) -> int:
        """Return how many different rows of ``length`` bytes there are."""
        return sum(self._counts(length))

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        """``batch`` rows at random places, [B, length] int64."""
        pick_B = torch.randint(self.rows(length), (batch,), generator=generator)
        return self._gather(pick_B.tolist(), length)

    def spread(self, count: int, length: int) -> Tensor:
        """Return at most ``count`` rows, the same each time, evenly spread, [rows, length] int64."""
        found = self.rows(length)
        count = min(count, max(1, len(self) // length))
        return self._gather([i * found // count for i in range(count)], length)

    def _counts(self, length: int) -> list[int]:
        return [max(0, stop - start - length + 1) for start, stop in self.spans]

    def _gather(self, picks: list[int], length: int) -> Tensor:
        """Return the rows number ``picks``, counted over all spans."""
        ends = list(accumulate(self._counts(length)))
        starts = []
        for pick in picks:
            span = bisect_right(ends, pick)
            starts.append(self.spans[span][1] - length + 1 - (ends[span] - pick))
        return torch.stack([self.bytes_N[s : s + length] for s in starts]).long()


@dataclass(frozen=True)
class TextCorpus:
    """A text in two parts. ``digest`` tells whether two runs read the same bytes.

    ``left_out`` names what of a folder is not in it, and why.
    """

    source: str
    digest: str
    train: Split
    heldout: Split
    left_out: tuple[str, ...] = ()
    tokens: Tokens = BYTES
    sample_tokens: int = 1000

    def batch(self, batch: int, seq: int, seed: int, index: int) -> Batch:
        """Return training batch number ``index``: ``batch`` rows of ``seq`` tokens at random places.

        It depends on nothing but ``seed`` and ``index``, so a resumed run needs no state.
        """
        return Batch.of_rows(self.train.sample(batch, seq + 1, seeded(seed, "batch", index)))

    def heldout_batches(self, batch: int, seq: int, rows: int) -> Iterator[Batch]:
        """Yield about ``rows`` held-out rows, at most ``batch`` at once."""
        yield from map(Batch.of_rows, self.heldout.spread(rows, seq + 1).split(batch))

    def prompt(self, length: int = 64) -> list[int]:
        """Return the tokens of some held-out text from the start of a line, to continue in a sample."""
        start, stop = self.heldout.spans[len(self.heldout.spans) // 2]
        text = bytes(self.heldout.bytes_N[start : min(stop, start + 4096)].tolist())
        return list(text[text.find(b"\n") + 1 :].lstrip(b"\n")[:length])


def load_corpus(path: Path | None, batch: int, seq: int, run: Path | None = None) -> TextCorpus:
    """Read and splits a text file, a folder of them (but for the folder ``run``), or (None) the standard library.

    Raise DsvError if there is no text, or less than one batch of it.
    """
    source = str(path or f"the standard library of Python {sysconfig.get_python_version()}")
    left_out: list[str] = []
    try:
        text = _read(path, run, left_out) if path else _library()
    except FileNotFoundError:
        raise DsvError(f"--data: {source} does not exist") from None
    except OSError as error:
        place = error.filename or source
        raise DsvError(f"--data: cannot read {place}: {error.strerror or error}") from None
    return replace(split(text, source, batch, seq), left_out=tuple(left_out))


def split(text: bytes | bytearray, source: str, batch: int, seq: int) -> TextCorpus:
    """Hold out a share of the text in equal blocks, evenly spread over it."""
    total, row = len(text), seq + 1
    held = max(int(total * HELDOUT_SHARE), row)
    if total < held + batch * row:
        raise DsvError(
            f"--data: {source} holds {total:,} bytes; one batch of {batch} x {seq} and a held-out row need "
            f"at least {held + batch * row:,}",
            hint="give more text, or a smaller --batch or --seq",
        )
    blocks = max(1, held // max(BLOCK, row))
    train, heldout = _interleave(total, blocks, held // blocks)
    bytes_N = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    digest = hashlib.sha256(text).hexdigest()
    return TextCorpus(source, digest, Split(bytes_N, train), Split(bytes_N, heldout))


def _interleave(total: int, blocks: int, size: int) -> tuple[Spans, Spans]:
    """Spans of (train, held-out): the last ``size`` bytes of each of ``blocks`` stretches are held out."""
    stops = [total * (i + 1) // blocks for i in range(blocks)]
    starts = [0, *stops[:-1]]
    train = tuple((start, stop - size) for start, stop in zip(starts, stops, strict=True))
    return train, tuple((stop - size, stop) for stop in stops)


def _library() -> bytearray:
    """Return the standard library's modules, less what differs between machines with one Python."""
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for folder, names, found in os.walk(root):
        names[:] = sorted(n for n in names if n not in LIBRARY_SKIPS and not n.startswith("config-"))
        files += [Path(folder, f) for f in found if f.endswith(".py") and not f.startswith("_sysconfigdata")]
    if not files:
        hint = "give a text file or a folder"
        raise DsvError(f"--data: this Python has no library sources under {root}", hint=hint)
    return _join(_by_name(files, root), root, [])


def _read(path: Path, run: Path | None, left_out: list[str]) -> bytes | bytearray:
    """Return the text of a file, or of every text file below a folder."""
    if path.is_dir():
        return _read_folder(path, run, left_out)
    if path.exists() and not path.is_file():
        raise DsvError(f"--data: {path} is neither a file nor a folder")
    text = _bytes(path)
    if not text:
        raise DsvError(f"--data: {path} is empty")
    if why := _not_text(text):
        raise DsvError(f"--data: {path} is not text: {why}", hint="a text file is UTF-8, without NUL bytes")
    return text


def _bytes(path: Path) -> bytes:
    with opened(path) as file:
        return file.read()


def _read_folder(root: Path, run: Path | None, left_out: list[str]) -> bytearray:
    """Return the text of a folder; what is no text is put to ``left_out``."""
    files = _visible_files(root, run, left_out)
    text = _join(files, root, left_out)
    if not text:
        found = f"{len(files)} files, none of them text" if files else "no files"
        raise DsvError(f"--data: no text under {root}: it holds {found} (hidden ones are not read)")
    return text


def _visible_files(root: Path, run: Path | None, left_out: list[str]) -> list[Path]:
    """Regular files below ``root`` in the order of their names, but for hidden ones and those of ``run``."""
    files, hidden, own = list[Path](), 0, run and run.resolve()
    for folder, names, found in os.walk(root, onerror=_raise):
        paths = [Path(folder, name) for name in sorted((*names, *found))]
        shown = [p for p in paths if not p.name.startswith(".") and p.name != "__pycache__"]
        hidden += len(paths) - len(shown)
        files += [p for p in shown if p.is_file()]
        left_out += [f"{p.relative_to(root)}: {_kind(p)}" for p in shown if not p.is_file() and _kind(p)]
        names[:] = [p.name for p in shown if p.name in names and not (own and p.resolve() == own)]
    left_out += [f"{hidden} hidden"] if hidden else []
    return _by_name(files, root)


def _kind(path: Path) -> str:
    """Return why what is no file is not read, or nothing for a folder that is gone through."""
    if path.is_symlink():
        return "a link to a folder" if path.is_dir() else "a broken link"
    return "" if path.is_dir() else "not a regular file"


def _raise(error: OSError) -> NoReturn:
    raise error


def _by_name(files: list[Path], root: Path) -> list[Path]:
    """``files`` in one order on every machine."""
    return sorted(files, key=lambda f: f.relative_to(root).as_posix())


def _join(files: list[Path], root: Path, left_out: list[str]) -> bytearray:
    """Return the text of those files that are text, one after the other; the others are put to ``left_out``."""
    text = bytearray()
    for file in files:
        content = _bytes(file)
        if why := _not_text(content):
            left_out.append(f"{file.relative_to(root)}: {why}")
        else:
            text += content
    return text


def _not_text(content: bytes) -> str:
    """Return why ``content`` is not text, or nothing."""
    if (at := content.find(b"\0")) >= 0:
        return f"a NUL byte at offset {at:,}"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return f"no UTF-8 at offset {error.start:,}"
    return ""
