"""Good specs, damaged: one number, a seed, is one mutant, so that whatever is found can be had again."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dsvgraph import DsvError, loader

HOME = Path(__file__).parents[1] / "specs"
NUMBERS: list[Any] = [
    0, 1, -1, 2, 3, 7, 2.5, 1e-6, 10**6, 2**50, 2**60, 10**39, 1e30, "9**9**9", "10**9", "-index", "index + 1", "1 / 3",
    "index / 2", "2 * hidden_size", "hidden_size // 3", "(index if index else 9)", "1e400", "min(1, B)", "T", "B * T",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 4, 2.5, "", "x", "y", "index", "depth", "[B, T, d]", "a.b", "...", [], {}, [1, 2], ["x", "x"],
    {"a": 1}, {"linear": None}, {"silu": "x"}, "silu", "mlp", "**", "*.weight", "__class__", "lambda", "B", "[...]",
    "..",
]  # fmt: skip
SIGNS = list("[]{}:,#|>'\"%@`~.\t\r\x00\x85\u2028\u202e\ufeffé\U0001f600")
SIGNS += ["&a ", "*a", "!t ", "? ", "- ", "<<: ", "---\n", "1e9", "**", "\x1b[2J"]
EMPTY = re.compile(": null(?=[,}])")
WORD, NUMBER = re.compile(r"[A-Za-z_]\w*"), re.compile(r"\b\d+(\.\d+)?\b")


@dataclass(frozen=True)
class Mutant:
    """The spec ``top``, where ``text`` stands in the place of ``file`` (the spec itself, or a file that it reads)."""

    seed: int
    top: Path
    file: Path
    text: str
    kinds: tuple[str, ...]


@cache
def seeds(most: int) -> tuple[tuple[Path, Path], ...]:
    """Pairs of a good spec and a file that it reads: itself, or a file of blocks; of ``most`` bytes."""
    library = loader.bundled()
    specs = [*library.glob("*.yaml"), *library.glob("variants/*"), *library.glob("templates/*"), *HOME.glob("*.yaml")]
    tops = [(path, path) for path in sorted(specs)]
    blocks = [
        (path, block)
        for block in sorted(library.glob("blocks/*.yaml"))
        for path in sorted(specs)
        if f"blocks/{block.name}" in path.read_text(encoding="utf-8")
    ]
    return tuple(pair for pair in (*tops, *tops, *blocks) if len(_text(pair[1])) <= most)


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def mutant(seed: int, most: int = 10**6) -> Mutant:
    """The mutant numbered ``seed``: one good file of ``most`` bytes with one to three things changed."""
    chance = random.Random(seed)
    top, file = chance.choice(seeds(most))
    text, kinds = _text(file), []
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        level, table = chance.choice([("data", DATA), ("text", TEXT)])
        kind = chance.choice(list(table))
        text = _of_data(text, table[kind], chance) if level == "data" else table[kind](text, chance)
        kinds.append(f"{level}.{kind}")
    return Mutant(seed, top, file, text, tuple(kinds))


# -- data -------------------------------------------------------------------------------------


def _of_data(text: str, change: Callable[[Any, random.Random], None], chance: random.Random) -> str:
    """``text`` as data, changed and written out; what is no data any more stays as it is."""
    try:
        root = [deepcopy(loader.parse(text).data)]
    except DsvError:
        return text
    change(root, chance)
    return as_yaml(root[0]) if root else ""


def as_yaml(data: Any) -> str:
    """``data`` as YAML, the first two levels on lines of their own; what is None in a mapping is nothing."""
    if not isinstance(data, dict):
        return _flow(data) + "\n"
    return "".join(f"{json.dumps(k)}: {_section(v)}\n" for k, v in data.items())


def _section(value: Any) -> str:
    if not isinstance(value, dict) or not value:
        return _flow(value)
    return "".join(f"\n  {json.dumps(k)}: {_flow(v)}" for k, v in value.items())


def _flow(value: Any) -> str:
    return EMPTY.sub(": ", json.dumps(value))


Spot = tuple[Any, Any]


def _spots(value: Any) -> list[Spot]:
    """Every place below ``value``: a mapping or a list, and a key or a number in it."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    found: list[Spot] = [(value, key) for key, _ in items]
    for _, inner in items:
        if isinstance(inner, (dict, list)):
            found += _spots(inner)
    return found


def _spot(root: Any, chance: random.Random) -> Spot:
    return chance.choice(_spots(root))


def _words(root: Any) -> list[str]:
    """Names that the data holds, as keys and in texts."""
    return WORD.findall(json.dumps(root)) or ["x"]


def _put(holder: Any, entries: list[Any]) -> None:
    """Replaces all that ``holder`` holds."""
    holder.clear()
    holder.update(entries) if isinstance(holder, dict) else holder.extend(entries)


def _rename(root: Any, chance: random.Random) -> None:
    holder, key = _spot(root, chance)
    new = chance.choice(_words(root))
    if isinstance(holder, dict) and chance.random() < 0.5:
        _put(holder, [(new if k == key else k, v) for k, v in holder.items()])
    elif isinstance(holder[key], str):
        words = list(WORD.finditer(holder[key]))
        spot = chance.choice(words) if words else re.match("", "")
        holder[key] = holder[key][: spot.start()] + new + holder[key][spot.end() :]
    else:
        holder[key] = new


def _delete(root: Any, chance: random.Random) -> None:
    holder, key = _spot(root, chance)
    del holder[key]


def _retype(root: Any, chance: random.Random) -> None:
    holder, key = _spot(root, chance)
    old = holder[key]
    holder[key] = deepcopy(chance.choice([*VALUES, [old], {"x": old}, str(old), [old] * 3]))


def _swap(root: Any, chance: random.Random) -> None:
    (one, a), (two, b) = _spot(root, chance), _spot(root, chance)
    one[a], two[b] = deepcopy(two[b]), deepcopy(one[a])


def _resize(root: Any, chance: random.Random) -> None:
    spots = [(h, k) for h, k in _spots(root) if isinstance(h[k], (int, float)) or NUMBER.search(str(h[k]))]
    holder, key = chance.choice(spots or _spots(root))
    old, new = holder[key], chance.choice(NUMBERS)
    holder[key] = NUMBER.sub(str(new), old, count=1) if isinstance(old, str) else new


def _reorder(root: Any, chance: random.Random) -> None:
    holder, _ = _spot(root, chance)
    entries = list(holder.items() if isinstance(holder, dict) else holder)
    chance.shuffle(entries)
    _put(holder, entries)


def _duplicate(root: Any, chance: random.Random) -> None:
    holder, key = _spot(root, chance)
    if isinstance(holder, dict):
        holder[chance.choice([f"{key}_2", *_words(root)])] = deepcopy(holder[key])
    else:
        holder.extend(deepcopy([holder[key]] * chance.choice([1, 2, 20])))


def _graft(root: Any, chance: random.Random) -> None:
    """Something of the spec, in another place too."""
    (one, a), (two, b) = _spot(root, chance), _spot(root, chance)
    one[a] = deepcopy(two[b])


DATA: dict[str, Callable[[Any, random.Random], None]] = {
    "rename": _rename, "delete": _delete, "retype": _retype, "swap": _swap, "resize": _resize,
    "reorder": _reorder, "duplicate": _duplicate, "graft": _graft,
}  # fmt: skip


# -- text -------------------------------------------------------------------------------------


def _lines(change: Callable[[list[str], random.Random], None]) -> Callable[[str, random.Random], str]:
    """A change of lines as a change of the text."""

    def changed(text: str, chance: random.Random) -> str:
        lines = text.splitlines() or [""]
        change(lines, chance)
        return "\n".join(lines) + "\n"

    return changed


def _delete_line(lines: list[str], chance: random.Random) -> None:
    del lines[chance.randrange(len(lines))]


def _duplicate_line(lines: list[str], chance: random.Random) -> None:
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))


def _swap_lines(lines: list[str], chance: random.Random) -> None:
    i, j = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]


def _indent(lines: list[str], chance: random.Random) -> None:
    i = chance.randrange(len(lines))
    lines[i] = " " * chance.randrange(9) + lines[i].lstrip()


def _cut(lines: list[str], chance: random.Random) -> None:
    i = chance.randrange(len(lines))
    lines[i] = lines[i][: chance.randrange(len(lines[i]) + 1)]


def _shuffle(lines: list[str], chance: random.Random) -> None:
    i = chance.randrange(len(lines))
    part = lines[i : i + 6]
    chance.shuffle(part)
    lines[i : i + 6] = part


def _tokens(wanted: re.Pattern[str], new: Callable[[str, random.Random], str]) -> Callable[[str, random.Random], str]:
    """A change of one token as a change of the text."""

    def changed(text: str, chance: random.Random) -> str:
        spots = list(wanted.finditer(text))
        if not spots:
            return text
        spot = chance.choice(spots)
        return text[: spot.start()] + new(text, chance) + text[spot.end() :]

    return changed


def _insert(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    return text[:at] + chance.choice(SIGNS) + text[at:]


def _repeat(text: str, chance: random.Random) -> str:
    """A stretch of the text many times over."""
    at = chance.randrange(len(text) + 1)
    return text[:at] + text[at : at + chance.randrange(1, 12)] * chance.choice([2, 50, 2000]) + text[at:]


TEXT: dict[str, Callable[[str, random.Random], str]] = {
    "delete": _lines(_delete_line),
    "duplicate": _lines(_duplicate_line),
    "swap": _lines(_swap_lines),
    "indent": _lines(_indent),
    "cut": _lines(_cut),
    "reorder": _lines(_shuffle),
    "rename": _tokens(WORD, lambda text, chance: chance.choice(WORD.findall(text))),
    "resize": _tokens(NUMBER, lambda _, chance: str(chance.choice(NUMBERS))),
    "retype": _tokens(re.compile(r"[\[\]{},:]"), lambda _, chance: chance.choice("[]{},: ")),
    "insert": _insert,
    "repeat": _repeat,
}
