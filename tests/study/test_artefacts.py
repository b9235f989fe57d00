"""What was planted in a picture is found, where it is, and what may change is left alone."""

import numpy as np
import pytest

from lib.study.artefacts import crop, far_changes, mask_patterns, worst_square

SIZE = 64


@pytest.fixture
def faces():
    """Three grey pictures with a mask over the lower middle: before, after (equal so far), non_mask."""
    before = np.full((3, SIZE, SIZE, 3), 120, np.uint8)
    non_mask = np.ones((3, SIZE, SIZE), bool)
    non_mask[:, 30:62, 14:50] = False
    return before, before.copy(), non_mask


def test_the_worst_square_is_that_of_trying_them_all():
    values = np.random.default_rng(0).random((20, 24))
    (x, y, edge), mean = worst_square(values, 5)
    tried = {(i, j): values[j : j + 5, i : i + 5].mean() for i in range(20) for j in range(16)}
    assert (x, y) == max(tried, key=tried.get)
    assert (edge, mean) == (5, pytest.approx(tried[x, y]))
    assert worst_square(np.zeros((8, 8)), 4) == ((0, 0, 4), 0.0)


def test_a_crop_is_the_square():
    image = np.arange(48).reshape(6, 8)
    assert crop(image, (2, 1, 3)).tolist() == image[1:4, 2:5].tolist()


def test_a_spot_far_from_the_mask_is_found_and_its_rim_is_not(faces):
    before, after, non_mask = faces
    after[1, 4:12, 40:48] = 220  # forehead
    after[2, 27:30, 16:48] = 255  # right above the mask: rim, strap, shadow
    after[2, 40:50, 20:40] = 255  # on it
    found = far_changes(before, after, non_mask, 2)
    assert found[0].face == 1
    x, y, edge = found[0].box
    assert x <= 40 <= 48 <= x + edge
    assert y <= 4 <= 12 <= y + edge
    assert found[0].value == pytest.approx(64 * 100 / 255 / 256)
    assert found[1].value == 0


def test_a_pattern_on_the_mask_is_found_and_one_beside_it_or_a_new_tone_is_not(faces):
    before, after, non_mask = faces
    stripes = np.where(np.arange(12) % 2, 220, 40)[:, None, None]
    after[0, 44:56, 24:36] = stripes
    after[1, 4:16, 24:36] = stripes  # hair
    after[2][~non_mask[2]] = 230  # pale, and flat
    first, *rest = mask_patterns(before, after, non_mask, 3)
    assert first.face == 0
    x, y, edge = first.box
    assert x <= 30 <= x + edge
    assert y <= 50 <= y + edge
    assert all(place.value < first.value / 10 for place in rest)
