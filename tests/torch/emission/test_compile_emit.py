"""Emitted files: alone with torch they are the module, to the bit; they are short, and readable."""

import ast
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import dsvgraph
import dsvgraph_torch

torch = pytest.importorskip("torch")

from helpers import SMALL, built, small, split, tokens  # noqa: E402

EVERY = pytest.mark.parametrize("name", SMALL, ids=lambda name: Path(name).stem)
STEMS = [Path(name).stem for name in SMALL]

ALONE = """
import importlib, importlib.util, sys, torch
assert not importlib.util.find_spec("dsvgraph") and not importlib.util.find_spec("dsvgraph_torch")
torch.set_num_threads(1)
sys.path.insert(0, ".")
for stem in sys.argv[1:]:
    given = torch.load(f"{stem}.given")
    model = getattr(importlib.import_module(stem), given["name"])()
    model.load_state_dict(given["state"], strict=True)
    ids, targets = given["ids"], given["targets"]
    with torch.no_grad():
        found = {"predict": model.predict(ids), **model(ids)}
    losses = model(ids, targets)
    losses["loss"].backward()
    found.update({f"loss {k}": torch.as_tensor(v).detach() for k, v in losses.items()})
    found.update({f"gradient {k}": p.grad for k, p in model.named_parameters() if p.grad is not None})
    torch.save(found, f"{stem}.found")
    for wrong in (ids, targets[:1], targets[:, 1:]):
        try:
            model(ids, wrong)
        except ValueError as error:
            assert "the token after each position" in str(error)
        else:
            raise AssertionError("trained on the ids, or on targets of another shape")
assert not [name for name in sys.modules if name.startswith("dsvgraph")]
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What the emitted files give in a Python that has torch and nothing of this project, by spec.

    ``-I -S`` leave out site-packages and what an editable installation adds to it; what else is
    installed comes back through links.
    """
    folder = tmp_path_factory.mktemp("alone")
    packages = folder / "packages"
    packages.mkdir()
    for entry in Path(torch.__file__).parents[1].iterdir():
        if "dsvgraph" not in entry.name and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    for name, stem in zip(SMALL, STEMS):
        (folder / f"{stem}.py").write_text(dsvgraph_torch.emit(small(name)), encoding="utf-8")
        module, (ids, targets) = built(name), split(tokens(2, 12))
        given = dict(name=type(module).__name__, state=module.state_dict(), ids=ids, targets=targets)
        torch.save(given, folder / f"{stem}.given")
    code = f"import sys; sys.path.append({str(packages)!r})\n{ALONE}"
    command = [sys.executable, "-I", "-S", "-c", code, *STEMS]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {stem: torch.load(folder / f"{stem}.found") for stem in STEMS}


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@EVERY
def test_the_file_alone_is_the_module_to_the_bit(name, alone, one_thread):
    found, module, (ids, targets) = alone[Path(name).stem], built(name), split(tokens(2, 12))
    with torch.no_grad():
        wanted = {"predict": module.predict(ids), **module(ids)}
    losses = module(ids, targets)
    losses["loss"].backward()
    wanted.update({f"loss {k}": torch.as_tensor(v).detach() for k, v in losses.items()})
    wanted.update({f"gradient {k}": p.grad for k, p in module.named_parameters() if p.grad is not None})
    assert found.keys() == wanted.keys() and len(wanted) > 10
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


@pytest.fixture(scope="module")
def whole():
    """The emitted 671B model."""
    return dsvgraph_torch.emit(dsvgraph.load("deepseek_v3"))


def test_the_whole_model_is_read_in_one_sitting(whole):
    assert whole.count("\n") < 400
    assert max(map(len, whole.splitlines())) <= 150
    assert not any(line != line.rstrip() for line in whole.splitlines())


@EVERY
def test_files_need_torch_and_the_standard_library_only(name):
    source = dsvgraph_torch.emit(small(name))
    imported = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    modules = {(n.module if isinstance(n, ast.ImportFrom) else n.names[0].name).split(".")[0] for n in imported}
    assert "torch" in modules and modules <= {"torch", *sys.stdlib_module_names}
    assert "dsvgraph" not in source


@EVERY
def test_files_compile_without_a_warning(name, tmp_path):
    (tmp_path / "emitted.py").write_text(dsvgraph_torch.emit(small(name)), encoding="utf-8")
    command = [sys.executable, "-I", "-S", "-W", "error", "-m", "py_compile", "emitted.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


@EVERY
def test_nothing_in_a_file_is_unused(name):
    """Every import, function and class is named again below its definition."""
    source = dsvgraph_torch.emit(small(name))
    tree, model = ast.parse(source), [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef)][-1].name
    named = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name)]
    defined = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    defined += [a.asname or a.name for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names]
    assert [d for d in defined if d not in named] == [model]
    assert len(defined) == len(set(defined))


def test_lines_carry_the_shape_and_the_place_in_the_spec(whole):
    q_b = next(line for line in whole.splitlines() if "q_b_proj = " in line and "#" in line)
    code, note = q_b.split("  # ")
    assert code.strip() == "q_b_proj = self.q_b_proj(q_a_layernorm).unflatten(-1, (128, 192))"
    shape, place = note.split("  ")
    spec, number = place.split(":")
    lines = next(Path(dsvgraph.__file__).parents[1].rglob(f"specs/**/{spec}")).read_text().splitlines()
    assert shape == "[B, T, 128, 192]" and lines[int(number) - 1].strip().startswith("q_b_proj:")


def test_classes_are_as_many_as_distinct_blocks(whole):
    classes = [n.name for n in ast.parse(whole).body if isinstance(n, ast.ClassDef)]
    assert classes[-7:] == ["Mla", "Mlp", "DecoderLayer", "MlpEach", "Moe", "MtpLayer", "DeepSeekV3"]
    deep = dsvgraph_torch.emit(dsvgraph.load("deepseek_v3", {"num_hidden_layers": 1000, "n_routed_experts": 1024}))
    assert deep.count("\n") == whole.count("\n")


def test_errors_inside_a_module_point_at_the_specs_line():
    with pytest.raises(RuntimeError) as caught:
        built("deepseek_v3").model.layers[0](torch.zeros(1, 2, 5), None)
    text = "".join(traceback.format_exception(caught.value))
    assert re.search(r"self\.input_layernorm\(x\) +# \[B, T, 32\]  decoder\.yaml:\d+\n", text)


def test_each_file_says_whether_it_refuses_a_copy_of_the_ids():
    """As a value; the ids themselves as an object are refused by both."""
    graph, ids = small("tutorial_mtp"), tokens(1, 6, 20)
    for full in (False, True):
        known = {"__name__": "emitted"}
        exec(dsvgraph_torch.emit(graph, full=full), known)
        module = known["TutorialMTP"]()
        assert ("values are not checked" in module.forward.__doc__) is not full
        with pytest.raises(ValueError, match="targets are the token after"):
            module(ids, targets=ids)
        if full:
            with pytest.raises(ValueError, match="found the ids"):
                module(ids, targets=ids.clone())
