"""The Python packages that Slicer does not bring along: which are missing, one question, their installation.

In: ``Resources/requirements.txt`` of the extension and, for fine-tuning, ``requirements-training.txt``. Nothing is
installed at import or without a yes; in batch, where nobody can answer, a clear error says what to do. Installed by
``slicer.packaging`` where Slicer has it (5.11), else by ``slicer.util.pip_install``; torch by the extension PyTorch,
which chooses the build that fits the computer.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import slicer
import slicer.util
from slicer.i18n import tr as _

TORCH = "torch>=2.6"
_MODULES = {
    "pillow": "PIL",
    "dynamic-network-architectures": "dynamic_network_architectures",
    "fast-simplification": "fast_simplification",
}
"""Packages whose module has another name."""


class PackageError(Exception):
    """Packages are missing or broken and were not installed; one sentence for a person. ``details`` says more."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def requirements(training: bool = False) -> list[str]:
    """The lines of the extension's requirements, such as ``onnxruntime>=1.20``; torch is not among them."""
    from ToothTopoSegLib.resources import resource_folder

    name = "requirements-training.txt" if training else "requirements.txt"
    lines = (Path(resource_folder()) / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def missing(wanted: list[str] | None = None) -> list[str]:
    """The requirements (all of the extension unless given) that are not installed, too old, or without their module."""
    return [line for line in (requirements() if wanted is None else wanted) if not _satisfied(line)]


def ensure(confirm: Callable[[str], bool]) -> None:
    """Install what is missing for segmenting after one yes to ``confirm``.

    Raises PackageError where the answer is no, where there is no window to ask in, or where the installation failed.
    """
    _ensure(confirm, missing(), _("Segmenting"), _("about 40 MB"))


def ensure_training(confirm: Callable[[str], bool]) -> None:
    """The same for fine-tuning: torch by the extension PyTorch, which asks for itself, then the other packages.

    Raises PackageError as :func:`ensure` does, and where the extension is not there.
    """
    if not _satisfied(TORCH):
        _install_torch()
    _ensure(confirm, missing([*requirements(), *requirements(training=True)]), _("Fine-tuning"), _("about 60 MB"))


def _ensure(confirm: Callable[[str], bool], needed: list[str], purpose: str, size: str) -> None:
    if not needed:
        return
    if slicer.util.mainWindow() is None:
        raise PackageError(
            _(
                "Python packages are missing: {names}. Nobody can be asked without a window; install them once with "
                "PythonSlicer -m pip install {arguments}"
            ).format(names=names_of(needed), arguments=" ".join(f'"{line}"' for line in needed))
        )
    if not confirm(_question(needed, purpose, size)):
        raise PackageError(
            _(
                "{purpose} needs the Python packages {names}, which were not installed; start again to be asked again."
            ).format(purpose=purpose, names=names_of(needed))
        )
    install(needed)


def _install_torch() -> None:
    """Let the extension PyTorch install torch; PackageError where it is not there, was told no, or failed."""
    name, _sign, version = TORCH.partition(">=")
    try:
        import PyTorchUtils
    except ImportError as error:
        raise PackageError(
            _(
                "Fine-tuning needs PyTorch, which is not installed; install the extension PyTorch by the Extensions "
                "Manager, restart Slicer and start again. Segmenting and checking do without."
            )
        ) from error
    try:
        installed = PyTorchUtils.PyTorchUtilsLogic().installTorch(
            askConfirmation=True, torchVersionRequirement=f">={version}"
        )
    except Exception as error:  # pip's process and the network raise what they like
        raise PackageError(_failed([TORCH]), str(error)) from error
    importlib.invalidate_caches()
    if installed is None or not _satisfied(TORCH):
        raise PackageError(
            _("Fine-tuning needs {name} {version} or newer, which was not installed; start again to be asked.").format(
                name=name, version=version
            )
        )


def install(needed: list[str] | None = None) -> None:
    """Install requirements (what is missing unless given) without a question; PackageError where that fails."""
    needed = missing() if needed is None else needed
    if not needed:
        return
    try:
        _install(needed)
    except Exception as error:  # pip's process, the network and Slicer's own checks raise what they like
        raise PackageError(_failed(needed), str(error)) from error
    importlib.invalidate_caches()
    broken = missing(needed)
    if broken:
        raise PackageError(_failed(broken), "not usable after the installation")


def _install(needed: list[str]) -> None:
    try:
        from slicer import packaging
    except ImportError:
        packaging = None
    # While Slicer is tested, pip_ensure installs nothing.
    if packaging is None or slicer.app.testingEnabled():
        slicer.util.pip_install(needed)
    else:
        packaging.pip_ensure(needed, prompt_install=False, requester="ToothTopoSeg")


def _satisfied(line: str) -> bool:
    name, _sign, version = line.partition(">=")
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return _numbers(installed) >= _numbers(version) and importlib.util.find_spec(_module(name)) is not None


def _module(name: str) -> str:
    return _MODULES.get(name.lower(), name)


def _numbers(version: str) -> list[int]:
    """The numbers of a version such as 1.20.1rc2, up to the first part that is none."""
    found = re.match(r"\d+(\.\d+)*", version)
    return [int(part) for part in found[0].split(".")] if found else []


def names_of(lines: list[str]) -> str:
    """The names of the packages of requirements, for a sentence."""
    return ", ".join(re.split(r"[<>=!~;\[ ]", line)[0] for line in lines)


def _question(needed: list[str], purpose: str, size: str) -> str:
    return _(
        "{purpose} needs Python packages that Slicer does not bring along: {names}.\n\nInstall them now? They are "
        "downloaded once ({size}) into this Slicer; scans never leave the computer."
    ).format(purpose=purpose, names=names_of(needed), size=size)


def _failed(needed: list[str]) -> str:
    return _(
        "The Python packages {names} could not be installed. Check the network and the proxy; without a network, "
        "follow the offline installation of the manual."
    ).format(names=names_of(needed))
