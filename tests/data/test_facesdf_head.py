"""Head fields, landmarks, marching: geometry holds together."""

import pytest
import torch

from lib.data.facesdf import march
from lib.data.facesdf.draws import sample
from lib.data.facesdf.head import Head, union
from lib.data.facesdf.landmarks import landmarks
from lib.data.facesdf.params import Ranges


@pytest.fixture(scope="module")
def head():
    with torch.no_grad():
        who, shot, _ = sample([0, 1, 2, 3], [0, 1, 2, 3], Ranges(yaw=25))
        return Head(who, shot)


def around(head, count=4000, reach=1.4):
    g = torch.Generator().manual_seed(3)
    return list((torch.rand(3, 4, count, generator=g) * 2 - 1) * reach)


def test_inside_is_negative_and_outside_positive(head):
    centre = [torch.zeros(4, 1)] * 3
    assert (union(head.parts(centre)) < -0.3).all()
    away = [torch.zeros(4, 1), torch.zeros(4, 1), torch.full((4, 1), 3.0)]
    assert (union(head.parts(away)) > 1.2).all()


def test_zones_are_exact(head):
    """The fields used per zone must agree with the full one where it matters: near the surface."""
    p = around(head, 20000, 1.2)
    full = union(head.parts(p))
    front, rest = head.zones(p)
    assert not (front & rest).any()
    near = full.abs() < 0.05
    assert (front & near).sum() > 50
    assert (rest & near).sum() > 200
    for keep, parts in ((front, head.parts_of_front), (rest, head.parts_of_rest)):
        error = (union(parts(p)) - full).abs()[keep & near]
        assert error.quantile(0.99) < 2e-3
        assert error.max() < 0.03


def test_coarse_field_is_close_to_the_fine_one(head):
    p = around(head, 8000)
    fine = union(head.parts(p))
    near = fine.abs() < 0.1
    assert (head.coarse(p) - fine).abs()[near].max() < 0.16  # lids, nostrils, mouth and folds at most


def test_field_never_grows_much_faster_than_distance(head):
    p = around(head, 8000)
    q = [c + 0.01 * torch.randn(c.shape, generator=torch.Generator().manual_seed(k)) for k, c in enumerate(p)]
    moved = sum((a - b) ** 2 for a, b in zip(p, q)).sqrt()
    slope = (head.coarse(p) - head.coarse(q)).abs() / moved
    assert slope.quantile(0.95) < 1.2
    assert slope.quantile(0.99) < 1.5


def test_landmarks_lie_on_the_skin_and_are_mirror_pairs(head):
    points = landmarks(head)
    x, y, z = head.canonical(list(points.unbind(-1)))
    skin = head.featured(x, y, z, ears=False)[0]
    assert skin[:, 17:].abs().max() < 0.02
    pairs = [(36, 45), (39, 42), (48, 54), (31, 35), (17, 26), (21, 22)]
    for left, right in pairs:
        assert torch.allclose(points[:, left, 0], -points[:, right, 0], atol=1e-5)
        assert torch.allclose(points[:, left, 1], points[:, right, 1], atol=1e-5)


def test_eye_landmarks_are_the_lid_opening(head):
    """Halfway between upper and lower lid one looks at the eyeball, just above the lid at skin."""
    points = landmarks(head)
    between = points[:, [37, 38, 40, 41]].mean(1, keepdim=True)
    above = points[:, [43, 44]].mean(1, keepdim=True) + torch.tensor([0, 0.05, 0])
    for spot, part in ((between, "eye"), (above, "skin")):
        x, y = spot[..., 0], spot[..., 1]
        z = torch.full_like(x, 1.35)
        for _ in range(30):
            z = z - union(head.parts([x, y, z])) * 0.8
        distances = head.parts([x, y, z])
        assert (distances[part] - union(distances) / 0.92 < 5e-3).all()


def test_projection_inverts_the_camera(head):
    origin, direction, _ = march.camera(head.shot, 32)
    t = 7.3
    points = torch.stack([o + t * d for o, d in zip(origin, direction)], -1)
    found = march.project(head.shot, points, 32)
    index = torch.arange(32 * 32)
    expected = torch.stack([index % 32, index // 32], -1).float()
    assert torch.allclose(found, expected.expand_as(found), atol=2e-3)


def test_partition_keeps_order_and_pads_with_idle_rays():
    keep = torch.zeros(2, 256, dtype=torch.bool)
    keep[0, [3, 70, 200]] = True
    keep[1, 100:170] = True
    index = march.partition(keep)
    assert index.shape == (2, 128)
    assert index[0, :3].tolist() == [3, 70, 200]
    assert index[1, :70].tolist() == list(range(100, 170))
    assert all(len(set(row)) == 128 for row in index.tolist())
    part = march.zone(keep)
    target = march.put(torch.zeros(2, 256), part, torch.ones(2, 128))
    assert torch.equal(target, keep.float())
    assert march.zone(torch.zeros(2, 256, dtype=torch.bool)) is None


def test_traced_rays_end_on_the_surface(head):
    rays = march.find_surface(head.coarse, head.shot, 48, 0.045, (13, 9))
    coverage = march.trace(rays, [], lambda p: union(head.parts(p)))
    residual = (union(head.parts(rays.points())) / (rays.pixel * rays.t)).abs()[coverage == 1]
    assert residual.numel() > 2000
    assert residual.quantile(0.99) < 0.3  # pixels
    assert residual.max() < 1.11


def test_sphere_is_traced_to_its_exact_depth_and_outline(head):
    shot = head.shot
    pivot = march.PIVOT

    def ball(p):
        return sum((c - o) ** 2 for c, o in zip(p, pivot)).sqrt() - 0.8

    rays = march.find_surface(ball, shot, 64, 0.02, (13, 9))
    coverage = march.trace(rays, [(torch.ones_like(rays.t, dtype=torch.bool), ball)], ball)
    found_px = (coverage.sum(1) / torch.pi).sqrt()
    radius_px = 32 * shot.zoom[:, 0] / march.HALF_FRAME * 0.8 / (1 - (0.8 / 8) ** 2) ** 0.5
    assert ((found_px - radius_px) > -0.1).all()
    assert ((found_px - radius_px) < 0.75).all()  # outlines are kept whole, up to a traced pixel outwards
    n = march.normals(ball, rays.points(), ball(rays.points()), torch.full_like(rays.t, 1e-3))
    exact = [(c - o) / 0.8 for c, o in zip(rays.points(), pivot)]
    hit = coverage == 1
    assert (sum(a * b for a, b in zip(n, exact))[hit] > 0.97).float().mean() > 0.98
