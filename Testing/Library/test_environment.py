"""The launcher and the environment it makes: which Python, which packages, once, and never half done.

No test installs anything: pip and the environment's Python are small stand-ins.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ToothTopoSegLib import __version__, environment

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = ROOT / "pyproject.toml"
BASE_COMMANDS = ("segment", "check", "evaluate", "phantom", "bench", "demo")
posix_only = pytest.mark.skipif(os.name == "nt", reason="the launcher is a POSIX shell script; Windows uses pip")

# Stands in for the Python that makes environments and, copied there, for the Python of the environment.
STAND_IN = """#!/bin/sh
case "$*" in
    -c*) exit 0 ;;
    *ToothTopoSegLib.environment*)
        shift 3
        echo "install $3" >> "$1/log"
        mkdir -p "$2/bin"
        cp "$0" "$2/bin/python"
        echo "$4" > "$2/.toothtopo-$3"
        exit 0 ;;
esac
echo "path=$PYTHONPATH"
for word in "$@"; do echo "[$word]"; done
exit 3
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in a folder with a space and an umlaut, with the parts that starting takes."""
    folder = tmp_path / "Zähne im Bild"
    (folder / "ToothTopoSegLib").mkdir(parents=True)
    (folder / "Testing").mkdir()
    for name in ("toothtopo", "pyproject.toml", "Testing/constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("__init__", "__main__", "cli", "environment", "errors", "progress"):
        shutil.copy(ROOT / "ToothTopoSegLib" / f"{name}.py", folder / "ToothTopoSegLib")
    python = folder / "python stand-in"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return folder


def launch(checkout: Path, *words: str, shell: str = "", cwd: str = "/", **settings: str):
    command = [*([shell] if shell else []), str(checkout / "toothtopo"), *words]
    settings = {"TOOTHTOPO_PYTHON": str(checkout / "python stand-in"), **settings}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **settings})


@posix_only
@pytest.mark.parametrize("shell", [path for path in map(shutil.which, ("dash", "bash", "zsh")) if path])
def test_the_first_use_installs_and_the_second_does_not(checkout, shell):
    for _ in range(2):
        result = launch(checkout, "segment", "my scan.nii.gz", "-o", "ö *", shell=shell, PYTHONPATH="/elsewhere")
        expected = ["-P", "-m", "ToothTopoSegLib", "segment", "my scan.nii.gz", "-o", "ö *"]
        assert result.stdout.splitlines() == [f"path={checkout}", *(f"[{word}]" for word in expected)]
        assert result.returncode == 3
    assert (checkout / "log").read_text() == "install base\n"


@posix_only
@pytest.mark.parametrize(
    ("command", "group"),
    [
        *((name, "base") for name in BASE_COMMANDS),
        ("batch", "cluster"),
        ("audit", "export"),
        ("train", "train"),
        ("export", "train"),
        ("test", "test"),
    ],
)
def test_a_command_installs_the_group_it_needs(checkout, command, group):
    launch(checkout, command)
    assert (checkout / "log").read_text() == f"install {group}\n"


@posix_only
def test_comparing_with_the_float_model_on_phantoms_needs_the_export_group(checkout):
    launch(checkout, "bench", "--phantoms", "10")
    assert (checkout / "log").read_text() == "install export\n"


@posix_only
def test_a_richer_environment_serves_the_poorer_commands_but_not_the_other_way_round(checkout):
    for command in ("train", "segment", "audit", "test", "train"):
        launch(checkout, command)
    assert (checkout / "log").read_text().split() == ["install", "train", "install", "test"]


@posix_only
@pytest.mark.parametrize("change", ["pyproject.toml", "Testing/constraints.txt"])
def test_changed_requirements_are_installed_at_the_next_use(checkout, change):
    launch(checkout, "segment")
    with (checkout / change).open("a") as file:
        file.write("\n# changed\n")
    launch(checkout, "segment")
    assert (checkout / "log").read_text() == "install base\n" * 2


@posix_only
def test_an_environment_whose_python_has_gone_is_made_again(checkout):
    launch(checkout, "segment")
    (checkout / ".venv" / "bin" / "python").unlink()
    launch(checkout, "segment")
    assert (checkout / "log").read_text() == "install base\n" * 2


@posix_only
def test_the_launcher_works_through_chains_of_links_from_any_folder(checkout, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "second").symlink_to(checkout / "toothtopo")
    (tmp_path / "bin" / "first").symlink_to("second")
    command = [str(tmp_path / "bin" / "first"), "--version"]
    settings = {**os.environ, "TOOTHTOPO_PYTHON": sys.executable}
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=settings)
    assert (result.returncode, result.stdout.strip()) == (0, f"toothtopo {__version__}")


@posix_only
@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["segment", "-h"], 0), ([], 2), (["nonsense"], 2)])
def test_help_and_wrong_usage_install_nothing(checkout, words, code):
    result = launch(checkout, *words, TOOTHTOPO_PYTHON=sys.executable)
    assert result.returncode == code and "usage: toothtopo" in result.stdout + result.stderr
    assert not (checkout / ".venv").exists()


@posix_only
def test_the_environment_can_lie_elsewhere(checkout, tmp_path):
    launch(checkout, "segment", cwd=str(tmp_path), TOOTHTOPO_VENV="other place")
    assert (tmp_path / "other place" / "bin" / "python").exists() and not (checkout / ".venv").exists()


@posix_only
@pytest.mark.parametrize(
    ("answer", "reason"), [(127, "no Python 3.11 or newer"), (3, "no Python 3.11"), (4, "ensurepip")]
)
def test_a_python_that_cannot_serve_is_refused_in_one_sentence(checkout, answer, reason):
    (checkout / "python stand-in").write_text(f'#!/bin/sh\ncase "$2" in *ensurepip*) exit {answer};; esac\necho 3.11\n')
    result = launch(checkout, "segment")
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1 and reason in result.stderr


@posix_only
def test_without_any_python_the_launcher_says_what_to_install(checkout, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "readlink", "cat", "cksum"):
        (tools / name).symlink_to(shutil.which(name))
    result = launch(checkout, "segment", TOOTHTOPO_PYTHON="", PATH=str(tools))
    assert result.returncode == 1 and "no Python 3.11 or newer was found" in result.stderr


@posix_only
def test_a_path_with_a_colon_is_refused_because_python_cannot_stand_it(checkout):
    odd = checkout.with_name("a:b")
    checkout.rename(odd)
    result = launch(odd, "segment", TOOTHTOPO_PYTHON=sys.executable)
    assert result.returncode == 1 and "colon" in result.stderr


def test_segmenting_and_auditing_never_install_torch():
    for group in ("base", "cluster", "export"):
        names = " ".join(environment.requirements(PYPROJECT, group)).lower()
        assert "torch" not in names and "dynamic" not in names
    assert any(line.startswith("torch") for line in environment.requirements(PYPROJECT, "train"))


def test_richer_groups_hold_the_poorer_ones():
    for names in (("base", "export", "train", "test"), ("base", "cluster", "test")):
        groups = [set(environment.requirements(PYPROJECT, name)) for name in names]
        assert all(poor < rich for poor, rich in itertools.pairwise(groups))
        assert not any(line.startswith("toothtoposeg") for line in groups[-1])


def test_users_get_lower_bounds_and_no_pins():
    for line in environment.requirements(PYPROJECT, "test"):
        assert ">=" in line and not any(sign in line for sign in ("==", "<", "~="))


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """The commands ``prepare`` would run; making an environment leaves a Python that has pip, as venv does."""
    ran: list[list[str]] = []
    monkeypatch.setattr(environment, "_usable", lambda venv: environment.environment_python(venv).exists())

    def fake_run(command):
        ran.append(list(command))
        if "venv" in command:
            python = environment.environment_python(Path(command[-1]))
            python.parent.mkdir(parents=True)
            python.touch()
        return 0

    monkeypatch.setattr(environment, "_run", fake_run)
    return ran


def test_the_stamp_is_written_last_and_spares_the_next_installation(commands, tmp_path):
    venv = tmp_path / ".venv"
    environment.prepare(ROOT, venv, "base", "key 1")
    assert (venv / ".toothtopo-base").read_text() == "key 1\n"
    assert [command[2] for command in commands] == ["venv", "pip"]
    environment.prepare(ROOT, venv, "base", "key 1")
    assert len(commands) == 2
    environment.prepare(ROOT, venv, "base", "key 2")
    assert [command[2] for command in commands] == ["venv", "pip", "pip"]


def test_a_failed_installation_is_one_sentence_and_is_repeated(commands, tmp_path, monkeypatch, capsys):
    run = environment._run
    monkeypatch.setattr(environment, "_run", lambda command: run(command) or int("pip" in command))
    words = [str(ROOT), str(tmp_path / ".venv"), "base", "key"]
    assert environment.main(words) == 1
    assert "could not be installed" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / ".venv").glob(".toothtopo-*"))
    monkeypatch.setattr(environment, "_run", run)
    assert environment.main(words) == 0


def test_an_interrupted_installation_ends_with_130_and_leaves_no_stamp(commands, tmp_path, monkeypatch):
    run = environment._run

    def interrupted(command):
        run(command)
        if "pip" in command:
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(environment, "_run", interrupted)
    assert environment.main([str(ROOT), str(tmp_path / ".venv"), "base", "key"]) == 130
    assert not list((tmp_path / ".venv").glob(".toothtopo-*"))


def test_only_the_tests_are_bound_to_the_constraints(commands, tmp_path):
    environment.prepare(ROOT, tmp_path / ".venv", "train", "key")
    assert "--constraint" not in commands[-1]
    environment.prepare(ROOT, tmp_path / ".venv", "test", "key")
    assert commands[-1][-1] == str(ROOT / "Testing" / "constraints.txt")


def test_a_folder_that_is_no_environment_is_left_alone(commands, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert environment.main([str(ROOT), str(tmp_path), "base", "key"]) == 1
    assert "is not a Python environment" in capsys.readouterr().err
    assert not commands and (tmp_path / "thesis.txt").exists()


@posix_only
def test_a_second_first_use_waits_and_then_finds_the_work_done(commands, tmp_path, monkeypatch, capsys):
    waits = threading.Event()
    say, run = environment._say, environment._run
    monkeypatch.setattr(environment, "_say", lambda text: (say(text), "waiting" in text and waits.set()))
    words = [str(ROOT), str(tmp_path / ".venv"), "base", "key"]
    second = threading.Thread(target=environment.main, args=[words])

    def slow(command):
        if "pip" in command:
            second.start()
            assert waits.wait(30)
        return run(command)

    monkeypatch.setattr(environment, "_run", slow)
    assert environment.main(words) == 0
    second.join(30)
    assert [command[2] for command in commands] == ["venv", "pip"]
    assert "another toothtopo" in capsys.readouterr().err


def test_pip_talks_on_stderr_and_heeds_no_user_setting(monkeypatch, capfd):
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    code = "import os; print('loud', os.environ.get('PIP_TARGET'), os.environ['PIP_USER'])"
    assert environment._run([sys.executable, "-c", code]) == 0
    out, err = capfd.readouterr()
    assert out == "" and err.split() == ["loud", "None", "0"]
