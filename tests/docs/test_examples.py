"""The examples of README.md and of the pages that test_pages.py does not run from beginning to end.

What counts prints what it is said to print; what writes is run in an empty folder, on models that a laptop trains.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pages
import pytest
from typer.testing import CliRunner

import dsvgraph
from dsvgraph import load
from dsvgraph.cli import app
from dsvgraph.loader import bundled

ROOT = pages.DOCS.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LANGUAGE = (pages.DOCS / "language.md").read_text(encoding="utf-8")
HUGGING = (pages.DOCS / "huggingface.md").read_text(encoding="utf-8")
COST = (pages.DOCS / "cost.md").read_text(encoding="utf-8")
COUNTING = ("cost", "diff", "sweep", "zoo")
WRITING = ("compile", "import", "export")
PARSED = ("bench", "compare", "data", "generate", "probe", "report", "runs")
"""Commands that test_commands.py reads and does not run."""
ELSEWHERE = {  # who runs the examples of the other pages
    "language.md": "docs/test_pages.py",
    "tutorial.md": "docs/test_pages.py",
    "errors.md": "language/text/test_codes.py",
    "diagrams.md": "graphviz/test_render_formats.py",
    "editors.md": "editor/test_docs.py",
    "ops.md": "ops/test_package.py",
    "python.md": "docs/test_python.py",
    "architecture.md": "docs/test_python.py",
    "probe.md": "torch/probing/test_probe_import.py",
    **dict.fromkeys(
        ("compare.md", "training.md", "data.md", "decoding.md", "bench.md", "performance.md"), "docs/test_commands.py"
    ),
}
NUMBER = re.compile(r"\d[\d,.]*")


def fences(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def torch(folder, monkeypatch):
    """torch on one thread, as small models are fastest, in a folder of the test's own; a sample is four tokens."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("dsvgraph_torch.training.loop.SAMPLE_TOKENS", 4)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


def commands() -> list[tuple[list[str], str]]:
    """Every command that counts something, and what the page says of it: lines of output, or numbers after a #."""
    found = []
    for fence in fences(README + COST, "console"):
        for part in re.split(r"^\$ dsvgraph ", fence, flags=re.MULTILINE)[1:]:
            command, _, told = part.replace("\\\n", "").partition("\n")
            command, _, remark = command.partition("  #")
            if command.split()[0] in COUNTING:
                found.append((shlex.split(command), told or "\n".join(NUMBER.findall(remark.rpartition(":")[2]))))
    return found


@pytest.mark.parametrize(
    ("words", "told"), commands(), ids=lambda value: " ".join(value) if isinstance(value, list) else "told"
)
def test_what_a_command_is_said_to_count(words, told):
    answer = CliRunner().invoke(app, words, prog_name="dsvgraph")
    assert answer.exit_code == 0, answer.output
    printed = " ".join(answer.stdout.split())
    assert [line for line in told.splitlines() if " ".join(line.split()) not in printed] == []


def test_the_models_of_the_readme(tmp_path):
    small, large = fences(README, "yaml")
    (tmp_path / "small.yaml").write_text(small, encoding="utf-8")
    assert load(str(tmp_path / "small.yaml")).losses
    spec = re.sub(r" *#.*| +", "", (bundled() / "deepseek_v3.yaml").read_text(encoding="utf-8"))
    assert [line for line in re.sub(r" *#.*| +", "", large).splitlines() if line not in spec.splitlines()] == []


def test_the_message_of_the_readme_is_a_real_one():
    """language.md has the same mistake in another file, and its message is compared with the checker's."""
    told = next(fence for fence in fences(README, "console") if "label leak" in fence).splitlines()[1:]
    elsewhere = {line.strip() for line in LANGUAGE.splitlines()}
    assert [line for line in told if line.strip() not in elsewhere and ":21:" not in line and "21 |" not in line] == []


@pytest.mark.torch
def test_the_python_of_the_readme(torch):
    (code,) = fences(README, "python")
    ids = torch.zeros(1, 8, dtype=torch.long)
    names = {"input_ids": ids, "targets": ids.clone(), "row": ids}
    exec(compile(code, "README.md", "exec"), names)
    assert names["logits"].shape[:2] == ids.shape


def test_the_links_of_the_readme():
    found = re.findall(r"\]\(([^)#:]+)\)", README)
    assert found and [link for link in found if not Path(ROOT / link).exists()] == []


def test_the_readme_compiles_trains_imports_and_exports(torch):
    """As written, but for two steps of training, on a short text; path/to has the config of the tiny model."""
    transformers = pytest.importorskip("transformers")
    lines = re.findall(rf"^\$ dsvgraph (?:{'|'.join(WRITING)}) .*$", README, re.MULTILINE)
    assert {line.split()[2] for line in lines} == set(WRITING)
    pages.run("$ dsvgraph export deepseek_v3_tiny --config-only -o path/to")
    told = "".join(map(pages.run, lines))
    tiny = dsvgraph.cost(load("deepseek_v3_tiny")).parameters.total
    assert f"{tiny:,}" in told
    compile(emitted := Path("model.py").read_text(encoding="utf-8"), "model.py", "exec")
    assert len(emitted.splitlines()) < 450
    assert {"spec.yaml", "metrics.jsonl", "checkpoint-2"} <= {path.name for path in Path("runs/mine").iterdir()}
    assert dsvgraph.cost(load("mine.yaml")).parameters.total == tiny
    model, found = transformers.AutoModelForCausalLM.from_pretrained("folder", output_loading_info=True)
    assert type(model).__name__ == "DeepseekV3ForCausalLM"
    assert not found["missing_keys"]


def ran(code: str) -> dict[str, Any]:
    """The names that a page's Python leaves."""
    exec(compile(code, "example", "exec"), names := {})
    return names


def test_the_python_of_hugging_face(torch, monkeypatch):
    """As written: DIR is a model of 4 layers and one module, the tiny one."""
    kind = pytest.importorskip("transformers").DeepseekV3ForCausalLM
    monkeypatch.setattr(kind, "_keys_to_ignore_on_load_unexpected", kind._keys_to_ignore_on_load_unexpected)
    pages.run("$ dsvgraph export deepseek_v3_tiny --set num_nextn_predict_layers=1 -o DIR")
    generating, loading = fences(HUGGING, "python")
    theirs, ids = ran(generating)["model"].eval(), torch.arange(8)[None]
    drafted, greedy = (theirs.generate(ids, do_sample=False, max_new_tokens=4, use_mtp=mtp) for mtp in (True, False))
    assert torch.equal(drafted, greedy)
    ours = ran(loading)
    assert ours["config"] == json.loads(Path("DIR/config.json").read_text(encoding="utf-8"))
    with torch.no_grad():
        assert (ours["module"].predict(ids) - theirs(ids).logits).abs().max() < 1e-5
    assert kind.from_pretrained("OUT").dtype == torch.bfloat16


def test_the_family_that_is_written_by_hand(torch, folder):
    """The spec counts what is published, loads what transformers writes, and gives its logits."""
    transformers = pytest.importorskip("transformers")
    import dsvgraph_hf

    (text,) = fences(HUGGING, "yaml")
    Path("qwen2.yaml").write_text(text, encoding="utf-8")
    (total,) = re.findall(r"\((\d+(?:,\d+)+) for\nQwen2-0.5B\)", HUGGING)
    assert dsvgraph.cost(load("qwen2.yaml")).parameters.total == int(total.replace(",", ""))
    sizes = dict(
        vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=40,
    )  # fmt: skip
    config = transformers.Qwen2Config(
        **sizes, rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None
    )
    theirs = transformers.Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.normal_(0, 0.3)
    theirs.save_pretrained("DIR")
    ours, ids = dsvgraph_hf.load(load("qwen2.yaml", sizes), "DIR"), torch.arange(12)[None]
    with torch.no_grad():
        assert (ours.predict(ids) - theirs(ids).logits).abs().max() < 1e-4


def test_the_refusal_of_an_export(folder):
    (told,) = fences(HUGGING, "console")
    assert pages.console(told) == told
    assert [path.name for path in folder.iterdir()] == ["text.txt"]


def test_the_commands_of_the_page_that_unfolds(folder):
    """Those of npm fetch a package over the network; tests/html/test_page.py runs rebuild.py on one that it makes."""
    draw, fetch = fences((pages.DOCS / "html.md").read_text(encoding="utf-8"), "console")
    for line in draw.splitlines():
        pages.run(line)
        assert "<!doctype html>" in Path(shlex.split(line)[-1]).read_text(encoding="utf-8")[:200].lower()
    package, version, script = re.fullmatch(r"npm pack (\S+)@(\S+)\n.*\npython (\S+) package\n", fetch).groups()
    made = (ROOT / script).with_name("page") / "graphviz.js"
    assert f"{package} {version}" in made.read_text(encoding="utf-8")[:200]


def test_the_device_of_the_page_on_cost(folder):
    """A device of one's own, in a file, of which nothing else is known."""
    (text,) = fences(COST, "yaml")
    Path("mine.yaml").write_text(text, encoding="utf-8")
    assert "My accelerator" in pages.run("$ dsvgraph cost deepseek_v3_tiny --phase decode --device mine.yaml")


def test_no_example_is_run_by_nobody():
    """Of a page that is new, or of another kind than those that the tests above take."""
    here = {"cost.md": {"yaml", "console"}, "html.md": {"console"}, "huggingface.md": {"console", "python", "yaml"}}
    for page in sorted(pages.DOCS.glob("*.md")):
        kinds = set(re.findall(r"^```(.*)\n(?:(?!```).*\n)*```$", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert page.name in ELSEWHERE or kinds == here.get(page.name, set()), page.name
    for page, test in ELSEWHERE.items():
        assert page in (ROOT / "tests" / test).read_text(encoding="utf-8"), page
    told = set(re.findall(r"^\$ (\w+ \w+)", README + HUGGING + COST, re.MULTILINE))
    run = {f"dsvgraph {name}" for name in ("check", *COUNTING, *WRITING, *PARSED)}
    assert told <= {"make demo", "make test"} | run
