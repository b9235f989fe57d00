"""Straps: where they run, what they cover, that they lie under the cloth."""

import numpy as np
import pytest

from lib.warp import PRESETS, WarpParams, apply_warp, face3d, template
from lib.warp.frontal import fit_frontal, in_view
from lib.warp.place import place_all
from lib.warp.straps import Strands, draw_straps, lay_straps

SIZE = 256


@pytest.fixture
def placed(plain_face):
    (item,) = place_all([(plain_face(), WarpParams(style=PRESETS["ours"].style), (SIZE, SIZE))])
    return item


def even(value=1.0):
    return np.full((3, 12, 12), value, np.float32)


def test_straps_run_from_the_mask_to_the_ears(placed, plain_face):
    strands = draw_straps(placed, even())
    x, y = strands.columns + placed.reach[0], strands.rows + placed.reach[1]
    assert (placed.reach[2] > placed.window[2]) or (placed.reach[3] > placed.window[3])
    jaw = plain_face()[:17]
    assert (np.abs(x - SIZE / 2) > 0.6 * np.ptp(jaw[:, 0]) / 2).all(), "at the sides only"
    assert x.min() < jaw[2, 0]
    assert x.max() > jaw[14, 0]
    assert y.min() > plain_face()[17:27, 1].min(), "not above the brows"
    assert 0 < strands.line.min() < strands.line.max() <= 1
    np.testing.assert_allclose(
        strands.colour, np.broadcast_to(np.array(placed.straps[0][2]) / 255, strands.colour.shape), atol=1e-6
    )


def test_they_are_as_thin_as_the_template_says(placed):
    strands = draw_straps(placed, even())
    length = sum(np.linalg.norm(np.diff(path, axis=0), axis=1).sum() for path, _, _ in placed.straps)
    thick = np.mean([thick for _, thick, _ in placed.straps])
    assert strands.line.sum() == pytest.approx(length * thick, rel=0.15)


def test_the_light_of_their_place_is_on_them(placed):
    gain = np.broadcast_to(np.linspace(0.5, 1, 12, dtype=np.float32), (3, 12, 12)).copy()
    gain[2] *= 0.5
    strands = draw_straps(placed, gain)
    own = np.array(placed.straps[0][2]) / 255
    x = strands.columns + placed.reach[0] - placed.window[0]
    expected = np.interp(x, np.linspace(0, placed.canvas[0] - 1, 12), np.linspace(0.5, 1, 12))
    np.testing.assert_allclose(strands.colour[:, 0], expected * own[0], atol=2e-3)
    np.testing.assert_allclose(strands.colour[:, 2], expected * own[2] / 2, atol=2e-3)
    assert draw_straps(placed, even(9.0)).colour.max() <= 1


def test_in_a_soft_picture_they_are_soft(placed):
    sharp, soft = draw_straps(placed, even()), draw_straps(placed, even(), 2.0)
    assert soft.line.sum() == pytest.approx(sharp.line.sum(), rel=0.05)
    assert len(soft.line) > 2 * len(sharp.line)
    assert soft.line.max() < 0.8 * sharp.line.max()


def test_no_straps_no_strands(placed):
    placed.straps = []
    assert draw_straps(placed, even()) is None


def test_they_lie_under_the_cloth_and_over_the_skin():
    picture = np.full((1, 4, 3), 100, np.uint8)
    below = picture[0].copy()
    cover, shadow = np.array([[0.0, 1.0, 0.5, 0.0]], np.float32), np.array([[0.0, 0.0, 0.1, 0.2]], np.float32)
    part = np.array([[[100] * 3, [7] * 3, [50] * 3, [80] * 3]], np.uint8)  # the cloth is there already
    strands = Strands(np.zeros(4, int), np.arange(4), np.full(4, 0.5, np.float32), np.full((4, 3), 1.0, np.float32))
    lay_straps(part, below, strands, cover, shadow)
    # half strap (255) and half of what was there; nothing under full cloth
    assert part[0, :, 0].tolist() == [178, 7, round(50 + 0.5 * (0.5 * 255 - 100 * 0.4)), round(80 + 0.5 * (255 - 80))]
    np.testing.assert_allclose(cover, [[0.5, 1.0, 0.75, 0.5]])
    np.testing.assert_allclose(shadow, [[0.0, 0.0, 0.05, 0.1]])


def test_the_region_covers_them_and_nothing_else_changes(plain_face, noise_picture):
    picture = noise_picture(SIZE)
    params = WarpParams(style=PRESETS["ours"].style)
    worn = apply_warp(picture, plain_face(), params)
    changed = (worn.image != picture).any(axis=2)
    assert not (changed & worn.non_mask).any()
    x, y, w, h = worn.box
    (item,) = place_all([(plain_face(), params, (SIZE, SIZE))])
    strands = draw_straps(item, even())
    at = strands.rows + item.reach[1], strands.columns + item.reach[0]
    assert (worn.alpha[at] > 0).all()
    assert (x <= at[1].min()) and (at[1].max() < x + w)  # noqa: PT018
    assert (y <= at[0].min()) and (at[0].max() < y + h)  # noqa: PT018


@pytest.mark.parametrize("name", ["n95", "gas", "surgical_blue"])
@pytest.mark.parametrize("yaw", [0, 25, -40])
def test_straps_end_where_they_go_behind_the_head(name, yaw):
    """Bands once stopped beside the head, in the air or before the ear."""
    fit = fit_frontal(template(name))
    towards = face3d.rotation(yaw, 0, 0)[2]
    for path, whole in zip(in_view(fit.straps, towards), fit.straps, strict=True):
        outwards = path * (1, 0, 1) - (0, 0, 0.06)
        facing, before = outwards @ towards, (whole * (1, 0, 1) - (0, 0, 0.06)) @ towards
        if before[0] <= 0:
            np.testing.assert_allclose(path, whole)
            continue
        assert facing.min() > -1e-6
        assert facing[-1] < 0.02 or np.allclose(path, whole), "up to the contour, or as long as it is"
        np.testing.assert_allclose(path[0], whole[0])


def test_bands_pass_above_and_below_the_ear():
    fit, mask = fit_frontal(template("n95")), template("n95")
    for path, strap in zip(fit.straps, mask.straps, strict=True):
        at_ear = np.interp(0.08, path[::-1, 2], path[::-1, 1])  # z of the ears
        assert (at_ear > -0.1) if strap.to == "crown" else (-0.55 < at_ear < -0.25), (strap.to, at_ear)
        assert np.abs(path[:, 0]).max() < 0.76
