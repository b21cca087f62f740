"""Ratchets of an installation: packages, entry points, the wheel, what importing the command line brings."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from markers import EXTRAS, TORCH, needed
from sources import PACKAGES, PROJECT, ROOT, ident


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_packages_are_typed(name: str) -> None:
    assert (PACKAGES[name] / "py.typed").is_file()


def test_fixtures_are_read_without_extras() -> None:
    """pytest imports every conftest.py below a folder, also where only the core is installed."""
    files = sorted((ROOT / "tests").rglob("conftest.py"))
    assert len(files) > 5
    assert not [ident(path) for path in files if needed(path) & (EXTRAS | TORCH)]


def test_entry_points_name_what_is_there() -> None:
    """Each names a module of the project, and in brackets an extra that it has."""
    groups = PROJECT["entry-points"]
    declared = [(name, value, group) for group, points in groups.items() for name, value in points.items()]
    assert len(declared) > 15
    for name, value, group in declared:
        point = EntryPoint(name, value, group)
        assert {*point.extras} <= PROJECT["optional-dependencies"].keys()
        folder = PACKAGES[point.module.split(".")[0]].joinpath(*point.module.split(".")[1:])
        assert (folder / "__init__.py").is_file() or folder.with_suffix(".py").is_file()


def test_the_recipe_names_every_contract() -> None:
    """The table of CONTRIBUTING.md has the Protocols of contracts.py, and the groups of pyproject.toml."""
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `?([^|`]+)`? \| `(dsvgraph\.\w+)` \|", recipe, re.MULTILINE)
    text = (ROOT / "dsvgraph/backends/contracts.py").read_text(encoding="utf-8")
    stated = re.findall(r"^class (\w+)\(Protocol\):\n    \"\"\"[^\"]*?Group\s+`(dsvgraph\.\w+)`", text, re.MULTILINE)
    assert len(stated) > 8 and {*stated} == {row for row in rows if row[0].isidentifier()}
    assert {group for _, group in rows} == {group for group in PROJECT["entry-points"] if group.startswith("dsvgraph.")}


def isolated(code: str, cwd: Path) -> str:
    """What Python prints, run away from the checkout with nothing but the installation on its path."""
    return subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout


def test_only_the_packages_can_be_imported(tmp_path: Path) -> None:
    names = [*PACKAGES, "backends", "specs", "tests", "benchmarks", "docs"]
    code = f"""
from importlib.util import find_spec
for name in {names!r}:
    spec = find_spec(name)
    if spec and any(place.startswith({str(ROOT)!r}) for place in spec.submodule_search_locations or []):
        print(name)
"""
    assert sorted(isolated(code, tmp_path).split()) == sorted(PACKAGES)


def test_importing_the_command_line_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys, dsvgraph.cli; print(*{'torch', 'numpy', 'transformers', 'sympy'} & set(sys.modules))"
    assert isolated(code, tmp_path).split() == []


def test_wheel(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling, of the extra `dev`")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == set(PACKAGES)
    assert names >= {f"dsvgraph/{ident(p)}" for p in (ROOT / "specs").rglob("*.yaml")}
    assert names >= {f"{package}/py.typed" for package in PACKAGES}
