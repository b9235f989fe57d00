import numpy as np
import pytest
from scipy import ndimage

from lib.warp.templates import KEY_POINTS, MIRRORED_POINTS, TEMPLATES, blue_surgical


@pytest.mark.parametrize("size", [256, 512])
def test_shape_kind_and_empty_border(size):
    template = blue_surgical(size)
    assert template.rgba.shape == (size * 3 // 4, size, 4)
    assert template.rgba.dtype == np.uint8
    assert template.points.shape == (12, 2)
    assert template.points.dtype == np.float32
    alpha = template.rgba[..., 3]
    assert max(alpha[0].max(), alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) == 0  # the warp reads 0 outside
    assert ndimage.label(alpha > 127)[1] == 1
    assert not (ndimage.binary_fill_holes(alpha > 127) ^ (alpha > 127)).any()


def test_edge_is_antialiased():
    alpha = blue_surgical(512).rgba[..., 3]
    partly = ((alpha > 0) & (alpha < 255)).sum()
    around = (alpha > 127).sum() ** 0.5 * 4
    assert 0.5 * around < partly < 3 * around


def test_key_points_lie_on_the_outline():
    template = blue_surgical(512)
    inside = template.rgba[..., 3] > 127
    distance = np.where(inside, ndimage.distance_transform_edt(inside), ndimage.distance_transform_edt(~inside))
    x, y = np.rint(template.points).astype(int).T
    assert len(KEY_POINTS) == len(set(KEY_POINTS)) == 12
    assert distance[y, x].max() < 2.5


def test_symmetric_picture_and_points():
    template = blue_surgical(512)
    assert np.array_equal(template.rgba, template.rgba[:, ::-1])
    flipped = template.points[list(MIRRORED_POINTS)] * [-1, 1] + [511, 0]
    np.testing.assert_allclose(flipped, template.points, atol=1e-3)


def test_light_blue_with_three_dark_pleats():
    rgba = blue_surgical(512).rgba
    cloth = rgba[rgba[..., 3] == 255][:, :3].astype(float)
    red, green, blue = np.median(cloth, axis=0)
    assert red < green < blue
    assert 120 < red < 175
    assert blue > 195
    middle = rgba[70:350, 240:272, :3].astype(float).mean(axis=(1, 2))  # below the wire, above the lower hem
    dips = middle - ndimage.median_filter(middle, 31)
    assert ndimage.label(dips < -10)[1] == 3


def test_larger_picture_is_the_same_mask():
    small, large = blue_surgical(256), blue_surgical(512)
    reduced = large.rgba.reshape(192, 2, 256, 2, 4).astype(float).mean(axis=(1, 3))
    assert np.abs(reduced - small.rgba).mean() < 3
    np.testing.assert_allclose((large.points + 0.5) / 2 - 0.5, small.points, atol=0.01)


def test_cached_picture_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        blue_surgical(256).rgba[0, 0] = 1


@pytest.mark.parametrize("size", [0, 100, 500])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match="multiple of 128"):
        blue_surgical(size)


def test_registry_names_match():
    for name, draw in TEMPLATES.items():
        assert draw(128).name == name
