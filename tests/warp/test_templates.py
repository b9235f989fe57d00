import numpy as np
import pytest
from scipy import ndimage

from lib.warp import geometry
from lib.warp.face3d import SURFACES
from lib.warp.frontal import fit_frontal, frontal_landmarks, to_unit
from lib.warp.templates import KEY_POINTS, MIRRORED_POINTS, TEMPLATES, Template, template


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("size", [256, 512])
def test_shape_kind_and_empty_border(name, size):
    mask = template(name, size)
    assert mask.rgba.shape == (size * 3 // 4, size, 4)
    assert mask.rgba.dtype == np.uint8
    assert mask.points.shape == (12, 2)
    assert mask.points.dtype == np.float32
    alpha = mask.rgba[..., 3]
    assert max(alpha[0].max(), alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) == 0  # the warp reads 0 outside
    assert ndimage.label(alpha > 127)[1] == 1
    assert not (ndimage.binary_fill_holes(alpha > 127) ^ (alpha > 127)).any()


def test_edge_is_antialiased():
    alpha = template("surgical_blue").rgba[..., 3]
    partly = ((alpha > 0) & (alpha < 255)).sum()
    around = (alpha > 127).sum() ** 0.5 * 4
    assert 0.5 * around < partly < 3 * around


def test_key_points_lie_on_the_outline():
    mask = template("surgical_blue")
    inside = mask.rgba[..., 3] > 127
    distance = np.where(inside, ndimage.distance_transform_edt(inside), ndimage.distance_transform_edt(~inside))
    x, y = np.rint(mask.points).astype(int).T
    assert len(KEY_POINTS) == len(set(KEY_POINTS)) == 12
    assert distance[y, x].max() < 2.5


@pytest.mark.parametrize("name", TEMPLATES)
def test_symmetric_picture_and_points(name):
    mask = template(name)
    assert np.abs(mask.rgba.astype(int) - mask.rgba[:, ::-1]).max() <= 1
    assert mask.dye is None or np.array_equal(mask.dye, mask.dye[:, ::-1])
    assert {s.side for s in mask.straps} == {"left", "right"}
    flipped = mask.points[list(MIRRORED_POINTS)] * [-1, 1] + [511, 0]
    np.testing.assert_allclose(flipped, mask.points, atol=1e-3)


def test_light_blue_with_three_dark_pleats():
    rgba = template("surgical_blue").rgba
    cloth = rgba[rgba[..., 3] == 255][:, :3].astype(float)
    red, green, blue = np.median(cloth, axis=0)
    assert red < green < blue
    assert 120 < red < 175
    assert blue > 195
    middle = rgba[70:350, 240:272, :3].astype(float).mean(axis=(1, 2))  # below the wire, above the lower hem
    dips = middle - ndimage.median_filter(middle, 31)
    assert ndimage.label(dips < -10)[1] == 3


def test_larger_picture_is_the_same_mask():
    small, large = template("surgical_blue", 256), template("surgical_blue")
    reduced = large.rgba.reshape(192, 2, 256, 2, 4).astype(float).mean(axis=(1, 3))
    assert np.abs(reduced - small.rgba).mean() < 3
    np.testing.assert_allclose((large.points + 0.5) / 2 - 0.5, small.points, atol=0.01)


def test_cached_picture_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        template("surgical_blue", 256).rgba[0, 0] = 1


@pytest.mark.parametrize("size", [0, 100, 500])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match="multiple of 128"):
        template("surgical_blue", size)


def test_registry_names_match():
    for name, draw in TEMPLATES.items():
        mask = draw(128)
        assert mask.name == name
        assert mask.surface in SURFACES
        assert 0.2 < (mask.rgba[..., 3] > 127).mean() < 0.8


@pytest.mark.parametrize("name", TEMPLATES)
def test_straps_begin_on_the_cloth(name):
    mask = template(name)
    x, y = np.rint([strap.start for strap in mask.straps]).astype(int).T
    near = ndimage.maximum_filter(mask.rgba[..., 3], 13)
    assert near[y, x].min() == 255


def test_the_colours_are_those_of_their_names():
    tone = {n: np.median(template(n).rgba[template(n).rgba[..., 3] == 255][:, :3], axis=0) for n in TEMPLATES}
    assert tone["surgical_green"][1] > tone["surgical_green"][[0, 2]].max()
    assert tone["surgical_pink"][0] > tone["surgical_pink"][1:].max()
    assert tone["surgical_white"].min() > 200
    assert tone["surgical_black"].max() < 80
    assert min(tone[n].min() for n in ("n95", "kn95")) > 200


def test_an_unknown_name_is_told_what_there_is():
    with pytest.raises(ValueError, match=r"expected one of surgical_blue, .*\.json"):
        template("red")


def test_a_changed_own_template_is_read_again(tmp_path):
    import os

    from PIL import Image

    from lib.warp.own import save_template

    mask = template("kn95", 256)
    Image.fromarray(mask.rgba).save(tmp_path / "m.png")
    points = dict(zip(KEY_POINTS, mask.points.tolist(), strict=True))
    file = save_template(tmp_path / "m.json", tmp_path / "m.png", points)
    first = template(str(file))
    assert template(str(file)) is first
    save_template(file, tmp_path / "m.png", points, surface="fold")
    os.utime(file, ns=(1, 1))
    assert template(str(file)).surface == "fold"


SIX = [[21, 97], [307, 22], [600, 99], [25, 322], [295, 470], [600, 323]]  # of the example in `lib.warp.own --help`


def test_stripes_run_over_a_six_point_template_as_over_one_with_twelve():
    """A spline through six points bent straight stripes into a hump of up to 8 % of the mask's height on an upright
    face, twice that on one that looks up."""
    rgba = np.full((500, 620, 4), 255, np.uint8)
    six = fit_frontal(Template(rgba, np.array(SIX, np.float32), "striped"))
    y, x = np.mgrid[0.1:1.2:12j, -0.6:0.6:13j]
    places = np.stack([x.ravel(), y.ravel()], 1)
    there, usual = six.tps(places), fit_frontal(template("surgical_blue")).tps(places)
    map_, *_ = np.linalg.lstsq(np.column_stack([usual, np.ones(len(usual))]), there, rcond=None)
    apart = np.column_stack([usual, np.ones(len(usual))]) @ map_ - there
    assert np.abs(apart).max() < 0.02, "affine: what is straight on one is straight on the other"
    goals = geometry.six_points(frontal_landmarks())
    met = six.tps(goals) - to_unit(np.array(SIX), (500, 620))
    assert np.abs(met[[1, 4], 1]).max() < 0.08, "nose and chin are covered"
