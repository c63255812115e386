"""What plans.json and dataset.json of nnU-Net say, and what of it is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from Testing.Library.nnunet.models import LABELS, REGIONS, Variant, dataset_of, plans_of
from ToothTopoSegLib.errors import ModelError
from ToothTopoSegLib.nnunet import plans as form
from ToothTopoSegLib.nnunet.architecture import shape_of

REGION_DATASET = {"labels": REGIONS, "regions_class_order": [1, 2, 3]}


def configuration(variant: Variant) -> dict[str, Any]:
    return form.resolved_configuration(plans_of(variant), variant.configuration)


def preprocessing(variant: Variant) -> form.Preprocessing:
    labels = form.labels_of(dataset_of(variant))
    return form.preprocessing_of(plans_of(variant), configuration(variant), labels, (0, 1, 2))


def test_a_configuration_has_what_its_parents_say_and_its_own_word_goes_first():
    plans = {
        "configurations": {"a": {"x": 1, "y": 1}, "b": {"inherits_from": "a", "y": 2}, "c": {"inherits_from": "b"}}
    }
    found = form.resolved_configuration(plans, "c")
    assert (found["x"], found["y"]) == (1, 2)


@pytest.mark.parametrize("residual", [False, True])
def test_old_and_new_plans_of_one_network_mean_the_same(residual):
    new = Variant(residual, anisotropic=True)
    shapes = [shape_of(form.architecture_of(configuration(v))) for v in (new, replace(new, old_form=True))]
    assert shapes[0] == shapes[1]


def test_preprocessing_survives_the_card():
    how = preprocessing(Variant(regions=True, transpose=(2, 0, 1)))
    assert form.Preprocessing.from_dict(json.loads(json.dumps(how.as_dict()))) == how


def test_labels_and_regions_know_how_many_scores_they_need_and_what_they_write():
    labels, regions = form.labels_of({"labels": LABELS | {"ignore": 4}}), form.labels_of(REGION_DATASET)
    assert labels.heads == 4 and labels.written == {1: "11", 2: "21", 3: "pharynx"}
    assert regions.heads == 3 and regions.written == {1: "all", 2: "core", 3: "block"}


@pytest.mark.parametrize(
    ("changes", "trained", "sentence"),
    [
        ({"patch_size": [64, 64]}, "3d_fullres", "two-dimensional"),
        (
            {"previous_stage": "3d_lowres"},
            "3d_fullres",
            "cascade and needs the result of '3d_lowres'",
        ),
        ({"inherits_from": "nowhere"}, "3d_fullres", "no configuration 'nowhere'"),
        ({"inherits_from": "3d_fullres"}, "3d_fullres", "inherits from itself"),
        ({}, "3d_cascade", "no configuration '3d_cascade' .it has 3d_fullres, parent"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused(changes, trained, sentence):
    plans = plans_of(Variant())
    plans["configurations"]["3d_fullres"] |= changes
    with pytest.raises(ModelError, match=sentence):
        form.chosen_configuration(plans, None, trained)


def test_another_configuration_than_the_trained_one_is_refused():
    with pytest.raises(ModelError, match="trained as '3d_fullres', not '3d_lowres'"):
        form.chosen_configuration(plans_of(Variant()), "3d_lowres", "3d_fullres")


@pytest.mark.parametrize(
    "architecture",
    [
        {"architecture": {"network_class_name": "somewhere.architectures.primus.PrimusM", "arch_kwargs": {}}},
        {"UNet_class_name": "PrimusM"},
    ],
)
def test_an_unsupported_network_is_named(architecture):
    with pytest.raises(ModelError, match="The network is a PrimusM; only PlainConvUNet and ResidualEncoderUNet"):
        form.architecture_of(architecture)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"norm_op": "torch.nn.GroupNorm"}, "norm GroupNorm"),
        ({"nonlin": "torch.nn.GELU"}, "activation GELU"),
        ({"conv_op": "torch.nn.modules.conv.Conv2d"}, "Conv2d"),
        ({"nonlin_first": True}, "nonlin_first"),
        ({"strides": [[1, 1, 1]]}, "list of 3 values"),
    ],
)
def test_an_unsupported_part_of_a_network_is_named(changes, sentence):
    architecture = form.architecture_of(configuration(Variant()))
    with pytest.raises(ModelError, match=sentence):
        shape_of(form.Architecture(architecture.name, architecture.arguments | changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"normalization_schemes": ["MyNormalization"]}, "normalisation MyNormalization is not known"),
        ({"resampling_fn_data": "resample_torch_fornnunet"}, "resamples data by resample_torch_fornnunet"),
        ({"preprocessor_name": "MyPreprocessor"}, "preprocessor MyPreprocessor"),
        ({"patch_size": "large"}, "lacks a usable 'patch_size'"),
    ],
)
def test_preprocessing_that_is_not_known_is_named(changes, sentence):
    with pytest.raises(ModelError, match=sentence):
        preprocessing(Variant(changes=changes))


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        ({}, "usable 'labels'"),
        ({"labels": {"tooth": 1}}, "no label 'background'"),
        ({"labels": {"background": 0, "tooth": 2}}, "not numbered 0, 1, 2"),
        ({"labels": {"background": 0, "tooth": "one"}}, "no whole numbers"),
        ({"labels": REGIONS}, "no fitting regions_class_order"),
    ],
)
def test_labels_that_do_not_fit_are_refused(dataset, sentence):
    with pytest.raises(ModelError, match=sentence):
        form.labels_of(dataset)


def test_a_model_of_several_channels_is_refused():
    with pytest.raises(ModelError, match="takes 2 channels"):
        form.check_channels({"channel_names": {"0": "CT", "1": "MRI"}})
