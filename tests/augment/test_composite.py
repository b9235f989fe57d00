"""Geometry and blending of step two, each against a second way to compute it."""

import numpy as np
import pytest
from PIL import Image

from lib.augment.composite import Layer, cut_square, extend, merge, paste, quantise, square_around


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)


def full(layer: Layer, shape: tuple[int, int]) -> np.ndarray:
    out = np.zeros(shape, np.uint8)
    merge(out, layer)
    return out


def disc(shape=(61, 83), centre=(40, 30), radius=12.0) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.clip(radius - np.hypot(x - centre[0], y - centre[1]), 0, 1)


def test_quantise_rounds_any_weight_up_and_keeps_zero():
    alpha = np.zeros((9, 7))
    alpha[2, 3], alpha[5, 6], alpha[4, 1] = 1e-6, 1.0, 0.5
    layer = quantise(alpha)
    assert layer.box == (1, 2, 6, 4)
    assert full(layer, (9, 7))[[2, 5, 4, 0], [3, 6, 1, 0]].tolist() == [1, 255, 128, 0]


def test_quantise_of_nothing_is_an_empty_layer():
    layer = quantise(np.zeros((4, 5)), (2, 3))
    assert layer.values.size == 0
    assert layer.box == (2, 3, 0, 0)


@pytest.mark.parametrize("centre", [(40, 30), (2, 1), (82, 60)])
def test_extend_never_shrinks_and_is_zero_beyond_the_margin(centre):
    alpha = quantise(disc(centre=centre))
    before, after = full(alpha, (61, 83)), full(extend(alpha, 4.0, (61, 83)), (61, 83))
    assert (after >= before).all()
    assert (after > before).any()
    rows, columns = np.nonzero(before >= 128)
    y, x = np.mgrid[:61, :83]
    distance = np.sqrt(((y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2).min(-1))
    assert (after[(distance >= 4) & (before == 0)] == 0).all()
    assert (after[distance < 4] > 0).all()


def test_extend_by_nothing_changes_nothing():
    alpha = quantise(disc())
    assert extend(alpha, 0.0, (61, 83)) is alpha


def test_cut_square_equals_padding_by_reflection(picture):
    padded = np.pad(picture, ((50, 50), (50, 50), (0, 0)), mode="reflect")
    for x, y, side in [(0, 0, 61), (-20, -31, 100), (30, 10, 90), (80, 58, 7)]:
        expected = padded[y + 50 : y + 50 + side, x + 50 : x + 50 + side]
        np.testing.assert_array_equal(cut_square(picture, (x, y, side)), expected)


def test_cut_square_mirrors_as_often_as_needed(picture):
    far = cut_square(picture[:3, :1], (-40, -40, 90))
    assert far.shape == (90, 90, 3)
    assert set(far[:, 0, 0]) == set(picture[:3, 0, 0])


def test_the_square_holds_the_whole_mask_whatever_the_scale():
    landmarks = np.random.default_rng(3).uniform(20, 60, (68, 2)).astype(np.float32)
    for mask in [(20, 30, 40, 35), (0, 0, 5, 5), (70, 10, 11, 60)]:
        x, y, side = square_around(landmarks, mask, 1.0)
        assert x <= mask[0]
        assert y <= mask[1]
        assert mask[0] + mask[2] <= x + side
        assert mask[1] + mask[3] <= y + side


def test_the_square_is_scale_times_the_extent_and_moves_with_the_face():
    landmarks = np.random.default_rng(3).uniform(200, 300, (68, 2)).astype(np.float32)
    mask = (240, 250, 20, 20)
    x, y, side = square_around(landmarks, mask, 2.0)
    extent = (landmarks.max(0) - landmarks.min(0)).max()
    assert abs(side - 2 * extent) <= 1
    moved = square_around(landmarks + np.array([7, -5]), (247, 245, 20, 20), 2.0)
    assert moved == (x + 7, y - 5, side)


def test_paste_changes_the_region_only_and_takes_full_weight_as_it_is(picture):
    square, weight = (-9, -3, 96), quantise(disc())
    fake = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    out = picture.copy()
    paste(out, fake, square, weight)
    share = full(weight, (61, 83))
    np.testing.assert_array_equal(out[share == 0], picture[share == 0])
    placed = fake[3 : 3 + 61, 9 : 9 + 83]
    np.testing.assert_array_equal(out[share == 255], placed[share == 255])
    soft = (share > 0) & (share < 255)
    part = share[soft][:, None] / 255
    np.testing.assert_allclose(out[soft], placed[soft] * part + picture[soft] * (1 - part), atol=0.51)


@pytest.mark.parametrize("side", [96, 300, 31])
def test_paste_of_the_resized_square_itself_gives_the_picture_back(side):
    """Where the crop goes out and comes back, it must land where it was: no half-pixel shift at any scale."""
    y, x = np.mgrid[:400, :400]
    smooth = np.dstack([120 + 60 * np.sin(x / 40), 120 + 60 * np.cos(y / 35), (x + y) / 4]).astype(np.uint8)
    square = (30, 40, side)
    fake = np.asarray(Image.fromarray(cut_square(smooth, square)).resize((64, 64), Image.Resampling.BICUBIC))
    weight = Layer(
        (30 + side // 4, 40 + side // 4, side // 2, side // 2), np.full((side // 2, side // 2), 255, np.uint8)
    )
    out = smooth.copy()
    paste(out, fake, square, weight)
    assert np.abs(out.astype(int) - smooth)[weight.window].mean() < 1.5


def test_merge_keeps_the_larger_weight():
    region = np.full((4, 4), 9, np.uint8)
    merge(region, Layer((1, 1, 2, 2), np.array([[0, 8], [10, 255]], np.uint8)))
    assert region[1:3, 1:3].tolist() == [[9, 9], [10, 255]]
