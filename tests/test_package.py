"""The house: packages that ship are those on disk, and imports run downward only."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BELOW = {
    "errors": set(),
    "segmentation": {"errors"},
    "diffusion": {"errors"},
    "guidance": {"diffusion", "toybox", "errors"},
    "editing": {"segmentation", "diffusion", "guidance", "toybox", "errors"},
    "evaluation": {"editing", "segmentation", "diffusion", "guidance", "toybox", "errors"},
}
"""Each room of the package and the rooms that it may import; toybox's segmenter is at everyone's hand."""


def rooms():
    return sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests")


def imported_rooms(file):
    """The rooms of inlay that a module imports, wherever in the file."""
    depth = len(file.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (name.split(".")[0] for name in names)
        elif isinstance(node, ast.ImportFrom) and node.level < depth and (node.module or "").startswith("inlay"):
            yield "inlay by its absolute name"
        elif isinstance(node, ast.Import):
            yield from ("inlay by its absolute name" for alias in node.names if alias.name.split(".")[0] == "inlay")


def test_packages_are_the_folders_on_disk():
    assert sorted(SETTINGS["tool"]["setuptools"]["packages"]) == sorted(
        ["inlay", *(f"inlay.{room}" for room in rooms())]
    )
    nested = [path for room in rooms() for path in (ROOT / room).glob("*/**/*.py")]
    assert nested == [], "a folder of a room would not ship"


def test_toyboxs_weights_and_benchmark_ship():
    patterns = SETTINGS["tool"]["setuptools"]["package-data"]["inlay"]
    shipped = {file for pattern in patterns for file in ROOT.glob(pattern)}
    wanted = ("weights/model_index.json", "weights-256/model_index.json", "benchmark/instances.json")
    assert {ROOT / "toybox" / file for file in wanted} <= shipped


def test_the_root_holds_three_python_files():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "cli.py", "errors.py"}


@pytest.mark.parametrize("room", BELOW)
def test_imports_run_downward(room):
    files = [ROOT / "errors.py"] if room == "errors" else sorted((ROOT / room).glob("*.py"))
    assert files
    allowed = BELOW[room] | {"__version__"}
    upward = {
        f"{file.name} imports {name}"
        for file in files
        for name in imported_rooms(file)
        if name not in allowed and name != room
    }
    assert upward == set()


def test_what_rooms_use_of_toybox_lies_below_them():
    """Its segmenter and vocabulary, and what they import in turn; its workshop may stand on everything."""
    waiting, seen = ["segmenter", "vocabulary"], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        file = ROOT / "toybox" / f"{name}.py"
        assert set(imported_rooms(file)) <= {"errors"}, name
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module and node.module not in seen:
                waiting.append(node.module)


def test_the_check_sees_an_upward_import(tmp_path, monkeypatch):
    (tmp_path / "diffusion").mkdir()
    file = tmp_path / "diffusion" / "wrong.py"
    file.write_text("def late():\n    from ..editing.blend import Blend\n    import inlay.guidance\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert set(imported_rooms(file)) == {"editing", "inlay by its absolute name"}


@pytest.mark.parametrize("module", ["inlay", "inlay.cli", *(f"inlay.{room}" for room in rooms())])
def test_importing_a_room_loads_nothing_heavy(module):
    heavy = "{'torch', 'diffusers', 'transformers', 'cv2', 'scipy', 'skimage'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "tests", check=True)
    assert done.stdout.strip() == "[]"
