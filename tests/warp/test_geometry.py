import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator
from skimage.transform import ProjectiveTransform

from lib.warp import geometry
from lib.warp.sheet import key_points
from lib.warp.templates import KEY_POINTS, MIRRORED_POINTS, template

KNOWN = np.array([[1.1, 0.2, 30.0], [-0.1, 0.9, 12.0], [4e-4, -3e-4, 1.0]])

KEY_PLACES = key_points()


@pytest.fixture
def points():
    return np.random.default_rng(1).uniform(0, 256, (12, 2))


# --- homography


def test_homography_recovers_a_known_matrix(points):
    found = geometry.fit_homography(points, geometry.apply_homography(KNOWN, points))
    np.testing.assert_allclose(found, KNOWN, rtol=1e-8, atol=1e-10)


def test_homography_agrees_with_skimage_exactly_and_nearly(points):
    np.testing.assert_allclose(geometry.apply_homography(KNOWN, points), ProjectiveTransform(KNOWN)(points))
    noisy = geometry.apply_homography(KNOWN, points) + np.random.default_rng(2).normal(0, 1.5, points.shape)
    ours = geometry.apply_homography(geometry.fit_homography(points, noisy), points)
    theirs = ProjectiveTransform.from_estimate(points, noisy)(points)
    np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_homography_does_not_depend_on_the_frame(points):
    target = geometry.apply_homography(KNOWN, points) + np.random.default_rng(3).normal(0, 1, points.shape)
    here = geometry.apply_homography(geometry.fit_homography(points, target), points)
    far = geometry.fit_homography(points * 50 + 1e4, target)
    np.testing.assert_allclose(geometry.apply_homography(far, points * 50 + 1e4), here, atol=1e-6)


@pytest.mark.parametrize("fit", [geometry.fit_homography, geometry.fit_tps])
def test_points_that_determine_nothing(fit, points):
    line = np.stack([np.arange(12.0), 2 * np.arange(12.0)], axis=1)
    with pytest.raises(ValueError, match="line"):
        fit(line, points)
    with pytest.raises(ValueError, match="one place"):
        fit(np.ones((12, 2)), points)
    with pytest.raises(ValueError, match="expected two arrays"):
        fit(points[:2], points[:2])


# --- thin-plate spline


def test_tps_meets_its_points_and_agrees_with_scipy(points):
    target = points + np.random.default_rng(4).normal(0, 8, points.shape)
    spline = geometry.fit_tps(points, target)
    np.testing.assert_allclose(spline(points), target, atol=1e-7)
    elsewhere = np.random.default_rng(5).uniform(0, 256, (200, 2))
    oracle = RBFInterpolator(points, target, kernel="thin_plate_spline", degree=1)
    np.testing.assert_allclose(spline(elsewhere), oracle(elsewhere), atol=1e-6)


def test_tps_reproduces_an_affine_map(points):
    matrix, offset = np.array([[1.3, -0.4], [0.2, 0.7]]), np.array([5.0, -9.0])
    spline = geometry.fit_tps(points, points @ matrix + offset)
    elsewhere = np.random.default_rng(6).uniform(-500, 500, (50, 2))
    np.testing.assert_allclose(spline(elsewhere), elsewhere @ matrix + offset, atol=1e-6)


def test_stiff_tps_tends_to_the_least_squares_affine_map(points):
    target = points + np.random.default_rng(7).normal(0, 8, points.shape)
    design = np.hstack([points, np.ones((12, 1))])
    affine = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    misfit = [np.abs(geometry.fit_tps(points, target, s)(points) - affine).max() for s in (0.0, 1.0, 1e4)]
    assert misfit[0] > misfit[1] > misfit[2]
    assert misfit[2] < 0.01


# --- the face


def test_mask_points_sit_where_a_mask_sits(plain_face):
    face = plain_face()
    goal = dict(zip(KEY_POINTS, geometry.mask_points(face), strict=True))
    assert face[28, 1] <= goal["nose_bridge"][1] <= face[29, 1]
    assert face[1, 1] < goal["top_left"][1] < face[2, 1]
    assert face[15, 1] < goal["top_right"][1] < face[14, 1]
    height = face[8, 1] - face[28, 1]
    assert 0 < goal["chin"][1] - face[8, 1] < 0.1 * height
    assert face[36:48, 1].max() < min(p[1] for p in goal.values())  # the eyes stay free


def test_mask_points_are_mirrored_with_the_face(plain_face, mirrored):
    face = plain_face(yaw_deg=18, roll_deg=7)
    there = geometry.mask_points(mirrored(face, 256))
    back = geometry.mask_points(face)[list(MIRRORED_POINTS)] * [-1, 1] + [255, 0]
    np.testing.assert_allclose(there, back, atol=1e-9)


@pytest.mark.parametrize("yaw", [-35, -20, 0, 20, 35])
def test_nose_and_lips_are_inside_the_sides_on_a_turned_head(plain_face, yaw):
    face = plain_face(yaw_deg=yaw)
    goal = dict(zip(KEY_POINTS, geometry.mask_points(face), strict=True))
    assert goal["left_side"][0] < face[30, 0] < goal["right_side"][0]
    assert goal["lower_left"][0] < face[48:60, 0].min()
    assert face[48:60, 0].max() < goal["lower_right"][0]


@pytest.mark.parametrize("yaw", [-30, 0, 12, 30])
@pytest.mark.parametrize("fit", ["tps", "homography"])
def test_the_mapping_does_not_fold_over_the_mask(plain_face, yaw, fit):
    mask = template("surgical_blue", 512)
    goal = geometry.mask_points(plain_face(yaw_deg=yaw, roll_deg=10))
    matrix = geometry.fit_homography(goal, mask.points)
    mapping = geometry.fit_tps(goal, mask.points) if fit == "tps" else lambda p: geometry.apply_homography(matrix, p)
    low, high = np.floor(goal.min(0)).astype(int), np.ceil(goal.max(0)).astype(int)
    x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    here, step = np.stack([x.ravel(), y.ravel()], axis=1).astype(float), 1e-3
    dx = (mapping(here + np.array([step, 0])) - mapping(here)) / step
    dy = (mapping(here + np.array([0, step])) - mapping(here)) / step
    jacobian = dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0]
    assert jacobian.min() > 0
    grid = geometry.coarse_grid(mapping, (*low, *(high - low)))
    assert (grid.jacobian > 0).all()
    assert np.median(grid.jacobian) == pytest.approx(np.median(jacobian), rel=0.05)


def test_a_fold_is_seen(plain_face):
    goal = geometry.mask_points(plain_face())
    crossed = goal[[4, 3, 2, 1, 0, 5, 6, 7, 8, 9, 10, 11]]  # the upper edge runs backwards
    grid = geometry.coarse_grid(geometry.fit_tps(crossed, template("surgical_blue", 512).points), (40, 90, 180, 130))
    assert (grid.jacobian < 0).any()


# --- grids and resampling


def test_coarse_grid_is_close_to_the_mapping_at_every_pixel(plain_face):
    spline = geometry.fit_tps(geometry.mask_points(plain_face(yaw_deg=25)), template("surgical_blue", 512).points)
    window = (31, 97, 190, 131)
    dense = geometry.coarse_grid(spline, window).rows(10, 90).numpy()
    x, y = np.meshgrid(np.arange(31, 31 + 190), np.arange(97 + 10, 97 + 90))
    truth = spline(np.stack([x.ravel(), y.ravel()], axis=1).astype(float)).reshape(80, 190, 2)
    error = np.abs(dense[:2].transpose(1, 2, 0) - truth)  # template pixels, of which one of the photograph holds 2.7
    assert error.max() < 0.5
    assert error.mean() < 0.05


def test_stretch_is_the_log_of_the_scale():
    grid = geometry.coarse_grid(lambda p: p * 4 + 7, (0, 0, 50, 40))
    np.testing.assert_allclose(grid.nodes[2], 2.0, atol=1e-9)
    np.testing.assert_allclose(grid.jacobian, 16.0)


def test_sampling_at_the_pixels_returns_the_picture():
    picture = torch.rand(1, 4, 24, 32, generator=torch.Generator().manual_seed(0))
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    places = torch.stack([x, y], dim=-1)[None]
    levels = geometry.pyramid(picture)
    found = geometry.sample_pyramid(levels, places, torch.zeros(1, 24, 32))
    torch.testing.assert_close(found, picture, atol=1e-5, rtol=0)
    shifted = geometry.sample_pyramid(levels, places + 1000, torch.zeros(1, 24, 32))
    assert shifted.abs().max() == 0


def test_a_batch_equals_its_parts():
    rng = torch.Generator().manual_seed(1)
    levels = geometry.pyramid(torch.rand(1, 3, 32, 64, generator=rng))
    places = torch.rand(3, 10, 12, 2, generator=rng) * 40
    stretch = torch.rand(3, 10, 12, generator=rng) * 3
    together = geometry.sample_pyramid(levels, places, stretch)
    for k in range(3):
        torch.testing.assert_close(
            together[k : k + 1], geometry.sample_pyramid(levels, places[k : k + 1], stretch[k : k + 1])
        )


def test_minified_stripes_turn_grey_instead_of_aliasing():
    stripes = (torch.arange(512) % 2).float().expand(1, 1, 384, 512)
    levels = geometry.pyramid(stripes.contiguous())
    step = 512 / 37
    places = torch.stack(
        torch.meshgrid(torch.arange(30) * 10.0 + 40, torch.arange(30) * step + 40, indexing="ij")[::-1], -1
    )
    plain = geometry.sample_pyramid(levels, places[None], torch.zeros(1, 30, 30))
    filtered = geometry.sample_pyramid(levels, places[None], torch.full((1, 30, 30), float(np.log2(step))))
    assert plain.std() > 0.2
    assert filtered.std() < 0.01
    assert filtered.mean().item() == pytest.approx(0.5, abs=0.01)


def test_pyramid_keeps_the_mean_and_stops_at_odd_sides():
    picture = torch.rand(1, 4, 96, 128, generator=torch.Generator().manual_seed(2))
    levels = geometry.pyramid(picture)
    assert [tuple(level.shape[-2:]) for level in levels] == [(96, 128), (48, 64), (24, 32), (12, 16), (6, 8), (3, 4)]
    for level in levels:
        torch.testing.assert_close(level.mean((2, 3)), picture.mean((2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [6, 12])
def test_triangles_meet_every_key_point_and_are_mirror_images_of_themselves(plain_face, count):
    goals = {6: geometry.six_points, 12: geometry.mask_points}[count](plain_face())
    template = {6: [[0, 1], [3, 0], [6, 1], [0.5, 3], [3, 5], [5.5, 3]], 12: None}[count]
    template = np.array(template, float) if template else KEY_PLACES * 6
    mapping = geometry.fit_triangles(goals, template)
    np.testing.assert_allclose(mapping(goals), template, atol=1e-9)
    inner, ring = geometry._triangles(count)
    assert len(inner) == count - 2
    assert len(ring) == 2 * count
    top = count // 6
    for corners in (inner, ring):
        mirrored = (2 * top - corners) % count + count * (corners >= count)
        assert {frozenset(t) for t in mirrored.tolist()} == {frozenset(t) for t in corners.tolist()}


def test_a_triangle_turned_over_is_refused(plain_face):
    goals = geometry.mask_points(plain_face())
    goals[2] = goals[8] + (0, 40)  # the bridge of the nose below the chin
    with pytest.raises(ValueError, match="would fold"):
        geometry.fit_triangles(goals, KEY_PLACES)
    with pytest.raises(ValueError, match="would fold"):
        geometry.fit_triangles(np.zeros((12, 2)), KEY_PLACES)
