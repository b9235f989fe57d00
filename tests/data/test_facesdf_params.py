"""What the integers fix, and how the ranges steer the draws."""

import pytest
import torch

from lib.data.facesdf.draws import sample
from lib.data.facesdf.params import Identity, Ranges


def draw(ids, seeds, **ranges):
    return sample(list(ids), list(seeds), Ranges(**ranges))


def test_identity_does_not_depend_on_the_seed():
    a, b = draw([5, 6], [1, 2])[0], draw([5, 6], [31, 32])[0]
    for name, one, two in zip(Identity._fields, a, b):
        assert torch.equal(one, two), name


def test_identities_differ():
    who = draw(range(20), [0] * 20)[0]
    assert torch.unique(who.head_width).numel() == 20
    assert torch.unique(who.skin_colour[:, 0, 0]).numel() == 20


def test_seed_changes_shot_but_replay_is_equal():
    _, a, worn_a = draw([5, 5], [1, 2])
    _, b, worn_b = draw([5, 5], [1, 2])
    assert a.yaw[0] != a.yaw[1]
    for one, two in ((a, b), (worn_a, worn_b)):
        assert all(torch.equal(x, y) for x, y in zip(one, two))


def test_ranges_bound_the_pose():
    _, shot, _ = draw(range(200), range(200), yaw=45, pitch=3, roll=7, zoom=(1.1, 1.2))
    for name, limit in (("yaw", 45), ("pitch", 3), ("roll", 7)):
        angle = getattr(shot, name)
        assert angle.abs().max() <= limit
        assert angle.abs().max() > 0.9 * limit
        assert angle.mean().abs() < 0.15 * limit
    assert shot.zoom.min() >= 1.1 - 1e-6
    assert shot.zoom.max() <= 1.2 + 1e-6


def test_shares_steer_wear():
    _, _, default = draw(range(300), range(300))
    surgical_light = (default.surgical * default.light).mean()
    assert surgical_light > 0.5  # light surgical masks are the majority
    assert default.below_nose.sum() == 0
    assert (default.scarf + default.hood).sum() == 0
    _, _, cloth = draw(range(60), range(60), mask_kinds=(0, 1, 0), pattern_share=1.0)
    assert cloth.cloth.min() == 1
    assert cloth.patterned.min() == 1
    _, _, wide = draw(range(300), range(300), below_nose=0.3, heterogeneity=0.5)
    assert 0.2 < wide.below_nose.mean() < 0.4
    assert 0.2 < ((wide.scarf + wide.hood) > 0).float().mean() < 0.5


def test_skin_tones_are_covered_evenly():
    who = draw(range(600), [0] * 600)[0]
    counts = torch.histc(who.skin_colour[:, 0, 0], 4, 0.25, 0.86)
    assert counts.min() > 60


def test_colours_are_possible():
    who, shot, wear = draw(range(100), range(100), heterogeneity=0.5)
    for value in (
        who.skin_colour,
        who.hair_colour,
        shot.background,
        shot.clothes_colour,
        wear.colour,
        wear.scarf_colour,
    ):
        assert value.min() > 0
        assert value.max() <= 1.2


@pytest.mark.parametrize(
    "bad", [{"yaw": -1}, {"pitch": 90}, {"zoom": (2, 1)}, {"mask_kinds": (0, 0, 0)}, {"light_share": 1.5}]
)
def test_bad_ranges(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Ranges(**bad)
