"""The worn mask: the drape clears the face, straps reach the ears; light behaves."""

import pytest
import torch

from lib.data.facesdf import shade
from lib.data.facesdf.draws import sample
from lib.data.facesdf.head import Head
from lib.data.facesdf.mask import AZIMUTH, GRID, HIGH, LOW, WornMask, _canonical_point, _polar
from lib.data.facesdf.params import Ranges


@pytest.fixture(scope="module")
def worn():
    with torch.no_grad():
        who, shot, wear = sample([0, 1, 2, 3], [0, 1, 2, 3], Ranges())
        return WornMask(Head(who, shot), wear)


def test_polar_coordinates_invert():
    g = torch.Generator().manual_seed(0)
    radius, azimuth = torch.rand(1, 100, generator=g) + 0.3, (torch.rand(1, 100, generator=g) - 0.5) * 2 * AZIMUTH
    elevation = torch.rand(1, 100, generator=g) * (HIGH - LOW) + LOW
    back = _polar(*_canonical_point(radius, azimuth, elevation))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(back, (radius, azimuth, elevation)))


def test_the_sheet_never_dips_into_the_face(worn):
    assert worn.sheet_map.shape == (4, 1, 3 * GRID, 3 * GRID)
    gap = (worn.sheet_map - worn.face_map)[:, :, 10:-10, 10:-10]
    assert gap.min() > -0.01


def test_the_sheet_is_taut_not_shrink_wrapped(worn):
    """It touches the nose tip but spans the hollow beside the nose."""
    x = torch.tensor([[0.0, 0.17]]).expand(4, -1)
    y, z = worn.head.nose_base_y.expand(-1, 2), torch.full((4, 2), 1.4)
    for _ in range(20):
        z = z - worn.head.bare(x, y, z, ears=False) * 0.8
    height = -worn.sheet([x * worn.head.who.head_width, y * worn.head.who.face_length, z], rim=False)
    assert (height[:, 1] > height[:, 0] + 0.02).all()


def test_mask_covers_the_mouth_not_the_eyes(worn):
    who = worn.head.who
    y = torch.cat([worn.head.lip_line * who.face_length, 0 * who.age], 1)
    _, _, _, s, t, top, bottom = worn.coordinates([0 * y, y, torch.full_like(y, 0.9)])
    assert ((t[:, 0] > 0) & (t[:, 0] < 1)).all()
    assert (t[:, 1] > 1).all()
    assert (top > bottom).all()
    assert s.abs().max() < 1e-6


def test_straps_are_mirrored_and_reach_the_ear(worn):
    ear = [torch.full((4, 2), 0.745) * torch.tensor([-1.0, 1.0]) * worn.head.who.head_width]
    ear += [torch.full((4, 2), 0.10) * worn.head.who.face_length, torch.full((4, 2), -0.10)]
    distance = worn.straps(ear)
    assert torch.allclose(distance[:, 0], distance[:, 1])
    assert (distance < 0).all()


def test_nobody_wears_a_scarf_by_default(worn):
    assert worn.occluder([torch.zeros(4, 1)] * 3) is None
    who, shot, wear = sample([0, 1], [0, 1], Ranges(heterogeneity=1.0))
    wear.scarf[:], wear.hood[:] = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [0.0]])
    field = WornMask(Head(who, shot), wear).occluder(
        [torch.zeros(2, 1), torch.full((2, 1), -1.2), torch.full((2, 1), 0.9)]
    )
    assert field[0] < 0.1 < 5 < field[1]


def test_light_from_the_right_lights_the_right(worn):
    shot = worn.head.shot
    shot.light_direction[:] = torch.tensor([1.0, 0.0, 0.0])
    normal_world = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]).T  # [3, 2]: facing right, facing left
    n = [c.squeeze(1) for c in (shot.rotation.transpose(1, 2) @ normal_world).unsqueeze(2).unbind(1)]
    one = torch.ones(4, 2)
    view = [torch.zeros(4, 2), torch.zeros(4, 2), -one]
    diffuse, shine, _, _ = shade.lit(shot, n, view, one, one, torch.full((4, 2, 1), 0.1), one, 10.0)
    assert (diffuse[:, 0] > diffuse[:, 1] + 0.3).all()
    dark, _, _, _ = shade.lit(shot, n, view, one, 0.1 * one, torch.full((4, 2, 1), 0.1), one, 10.0)
    assert (dark[:, 0] < diffuse[:, 0]).all()
    assert (shine >= 0).all()


def test_shadow_and_occlusion_under_a_ceiling(worn):
    shot = worn.head.shot

    def ceiling(p):
        return 0.3 - p[1]

    shot.light_direction[:] = torch.tensor([0.0, 1.0, 0.0])
    p = [torch.zeros(4, 8), torch.zeros(4, 8), torch.zeros(4, 8)]
    up = [v.expand(-1, 8) for v in shade.to_head(shot, shot.light_direction)]
    shadow = shade.cast_shadow(ceiling, shot, p, up)
    assert torch.allclose(shadow, torch.full_like(shadow, shade.SHADOW_FLOOR))
    free = shade.cast_shadow(lambda p: 0 * p[0] + 5.0, shot, p, up)
    assert torch.equal(free, torch.ones_like(free))
    assert (shade.occlusion(ceiling, p, up, ((0.3, 1.0),)) < 0.2).all()


def test_film_is_bounded_repeatable_and_monotonic(worn):
    shot = worn.head.shot
    ramp = torch.linspace(-0.5, 5, 64 * 64).view(1, 1, 64, 64).expand(4, 3, -1, -1)
    developed = shade.film(ramp, shot, 32)
    assert developed.shape == (4, 3, 32, 32)
    assert developed.min() >= 0
    assert developed.max() <= 1
    assert torch.equal(developed, shade.film(ramp, shot, 32))
    assert (developed.mean((1, 3)).diff(dim=1) > -0.02).all()
