"""Single teeth and their numbers, with teeth drawn as balls and a first network that is told what it saw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ToothTopoSegLib.anatomy.fdi import position
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.segmentation import instances
from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.instances import contacts_of, cut, nearest, shared_out, tooth_numbers

SPACING = 0.5
SHAPE = (32, 40, 100)
Ball = tuple[float, float, float, float]


def balls(*each: Ball) -> np.ndarray:
    """A mask of balls, given by the voxel in their middle and their radius in voxels."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    mask = np.zeros(SHAPE, bool)
    for middle_z, middle_y, middle_x, radius in each:
        mask |= (z - middle_z) ** 2 + (y - middle_y) ** 2 + (x - middle_x) ** 2 <= radius**2
    return mask


def seen(**shares: dict[int, float]) -> np.ndarray:
    """Probabilities of the numbers, a row for each piece (in the order of the letters) after one for none."""
    rows = [np.full(len(TEETH), 1 / len(TEETH))]
    for piece in sorted(shares):
        row = np.zeros(len(TEETH))
        for fdi, share in shares[piece].items():
            row[TEETH.index(fdi)] = share
        rows.append(row)
    return np.array(rows)


def numbers(
    probability: np.ndarray,
    volumes: list[float],
    contacts: dict[tuple[int, int], int] | None = None,
    forms: dict[int, int] | None = None,
    room: float = 0.0,
    cut_off: tuple[int, ...] = (),
    together: float | None = None,
) -> list[int]:
    """FDI numbers of the pieces, of which some have the form of a certain position and some are cut by the border of
    the view; ``room`` mm lie between any two. Each alone is like a tooth; that some of them are ``together`` has so
    many nats, or None where forms tell nothing."""
    sizes = np.array([0.0, *volumes])

    def unlike(pieces: tuple[int, ...]) -> np.ndarray:
        like = (forms or {}).get(pieces[0])
        return np.array([0.0 if like in (None, position(fdi)) else 5.0 for fdi in TEETH])

    def like(pieces: tuple[int, ...]) -> np.ndarray | None:
        return None if together is None else np.full(8, 0.0 if len(pieces) == 1 else together)

    taken = shared_out(probability, sizes, contacts or {}, unlike, lambda one, two: room, cut_off=cut_off, like=like)
    return [TEETH[k] for k in taken[1:]]


def test_teeth_that_touch_are_cut_at_their_neck() -> None:
    pieces = cut(balls((16, 20, 30, 9), (16, 20, 44, 7)), SPACING)
    assert pieces.max() == 2
    left, right = pieces[16, 20, 30], pieces[16, 20, 44]
    assert left != right and (pieces[:, :, :37][pieces[:, :, :37] > 0] == left).mean() > 0.98


def test_a_crown_with_its_roots_stays_one() -> None:
    tooth = balls((8, 20, 30, 8))
    for x in (25, 35):
        tooth |= balls(*[(z, 20, x + (z - 8) * (1 if x > 30 else -1) / 8, 4 - z / 14) for z in range(8, 30)])
    pieces = cut(tooth, SPACING)
    assert pieces.max() == 1 and ((pieces > 0) == tooth).all()


def test_nothing_is_cut_from_nothing() -> None:
    assert not cut(np.zeros((5, 6, 7), bool), SPACING).any()


def test_every_voxel_goes_with_the_nearest_piece() -> None:
    pieces = np.zeros((3, 4, 20), np.int32)
    pieces[1, 1, 2], pieces[1, 1, 11] = 1, 2
    grown = nearest(pieces)
    assert (grown[:, :, :7] == 1).all() and (grown[:, :, 7:] == 2).all()


def test_contacts_are_counted_in_faces_of_voxels() -> None:
    pieces = np.zeros((4, 4, 6), np.int32)
    pieces[:, :, :2], pieces[:, :, 2:4], pieces[0, 0, 4] = 2, 1, 3
    assert contacts_of(pieces) == {(1, 2): 16, (1, 3): 1}


def test_a_row_that_was_taken_for_the_next_one_each_is_put_right() -> None:
    shifted = seen(
        a={13: 0.7, 14: 0.3}, b={15: 0.8, 14: 0.2}, c={16: 0.75, 15: 0.25}, d={17: 0.6, 16: 0.4}, e={17: 0.98, 16: 0.02}
    )
    volumes = [size_of(fdi).volume for fdi in (13, 14, 15, 16, 17)]
    assert numbers(shifted, volumes) == [13, 14, 15, 16, 17]


def test_a_row_counted_one_too_far_is_told_by_the_forms_of_its_teeth() -> None:
    row = (23, 24, 25, 26, 27)
    shifted = seen(**dict(zip("abcde", [{fdi: 0.05, fdi + 1: 0.95} for fdi in row], strict=True)))
    volumes = [size_of(fdi).volume for fdi in row]
    assert numbers(shifted, volumes, forms={n: position(fdi) for n, fdi in enumerate(row, 1)}) == list(row)
    # where no form is known, what is plainly seen counts
    assert numbers(shifted, volumes) == [24, 25, 26, 27, 28]


def test_a_tooth_that_lost_half_of_itself_keeps_the_number_it_looks_like() -> None:
    row = seen(a={44: 1.0}, b={45: 0.9, 44: 0.1}, c={46: 0.85, 45: 0.15}, d={47: 0.95, 46: 0.05})
    volumes = [size_of(44).volume, size_of(45).volume, size_of(46).volume / 2, size_of(47).volume]
    assert numbers(row, volumes) == [44, 45, 46, 47]


def test_a_gap_stays_a_gap() -> None:
    assert numbers(seen(a={34: 0.9, 35: 0.1}, b={36: 0.9, 35: 0.1}), [450.0, 1100.0], room=7.0) == [34, 36]


def test_pieces_of_one_tooth_that_touch_bear_one_number() -> None:
    pieces = seen(a={37: 0.95, 38: 0.05}, b={37: 0.92, 38: 0.08}, c={36: 1.0})
    volumes = [500.0, 400.0, 1000.0]
    assert numbers(pieces, volumes, {(1, 2): 30, (1, 3): 5}) == [37, 37, 36]
    # two whole teeth are not one, however alike they look
    assert numbers(pieces, [1000.0, 1000.0, 1000.0], {(1, 2): 30}) in ([37, 38, 36], [38, 37, 36])


def test_pieces_that_look_alike_are_two_teeth_if_together_they_have_the_form_of_none() -> None:
    pieces, volumes = seen(a={37: 0.95, 38: 0.05}, b={37: 0.98, 38: 0.02}, c={36: 1.0}), [370.0, 320.0, 1000.0]
    contacts = {(1, 2): 30, (1, 3): 5}
    assert numbers(pieces, volumes, contacts, together=-16.0) in ([37, 38, 36], [38, 37, 36])
    assert numbers(pieces, volumes, contacts, together=-5.0) == [37, 37, 36]


def test_neighbours_that_look_alike_are_no_pieces_of_one_tooth_while_there_is_a_number_for_each() -> None:
    row = seen(a={11: 0.8, 21: 0.2}, b={11: 0.6, 12: 0.3, 42: 0.1}, c={13: 0.65, 12: 0.35}, d={13: 0.7, 14: 0.3})
    assert numbers(row, [350.0, 200.0, 500.0, 450.0], {(1, 2): 200, (2, 3): 50, (3, 4): 300}) == [11, 12, 13, 14]


def test_a_small_piece_goes_with_a_tooth_it_touches_or_takes_a_number_that_is_left() -> None:
    pieces = seen(a={12: 1.0}, b={13: 0.9, 12: 0.1}, c={12: 0.8, 11: 0.2})
    assert numbers(pieces, [300.0, 40.0, 20.0], {(1, 2): 9, (1, 3): 9}) == [12, 13, 12]
    row = seen(a={47: 1.0}, b={47: 1.0}, c={47: 0.9, 46: 0.1})
    assert numbers(row, [900.0, 30.0, 5.0], {(1, 2): 90, (2, 3): 9}) == [47, 47, 47]


def test_a_small_end_of_a_tooth_at_the_border_of_the_view_is_a_tooth_of_its_own() -> None:
    pieces, volumes, touching = seen(a={44: 0.9, 45: 0.1}, b={44: 0.6, 45: 0.4}), [450.0, 70.0], {(1, 2): 9}
    assert numbers(pieces, volumes, touching) == [44, 44]
    assert numbers(pieces, volumes, touching, cut_off=(2,)) == [44, 45]
    assert numbers(pieces, [450.0, 30.0], touching, cut_off=(2,)) == [44, 44]  # a twelfth of a tooth is too little


@given(st.permutations(range(5)), st.floats(0.5, 1.2))
def test_numbers_do_not_depend_on_the_order_of_the_pieces(order: list[int], scale: float) -> None:
    true = (41, 42, 43, 44, 45)
    rows = np.full((6, len(TEETH)), 0.002)
    for n, fdi in enumerate(true, 1):
        rows[n, TEETH.index(fdi)] = 0.4
        rows[n, TEETH.index(true[min(n, 4)])] += 0.5
    volumes = [size_of(fdi).volume * scale for fdi in true]
    found = numbers(rows[[0, *(n + 1 for n in order)]], [volumes[n] for n in order])
    assert found == [true[n] for n in order]


def placed(labels: dict[int, np.ndarray]) -> tuple[Volume, np.ndarray, Volume]:
    """The fine grid, decided scores (32, z, y, x) at 1 mm of a label for every voxel of a mask, and their grid."""
    fine = Volume(np.zeros(SHAPE, np.uint8), (SPACING,) * 3)
    scores = np.zeros((len(TEETH), *(n // 2 for n in SHAPE)), np.float32)
    for fdi, mask in labels.items():
        scores[TEETH.index(fdi)][mask[::2, ::2, ::2]] = 6.0
    return fine, scores, Volume(scores[0], (1.0, 1.0, 1.0), (0.25, 0.25, 0.25))


@pytest.mark.parametrize(
    ("volume", "gain", "home"), [(50.0, 4.0, 17), (50.0, 1.0, 16), (50.0, None, 16), (15.0, 4.0, 16)]
)
def test_a_large_loose_root_is_of_the_tooth_that_is_more_like_one_with_it(
    volume: float, gain: float | None, home: int
) -> None:
    probability = seen(a={16: 0.9}, b={17: 0.9}, c={16: 0.8, 17: 0.2})

    def like(pieces: tuple[int, ...]) -> np.ndarray | None:
        return None if gain is None else np.full(8, gain if pieces == (2, 3) else 0.0)

    taken = shared_out(
        probability,
        np.array([0.0, 1100.0, 900.0, volume]),
        {(1, 2): 60, (1, 3): 16, (2, 3): 31},
        lambda pieces: np.zeros(len(TEETH)),
        lambda one, two: 0.0,
        like=like,
    )
    assert [TEETH[k] for k in taken[1:]] == [16, 17, home]


def test_two_teeth_that_touch_get_a_number_each_though_the_first_network_mixed_them_up() -> None:
    one, two = balls((16, 20, 30, 10)), balls((16, 20, 47, 9))
    middle = np.arange(SHAPE[2]) < 42
    fine, scores, region = placed({46: (one | two) & middle, 47: two & ~middle})
    core = np.where(balls((16, 20, 30, 9), (16, 20, 47, 8)), 3.0, -3.0).astype(np.float32)
    found = tooth_numbers(core, one | two, fine, scores, region, one | two)
    assert (found[one & ~two] == 46).mean() > 0.98 and (found[two & ~one] == 47).mean() > 0.98


@pytest.mark.parametrize("sure", [-3.0, 0.5])
def test_without_any_core_every_voxel_keeps_its_number(sure: float) -> None:
    tooth = balls((16, 20, 30, 9))
    fine, scores, region = placed({36: tooth})
    assert (
        tooth_numbers(np.full(SHAPE, sure, np.float32), tooth, fine, scores, region, tooth)[tooth] == 36
    ).mean() > 0.9


def test_a_piece_of_an_upper_tooth_gets_no_lower_number_where_no_lower_tooth_is_in_view() -> None:
    one, two = balls((16, 20, 30, 12)), balls((16, 20, 51, 11))
    fine, scores, region = placed({27: one | two})
    scores[TEETH.index(37)][two[::2, ::2, ::2]] = 3.0
    core = np.where(balls((16, 20, 30, 11), (16, 20, 51, 10)), 3.0, -3.0).astype(np.float32)
    assert set(np.unique(tooth_numbers(core, one | two, fine, scores, region, one | two)[one | two])) <= {26, 27, 28}


@pytest.mark.parametrize("at_border", [False, True])
def test_what_would_be_hardly_a_tooth_is_part_of_the_one_it_touches_unless_the_view_ends_there(at_border: bool) -> None:
    middle = 96 if at_border else 60
    crumb, tooth = balls((16, 20, middle, 4)), balls((16, 20, middle - 15, 11))
    fine, scores, region = placed({46: tooth, 45: crumb})
    core = np.where(tooth | crumb, 3.0, -3.0).astype(np.float32)
    found = tooth_numbers(core, tooth | crumb, fine, scores, region, tooth | crumb)
    assert (found[tooth] == 46).mean() > 0.98
    assert (found[crumb] == (45 if at_border else 46)).mean() > 0.9


@pytest.fixture(scope="module")
def molars() -> np.ndarray:
    """Two drawn lower molars (z, y, x) of 0.5 mm side by side, 1 and 2, in a view that cuts neither."""
    from scipy import ndimage

    from ToothTopoSegLib.phantom.write import make_teeth

    labels = make_teeth(42_009, SPACING).array
    first, second = (labels == fdi for fdi in (36, 37))
    both = first | second
    return np.pad((first + 2 * second)[ndimage.find_objects(both.astype(np.uint8))[0]], 6)


def numbers_of_molars(molars: np.ndarray, tooth: np.ndarray, sure: float = 3.0) -> list[dict[int, float]]:
    """Which shares of each molar bear which number where the first network takes both for the first one.

    The second one is ``sure`` (nats) of the cores of either and has 3 nats for what joins them.
    """
    from scipy import ndimage

    core = ndimage.binary_erosion(tooth)
    assert cut(core, SPACING).max() == 1, "no neck"
    fine = Volume(np.zeros(molars.shape, np.uint8), (SPACING,) * 3)
    scores = np.zeros((len(TEETH), *(n // 2 + 1 for n in molars.shape)), np.float32)
    scores[TEETH.index(36)] = 6.0
    scores[TEETH.index(37)][:, : scores.shape[2] // 2] = 4.0
    scores[TEETH.index(37)][:, scores.shape[2] // 2 :] = 5.0
    region = Volume(scores[0], (1.0, 1.0, 1.0), (0.25, 0.25, 0.25))
    evidence = np.where(core, 3.0, -3.0).astype(np.float32)
    for n in (1, 2):
        evidence[core & ndimage.binary_erosion(molars == n, iterations=2)] = sure
    found = tooth_numbers(evidence, tooth, fine, scores, region, tooth)
    there = [(molars == n) & tooth for n in (1, 2)]
    return [{fdi: float((found[mask] == fdi).mean()) for fdi in (36, 37)} for mask in there if mask.any()]


def test_two_teeth_without_a_neck_between_them_are_cut_because_each_alone_is_like_a_tooth(molars: np.ndarray) -> None:
    from scipy import ndimage

    tooth = ndimage.binary_closing(molars > 0, np.ones((3, 3, 3)), 3)
    first, second = numbers_of_molars(molars, tooth)
    assert first[36] > 0.9 and second[37] > 0.9


def test_two_teeth_that_no_pass_parts_are_cut_where_the_evidence_for_a_core_is_least(
    molars: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scipy import ndimage

    monkeypatch.setattr(instances, "_at_passes", lambda *piece: ())
    tooth = ndimage.binary_closing(molars > 0, np.ones((3, 3, 3)), 3)
    assert numbers_of_molars(molars, tooth)[1] == {36: 1.0, 37: 0.0}
    first, second = numbers_of_molars(molars, tooth, sure=6.0)
    assert first[36] > 0.9 and second[37] > 0.9


def test_a_tooth_is_cut_from_what_is_left_of_its_neighbour(molars: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy import ndimage

    roots = slice(0, int(np.percentile(np.flatnonzero((molars == 2).any(axis=(1, 2))), 75)))
    left = molars.copy()
    left[roots][molars[roots] == 2] = 0
    tooth = ndimage.binary_closing(left > 0, np.ones((3, 3, 3)), 3)
    first, second = numbers_of_molars(left, tooth, sure=6.0)
    assert first[36] > 0.9 and second[37] > 0.9
    monkeypatch.setattr(instances, "LIKE_A_TOOTH_NATS", np.inf)
    assert numbers_of_molars(left, tooth, sure=6.0)[1][37] < 0.1


@pytest.mark.parametrize("sure", [3.0, 6.0])
@pytest.mark.parametrize("n", [1, 2])
def test_one_tooth_is_left_whole(molars: np.ndarray, n: int, sure: float) -> None:
    assert max(numbers_of_molars(molars, molars == n, sure)[0].values()) == 1.0
