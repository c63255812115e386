"""The folder of a model: found in folders and zips, and nothing in a zip gets out of its place."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from ToothTopoSegLib.errors import ModelError, UsageError
from ToothTopoSegLib.nnunet.folder import checkpoint_files, model_folder, read_json


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "results" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    for fold in ("fold_0", "fold_1", "fold_all"):
        (folder / fold).mkdir(parents=True)
        (folder / fold / "checkpoint_final.pth").write_bytes(b"x" * 1000)
    for name in ("plans.json", "dataset.json"):
        (folder / name).write_text('{"a": 1}', encoding="utf-8")
    return folder


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder.parent / "model"), "zip", folder.parent, folder.name))


def test_a_zip_gives_the_files_of_the_folder_and_leaves_nothing(model):
    with model_folder(zipped(model)) as folder:
        assert read_json(folder, "plans.json") == {"a": 1}
        assert list(checkpoint_files(folder)) == ["0", "1"]
    assert not folder.exists()


def test_the_folder_is_found_below_the_given_one(model):
    with model_folder(model.parent) as folder:
        assert folder == model


@pytest.mark.parametrize("name", ["../plans.json", "/tmp/plans.json", "a/../../plans.json", "..\\plans.json"])
def test_a_zip_that_reaches_out_of_its_folder_is_refused(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("model/plans.json", "{}")
        archive.writestr(name, "{}")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match="lies outside of its folder"), model_folder(tmp_path / "model.zip"):
        pass
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_zip_that_was_cut_off_is_told(model, share):
    path = zipped(model)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match="cut off"), model_folder(path):
        pass


def test_a_zip_with_a_damaged_member_is_told(model):
    path = zipped(model)
    content = bytearray(path.read_bytes())
    at = content.index(b"plans.json") + len("plans.json")
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="cut off"), model_folder(path):
        pass


def test_missing_plans_and_missing_models_are_told(model, tmp_path):
    (model / "plans.json").unlink()
    with pytest.raises(ModelError, match=r"holds no plans\.json"), model_folder(model):
        pass
    with pytest.raises(ModelError, match="No model was found"), model_folder(tmp_path / "nowhere"):
        pass


def test_of_several_models_one_must_be_chosen(model):
    shutil.copytree(model, model.parent / "nnUNetTrainer__nnUNetPlans__3d_lowres")
    with pytest.raises(ModelError, match="several models"), model_folder(model.parent):
        pass
    with model_folder(model.parent, "3d_lowres") as folder:
        assert folder.name.endswith("3d_lowres")


def test_folds_can_be_chosen(model):
    assert list(checkpoint_files(model, ["all"])) == ["all"]
    with pytest.raises(UsageError, match=r"no fold 7 \(it has 0, 1, all\)"):
        checkpoint_files(model, ["7"])


def test_a_model_without_a_checkpoint_is_told(model):
    for file in model.rglob("*.pth"):
        file.unlink()
    with pytest.raises(ModelError, match="no fold with a checkpoint"):
        checkpoint_files(model)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_json_is_told(model, text):
    (model / "plans.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"plans\.json of the model"):
        read_json(model, "plans.json")
