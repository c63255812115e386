"""The rules of the house: who may import what, what ships with the extension, and that the linters are content."""

from __future__ import annotations

import ast
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ToothTopoSegLib.cli import build_parser
from ToothTopoSegLib.environment import requirements
from ToothTopoSegLib.resources import resource_folder

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "ToothTopoSegLib"
MODULE = ROOT / "ToothTopoSeg"
WITHOUT_TORCH = ("anatomy", "imaging", "segmentation", "topology", "surfaces", "measurements", "phantom")
WITH_TORCH = ("training", "quantization", "nnunet")
WITH_DASK = ENGINE / "segmentation" / "cluster.py"
DISTRIBUTIONS = {
    "dask": "distributed",  # which requires the one version that fits
    "__feature__": "PySide6-Essentials",
    "PySide6": "PySide6-Essentials",
    "slicer": "slicer-core",
    "vtk": "slicer-core",
    "qt": "PySide6-Essentials",  # with Testing/Gui/harness
    "ctk": "PySide6-Essentials",
    "dynamic_network_architectures": "dynamic-network-architectures",
    "fast_simplification": "fast-simplification",
    "PIL": "pillow",
    "skimage": "scikit-image",
}
BUNDLED_WITH_SLICER = {"numpy", "pydicom", "scipy", "simpleitk", "vtk"}
SHIPPED_RESOURCES = ("Models", "Terminologies", "Colors", "Page")


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def relative(paths: list[Path], folder: Path = ROOT) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in paths}


def statements(path: Path, anywhere: bool = True) -> Iterator[ast.stmt]:
    """Statements of a file: all of them, or those that run on import (not inside functions or TYPE_CHECKING)."""

    def walk(node: ast.AST) -> Iterator[ast.stmt]:
        for child in ast.iter_child_nodes(node):
            if not anywhere and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if not anywhere and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.stmt):
                yield child
            yield from walk(child)

    return walk(ast.parse(path.read_text(encoding="utf-8")))


def imports(path: Path, anywhere: bool = True) -> set[str]:
    """Full names of the modules a file imports."""
    names = set()
    for statement in statements(path, anywhere):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{path}: relative import"
            names.add(statement.module or "")
    return names


def foreign(path: Path, anywhere: bool = True) -> set[str]:
    """The modules a file imports that are neither ours nor Python's own."""
    roots = {name.split(".")[0] for name in imports(path, anywhere)}
    return roots - set(sys.stdlib_module_names) - {"ToothTopoSegLib", "ToothTopoSeg", "ToothTopoSegGui", "Testing"}


def third_party(path: Path, anywhere: bool = True) -> set[str]:
    """Distributions, in small letters, of the modules a file imports that are neither ours nor Python's own."""
    return {DISTRIBUTIONS.get(name, name).lower() for name in foreign(path, anywhere)}


def declared(group: str) -> set[str]:
    lines = requirements(ROOT / "pyproject.toml", group)
    return {re.split(r"[<>=\[; ]", line)[0].lower() for line in lines}


# ---- who may import what


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_what_segmenting_needs_never_imports_torch(package):
    files = [path for path in python_files(ENGINE / package) if path != WITH_DASK]
    offenders = [path for path in files if third_party(path) - declared("base")]
    assert not offenders, {path.name: third_party(path) - declared("base") for path in offenders}


def test_the_engine_imports_only_packages_its_group_declares():
    for path in python_files(ENGINE):
        group = "train" if path.relative_to(ENGINE).parts[0] in WITH_TORCH else "base"
        group = "cluster" if path == WITH_DASK else group
        assert not third_party(path) - declared(group), f"{path}: {third_party(path) - declared(group)}"


def test_the_tests_import_only_packages_the_test_group_declares():
    for path in python_files(ROOT / "Testing"):
        siblings = {other.stem.lower() for other in path.parent.glob("*.py")}
        assert not third_party(path) - declared("test") - siblings, path


def test_everything_but_training_can_be_imported_where_torch_is_not_installed():
    packages = (*WITHOUT_TORCH, "evaluation")
    files = [path for package in packages for path in python_files(ENGINE / package)]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]
    blocked = ("torch", "onnx", "distributed", "dynamic_network_architectures", "slicer", "qt")
    code = "import importlib, sys\n"
    code += f"sys.modules.update(dict.fromkeys({blocked}))\n"
    code += f"for name in {[*names, 'ToothTopoSegLib.cli', 'ToothTopoSegLib.resources']}: importlib.import_module(name)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_importing_a_file_of_the_engine_loads_nothing_heavy():
    for path in python_files(ENGINE):
        light = {"numpy", "torch"} if path.relative_to(ENGINE).parts[0] in WITH_TORCH else {"numpy"}
        heavy = third_party(path, anywhere=False) - light
        assert not heavy, f"{path} imports {heavy} at file scope; import inside the function that needs it"


def test_the_engine_knows_neither_slicer_nor_qt():
    doors = {"slicer", "qt", "ctk", "mrml", "pythonqt", "pyside6", "vtkmodules.qt"}
    for path in python_files(ENGINE):
        assert not doors & {part.lower() for name in imports(path) for part in (name, name.split(".")[0])}, path


def test_anatomy_imports_nothing_of_ours_but_itself():
    ours = {name for path in python_files(ENGINE / "anatomy") for name in imports(path) if "ToothTopo" in name}
    allowed = ("ToothTopoSegLib.anatomy", "ToothTopoSegLib.errors", "ToothTopoSegLib.resources")
    assert all(name.startswith(allowed) for name in ours), ours


def test_imports_point_down_and_no_engine_file_opens_a_door():
    above = {
        "imaging": ("segmentation", "topology", "training", "quantization", "nnunet", "phantom", "evaluation"),
        "quantization": ("segmentation", "topology", "evaluation"),
        "nnunet": ("segmentation", "topology", "evaluation"),
        "segmentation": ("training",),
        "topology": ("training", "surfaces", "measurements"),
        "surfaces": ("training", "segmentation", "phantom", "evaluation", "measurements"),
        "measurements": ("training", "segmentation", "phantom", "evaluation"),
    }
    for path in python_files(ENGINE):
        package = path.relative_to(ENGINE).parts[0]
        forbidden = tuple(f"ToothTopoSegLib.{name}" for name in above.get(package, ()))
        if path.parent != ENGINE:
            forbidden += ("ToothTopoSegLib.cli",)
        wrong = {name for name in imports(path) if name.startswith(forbidden)} if forbidden else set()
        assert not wrong, f"{path} imports {wrong}"


def test_the_slicer_module_imports_only_slicers_own_packages_at_file_scope():
    allowed = {"slicer", "qt", "ctk", "vtk"}
    for path in python_files(MODULE):
        assert foreign(path, anywhere=False) <= allowed, path
        assert not any(name.startswith("ToothTopoSegLib") for name in imports(path, anywhere=False)), path


def test_the_slicer_module_has_the_classes_slicer_looks_for():
    names = {node.name for node in statements(MODULE / "ToothTopoSeg.py") if isinstance(node, ast.ClassDef)}
    assert names == {f"ToothTopoSeg{part}" for part in ("", "Widget", "Logic", "Test")}


def test_slicer_finds_no_file_in_the_folder_of_modules_that_is_no_module():
    for path in MODULE.glob("*.py"):  # each is loaded as a module at the start, and needs a class of its name
        names = {node.name for node in statements(path) if isinstance(node, ast.ClassDef)}
        assert path.stem in names, path


# ---- what ships


def cmake_list(text: str, name: str) -> set[str]:
    """The values of ``set(name ...)`` in a CMake file, with ${MODULE_NAME} filled in."""
    found = re.search(rf"set\({name}\s([^)]*)\)", text)
    assert found, name
    return set(found[1].replace("${MODULE_NAME}", "ToothTopoSeg").split())


def cmake_glob(text: str, name: str) -> set[str]:
    """The files that ``file(GLOB_RECURSE name RELATIVE root ...)`` finds in the checkout."""
    found = re.search(rf"file\(GLOB_RECURSE {name}\s([^)]*)\)", text)
    assert found, name
    patterns = re.findall(r"^\s*\$\{ToothTopoSeg_SOURCE_DIR\}/(\S+)$", found[1], re.MULTILINE)
    files = []
    for folder, _, pattern in (pattern.rpartition("/") for pattern in patterns):
        files += [path for path in (ROOT / folder).rglob(pattern) if path.is_file()]
    return relative(files)


def test_the_cmake_lists_of_the_module_name_exactly_the_files_that_are_there():
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    assert cmake_list(text, "MODULE_PYTHON_SCRIPTS") == relative(python_files(MODULE), MODULE)
    resources = [path for path in (MODULE / "Resources").rglob("*") if path.is_file()]
    assert cmake_list(text, "MODULE_PYTHON_RESOURCES") == relative(resources, MODULE)


def test_the_cmake_lists_of_the_engine_find_every_file_that_must_ship():
    text = (ENGINE / "CMakeLists.txt").read_text(encoding="utf-8")
    assert cmake_glob(text, "ENGINE_PYTHON_SCRIPTS") == relative(python_files(ENGINE))
    folders = [ROOT / "Resources" / name for name in SHIPPED_RESOURCES]
    expected = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    expected |= set((ROOT / "Resources").glob("requirements*.txt"))
    assert cmake_glob(text, "ENGINE_RESOURCES") == relative(sorted(expected))


def test_every_folder_of_resources_is_shipped_or_known_to_stay():
    folders = {path.name for path in (ROOT / "Resources").iterdir() if path.is_dir()}
    assert folders <= {*SHIPPED_RESOURCES, "Screenshots", "Evidence"}


def test_the_extension_builds_both_folders():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert set(re.findall(r"add_subdirectory\((\w+)\)", text)) == {"ToothTopoSeg", "ToothTopoSegLib"}


def test_slicer_installs_what_it_does_not_bring_along():
    lines = (ROOT / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line for line in lines if not line.startswith("#")}
    base = requirements(ROOT / "pyproject.toml", "base")
    assert wanted == {line for line in base if line.split(">=")[0].lower() not in BUNDLED_WITH_SLICER}


def test_slicer_installs_for_fine_tuning_what_the_package_names_except_torch():
    lines = (ROOT / "Resources" / "requirements-training.txt").read_text(encoding="utf-8").splitlines()
    named = {*requirements(ROOT / "pyproject.toml", "train")} - {*requirements(ROOT / "pyproject.toml", "base")}
    wanted = {line for line in lines if not line.startswith("#")}
    # torch comes through an extension; curves are drawn by Slicer, and experiments belong to the command line
    elsewhere = ("torch", "matplotlib", "tensorboard", "toothtoposeg[export]")
    assert wanted == {line for line in named if line.partition(">=")[0] not in elsewhere}


def test_a_wheel_carries_the_resources_but_not_the_screenshots():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert "Resources" in wheel["only-include"] and "Resources/Screenshots" in wheel["exclude"]
    assert wheel["sources"] == {"Resources": "ToothTopoSegLib/Resources"}


def test_resources_are_found_beside_the_engine_and_inside_a_wheel(tmp_path, monkeypatch):
    assert resource_folder() == ROOT / "Resources"
    module = sys.modules[resource_folder.__module__]
    monkeypatch.setattr(module, "__file__", str(tmp_path / "ToothTopoSegLib" / "resources.py"))
    with pytest.raises(FileNotFoundError, match="Resources"):
        resource_folder()
    (tmp_path / "ToothTopoSegLib" / "Resources").mkdir(parents=True)
    assert resource_folder() == (tmp_path / "ToothTopoSegLib" / "Resources").resolve()


def test_the_icon_is_128_pixels_square():
    header = (MODULE / "Resources" / "Icons" / "ToothTopoSeg.png").read_bytes()[:24]
    assert header[12:16] == b"IHDR" and (header[16:20], header[20:24]) == ((128).to_bytes(4, "big"),) * 2


def test_the_checkout_stays_below_100_megabytes():
    git = shutil.which("git")
    listing = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True) if git else None
    if listing is not None and listing.returncode == 0 and listing.stdout:
        files = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        hidden = (".git", ".venv", ".mypy_cache", ".ruff_cache", ".hypothesis", "runs", "build", "dist")
        files = [path for path in ROOT.rglob("*") if not path.relative_to(ROOT).parts[0].startswith(hidden)]
    assert sum(path.stat().st_size for path in files if path.is_file()) < 100e6


# ---- the doors


def test_the_launcher_knows_which_packages_every_command_needs():
    text = (ROOT / "toothtopo").read_text(encoding="utf-8")
    known = {
        word for line in re.findall(r"^    ([a-z |-]+)\) groups=\"\w", text, re.MULTILINE) for word in line.split(" | ")
    }
    choices = next(action.choices for action in build_parser()._actions if action.dest == "command")
    assert known == set(choices)


@pytest.mark.parametrize("name", ["toothtopo", ".ci/run"])
def test_the_scripts_can_be_executed(name):
    assert (ROOT / name).stat().st_mode & stat.S_IXUSR


def test_the_readme_shows_both_commands_at_its_top():
    top = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:60])
    assert "./toothtopo demo" in top and "./toothtopo test" in top


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE.txt").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


# ---- the linters


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "--no-cache"], ["ruff", "format", "--check", "--no-cache"], ["mypy"]],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_the_linters_are_content(command, tmp_path):
    if command == ["mypy"]:
        command = ["mypy", "--cache-dir", str(tmp_path)]
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
