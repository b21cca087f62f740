"""A page of documentation as a list of examples that can be run.

A fence says what it is after its first word:

    ```yaml             a whole spec, sections over small.yaml, or lines of its body
    ```yaml mine.yaml   the same, and a file of this name for what follows
    ```yaml wrong       refused with the text of the next fence, ```text
    ```console          `$ dsvgraph ...` and what it prints; `...` stands for anything
    ```python           run

``rewritten`` gives the page with every text as it really is, so that a golden comparison holds it; where an output
with `...` no longer fits, --update-golden puts the whole one there, to be cut again.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from typer.testing import CliRunner

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.loader import bundled
from dsvgraph.spec import SpecModel

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = {field.alias or name for name, field in SpecModel.model_fields.items()}
BODY = """\
graph:
  in: {{input_ids: "int[B, T]"}}
  body:
    x: {{embedding: input_ids, num: vocab_size, dim: hidden_size}}
{lines}
  out: {{y: {last}}}
"""
NO_LOSS = "loss: {}\n"
TRAINING = ["--steps", "2", "--batch", "2", "--seq", "32", "--device", "cpu"]
TEXT = ["--data", "text.txt"]


@dataclass(frozen=True)
class Fence:
    """One fenced block of a page: its language, the word after it, its text, and where it stands."""

    kind: str
    word: str
    text: str
    line: int
    start: int
    end: int

    @property
    def id(self) -> str:
        return f"line-{self.line}" + (f"-{self.word}" if self.word else "")


def fences(page: str) -> list[Fence]:
    """The fences of ``docs/page`` in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [
        Fence(m[1], m[2] or "", m[3], text[: m.start()].count("\n") + 1, m.start(3), m.end(3))
        for m in FENCE.finditer(text)
    ]


def whole(text: str) -> str:
    """An example as a whole spec: what it lacks comes from small.yaml."""
    if re.search(r"^(graph|extends):", text, re.MULTILINE):
        return text
    data = YAML(typ="safe").load(text)
    if not data.keys() <= SECTIONS | {"body"}:
        return "extends: small.yaml\n" + NO_LOSS + _with_body(text)
    head, mark, rest = f"\n{text}".partition("\nbody:\n")
    lines = re.match(r"(?:  .*\n|\n)*", rest)[0] if mark else ""
    own = head.lstrip("\n") + "\n" + rest[len(lines) :]
    if not mark:
        return "extends: small.yaml\n" + own
    loss = "" if "loss" in data else NO_LOSS
    return "extends: small.yaml\n" + loss + own + _with_body(re.sub("^  ", "", lines, flags=re.MULTILINE))


def _with_body(lines: str) -> str:
    """The lines after the embedding `x`; the last is the output."""
    last = [line.split(":")[0] for line in lines.splitlines() if re.match(r"\w", line)][-1]
    indented = "\n".join(f"    {line}" if line.strip() else "" for line in lines.rstrip().splitlines())
    return BODY.format(lines=indented, last=last)


def check(text: str, name: str = "model.yaml") -> dsvgraph.Model:
    """The model of an example, written into the current folder; raises DsvError where it is wrong."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(whole(text), encoding="utf-8")
    return dsvgraph.load(name)


def is_library(text: str) -> bool:
    """Whether a file brings blocks and is no model."""
    return YAML(typ="safe").load(text).keys() <= {"doc", "include", "blocks"}


def refusal(text: str) -> str:
    """What an example is refused with, as `dsvgraph check` prints it."""
    try:
        check(text)
    except DsvError as error:
        return _placed(f"{error}\n")
    raise AssertionError(f"this is right, and should be wrong:\n{text}")


def console(text: str) -> str:
    """A console as it really is: every command is run, what stands between is replaced by what it prints."""
    found = []
    for part in re.split(r"^(?=\$ )", text, flags=re.MULTILINE):
        if part:
            command, _, told = part.partition("\n")
            said = run(command, fails=told.startswith(("error: ", "error[")))
            found.append(f"{command}\n{told if fits(told, said) else said}")
    return "".join(found)


def run(command: str, fails: bool = False) -> str:
    """What a command prints; training is cut to two steps."""
    from dsvgraph.cli import app

    program, *words = shlex.split(command.removeprefix("$ "), comments=True)
    assert program == "dsvgraph", command
    if "--train" in words:
        words += TRAINING + ([] if "--task" in words else TEXT)
    result = CliRunner().invoke(app, words, prog_name="dsvgraph")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code != 0) == fails, f"{command}\n{result.output}"
    return _placed(result.output.rstrip() + "\n")


def _placed(text: str) -> str:
    """A message without the place of this checkout."""
    return text.replace(str(bundled()), "specs")


def fits(told: str, said: str) -> bool:
    """Whether ``told`` is what was said, `...` standing for anything."""
    pattern = re.escape(told).replace("\\.\\.\\.", ".*?")
    return bool(re.fullmatch(pattern, said, re.DOTALL))


def rewritten(page: str) -> str:
    """The page, run from its beginning in the current folder, with every message and output as it is."""
    text = (DOCS / page).read_text(encoding="utf-8")
    parts, at, wrong = [], 0, ""
    for fence in fences(page):
        parts += [text[at : fence.start], _real(fence, wrong)]
        at, wrong = fence.end, fence.text if fence.word == "wrong" else ""
    return "".join([*parts, text[at:]])


def _real(fence: Fence, wrong: str) -> str:
    if fence.kind == "text" and wrong:
        return refusal(wrong)
    if fence.kind == "yaml" and fence.word != "wrong":
        keep(fence)
    elif fence.kind == "console":
        return console(fence.text)
    elif fence.kind == "python":
        exec(compile(fence.text, f"line {fence.line}", "exec"), {})
    return fence.text


def keep(fence: Fence) -> None:
    """Writes an example into the current folder, under its own name if it has one, and checks it."""
    name: Any = fence.word or "model.yaml"
    if is_library(fence.text):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(fence.text, encoding="utf-8")
    else:
        check(fence.text, name)
