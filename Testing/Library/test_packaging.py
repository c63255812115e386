"""The extension as Slicer's build system sees it: what it installs, what it tells the catalog, what it tests.

CMake configures and installs the extension against a stand-in for Slicer's package, whose macros take the arguments of
Slicer's own (UseSlicer, SlicerMacroBuildScriptedModule, ctkMacroCompilePythonScript, SlicerMacroPythonTesting), insist
on the files being there as those do, and install them to where those do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = "lib/Slicer-5.12/qt-scripted-modules"
PUBLIC = "https://example.org/files"
PACKAGE = {
    "SlicerConfig.cmake": """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/GenerateConfig.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/CPack.cmake)
""",
    "UseSlicer.cmake": """
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.12/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR ${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
set(BUILD_TESTING ON)
macro(ctkMacroCompilePythonScript)
  cmake_parse_arguments(MY "NO_INSTALL_SUBDIR;GLOBAL_TARGET" "TARGET_NAME;SOURCE_DIR;DESTINATION_DIR;INSTALL_DIR"
    "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS OR NOT MY_TARGET_NAME OR NOT MY_NO_INSTALL_SUBDIR)
    message(FATAL_ERROR "ctkMacroCompilePythonScript: ${ARGN}")
  endif()
  if(NOT MY_SOURCE_DIR)
    set(MY_SOURCE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
  endif()
  if(NOT MY_DESTINATION_DIR STREQUAL ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
    message(FATAL_ERROR "built to ${MY_DESTINATION_DIR}")
  endif()
  foreach(file IN LISTS MY_SCRIPTS MY_RESOURCES)
    if(NOT EXISTS ${MY_SOURCE_DIR}/${file})
      message(FATAL_ERROR "nonexistent ${file}")
    endif()
    get_filename_component(folder ${file} DIRECTORY)
    install(FILES ${MY_SOURCE_DIR}/${file} DESTINATION ${MY_INSTALL_DIR}/${folder})
  endforeach()
endmacro()
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY_SLICER "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_SLICER_UNPARSED_ARGUMENTS OR NOT MY_SLICER_NAME OR NOT MY_SLICER_WITH_GENERIC_TESTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: ${ARGN}")
  endif()
  ctkMacroCompilePythonScript(TARGET_NAME ${MY_SLICER_NAME} SCRIPTS "${MY_SLICER_SCRIPTS}"
    RESOURCES "${MY_SLICER_RESOURCES}" DESTINATION_DIR ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}
    INSTALL_DIR ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR} NO_INSTALL_SUBDIR)
endmacro()
macro(slicer_add_python_unittest)
  file(APPEND ${CMAKE_BINARY_DIR}/tests.txt "${ARGN}\\n")
endmacro()
""",
    "GenerateConfig.cmake": "",
    "CPack.cmake": """
foreach(name HOMEPAGE CATEGORY CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  file(APPEND ${CMAKE_BINARY_DIR}/metadata.txt "${name}=${EXTENSION_${name}}\\n")
endforeach()
""",
    # The extension compiles nothing, so nothing is asked of the compilers that project() looks for.
    "toolchain.cmake": "".join(
        f'set(CMAKE_{language}_COMPILER "{Path(sys.executable).as_posix()}")\n'
        f"set(CMAKE_{language}_COMPILER_FORCED TRUE)\n"
        for language in ("C", "CXX")
    ),
}


def _cmake(*words: object) -> None:
    program = Path(sys.executable).with_name("cmake.exe" if os.name == "nt" else "cmake")
    done = subprocess.run([str(program), *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build folder of the extension, configured with a public address."""
    folder = tmp_path_factory.mktemp("extension")
    package = folder / "Slicer"
    package.mkdir()
    for name, text in PACKAGE.items():
        (package / name).write_text(text, encoding="utf-8")
    options = [f"-DSlicer_DIR={package}", f"-DCMAKE_TOOLCHAIN_FILE={package / 'toolchain.cmake'}"]
    options += [f"-DToothTopoSeg_PUBLIC_FILES_URL={PUBLIC}", f"-DCMAKE_MAKE_PROGRAM={sys.executable}"]
    _cmake("-G", "Unix Makefiles", "-S", ROOT, "-B", folder / "build", *options)
    return folder / "build"


@pytest.fixture(scope="module")
def installed(build: Path) -> Path:
    """The folder of scripted modules of the installed extension."""
    _cmake("--install", build, "--prefix", build / "installed")
    return build / "installed" / MODULES


@pytest.fixture(scope="module")
def metadata(build: Path) -> dict[str, str]:
    """What the extension tells the catalog."""
    lines = (build / "metadata.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


def _files(folder: Path, pattern: str = "*") -> set[str]:
    found = (path for path in folder.rglob(pattern) if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in found}


def test_module_engine_and_resources_are_installed_side_by_side_and_nothing_else(installed: Path) -> None:
    expected = _files(ROOT / "ToothTopoSeg") - {"CMakeLists.txt"}
    expected |= {f"ToothTopoSegLib/{name}" for name in _files(ROOT / "ToothTopoSegLib", "*.py")}
    for folder in ("Models", "Terminologies", "Colors", "Page"):
        expected |= {f"Resources/{folder}/{name}" for name in _files(ROOT / "Resources" / folder)}
    expected |= {"Resources/requirements.txt", "Resources/requirements-training.txt"}
    assert _files(installed) == expected


def test_the_installed_engine_finds_its_model_and_its_lists(installed: Path) -> None:
    code = """
from ToothTopoSegLib.quantization.bundle import load_bundle, surface_bundle
from ToothTopoSegLib.resources import resource_folder
bundle = load_bundle()
print(bundle.path)
assert surface_bundle(bundle) is not None
assert (resource_folder() / "requirements.txt").is_file()
assert list((resource_folder() / "Terminologies").glob("*.term.json"))
"""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed.resolve())


def test_the_module_registers_its_unit_tests(build: Path) -> None:
    assert "SCRIPT;ToothTopoSeg.py" in (build / "tests.txt").read_text(encoding="utf-8").splitlines()


def test_the_catalog_is_told_what_it_asks_of_every_extension(metadata: dict[str, str]) -> None:
    assert all(metadata.values()), metadata
    assert metadata["CATEGORY"] == "Segmentation" and metadata["DEPENDS"] == "NA"
    assert metadata["HOMEPAGE"].startswith("https://")


def test_the_pictures_of_the_catalog_are_files_of_the_repository(metadata: dict[str, str]) -> None:
    urls = [metadata["ICONURL"], *metadata["SCREENSHOTURLS"].split(" ")]
    assert all((ROOT / url.removeprefix(f"{PUBLIC}/")).is_file() for url in urls), urls
    assert len(urls) == 1 + len(list((ROOT / "Resources" / "Screenshots").glob("*.png")))


def test_the_entry_for_the_index_of_extensions_has_the_fields_of_its_schema(metadata: dict[str, str]) -> None:
    text = (ROOT / "ToothTopoSeg.json").read_bytes()
    entry = json.loads(text)
    assert b"\r" not in text
    assert re.search(r"slicer-extension-catalog-entry-schema-v1\.0\.2\.json#$", entry["$schema"])
    optional = {"scm_revision", "scm_type", "build_dependencies", "build_subdirectory", "enabled", "tier"}
    assert {"$schema", "category", "scm_url"} <= set(entry) <= {"$schema", "category", "scm_url", *optional}
    assert entry["scm_type"] in ("git", "local") and entry["tier"] in (1, 3, 5)
    assert entry["category"] == metadata["CATEGORY"]
    assert (" ".join(entry["build_dependencies"]) or "NA") == metadata["DEPENDS"]
