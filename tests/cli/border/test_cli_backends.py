"""How the command line finds backends, and what it asks of them; torch itself is tested in tests/torch."""

from __future__ import annotations

import errno
import inspect
import os
import subprocess
import sys
import typing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest

from dsvgraph import backends
from dsvgraph.cli.make import generate, render, training_options


class Torch:
    """A backend that remembers what it is asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.interrupted = False

    def report(self, model: Any) -> dict[str, Any]:
        return {"name": model.name, "parameters": 1234567, "source_lines": 12}

    def emit(self, model: Any, full: bool = False) -> str:
        return f"# {model.name}\n"

    def train(self, model: Any, options: dict[str, Any], console: Any) -> Any:
        self.asked = options
        console.print("step 1")
        return SimpleNamespace(path=Path("run"), step=1, heldout={"next": 2.5}, interrupted=self.interrupted)

    def continuations(self, folder: Path, prompts: list[str], options: dict[str, Any], model: Any = None) -> Any:
        self.asked = {"folder": folder, "prompts": prompts, **options}
        return [(0, "a\n"), (0, "b\x1b[2J")] if len(prompts) == 1 else [(1, "b"), (0, "a"), (1, "c")]


@pytest.fixture
def torch(monkeypatch):
    made = Torch()
    for find in ("compiler", "trainer", "generator"):
        monkeypatch.setattr(backends, find, lambda *_: made)
    return made


def test_compile_sums_up(dsv, small, torch):
    answer = dsv("compile", small())
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "name          small\nparameters    1,234,567\nsource lines  12\n"
    assert dsv("compile", small(), "--json").json["parameters"] == 1234567


def test_compile_emits(dsv, small, torch):
    answer = dsv("compile", small(), "--emit", "model.py")
    assert answer.code == 0
    assert "model.py" in answer.out
    assert Path("model.py").read_text() == "# small\n"


def test_emit_on_a_full_disk(dsv, small, torch, monkeypatch):
    path = small()
    Path("model.py").write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.replace", full)
    answer = dsv("compile", path, "--emit", "model.py")
    assert answer.code == 1
    assert answer.err == "error: cannot write model.py: No space left on device\n"
    assert Path("model.py").read_text() == "old"
    assert sorted(os.listdir()) == ["model.py", "small.yaml"]


def test_train_gets_what_was_given_and_nothing_else(dsv, small, torch):
    answer = dsv("compile", small(), "--train")
    assert (answer.code, answer.out) == (0, "step 1\n")
    assert torch.asked == {}
    options = ["--steps", 3, "--seed", 0, "--lr", 0.5, "--dtype", "bfloat16", "--data", "x", "--resume"]
    dsv("compile", small(), "--train", *options)
    assert torch.asked == {
        "steps": 3, "seed": 0, "lr": 0.5, "precision": "bfloat16", "data": Path("x"), "resume": True
    }  # fmt: skip


def test_train_as_json(dsv, small, torch):
    answer = dsv("compile", small(), "--train", "--json")
    assert answer.err == "step 1\n"
    assert answer.json["heldout"] == {"next": 2.5}


def test_an_interrupted_training_ends_with_130(dsv, small, torch):
    torch.interrupted = True
    assert dsv("compile", small(), "--train").code == 130


def test_generate(dsv, torch):
    answer = dsv("generate", "run", "--prompt", "x", "--tokens", 3, "--temperature", 0, "--seed", 7)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "xa\nb\x1b[2J\n"  # a file gets what was made
    asked = {name: value for name, value in torch.asked.items() if value}
    assert asked == {
        "folder": Path("run"), "prompts": ["x"], "tokens": 3, "top_k": 50, "top_p": 1.0, "seed": 7, "device": "auto",
        "weights": "last",
    }  # fmt: skip


def test_generate_for_several_prompts(dsv, torch, tmp_path):
    (tmp_path / "prompts").write_text("x\ny\n")
    answer = dsv("generate", "run", "--prompts", tmp_path / "prompts")
    assert (answer.code, answer.out) == (0, "--- 1\nxa\n--- 2\nybc\n")


def test_a_model_does_not_steer_the_terminal():
    assert generate._visible("a\tb\n\x1b[2J\r") == "a\tb\n\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"


def test_render_draws_beside_where_one_stands(dsv, tmp_path, monkeypatch):
    def draw(model: Any, path: Path, depth: int, **view: Any) -> Path:
        path.write_text(f"{model.name} {depth}")
        return path

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(render, "renderer", lambda _: SimpleNamespace(render=draw))
    assert dsv("render", "deepseek_v3", "--depth", 1).out == "deepseek_v3.svg\n"
    assert Path("deepseek_v3.svg").read_text() == "DeepSeek-V3 1"


# -- found by entry points --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        (("compile", "deepseek_v3"), "torch", "torch"),
        (("compile", "deepseek_v3", "--train"), "torch", "torch"),
        (("cost", "deepseek_v3", "--verify"), "torch", "torch"),
        (("generate", "run"), "torch", "torch"),
        (("render", "deepseek_v3"), "graphviz", "draw"),
        (("lsp",), "lsprotocol", "lsp"),
    ],
)
def test_a_missing_package_says_which_extra_brings_it(command, package, extra, tmp_path):
    """In a process that cannot import the package, and that has the rest."""
    code = f"import sys; sys.modules[{package!r}] = None; from dsvgraph.cli import main; main()"
    env = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert f"`{package}` is not installed" in done.stderr
    assert f"pip install 'dsvgraph[{extra}]'" in done.stderr
    assert not list(tmp_path.iterdir())


GOOD = "def spec_of(path):\n    return f'name: {path.name}\\n'\n"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs a package with importers of the given names, each a module of the given text."""

    def install(name: str, **importers: str) -> None:
        folder = tmp_path / "site" / name
        folder.mkdir(parents=True)
        about = folder / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{ending} = {name}_{ending}\n" for ending in importers]
        (about / "entry_points.txt").write_text(f"[dsvgraph.importers]\n{''.join(lines)}")
        for ending, text in importers.items():
            (folder / f"{name}_{ending}.py").write_text(text)
            monkeypatch.delitem(sys.modules, f"{name}_{ending}", raising=False)
        monkeypatch.syspath_prepend(str(folder))

    return install


def test_an_importer_of_another_package_is_found_by_the_ending_of_the_file(dsv, installed):
    installed("theirs", gguf=GOOD)
    answer = dsv("import", "model.gguf")
    assert (answer.code, answer.out, answer.err) == (0, "name: model.gguf\n", "")


def test_what_comes_with_dsvgraph_is_the_default(dsv, installed):
    installed("theirs", json=GOOD)
    assert "there is no file" in dsv("import", "none.json").err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_package", "`no_such_package` is not installed"),
        ("1 / 0", "theirs cannot be imported: ZeroDivisionError: division by zero"),
        ("x = 1", "`theirs_gguf` of theirs has no `spec_of`"),
    ],
)
def test_a_package_that_does_not_meet_the_contract_is_named(text, words, dsv, installed):
    installed("theirs", gguf=text)
    answer = dsv("import", "model.gguf")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"error: importing needs the backend `gguf`: {words}")


def test_two_packages_with_one_name_are_refused(dsv, installed):
    installed("theirs", gguf=GOOD)
    installed("others", gguf=GOOD)
    answer = dsv("import", "model.gguf")
    assert (answer.code, answer.out) == (1, "")
    assert "importing: the packages `others`, `theirs` all bring a backend `gguf`" in answer.err


def test_a_backend_that_is_not_there_is_told_with_those_that_are(dsv, small):
    answer = dsv("compile", small(), "--backend", "torhc")
    assert answer.code == 1
    assert answer.err == "error: compiling: there is no backend `torhc`\n  = help: did you mean `torch`?\n"


def test_an_ending_that_nothing_draws_lists_those_that_are(dsv, small):
    answer = dsv("render", small(), "-o", "model.tiff")
    assert answer.code == 2
    for ending in backends.endings():
        assert f".{ending}" in answer.err
    assert {*backends.endings()} >= {"svg", "png", "pdf", "html", "dot", "mmd", "mermaid", "json"}


FINDERS = [find for find in vars(backends).values() if isinstance(find, backends.discovery.Finder)]
NEEDS = {"servers": "pygls", "exporters": "dsvgraph", "testbeds": "scipy"}


@pytest.mark.parametrize(
    ("find", "args", "package"),
    [
        *((find, (), NEEDS.get(find.group, "torch")) for find in FINDERS),
        (backends.importer, ("config.json",), "dsvgraph"),
        *((backends.renderer, (f"a.{ending}",), "graphviz") for ending in ("svg", "mmd", "json", "html")),
    ],
)
def test_backends_take_what_their_contracts_say(find, args, package):
    """Every method, its arguments by position and by name."""
    pytest.importorskip(package)
    found = find(*args)
    contract = find.contract if find in FINDERS else get_type_hints(find)["return"]
    methods = {name: function for name, function in vars(contract).items() if not name.startswith("_")}
    assert methods
    for name, method in methods.items():
        _, *wanted = inspect.signature(method).parameters.values()
        taken = inspect.signature(getattr(found, name))
        taken.bind(**{p.name: None for p in wanted if p.kind is not p.VAR_KEYWORD})
        taken.bind(
            *(None for p in wanted if p.kind is p.POSITIONAL_OR_KEYWORD),
            **{p.name: None for p in wanted if p.kind is p.KEYWORD_ONLY},
        )


# -- the torch backend as it is ---------------------------------------------------------------------


def test_training_options_are_those_of_the_backend():
    """Every option of a run can be given, and the help tells its default."""
    pytest.importorskip("torch")
    import typer

    from dsvgraph.cli import app
    from dsvgraph_torch.training import options

    command = typer.main.get_command(app).commands["compile"]
    given = {p.name: p for p in command.params if getattr(p, "rich_help_panel", None) == training_options.PANEL}
    fields = options.TrainOptions.model_fields
    assert given.keys() | {"weights", "drop_mtp", "dtype"} == fields.keys()
    for name, param in given.items():
        default = fields[name].default
        if isinstance(default, (int, float, str)) and default not in (False, "auto"):
            assert f"[{default:g}]" in param.help if default != str(default) else f"[{default}]" in param.help
    offered, _ = typing.get_args(typing.get_args(training_options.OPTIONS["precision"])[0])
    assert {*offered} == {*fields["precision"].annotation} == {"float32", "bfloat16", "pure-bf16", "fp8"}


DATA = {
    "missing": (None, "does not exist"),
    "empty": (b"", "is empty"),
    "binary": (b"\0" * 100_000, "is not text: a NUL byte at offset 0"),
    "short": (b"hello", "holds 5 bytes"),
}


@pytest.mark.parametrize("case", DATA)
def test_wrong_data(case, dsv, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    content, words = DATA[case]
    if content is not None:
        (tmp_path / "data").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    answer = dsv("compile", "deepseek_v3_tiny", "--train", "--data", "data", "--out", "run")
    assert answer.code == 1
    assert answer.err.startswith("error: --data: ") and "/data" in answer.err.splitlines()[0]
    assert words in answer.err
    assert not Path("run").exists()


def test_a_run_folder_that_exists(dsv, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes").write_text("mine")
    answer = dsv("compile", "deepseek_v3_tiny", "--train", "--out", "run")
    assert answer.code == 1
    assert "--out: run exists and is not empty" in answer.err
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["notes"]


def test_generate_from_what_is_no_run(dsv, tmp_path):
    pytest.importorskip("torch")
    answer = dsv("generate", tmp_path)
    assert (answer.code, answer.out) == (1, "")
    assert "holds no run" in answer.err
