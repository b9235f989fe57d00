"""Known cases and second ways to compute each number."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.linalg import sqrtm
from scipy.stats import binomtest
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity

from lib.study import metrics


@pytest.fixture
def pictures(rng):
    return rng.integers(0, 256, (4, 24, 24, 3), dtype=np.uint8)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_change_map_of_known_pictures(pictures):
    assert metrics.change_map(pictures, pictures).max() == 0
    black, white = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 255, np.uint8)
    assert np.allclose(metrics.change_map(black, white), 1)
    assert np.array_equal(metrics.change_map(black, white), metrics.change_map(white, black))  # no wrap-around of uint8
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.change_map(black, pictures)


def test_outside_change_equals_a_loop_and_ignores_the_mask(pictures, rng):
    after = rng.integers(0, 256, pictures.shape, dtype=np.uint8)
    non_mask = rng.random(pictures.shape[:3]) < 0.5
    expected = [
        np.mean([np.abs(a.astype(float) - b.astype(float)).mean() / 255 for a, b in zip(x[m], y[m])])
        for x, y, m in zip(pictures, after, non_mask)
    ]
    assert np.allclose(metrics.outside_change(pictures, after, non_mask), expected)
    inside_only = np.where(non_mask[..., None], pictures, after)
    assert metrics.outside_change(pictures, inside_only, non_mask).max() == 0


def test_outside_change_without_such_pixels_is_unknown(pictures):
    none = np.zeros(pictures.shape[:3], bool)
    assert np.isnan(metrics.outside_change(pictures, pictures, none)).all()


def test_mask_colour_is_the_mean_of_lab(pictures, rng):
    mask = rng.random(pictures.shape[:3]) < 0.3
    got = metrics.mask_colour_lab(pictures, mask)
    for n in range(len(pictures)):
        assert np.allclose(
            got[n], np.mean([rgb2lab(pixel[None, None])[0, 0] for pixel in pictures[n][mask[n]]], axis=0)
        )
    assert np.isnan(metrics.mask_colour_lab(pictures[:1], np.zeros((1, 24, 24), bool))).all()


def test_white_and_black_masks_are_a_hundred_apart():
    images = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (0, 255)])
    colours = metrics.mask_colour_lab(images, np.ones((2, 8, 8), bool))
    assert metrics.colour_diversity(colours) == pytest.approx(50, abs=0.1)  # standard deviation of L = 0 and 100
    assert metrics.colour_diversity(colours[[0, 0]]) == 0


def test_colour_diversity_is_the_trace_of_the_covariance(rng):
    colours = rng.normal(size=(40, 3)) * [1, 2, 3] + 50
    expected = np.sqrt(np.trace(np.cov(colours.T, bias=True)))
    assert metrics.colour_diversity(colours) == pytest.approx(expected)
    assert metrics.colour_diversity(colours + 7) == pytest.approx(expected)


def test_noise_diversity_asks_about_draws_not_about_faces(pictures):
    mask = np.ones(pictures.shape[:3], bool)
    assert metrics.noise_diversity(np.stack([pictures] * 3), mask) < 1e-9  # faces differ, draws do not
    lighter = np.minimum(pictures.astype(int) + 60, 255).astype(np.uint8)
    assert metrics.noise_diversity(np.stack([pictures, lighter]), mask) > 3


def test_ssim_inside_is_one_for_equal_pictures_and_falls_with_noise(pictures, rng):
    mask = np.zeros(pictures.shape[:3], bool)
    mask[:, 6:18, 6:18] = True
    assert np.allclose(metrics.ssim_inside(pictures, pictures, mask), 1)
    other = rng.integers(0, 256, pictures.shape, dtype=np.uint8)
    assert (metrics.ssim_inside(pictures, other, mask) < 0.5).all()
    far = pictures.copy()
    far[:, 0, 0] = 255 - far[:, 0, 0]  # no window that touches this corner has its middle in the mask
    assert np.allclose(metrics.ssim_inside(pictures, far, mask), 1)


def test_ssim_over_the_whole_picture_is_that_of_scikit_image(pictures, rng):
    other = rng.integers(0, 256, pictures.shape, dtype=np.uint8)
    whole = metrics.ssim_inside(pictures[:1], other[:1], np.ones((1, 24, 24), bool))[0]
    _, values = structural_similarity(
        rgb2lab(pictures[0])[..., 0], rgb2lab(other[0])[..., 0], data_range=100.0, full=True
    )
    assert whole == pytest.approx(values.mean())
    assert np.isnan(metrics.ssim_inside(pictures[:1], other[:1], np.zeros((1, 24, 24), bool))).all()


def test_attention_split_of_a_perfect_and_a_blind_attention():
    non_mask = np.ones((2, 8, 8), bool)
    non_mask[:, 4:] = False
    attention = np.stack([(~non_mask[0]).astype(np.float32), np.full((8, 8), 0.5, np.float32)])
    table = metrics.attention_split(attention, non_mask)
    assert table[["inside", "outside"]].values.tolist() == [[1, 0], [0.5, 0.5]]
    assert table["ratio"][1] == 1
    assert table["ratio"][0] > 1e3


def test_redrawn_share_and_table_count_epochs_above_the_threshold():
    samples = pd.DataFrame({"outside_change": [0.05, 0.2, 0.3, 0.01]})
    assert metrics.redrawn_share(samples) == 0.5
    assert metrics.redrawn_share(samples, threshold=0.25) == 0.25
    table = metrics.redrawn_table({"stage1": samples, "stage4": samples.head(1)})
    assert table.loc["stage1", ["passes", "redrawn", "share"]].tolist() == [4, 2, 0.5]
    assert table.loc["stage4", "redrawn"] == 0


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 9), (50, 60), (7, 7)])
def test_the_interval_of_a_share_is_wilsons(k, n):
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert metrics.share_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_no_trial_leaves_the_share_open():
    assert metrics.share_interval(0, 0) == (0.0, 1.0)


def test_frechet_distance_of_gaussians_and_by_scipys_root(rng):
    a, b = rng.normal(0, 1, (400, 5)), rng.normal(0.5, 2, (300, 5)) @ rng.normal(0, 1, (5, 5))
    known = rng.normal(0, 1, (200_000, 2)) * [1, 2] + [3, 0]
    assert metrics.frechet_distance(known, rng.normal(0, 1, (200_000, 2))) == pytest.approx(9 + 1, rel=0.02)
    mean, covariance = a.mean(0) - b.mean(0), [np.cov(x, rowvar=False) for x in (a, b)]
    root = sqrtm(covariance[0] @ covariance[1]).real
    expected = mean @ mean + np.trace(covariance[0] + covariance[1] - 2 * root)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert metrics.frechet_distance(a[:3], a[:3]) == pytest.approx(0, abs=1e-6)  # fewer pictures than features
    with pytest.raises(ValueError, match="two pictures"):
        metrics.frechet_distance(a[:1], b)


def test_random_feature_distance_orders_pictures_by_their_likeness(rng):
    base = rng.integers(60, 200, (12, 1, 1, 3)) + rng.normal(0, 12, (12, 64, 64, 3))
    target, same = (np.clip(base + rng.normal(0, 3, base.shape), 0, 255).astype(np.uint8) for _ in range(2))
    smooth = np.clip(base.mean((1, 2), keepdims=True) + np.zeros(base.shape), 0, 255).astype(np.uint8)
    blue = np.clip(target * [0.4, 0.7, 1.3], 0, 255).astype(np.uint8)
    near, *far = (metrics.random_feature_distance(x, target) for x in (same, smooth, blue))
    assert near < 0.05 * min(far)
    assert metrics.random_feature_distance(target, target) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(metrics.random_feature_distance(smooth, np.full_like(target, 7)))  # features that never vary
    soft = np.stack([np.asarray(Image.fromarray(x).resize((16, 16), 3).resize((64, 64), 3)) for x in target])
    big = np.stack([np.asarray(Image.fromarray(x).resize((128, 128), 3)) for x in soft])  # another size, the same
    assert metrics.random_feature_distance(big, soft) < 0.05 * min(far)
