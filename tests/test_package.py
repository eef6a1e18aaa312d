"""The house: packages that ship are those on disk, and what a file knows of others lies below it.

A file knows what it imports, wherever in the file and for whatever reason, and the rooms that its paths lead into.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from inlay.errors import InlayError, extra

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FLOORS = (
    {"errors"},
    {"photos", "weights"},
    {"segmentation", "diffusion"},
    {"guidance"},
    {"editing"},
    {"jobs"},
    {"evaluation", "ui"},
    {"cli"},
)
"""The rooms from the ground up; each knows those of the floors below it, and none of its own floor."""
DOOR_TO_TOYBOX = "weights/catalogue.py"
OUTSIDE = {"tests", "examples", "benchmarks"}


def rooms(root: Path = ROOT) -> set[str]:
    """The packages at the root, and the modules beside them."""
    return {path.parent.name for path in root.glob("*/__init__.py")} - OUTSIDE | {"errors", "cli"}


def sources(root: Path = ROOT) -> list[Path]:
    """Every Python file that ships, and toybox's workshop."""
    found = (file for room in rooms(root) for file in [root / f"{room}.py", *(root / room).rglob("*.py")])
    return sorted(file for file in found if file.is_file())


def room_of(file: Path, root: Path = ROOT) -> str:
    """A room's name; toybox's workshop is a room of its own."""
    first, *rest = file.relative_to(root).with_suffix("").parts
    return "workshop" if [first, *rest[:1]] == ["toybox", "workshop"] else first


def known_files(file: Path, root: Path = ROOT) -> Iterator[Path]:
    """The files of the package that a file imports by relative names."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        for alias in node.names:
            inner = base / alias.name
            ways = [inner.with_suffix(".py"), inner / "__init__.py", base.with_suffix(".py"), base / "__init__.py"]
            found = next(way for way in ways if way.is_file())
            if (found, alias.name) != (root / "__init__.py", "__version__"):
                yield found


def known_by_name(file: Path, root: Path = ROOT) -> Iterator[str]:
    """The rooms that a file names: absolutely, as `inlay.room` in a text, or in a path that leaves its own room."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ("inlay by its absolute name" for module in modules if module.split(".")[0] == "inlay")
        elif isinstance(node, ast.Constant) and str(node.value).startswith("inlay."):
            yield from {str(node.value).split(".")[1]} & rooms(root)
        elif isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant):
            start = ast.unparse(node.left)
            if "__file__" in start and (start.count(".parent") > 1 or ".parents[" in start):
                yield from {str(node.right.value).split("/")[0]} & rooms(root)


def climbs(root: Path = ROOT) -> set[tuple[str, str]]:
    """(file, room) for each room that a file knows and must not."""
    found = set()
    for file in sources(root):
        own = room_of(file, root)
        known = {room_of(other, root) for other in known_files(file, root)} | set(known_by_name(file, root))
        name = file.relative_to(root).as_posix()
        found |= {(name, room) for room in known - {own} if not may_know(name, own, room)}
    return found


def may_know(file: str, own: str, room: str) -> bool:
    if own == "workshop":
        return room != "inlay by its absolute name"
    if room == "toybox":
        return file == DOOR_TO_TOYBOX
    floor = {name: number for number, names in enumerate(FLOORS) for name in names} | {"toybox": 1}
    return floor.get(room, len(FLOORS)) < floor[own]


def circles(root: Path = ROOT) -> set[str]:
    """Files that lead back to themselves; the root's `__init__.py` re-exports and takes no part."""
    known = {file: set(known_files(file, root)) - {file, root / "__init__.py"} for file in sources(root)}

    def reached(file: Path) -> set[Path]:
        seen, waiting = set[Path](), [file]
        while waiting:
            new = known[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    return {file.relative_to(root).as_posix() for file in known if file in reached(file)}


def test_imports_and_paths_lead_downward():
    assert climbs() == set()


def test_no_files_import_each_other_in_a_circle():
    assert circles() == set()


def test_the_checks_see_late_hidden_and_written_knowledge(tmp_path):
    """Upward, sideways, in functions, for types alone, by path, by absolute name; and a circle of three."""
    files = {
        "errors.py": "",
        "cli.py": "from .editing.blend import Blend",
        "photos/a.py": "def late():\n    from ..weights.store import load",
        "weights/store.py": "def load(): ...\nfrom ..errors import InlayError",
        "weights/catalogue.py": "from ..toybox import net",
        "toybox/net.py": "",
        "toybox/workshop/train.py": "from ...editing.blend import Blend",
        "diffusion/model.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..editing import blend",
        "diffusion/paths.py": "from pathlib import Path\nHERE = Path(__file__).parent.parent / 'toybox' / 'weights'",
        "diffusion/files.py": "from importlib.resources import files\nHERE = files('inlay.toybox')",
        "diffusion/name.py": "import inlay.guidance",
        "editing/blend.py": "from .crop import crop",
        "editing/crop.py": "def crop():\n    from .paste import paste",
        "editing/paste.py": "def paste(): ...\nfrom . import blend",
        "editing/alone.py": "from .blend import Blend",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).with_name("__init__.py").touch()
        (tmp_path / name).write_text(text)
    assert climbs(tmp_path) == {
        ("photos/a.py", "weights"),
        ("diffusion/model.py", "editing"),
        ("diffusion/paths.py", "toybox"),
        ("diffusion/files.py", "toybox"),
        ("diffusion/name.py", "inlay by its absolute name"),
    }
    assert circles(tmp_path) == {"editing/blend.py", "editing/crop.py", "editing/paste.py"}


def test_what_is_imported_is_declared():
    """A dependency is imported by what ships, or stands here with its reason."""
    unseen = {"accelerate"}  # diffusers notices weights that a single file lacks only with it
    brought = {"tokenizers", "pydantic-core"}  # parts of transformers and pydantic
    owners = packages_distributions()
    files = (file for file in sources() if room_of(file) != "workshop")
    modules = {module for file in files for module in foreign_modules(file)} & owners.keys()
    imported = {owners[module][0].lower().replace("_", "-") for module in modules} - brought
    needed = named(SETTINGS["project"]["dependencies"])
    extras = SETTINGS["project"]["optional-dependencies"]
    assert imported - needed - set().union(*(named(extras[name]) for name in extras.keys() - {"dev"})) == set()
    assert needed - imported == unseen


def named(requirements):
    return {re.split(r"[>\[]", one)[0].lower() for one in requirements}


def foreign_modules(file):
    """The top names of the modules of others that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        yield from ({name.split(".")[0] for name in names} - sys.stdlib_module_names)


def test_a_missing_extra_is_one_sentence_with_the_command():
    with (
        pytest.raises(InlayError, match=r"^This needs no_such_package; .* pip install 'inlay\[evaluate\]'\.$"),
        extra("evaluate"),
    ):
        import no_such_package  # noqa: F401


def test_packages_are_the_folders_on_disk():
    folders = {file.parent for file in sources()} - {ROOT / "toybox" / "workshop"}
    packages = {".".join(["inlay", *folder.relative_to(ROOT).parts]) for folder in folders}
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == packages
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_toyboxs_weights_and_benchmark_ship():
    patterns = SETTINGS["tool"]["setuptools"]["package-data"]["inlay"]
    shipped = {file for pattern in patterns for file in ROOT.glob(pattern)}
    wanted = ("weights/model_index.json", "benchmark/instances.json")
    assert {ROOT / "toybox" / file for file in wanted} <= shipped


def test_the_root_holds_three_python_files():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "cli.py", "errors.py"}


@pytest.mark.parametrize("module", ["inlay", *(f"inlay.{room}" for room in sorted(rooms()))])
def test_importing_a_room_loads_nothing_heavy(module):
    heavy = "{'torch', 'diffusers', 'transformers', 'cv2', 'scipy', 'skimage'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "tests", check=True)
    assert done.stdout.strip() == "[]"
