"""Emitted files: alone with torch they are the module, to the bit; they read well; they hold no user's code."""

import subprocess
import sys
from pathlib import Path

import pytest

import dsvgraph_torch

torch = pytest.importorskip("torch")

from helpers import SMALL, built, small, split, tokens  # noqa: E402

ALONE = """
import importlib.util, sys, torch
assert importlib.util.find_spec("dsvgraph") is None and importlib.util.find_spec("dsvgraph_torch") is None
torch.set_num_threads(1)
sys.path.insert(0, ".")
import emitted
given = torch.load("given.pt")
model = getattr(emitted, given["name"])()
model.load_state_dict(given["state"], strict=True)
with torch.no_grad():
    found = {"predict": model.predict(given["ids"]), **model(given["ids"])}
losses = model(given["ids"], given["targets"])
losses["loss"].backward()
found.update({f"loss {k}": torch.as_tensor(v).detach() for k, v in losses.items()})
found.update({f"gradient {k}": p.grad for k, p in model.named_parameters() if p.grad is not None})
torch.save(found, "found.pt")
print(*(m for m in sys.modules if m.startswith("dsvgraph")))
"""


def run_alone(folder, *arguments):
    """Python in an empty folder, without this project's packages: what an emitted file is promised to need.

    ``-S -I`` drop site-packages, .pth files of an editable installation and the environment; torch's folder
    comes back as a folder of links that has everything but dsvgraph.
    """
    packages = folder / "packages"
    packages.mkdir(exist_ok=True)
    for entry in Path(torch.__file__).parents[1].iterdir():
        if "dsvgraph" not in entry.name and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    start = f"import sys; sys.path.append({str(packages)!r})\n"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", start + ALONE], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SMALL, ids=lambda name: Path(name).stem)
def test_the_file_alone_is_the_module_to_the_bit(name, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model, (ids, targets) = small(name), split(tokens(2, 12))
    module = built(model)
    (tmp_path / "emitted.py").write_text(dsvgraph_torch.emit(model), encoding="utf-8")
    given = dict(name=type(module).__name__, state=module.state_dict(), ids=ids, targets=targets)
    torch.save(given, tmp_path / "given.pt")
    assert not run_alone(tmp_path).split()
    found = torch.load(tmp_path / "found.pt")
    with torch.no_grad():
        wanted = {"predict": module.predict(ids), **module(ids)}
    losses = module(ids, targets)
    losses["loss"].backward()
    wanted.update({f"loss {k}": torch.as_tensor(v).detach() for k, v in losses.items()})
    wanted.update({f"gradient {k}": p.grad for k, p in module.named_parameters() if p.grad is not None})
    torch.set_num_threads(threads)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)
