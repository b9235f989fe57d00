"""Distance-field toolbox: against exact distances and closed forms."""

import numpy as np
import pytest
import torch

from lib.data.facesdf import sdf


@pytest.fixture
def points():
    return list(torch.randn(3, 2, 500, generator=torch.Generator().manual_seed(0)))


def test_ellipsoid_with_equal_radii_is_a_sphere(points):
    x, y, z = points
    exact = ((x - 0.3) ** 2 + (y + 0.2) ** 2 + z**2).sqrt() - 0.7
    assert torch.allclose(sdf.ellipsoid((0.3, -0.2, 0.0), (0.7, 0.7, 0.7)).distance(x, y, z), exact, atol=1e-4)


def test_capsule_equals_distance_to_sampled_segment(points):
    a, b = np.array([0.1, -0.4, 0.2]), np.array([-0.5, 0.6, 0.9])
    t = torch.linspace(0, 1, 2001)[:, None]
    line = torch.tensor(a, dtype=torch.float32) * (1 - t) + torch.tensor(b, dtype=torch.float32) * t
    flat = torch.stack(points, -1).reshape(-1, 3)
    exact = torch.cdist(flat, line).amin(1) - 0.2
    found = sdf.capsule(tuple(a), tuple(b), 0.2, 0.2).distance(*points).reshape(-1)
    assert torch.allclose(found, exact, atol=1e-3)


def test_parameters_may_be_tensors(points):
    radius = torch.tensor([[0.5], [0.9]])
    both = sdf.ellipsoid((0, 0, 0), (radius, radius, radius)).distance(*points)
    second = sdf.ellipsoid((0, 0, 0), (0.9, 0.9, 0.9)).distance(*(p[1:] for p in points))
    assert torch.allclose(both[1:], second, atol=1e-6)


def test_smooth_union_bounds():
    a, b = torch.linspace(-1, 1, 201), torch.linspace(1, -1, 201)
    blended = sdf.smooth_min(a, b, 0.2)
    assert (blended <= torch.minimum(a, b) + 1e-7).all()
    assert (torch.minimum(a, b) - blended).max() == pytest.approx(0.05)  # k / 4 where they meet
    far = (a - b).abs() > 0.2
    assert torch.equal(blended[far], torch.minimum(a, b)[far])
    assert torch.allclose(sdf.smooth_max(a, b, 0.2), -sdf.smooth_min(-a, -b, 0.2))


def test_inputs_are_left_alone(points):
    before = [p.clone() for p in points]
    sdf.ellipsoid((0, 0, 0), (1.0, 2.0, 3.0)).distance(*points)
    sdf.capsule((0, 0, 0), (1.0, 0, 0), 0.1, 0.2).distance(*points)
    sdf.smoothstep(0, 1, points[0])
    sdf.gauss(points[0], 0.5)
    sdf.value_noise(points[0], points[1])
    assert all(torch.equal(p, q) for p, q in zip(points, before))


def test_smoothstep_and_gauss():
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0])
    assert sdf.smoothstep(0, 1, x).tolist() == [0, 0, 0.5, 1, 1]
    assert sdf.smoothstep(1, 0, x).tolist() == [1, 1, 0.5, 0, 0]
    assert torch.allclose(sdf.gauss(x, 0.5), torch.exp(-((x / 0.5) ** 2)))


def test_value_noise_is_smooth_bounded_and_hits_the_lattice():
    x = torch.arange(0, 50, dtype=torch.float32)
    lattice = sdf.value_noise(x, torch.full_like(x, 3.0))
    assert lattice.min() >= 0
    assert lattice.max() <= 1
    assert lattice.std() > 0.2
    close = sdf.value_noise(x + 1e-3, torch.full_like(x, 3.0))
    assert (close - lattice).abs().max() < 1e-2


def test_rotation_signs():
    turned = sdf.rotation(0.5, 0, 0) @ [0, 0, 1]
    assert turned[0] > 0  # the face looks to the right edge
    assert (sdf.rotation(0, 0.5, 0) @ [0, 0, 1])[1] > 0  # up
    assert (sdf.rotation(0, 0, 0.5) @ [0, 1, 0])[0] < 0  # the top of the head tips left
    m = sdf.rotation(0.3, -0.2, 0.7)
    assert np.allclose(m @ m.T, np.eye(3))
    assert np.linalg.det(m) == pytest.approx(1)
