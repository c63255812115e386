"""Makes the Python environment that a command of the launcher ``toothtopo`` needs, on its first use.

In: the checkout, the folder of the environment, a dependency group of pyproject.toml and a key that changes when
the packages to install change. Out: the environment with these packages, and a stamp file holding the key, written
last, so that an interrupted installation is repeated. A lock keeps two first uses apart. Standard library only,
because it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

BASE = "base"
OLDEST = (3, 11)


class SetupError(Exception):
    """The environment cannot be made; the message is one sentence for a person."""


def requirements(pyproject: Path, group: str) -> list[str]:
    """Requirements of a group: the base dependencies and, unless ``group`` is base, its optional ones.

    A group that names another one (``toothtoposeg[train]``) brings that one's requirements.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    own = re.compile(re.escape(project["name"]) + r"\[(\w+)\]")

    def expand(lines: list[str]) -> Iterator[str]:
        for line in lines:
            match = own.fullmatch(line)
            if match:
                yield from expand(extras[match[1]])
            else:
                yield line

    return [*project["dependencies"], *expand([] if group == BASE else extras[group])]


def prepare(root: Path, venv: Path, group: str, key: str) -> None:
    """Make ``venv`` hold the packages of ``group`` and stamp it with ``key``; SetupError says what is in the way."""
    with _locked(root / "pyproject.toml"):
        stamp = venv / f".toothtopo-{group}"
        if _usable(venv) and stamp.is_file() and stamp.read_text().strip() == key:
            return  # another first use has just done it
        if not _usable(venv):
            _create(venv)
        _install(venv, root, group)
        unfinished = stamp.with_name(f"{stamp.name}.{os.getpid()}")
        unfinished.write_text(key + "\n")
        unfinished.replace(stamp)


def environment_python(venv: Path) -> Path:
    """The interpreter of an environment."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def _usable(venv: Path) -> bool:
    """Whether the environment runs, is new enough and has pip: it may be half made, or its Python may be gone."""
    python = environment_python(venv)
    probe = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    try:
        return python.exists() and subprocess.run([python, "-c", probe], capture_output=True).returncode == 0
    except OSError:
        return False


def _create(venv: Path) -> None:
    """A new environment in place of one that does not work; a folder that is none is left alone."""
    if venv.is_dir() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").exists():
        raise SetupError(f"'{venv}' is not a Python environment: move it away or set TOOTHTOPO_VENV to another folder.")
    _say(f"first use: making a Python {sys.version_info[0]}.{sys.version_info[1]} environment in '{venv}'")
    if _run([sys.executable, "-m", "venv", "--clear", str(venv)]):
        raise SetupError(
            f"no environment could be made in '{venv}' (the reason stands above): "
            "make room or permission there, or set TOOTHTOPO_VENV to another folder."
        )


def _install(venv: Path, root: Path, group: str) -> None:
    wanted = requirements(root / "pyproject.toml", group)
    names = ", ".join(re.split(r"[<>=~!;\[ ]", line)[0] for line in wanted)
    _say(f"installing what this command needs, once (this can take minutes): {names}")
    command = [str(environment_python(venv)), "-m", "pip", "install", "--disable-pip-version-check", *wanted]
    if not sys.stderr.isatty():
        command.append("--quiet")
    if group == "test":
        command += ["--constraint", str(root / "Testing" / "constraints.txt")]
    if _run(command):
        raise SetupError(
            "the packages could not be installed (the reason stands above): "
            "check the network, the proxy and the free disk space, then run the same command again."
        )
    _say("the environment is ready")


def _run(command: Sequence[str]) -> int:
    """Exit status of a command that talks on stderr alone, since stdout belongs to results."""
    # pip must put the packages into the environment whatever the user's pip settings say
    settings = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    for name in ("PIP_TARGET", "PIP_PREFIX", "PYTHONPATH"):
        settings.pop(name, None)
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=settings).returncode


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds an advisory lock on ``path``; it ends with the process, so that a crash leaves no lock behind."""
    try:
        import fcntl
    except ImportError:  # Windows has no fcntl; there the launcher is not the usual door
        yield
        return
    with path.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another toothtopo is making the environment: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass  # some network file systems cannot lock a file opened for reading
        yield


def _say(message: str) -> None:
    print(f"toothtopo: {message}", file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> int:
    """Prepares the environment for ``[root, venv, group, key]``; 0 done, 1 not possible, 130 cancelled."""
    root, venv, group, key = argv
    try:
        prepare(Path(root), Path(venv), group, key)
    except SetupError as error:
        print(f"toothtopo: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        reason = error.strerror or str(error)
        print(f"toothtopo: error: the environment in '{venv}' cannot be made: {reason}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("toothtopo: cancelled; the next use starts the installation again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
