"""A bundle is used only when model and card are whole and belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from Testing.Library.quantization.tiny import TINY
from ToothTopoSegLib import resources
from ToothTopoSegLib.errors import ModelError
from ToothTopoSegLib.quantization.bundle import Bundle, load_bundle, model_path, surface_bundle

Copied = Callable[..., Path]


def _refused(model: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_bundle(model)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".") and ";" in sentence


def _change_card(model: Path, **changes: Any) -> None:
    path = model.with_suffix(".json")
    card = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in card.items() if v is not None}), encoding="utf-8")


def test_a_whole_bundle_loads_with_its_identity(copied: Copied) -> None:
    model = copied()
    bundle = load_bundle(model)
    assert bundle.model == model.read_bytes() and bundle.path == model
    assert bundle.patch == TINY.patch and bundle.spacing == 1.0
    assert bundle.identity == {
        "name": "tiny",
        "version": "0",
        "sha256": hashlib.sha256(bundle.model).hexdigest(),
        "precision": "uint8 activations, int7 weights in int8",
        "licence": "Apache-2.0",
    }


def test_a_folder_stands_for_the_one_model_in_it(copied: Copied) -> None:
    model = copied()
    assert load_bundle(model.parent).path == model


def test_no_model_means_the_bundled_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resources, "resource_folder", lambda: tmp_path)
    assert model_path(None) == tmp_path / "Models" / "toothtoposeg.onnx"


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    _refused(tmp_path / "none.onnx", r"No model was found at .*none\.onnx")


def test_a_model_without_a_card_is_refused(copied: Copied) -> None:
    model = copied()
    model.with_suffix(".json").unlink()
    _refused(model, r"has no card model\.json")


@pytest.mark.parametrize("place", [0, 1000, -1])
def test_one_altered_bit_is_refused(copied: Copied, place: int) -> None:
    model = copied()
    data = bytearray(model.read_bytes())
    data[place] ^= 1
    model.write_bytes(data)
    _refused(model, "was altered or damaged")


@pytest.mark.parametrize("size", [0, 100, -1])
def test_a_half_copied_model_is_refused(copied: Copied, size: int) -> None:
    model = copied()
    model.write_bytes(model.read_bytes()[:size])
    _refused(model, "was altered or damaged")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"{}", b"\xff\xfe", b"null"])
def test_a_card_that_is_none_is_refused(copied: Copied, content: bytes) -> None:
    model = copied()
    model.with_suffix(".json").write_bytes(content)
    _refused(model, r"model\.json cannot be read")


def test_a_card_of_another_kind_is_refused(copied: Copied) -> None:
    model = copied()
    _change_card(model, schema="toothtoposeg.model/2")
    _refused(model, r"of kind 'toothtoposeg\.model/2', expected 'toothtoposeg\.model/1'")


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": None},
        {"plan": None},
        {"plan": {"spacing": 1.0}},
        {"plan": {"patch": [16, 16, 16]}},
        {"plan": {"patch": [16, 16], "spacing": 1.0}},
        {"plan": {"patch": [16, 16, 0], "spacing": 1.0}},
        {"plan": {"patch": "abc", "spacing": 1.0}},
        {"plan": {"patch": [16, 16, 16], "spacing": -1.0}},
    ],
)
def test_a_card_without_what_running_needs_is_refused(copied: Copied, changes: dict[str, Any]) -> None:
    model = copied()
    _change_card(model, **changes)
    _refused(model, r"model\.json lacks the model's SHA-256, patch size or spacing")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path, "holds 0 .onnx files")


def test_a_folder_with_two_models_asks_which(copied: Copied) -> None:
    copied("first")
    _refused(copied("second").parent, "holds 2 .onnx files")


def surfaces_of(copied: Copied, wanted: dict[str, str]) -> Bundle:
    """A bundle whose card names ``wanted`` as the model of its surfaces."""
    path = copied("teeth")
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    path.with_suffix(".json").write_text(json.dumps(card | {"surface": wanted}), encoding="utf-8")
    return load_bundle(path)


def test_a_bundle_finds_the_model_of_its_surfaces_beside_it(copied: Copied) -> None:
    sha256 = load_bundle(copied("surface")).card["sha256"]
    bundle = surfaces_of(copied, {"name": "surface", "sha256": sha256})
    found = surface_bundle(bundle)
    assert found is not None and found.path.name == "surface.onnx"
    assert bundle.identity["surface"] == {"name": "surface", "sha256": sha256}
    assert surface_bundle(found) is None


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"name": "surface", "sha256": "0" * 64}, "another one"),
        ({"name": "nowhere", "sha256": "0" * 64}, "No model was found"),
        ({"name": "surface"}, "no usable surface model"),
    ],
)
def test_a_surface_model_that_is_missing_or_another_one_is_refused(copied: Copied, wanted, sentence: str) -> None:
    copied("surface")
    with pytest.raises(ModelError, match=sentence):
        surface_bundle(surfaces_of(copied, wanted))
