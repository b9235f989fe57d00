"""True masks on held-out faces: other masks on the very same face, kept, and distances to them."""

from dataclasses import replace

import numpy as np
import pytest

from lib.study import metrics
from lib.study.config import StudyError
from lib.study.datasets import load_test_set
from lib.study.step_one import score
from lib.study.truths import load_truths

MASKS = 2


@pytest.fixture(scope="module")
def test(trained):
    return load_test_set(trained)


@pytest.fixture(scope="module")
def truths(trained, test):
    return load_truths(trained, test, MASKS)


def test_other_masks_on_the_same_faces(truths, test):
    count, side = len(test.names), test.full.shape[1]
    assert truths.images.shape == (count, MASKS + 1, side, side, 3)
    assert truths.region.shape == (count, MASKS + 1, side, side)
    far = metrics.well_inside(~truths.area, 2)  # a mask throws a shadow, and its edge is soft
    for k in range(MASKS + 1):
        assert metrics.outside_change(test.full, truths.images[:, k], far).max() < 0.02
        assert 0.1 < truths.region[:, k].mean() < 0.5
    colours = [metrics.mask_colour_lab(truths.images[:, k], truths.region[:, k]) for k in range(MASKS + 1)]
    assert np.ptp(colours, axis=0).max() > 5
    assert (truths.area >= ~test.non_mask).all()
    assert (truths.rule_region <= ~test.non_mask).all()  # without its shadow
    assert truths.rule_region.sum() < (~test.non_mask).sum()


def test_they_are_rendered_once_and_a_missing_one_again(trained, truths, test, monkeypatch):
    there = sorted(trained.cache_dir.glob("worn_*/*/*.png"))
    numbers = {path: [int(part) for part in path.stem.split("_")] for path in there}
    files = [path for path, (face, mask) in numbers.items() if face < len(test.names) and mask <= MASKS]  # others: more
    assert len(files) == 2 * len(test.names) * (MASKS + 1)
    before = {path: path.stat().st_mtime_ns for path in files}
    content = files[0].read_bytes()
    files[-1].unlink()  # of the last face
    again = load_truths(trained, test, MASKS)
    assert np.array_equal(again.images, truths.images)
    assert np.array_equal(again.region, truths.region)
    assert files[0].read_bytes() == content
    assert files[0].stat().st_mtime_ns == before[files[0]]
    monkeypatch.setattr("lib.data.faceworld.render", None)
    load_truths(trained, test, MASKS)


def test_distances_by_hand(truths, test):
    d = truths.distances(test.rule)
    for n in range(len(test.names)):
        each = [
            np.abs(target[area].astype(float) - test.rule[n][area]).mean() / 255
            for target, area in zip(truths.images[n, 1:], [truths.area[n]] * MASKS)
        ]
        assert d["l1"][n] == pytest.approx(np.mean(each), rel=1e-5)
        assert d["nearest_l1"][n] == pytest.approx(min(each), rel=1e-5)
        assert d["nearest"][n] == 1 + np.argmin(each)
        similar = [
            metrics.ssim_inside(t[None], test.rule[n : n + 1], truths.area[n : n + 1]) for t in truths.images[n, 1:]
        ]
        assert d["ssim"][n] == pytest.approx(np.mean(similar), abs=1e-3)
        cloth = metrics.cloth(truths.rule_region)[n]
        light = [
            score(test.rule[n], cloth, t, r)["lightness"] for t, r in zip(truths.images[n, 1:], truths.region[n, 1:])
        ]
        assert d["lightness"][n] == pytest.approx(min(light), rel=1e-4)


def test_a_target_is_at_distance_nothing_and_bare_faces_are_far(truths, test):
    target = truths.distances(truths.images[:, 1], truths.region[:, 1])
    assert target["nearest_l1"].max() == 0
    assert target["lightness"].max() == 0
    perfect = truths.distances(truths.images[:, 0], truths.region[:, 0])
    rule, bare = truths.distances(test.rule), truths.distances(test.full)
    assert perfect["nearest_l1"].mean() < rule["nearest_l1"].mean() < bare["nearest_l1"].mean()
    assert perfect["ssim"].mean() > rule["ssim"].mean() > bare["ssim"].mean()


def test_a_learned_distance_is_asked_for_every_target(truths, test):
    calls = []

    def distance(a, b, mask):
        calls.append(b)
        assert np.array_equal(mask, truths.area)
        return np.full(len(a), float(len(calls)))

    assert (truths.perceptual(test.rule, distance) == 1.5).all()
    assert np.array_equal(np.stack(calls, 1), truths.images[:, 1:])


def test_only_the_face_world_knows_and_only_its_own_faces(trained, test, tmp_path):
    assert load_truths(replace(trained, data="folders"), test) is None
    elsewhere = replace(trained, root=tmp_path / "x" / "y")
    with pytest.raises(StudyError, match="draws another face"):
        load_truths(elsewhere, replace(test, full=255 - test.full), MASKS)
