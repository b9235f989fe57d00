import numpy as np
import pytest
import torch

from lib.data.faceworld import render
from lib.warp import face3d, generic_face
from lib.warp.frontal import frontal_landmarks


@pytest.fixture(scope="module")
def heads():
    out = render(range(60), range(500, 560), size=256, what=(), yaw=60, pitch=15, roll=15)
    return out.landmarks.numpy(), out.pose.numpy()


def test_the_file_is_what_the_code_makes():
    made, kept = generic_face.build(), generic_face.generic_face()
    for name in ("sheet", "landmarks", "jaw", "outwards", "ears"):
        np.testing.assert_allclose(getattr(made, name), getattr(kept, name), atol=2e-3)


def test_the_generic_face_is_symmetric_and_the_sheet_covers_the_nose():
    face = generic_face.generic_face()
    np.testing.assert_allclose(face.sheet, face.sheet[:, ::-1], atol=1e-3)
    np.testing.assert_allclose(face.landmarks[:17] * [-1, 1, 1], face.landmarks[16::-1], atol=1e-3)
    z = face3d.look_up(face3d.surface("drape")[None, None], torch.tensor([[0.0]]), torch.tensor([[-0.386]]))
    assert float(z) >= face.landmarks[30, 2] - 0.01


@pytest.mark.parametrize(("low", "high", "limit"), [(0, 20, 2.0), (20, 40, 5.0), (40, 61, 7.0)])
def test_pose_is_that_of_the_head(heads, low, high, limit):
    landmarks, poses = heads
    chosen = [k for k in range(60) if low <= abs(poses[k, 0]) < high]
    found = np.array([(p.yaw, p.pitch, p.roll) for p in (face3d.estimate_pose(landmarks[k]) for k in chosen)])
    error = np.abs(found - poses[chosen]).mean(axis=0)
    assert len(chosen) > 10
    assert error[0] < limit
    assert error[1] < 4
    assert error[2] < 2


def test_a_mirrored_face_has_the_mirrored_pose(heads, mirrored):
    for points in heads[0][:8]:
        one, two = face3d.estimate_pose(points), face3d.estimate_pose(mirrored(points, 256))
        np.testing.assert_allclose([two.yaw, two.pitch, two.roll], [-one.yaw, one.pitch, -one.roll], atol=0.2)
        assert two.scale == pytest.approx(one.scale, rel=1e-3)


def test_the_generic_face_finds_its_own_pose():
    for angles in ((0, 0, 0), (25, -8, 5), (-45, 10, -12)):
        pose = face3d.Pose(face3d.rotation(*angles), 70.0, np.array([128.0, 90.0]), *angles)
        found = face3d.estimate_pose(face3d.project_landmarks(pose))
        np.testing.assert_allclose([found.yaw, found.pitch, found.roll], angles, atol=2.5)
        np.testing.assert_allclose(face3d.project_landmarks(found), face3d.project_landmarks(pose), atol=3)


@pytest.mark.parametrize("angles", [(0, 0, 0), (50, 20, -30), (-60, -10, 12)])
def test_angles_are_the_inverse_of_rotation(angles):
    np.testing.assert_allclose(face3d._angles(face3d.rotation(*angles)), angles, atol=1e-9)


@pytest.mark.parametrize("kind", ["line", "one place", "mirrored", "not finite"])
def test_no_head_is_told(kind):
    p = frontal_landmarks() * 60 + 128
    if kind == "line":
        p[:, 1] = 2 * p[:, 0]
    elif kind == "one place":
        p[:] = 50
    elif kind == "mirrored":
        p = p * [-1, 1] + [256, 0]
    else:
        p[30] = np.nan
    with pytest.raises(ValueError, match=r"line|no head pose"):
        face3d.estimate_pose(p)


def test_rays_meet_a_plane_where_geometry_says():
    """A flat surface z = 0.5 seen under 30° of yaw: x on it from the camera's plane by hand."""
    heights = torch.full((1, 1, 84, 84), 0.5)
    matrix = torch.from_numpy(face3d.rotation(30, 0, 0)).float()[None]
    u = torch.linspace(-0.2, 0.5, 8)
    plane = torch.stack(torch.meshgrid(u, torch.tensor([-0.6, -0.4]), indexing="xy"), -1)[None]
    met = face3d.trace(plane, matrix, heights)
    x, y = met.places(met.depth.sqrt())
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    np.testing.assert_allclose(x[0, 0], (u.numpy() - 0.5 * s) / c, atol=0.01)
    np.testing.assert_allclose(y[0, :, 0], [-0.6, -0.4], atol=1e-5)
    assert (met.under > 0).all()


@pytest.mark.parametrize("yaw", [20, 45])
def test_a_contour_is_found_between_rays_to_a_hundredth(yaw):
    """A bump with a known contour: z = 0.8 − 2 (x² + (y + 0.5)²) under a ray of slope t has its contour where the
    parabola just touches it."""
    y, x = face3d.frontal_grid()
    heights = torch.from_numpy(0.8 - 2 * (x**2 + (y + 0.5) ** 2)).float()[None, None]
    u = torch.linspace(-0.8, 0.8, 33)  # 0.05 apart
    plane = torch.stack(torch.meshgrid(u, torch.tensor([-0.5, -0.5]), indexing="xy"), -1)[None]
    met = face3d.trace(plane, torch.from_numpy(face3d.rotation(yaw, 0, 0)).float()[None], heights)
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    under = met.under[0, 0].numpy()
    assert ((under > 0) == (met.depth[0, 0].numpy() > 0)).all()
    # x c + z s is largest, and smallest, on the surface where its slope is that of the rays: −4 x s + c = 0.
    place = c / (4 * s)
    edge = place * c + (0.8 - 2 * place**2) * s
    k = int(np.flatnonzero((under[:-1] > 0) & (under[1:] <= 0))[-1])
    found = u[k] + 0.05 * under[k] / (under[k] - under[k + 1])
    assert float(found) == pytest.approx(edge, abs=0.01)


def test_rays_that_pass_a_head_by_find_nothing_behind_it():
    y, x = face3d.frontal_grid()
    ball = np.sqrt(np.clip(0.3**2 - x**2 - (y + 0.5) ** 2, 0, None)) - 9 * (np.hypot(x, y + 0.5) > 0.3)
    u = torch.linspace(-0.6, 0.6, 61)
    plane = torch.stack(torch.meshgrid(u, torch.tensor([-0.5, -0.5]), indexing="xy"), -1)[None]
    met = face3d.trace(plane, torch.eye(3)[None], torch.from_numpy(ball).float()[None, None])
    np.testing.assert_allclose(met.x[0, 0], u, atol=1e-5)
    assert (met.under[0, 0][u.abs() > 0.33] < 0).all()
    assert (met.under[0, 0][u.abs() < 0.27] > 0).all()


def test_surfaces_stand_off_the_sheet_and_end_on_it():
    drape = face3d.surface("drape")
    for name in face3d.SURFACES:
        rise = (face3d.surface(name) - drape).numpy()
        assert rise.min() >= -1e-6
        assert rise[0].max() < 0.01, "nothing above the nose"
        assert name == "drape" or rise.max() > 0.1
