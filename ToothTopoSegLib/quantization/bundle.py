"""A model bundle: one ONNX file and its card ``<stem>.json`` beside it, which names the file's SHA-256.

A file that does not match its card is refused: a model decides what a dentist sees, so an altered or half-copied one
must not run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ToothTopoSegLib.errors import ModelError

DEFAULT_MODEL = "toothtoposeg.onnx"
CARD_SCHEMA = "toothtoposeg.model/1"
SECOND = "_surface"
"""How the name of a second network ends that was made together with the bundle beside it."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A checked model: its bytes and its card; ``second`` is its second network where that is at hand already."""

    path: Path
    model: bytes
    card: dict[str, Any]
    second: Bundle | None = None

    @property
    def patch(self) -> tuple[int, int, int]:
        """Patch size (z, y, x) in voxels."""
        z, y, x = (int(n) for n in self.card["plan"]["patch"])
        return z, y, x

    @property
    def spacing(self) -> float:
        """Voxel size in mm the network works at."""
        return float(self.card["plan"]["spacing"])

    @property
    def is_nnunet(self) -> bool:
        """Whether the model is an imported nnU-Net, which prepares scans in its own way."""
        return self.card.get("pipeline") == "nnunet"

    @property
    def affines(self) -> list[tuple[float, int]]:
        """Scale and zero point of each output; imported models have one output a fold."""
        scores = self.card.get("scores", {})
        parts = scores if isinstance(scores, list) else [scores]
        return [(float(p.get("scale", 1.0)), int(p.get("zero_point", 0))) for p in parts]

    @property
    def score_scale(self) -> float:
        """Real class scores per unit of the model's output, up to a constant (1 for a float model)."""
        return self.affines[0][0]

    @property
    def identity(self) -> dict[str, Any]:
        """What reports say about the model."""
        about = {key: self.card.get(key) for key in ("name", "version", "sha256", "precision", "licence")}
        return about | ({"surface": self.card["surface"]} if "surface" in self.card else {})


def model_path(model: Path | None) -> Path:
    """The ONNX file that ``model`` means: a file, a folder with one, or None for the bundled one.

    Raises ModelError for a folder that does not hold exactly one; whether a file exists is not looked at.
    """
    if model is None:
        from ToothTopoSegLib.resources import resource_folder

        return resource_folder() / "Models" / DEFAULT_MODEL
    if model.is_dir():
        files = sorted(model.glob("*.onnx"))
        seconds = [path.with_name(f"{path.stem}{SECOND}.onnx") for path in files]
        found = [path for path in files if path not in seconds]
        if len(found) != 1:
            raise ModelError(
                f"The folder {model.name} holds {len(found)} .onnx files, but one is expected; give the file to use."
            )
        return found[0]
    return model


def load_bundle(model: Path | None = None) -> Bundle:
    """Read and check a bundle; ModelError when it is missing, has no card, or differs from its card."""
    path = model_path(model)
    card_path = path.with_suffix(".json")
    if not path.is_file():
        raise ModelError(f"No model was found at {path}; give an .onnx file with its card beside it.")
    if not card_path.is_file():
        raise ModelError(f"The model {path.name} has no card {card_path.name} beside it; copy both files.")
    card = _read_card(card_path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The model {path.name} cannot be read ({error.strerror}); check that you may.") from error
    found, wanted = hashlib.sha256(data).hexdigest(), str(card["sha256"])
    if found != wanted:
        raise ModelError(
            f"The model {path.name} was altered or damaged: its SHA-256 begins {found[:12]}, its card says "
            f"{wanted[:12]}; copy the original again."
        )
    return Bundle(path, data, card)


def surface_bundle(bundle: Bundle) -> Bundle | None:
    """The second network that draws the surfaces of the teeth a bundle finds; None where its card names none.

    It lies beside the bundle or, for a bundle that was made from the program's own, among the program's models. Raises
    ModelError where it is missing or is not the one that the card names by its SHA-256.
    """
    wanted = bundle.card.get("surface")
    if bundle.second is not None or wanted is None:
        return bundle.second
    try:
        file, sha256 = f"{wanted['name']}.onnx", str(wanted["sha256"])
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"The card of {bundle.path.name} names no usable surface model; copy the card again."
        ) from error
    beside = bundle.path.with_name(file)
    surface = load_bundle(beside if beside.is_file() else model_path(None).with_name(file))
    if surface.card["sha256"] != sha256:
        raise ModelError(
            f"The surface model {file} is another one than {bundle.path.name} was made with: its SHA-256 begins "
            f"{str(surface.card['sha256'])[:12]}, expected {sha256[:12]}; copy both from one version."
        )
    return surface


def _read_card(path: Path) -> dict[str, Any]:
    """A card of this program that states what running its model needs; ModelError for any other file."""
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = card["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"The card {path.name} cannot be read; copy the model and its card again.") from error
    if schema != CARD_SCHEMA:
        raise ModelError(f"The card {path.name} is of kind {schema!r}, expected {CARD_SCHEMA!r}; update the program.")
    if not _is_complete(Bundle(path, b"", card)):
        raise ModelError(
            f"The card {path.name} lacks the model's SHA-256, patch size or spacing; copy the model and its card again."
        )
    return card


def _is_complete(bundle: Bundle) -> bool:
    try:
        spacing = bundle.card["plan"]["spacing"] if bundle.is_nnunet else [bundle.spacing]
        usable = min(bundle.patch) > 0 and min(spacing) > 0 and bool(bundle.affines)
        return bool(bundle.card["sha256"]) and usable
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
