"""The upper face's embedding: blind below the bridge, near for one person, far for another."""

import numpy as np
import pytest

from lib.data.faceworld import render
from lib.data.images import to_pixels
from lib.study import identity


@pytest.fixture(scope="module")
def people():
    out = render([400_000, 400_001], [1, 2], 64, ("full", "masked"), yaw=15, mask_kinds=(1, 0, 0))
    return to_pixels(out.full * 2 - 1), to_pixels(out.masked * 2 - 1), out.landmarks.numpy()


def test_a_mask_is_not_seen_but_another_person_is(people):
    full, masked, points = people
    bare, worn = identity.embed(full, points), identity.embed(masked, points)
    assert np.allclose(np.linalg.norm(bare, axis=1), 1)
    same, other = (bare * worn).sum(1), identity.others(bare)
    assert same.min() > 0.99
    assert other == pytest.approx(bare[0] @ bare[1])
    assert other < same.min() - 0.02
    blurred = full.copy()
    blurred[:, 16:28] = full[:, 16:28].mean((1, 2), keepdims=True)  # brows and eyes gone
    assert (bare * identity.embed(blurred, points)).sum(1).max() < same.min() - 0.02


def test_nothing_below_the_bridge_counts_however_the_head_is_rolled(people):
    full, _, points = people
    changed = full.copy()
    changed[:, int(np.ceil(points[:, 29, 1].max())) + 4 :] = 0  # the eyes' line is nearly level
    assert np.array_equal(identity.upper_face(full[0], points[0]), identity.upper_face(changed[0], points[0]))
    turned, about = np.rot90(full[0]).copy(), np.column_stack([points[0, :, 1], 63 - points[0, :, 0]])
    chip, upright = (identity.upper_face(*one).astype(int) for one in ((turned, about), (full[0], points[0])))
    assert np.abs(chip - upright).mean() < 4  # aligned: the same picture but for resampling


def test_without_landmarks_nothing_is_known(people):
    full, _, points = people
    vectors = identity.embed(full, [None, points[1]])
    assert np.isnan(vectors[0]).all()
    assert np.isfinite(vectors[1]).all()
    assert np.isnan(identity.others(vectors))
