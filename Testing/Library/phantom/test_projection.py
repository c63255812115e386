"""Projections: line integrals of known bodies, and what a detector makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.phantom.arrays import numpy_library
from ToothTopoSegLib.phantom.projection import WATER, Beam, measured, projector, ramp, reconstruction_error

PERFECT = Beam(hardening=0.0, uncorrected=0.0, scatter=0.0, photons=1e12)


def disc(side: int, radius: float) -> np.ndarray:
    at = np.arange(side) - (side - 1) / 2
    return (np.hypot(at[:, None], at[None, :]) < radius).astype(np.float32)


def test_every_angle_sees_all_of_a_slice_once():
    rays = projector(24, 10)
    image = np.random.default_rng(0).random((24 * 24, 1)).astype(np.float32)
    seen = (rays.forward @ image).reshape(rays.angles, rays.bins)
    assert seen.sum(axis=1) == pytest.approx(np.full(10, image.sum()), rel=1e-4)


def test_the_longest_ray_through_a_disc_is_its_diameter():
    rays = projector(64, 12)
    seen = (rays.forward @ disc(64, 20).reshape(-1, 1)).reshape(rays.angles, rays.bins)
    assert seen.max(axis=1) == pytest.approx(np.full(12, 40), abs=3)
    assert seen.argmax(axis=1) == pytest.approx(np.full(12, rays.bins / 2), abs=5)


def test_a_filtered_projection_brings_a_disc_back_at_its_height():
    rays, image = projector(64, 64), disc(64, 20)
    sinogram = (rays.forward @ image.reshape(-1, 1)).reshape(rays.angles, rays.bins, 1)
    back = (rays.back @ (ramp(rays.bins) @ sinogram).reshape(-1, 1) * (np.pi / rays.angles)).reshape(64, 64)
    assert back[disc(64, 16) > 0].mean() == pytest.approx(1.0, abs=0.02)
    assert abs(back[disc(64, 25) == 0].mean()) < 0.03


def test_a_perfect_detector_measures_line_integrals():
    soft, dense = np.linspace(0, 4, 9, dtype=np.float32), np.linspace(1, 0, 9, dtype=np.float32)
    seen = measured(soft, dense, PERFECT, numpy_library(np.random.default_rng(0)))
    assert seen == pytest.approx(soft + dense, abs=1e-3)


@pytest.mark.parametrize("beam", [Beam(0.6, 1.0, 0.0, 1e12), Beam(0.0, 0.0, 0.5, 1e12)], ids=["hardening", "scatter"])
def test_hardening_and_scatter_shorten_long_paths_most(beam):
    soft = np.array([0.5, 2.0, 4.0], np.float32)
    lost = soft - measured(soft, np.zeros_like(soft), beam, numpy_library(np.random.default_rng(0)))
    assert (np.diff(lost) > 0).all()
    assert lost[2] > 0.1


def test_water_is_corrected_but_metal_is_not():
    soft, library = np.array([1.0, 4.0], np.float32), numpy_library(np.random.default_rng(0))
    beam = Beam(hardening=0.5, uncorrected=0.0, scatter=0.0, photons=1e12)
    assert measured(soft, np.zeros_like(soft), beam, library) == pytest.approx(soft, abs=1e-3)
    assert measured(soft, np.ones_like(soft) * 2, beam, library)[0] < 2.8


def test_noise_grows_along_dense_paths():
    beam, library = Beam(0.0, 0.0, 0.0, 1e5), numpy_library(np.random.default_rng(0))
    deviations = [
        measured(np.full(4000, path, np.float32), np.zeros(4000, np.float32), beam, library).std() for path in (0, 3, 6)
    ]
    assert deviations[0] < deviations[1] < deviations[2]


def test_rays_that_nothing_comes_through_stay_finite():
    path = np.full(50, 80, np.float32)
    seen = measured(path, path, Beam(0.5, 0.5, 0.0, 1e4), numpy_library(np.random.default_rng(0)))
    assert np.isfinite(seen).all()
    assert seen.max() < 40 + np.log(1e4) + 40


def test_what_lies_beyond_the_slice_leaves_rays_through_air_alone():
    empty, library = np.zeros((1, 30, 30), np.float32), numpy_library(np.random.default_rng(0))
    beam = Beam(hardening=0.5, uncorrected=0.5, scatter=0.3, photons=1e12)
    assert np.abs(reconstruction_error(empty, empty, 1.0, 2.0, beam, 20, library)).max() < 1e-4 * WATER


@pytest.mark.parametrize("shape", [(1, 20, 12), (3, 1, 9), (2, 7, 1), (1, 1, 1)])
def test_errors_have_the_shape_of_the_slices_and_are_finite(shape):
    soft, dense = np.full(shape, WATER, np.float32), np.zeros(shape, np.float32)
    error = reconstruction_error(
        soft, dense, 0.5, 1.0, Beam(0.4, 0.5, 0.3, 1e5), 8, numpy_library(np.random.default_rng(0))
    )
    assert error.shape == shape
    assert np.isfinite(error).all()


def test_what_a_perfect_detector_measures_needs_no_correction():
    soft = WATER * disc(40, 15)[None]
    library = numpy_library(np.random.default_rng(0))
    error = reconstruction_error(soft, 0 * soft, 1.0, 0.0, PERFECT, 40, library)
    assert np.abs(error).max() < 0.01 * WATER


def test_metal_is_reconstructed_from_its_projections():
    """As high as it is, with an undershoot beside it and rays around it, the more the fewer projections there are."""
    metal, library = 0.2 * disc(81, 4)[None], numpy_library(np.random.default_rng(0))
    few, many = (reconstruction_error(0 * metal, metal, 1.0, 0.0, PERFECT, n, library)[0] for n in (20, 120))
    assert few[disc(81, 2) > 0].mean() == pytest.approx(0.2, abs=0.02)
    far = (disc(81, 38) - disc(81, 28)) > 0
    assert few[far].std() > 3 * many[far].std()


def test_angles_that_are_not_measured_cost_attenuation():
    soft, library = WATER * disc(40, 15)[None], numpy_library(np.random.default_rng(0))
    blind = Beam(hardening=0.0, uncorrected=0.0, scatter=0.0, photons=1e12, blind=0.2)
    error = reconstruction_error(soft, 0 * soft, 1.0, 0.0, blind, 40, library)
    assert error[0, 15:25, 15:25].mean() == pytest.approx(-0.2 * WATER, rel=0.3)
