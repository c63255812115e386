"""Which label of an imported model is which tooth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.errors import UsageError
from ToothTopoSegLib.nnunet.labels import fdi_of_labels, tooth_named
from ToothTopoSegLib.nnunet.plans import Labels


def labels(*names: str) -> Labels:
    return Labels({"background": (0,)} | {name: (k,) for k, name in enumerate(names, 1)}, None)


@pytest.mark.parametrize(
    ("name", "fdi"),
    [
        ("11", 11),
        ("tooth_36", 36),
        ("Upper Right Central Incisor", 11),
        ("Lower Left Third Molar (Wisdom Tooth)", 38),
        ("upper_left_canine_fdi23", 23),
        ("Upper Right First Molar Pulp", 16),
        ("Lower Jawbone", teeth.LOWER_JAW),
        ("Upper Skull", teeth.UPPER_JAW),
        ("Mandible", teeth.LOWER_JAW),
        ("Upper Teeth", 0),
        ("Left Inferior Alveolar Canal", 0),
        ("pharynx", 0),
    ],
)
def test_a_name_says_which_tooth_or_jaw_is_meant(name, fdi):
    assert tooth_named(name) == fdi


def test_a_model_without_tooth_numbers_keeps_its_jaws():
    found = fdi_of_labels(labels("Upper Skull", "Mandible", "Upper Teeth", "Lower Teeth", "Mandibular canal"))
    assert found == {1: 102, 2: 101, 3: 0, 4: 0, 5: 0}


def test_bare_numbers_mean_no_tooth_until_a_scheme_is_named():
    unnamed = labels(*(f"class {value}" for value in range(1, 33)))
    assert set(fdi_of_labels(unnamed).values()) == {0}
    assert fdi_of_labels(unnamed, Path("universal"))[1] == 18
    assert fdi_of_labels(unnamed, Path("totalsegmentator-teeth"))[11] == 11


def test_a_scheme_without_a_value_of_the_model_is_refused():
    with pytest.raises(UsageError, match="scheme universal has no value 33"):
        fdi_of_labels(labels(*(f"class {value}" for value in range(1, 34))), Path("universal"))


def test_a_mapping_has_the_last_word(tmp_path):
    path = tmp_path / "mapping.json"
    path.write_text(json.dumps({"11": 21, "2": 36, "other": 0}), encoding="utf-8")
    assert fdi_of_labels(labels("11", "strange", "other"), path) == {1: 21, 2: 36, 3: 0}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot be read"),
        ("[1]", "holds no object"),
        ('{"molar": 36}', "names 'molar', but the model has 11"),
        ('{"11": 19}', "says '11' is 19; expected an FDI number"),
        ('{"11": "eleven"}', "expected an FDI number"),
    ],
)
def test_a_mapping_that_does_not_fit_is_told(text, sentence, tmp_path):
    path = tmp_path / "mapping.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=sentence):
        fdi_of_labels(labels("11"), path)
