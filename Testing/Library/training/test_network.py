"""The network is nnU-Net's own, and a plan says all there is to say about it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from ToothTopoSegLib.segmentation.classes import CLASSES
from ToothTopoSegLib.training.network import Plan, build_network

TINY = Plan(patch=(16, 16, 24), features=(4, 8, 8), convs=(1, 1, 1), convs_decoder=(1, 1))


def test_a_plan_survives_json():
    plan = replace(TINY, spacing=0.7, classes=12)
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    assert Plan.from_dict(Plan().as_dict()) == Plan()


def test_a_plan_with_an_unknown_key_is_refused():
    with pytest.raises(TypeError, match="colour"):
        Plan.from_dict({**TINY.as_dict(), "colour": "red"})


def test_only_the_first_stage_keeps_the_resolution():
    assert Plan(features=(4, 8, 16, 32)).strides == (1, 2, 2, 2)


def test_the_plan_of_the_bundled_model_has_a_class_for_every_label_and_a_patch_that_halves_evenly():
    plan = Plan()
    assert plan.classes == CLASSES
    assert all(n % 2 ** (len(plan.features) - 1) == 0 for n in plan.patch)
    assert len(plan.convs) == len(plan.features) == len(plan.convs_decoder) + 1


def test_the_network_is_nnunets_plain_conv_unet_with_batch_norm_and_leaky_relu():
    network = build_network(TINY)
    assert type(network) is PlainConvUNet
    kinds = {type(m) for m in network.modules() if not list(m.children())}
    assert kinds == {nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.LeakyReLU}


def test_weights_have_the_names_that_nnunet_gives_them():
    names = set(build_network(TINY).state_dict())
    assert {
        "encoder.stages.0.0.convs.0.conv.weight",
        "encoder.stages.2.0.convs.0.norm.running_mean",
        "decoder.stages.1.convs.0.conv.bias",
        "decoder.transpconvs.0.weight",
        "decoder.seg_layers.1.weight",
    } <= names


def test_scores_have_the_size_of_the_patch_and_deep_supervision_adds_halved_ones():
    image = torch.zeros(1, 1, *TINY.patch)
    with torch.inference_mode():
        assert build_network(TINY, deep_supervision=False).eval()(image).shape == (1, 35, 16, 16, 24)
        shapes = [tuple(scores.shape) for scores in build_network(TINY).eval()(image)]
    assert shapes == [(1, 35, 16, 16, 24), (1, 35, 8, 8, 12)]


def test_the_network_without_deep_supervision_takes_the_weights_of_the_trained_one():
    trained, plain = build_network(TINY), build_network(TINY, deep_supervision=False)
    plain.load_state_dict(trained.state_dict())
    image = torch.randn(1, 1, *TINY.patch, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(plain.eval()(image), trained.eval()(image)[0])
