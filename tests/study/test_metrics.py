"""Known cases and second ways to compute each number."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from scipy.linalg import sqrtm
from scipy.stats import binomtest
from skimage.color import rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

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


def faces(rng, count=3, size=64):
    """Smooth ground with a few edges: what blur takes and what it leaves."""
    ground = ndimage.gaussian_filter(rng.normal(0, 200, (count, size, size, 3)), (0, 4, 4, 0)) + 120
    ground[:, :, 20:40] += 30
    return ground.clip(0, 255).astype(np.uint8)


def test_structure_lost_tells_blur_from_brightness_and_its_unit_is_a_blur(rng):
    images, outside = faces(rng), np.ones((3, 64, 64), bool)
    outside[:, 40:] = False
    lost = {
        "same": metrics.structure_lost(images, images, outside),
        "blur": metrics.structure_lost(images, metrics.blurred(images, 1.0), outside),
        "more": metrics.structure_lost(images, metrics.blurred(images, 3.0), outside),
        "other": metrics.structure_lost(images, np.roll(images, 1, 0), outside),
    }
    assert np.allclose(lost["same"], 0)
    assert np.allclose(lost["blur"], metrics.REDRAWN_BLUR)
    assert (lost["more"] > 1).all()
    assert (lost["other"] > 1).all()
    assert metrics.structure_lost(images, images + np.uint8(3), outside).max() < 0.5
    inside = images.copy()
    inside[:, 44:] = 0
    assert np.allclose(metrics.structure_lost(images, inside, outside), 0)
    assert np.isnan(metrics.structure_lost(images, inside, np.zeros_like(outside))).all()
    assert (metrics.structure_lost(np.full_like(images, 90), images, outside) > 1).all()  # nothing there to be lost
    wide = images.repeat(2, 1).repeat(2, 2)
    blur = metrics.blurred(wide, 2.0)
    assert np.allclose(metrics.structure_lost(wide, blur, outside.repeat(2, 1).repeat(2, 2)), 1)  # σ grows with S


def test_redrawn_table_counts_epochs_above_the_threshold():
    samples = pd.DataFrame({"outside_change": [0.05, 0.2, 0.3, 0.01], "structure_lost": [0.5, 3, 2, 1.5]})
    lost = metrics.redrawn_table({"": samples}, "structure_lost", metrics.REDRAWN_BLUR)
    assert lost.loc["", ["redrawn", "mean structure_lost"]].tolist() == [3, 1.75]
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


def test_well_inside_keeps_windows_that_lie_in_the_mask(rng):
    mask = rng.random((2, 14, 15)) < 0.97
    padded = np.pad(mask, ((0, 0), (2, 2), (2, 2)), constant_values=True)  # beyond the border is mask
    expected = [[[padded[n, y : y + 5, x : x + 5].all() for x in range(15)] for y in range(14)] for n in range(2)]
    assert np.array_equal(metrics.well_inside(mask, 2), expected)


def test_cloth_is_the_mask_without_its_straps():
    region = np.zeros((1, 64, 64), bool)
    region[0, 30:50, 20:44] = True
    straps = region.copy()
    straps[0, 28:30, 5:20] = straps[0, 10:30, 50] = True
    assert np.array_equal(metrics.cloth(straps), region)


def test_core_region_is_what_nearly_all_masks_share():
    masks = np.zeros((10, 8, 8), bool)
    masks[:, 2:, :6] = True
    masks[:2, :4] = False  # these rows lie in eight of ten only
    core = metrics.core_region(masks)
    assert core.sum() == 4 * 6
    assert core[4:, :6].all()
    apart = np.eye(64, dtype=bool).reshape(64, 8, 8)
    assert metrics.core_region(apart).sum() >= 16


def test_outside_psnr_is_that_of_scikit_image(pictures, rng):
    after = rng.integers(0, 256, pictures.shape, dtype=np.uint8)
    everywhere = np.ones(pictures.shape[:3], bool)
    expected = peak_signal_noise_ratio(pictures, after, data_range=255)
    assert metrics.outside_psnr(pictures, after, everywhere) == pytest.approx(expected)
    assert metrics.outside_psnr(pictures, pictures, everywhere) == metrics.EQUAL_DB
    half = everywhere.copy()
    half[:, :12] = False
    only_inside = np.where(half[..., None], pictures, after)
    assert metrics.outside_psnr(pictures, only_inside, half) == metrics.EQUAL_DB
    assert np.isnan(metrics.outside_psnr(pictures, after, ~everywhere))


def test_composited_takes_the_mask_and_leaves_what_is_far_from_it(pictures):
    full, outputs = pictures, 255 - pictures
    non_mask = np.ones(pictures.shape[:3], bool)
    non_mask[:, 10:, 6:18] = False
    made = metrics.composited(full, outputs, non_mask)
    assert np.array_equal(made[~non_mask], outputs[~non_mask])
    assert np.array_equal(made[:, :8], full[:, :8])  # two pixels away: nothing
    border = made[:, 9, 8:16].astype(int)  # one pixel away: a part
    low, high = np.minimum(full, outputs)[:, 9, 8:16], np.maximum(full, outputs)[:, 9, 8:16]
    assert ((border >= low) & (border <= high)).all()
    assert not np.array_equal(border, full[:, 9, 8:16])


def test_attention_of_known_kinds():
    non_mask = np.ones((1, 8, 8), bool)
    non_mask[:, 4:] = False
    mask, blind = (~non_mask).astype(np.float32), np.full((1, 8, 8), 0.4, np.float32)
    assert metrics.attention_ratio(blind, non_mask) == pytest.approx(1)
    assert metrics.attention_ratio(mask, non_mask) == pytest.approx(1 / metrics.LEAST_ATTENTION)
    assert metrics.region_iou(mask, ~non_mask) == [1]
    assert metrics.region_iou(blind, ~non_mask) == [0]
    assert metrics.region_iou(np.ones_like(mask), ~non_mask) == [0.5]
    assert np.isnan(metrics.region_iou(blind, np.zeros((1, 8, 8), bool))).all()


def test_noise_pixel_std_asks_for_draws_inside_the_mask(pictures):
    mask = np.zeros(pictures.shape[:3], bool)
    mask[:, 12:] = True
    draws = np.stack([np.full_like(pictures, 100), np.full_like(pictures, 120)])
    draws[1, :, :12] = 250
    assert metrics.noise_pixel_std(draws, mask) == pytest.approx(10 / 255)
    assert metrics.noise_pixel_std(np.stack([pictures] * 3), mask) == 0


def test_colour_wasserstein_of_equal_counts_is_the_sorted_difference(rng):
    a, b = rng.normal(50, 9, (20, 3)), rng.normal(40, 3, (20, 3))
    expected = np.abs(np.sort(a, 0) - np.sort(b, 0)).mean(0).sum()
    assert metrics.colour_wasserstein(a, b) == pytest.approx(expected)
    assert metrics.colour_wasserstein(a, a[::-1]) == 0
    assert metrics.colour_wasserstein(a, a + np.array([3, 0, -4])) == pytest.approx(7)
    one_colour = np.broadcast_to(a.mean(0), a.shape)  # the same mean, no variety
    assert metrics.colour_wasserstein(one_colour, a) > 10
    assert metrics.colour_wasserstein(np.vstack([a, [[np.nan] * 3]]), a) == 0


def test_blotches_see_tints_and_grain_sees_noise(rng):
    mask = np.zeros((1, 24, 24), bool)
    mask[:, 4:20, 4:20] = True
    flat = np.full((1, 24, 24, 3), 150, np.uint8)
    tinted = flat.copy()
    tinted[:, :12] = (190, 140, 140)
    noisy = np.clip(150 + rng.normal(0, 12, (1, 24, 24, 1)) + np.zeros(3), 0, 255).astype(np.uint8)  # grey noise
    assert metrics.blotches(flat, mask)[0] == pytest.approx(0, abs=1e-6)
    lab = rgb2lab(tinted[0])[mask[0]][:, 1:]
    assert metrics.blotches(tinted, mask)[0] == pytest.approx(np.sqrt(np.trace(np.cov(lab.T, bias=True))))
    assert metrics.blotches(noisy, mask)[0] < 0.1
    assert metrics.grain(flat, mask)[0] == 0
    assert metrics.grain(noisy, mask)[0] > 10 * metrics.grain(tinted, mask)[0]
    empty = np.zeros_like(mask)
    assert np.isnan([*metrics.blotches(flat, empty), *metrics.grain(flat, empty)]).all()


@pytest.mark.parametrize("measure", ["outside_change", "outside_psnr", "ssim_inside", "composited", "structure_lost"])
def test_floats_are_refused_and_not_taken_for_levels(measure):
    pictures, mask = np.full((1, 32, 32, 3), 0.5), np.ones((1, 32, 32), bool)
    with pytest.raises(ValueError, match="expected uint8 pictures, 0 to 255, got float64"):
        getattr(metrics, measure)(pictures, pictures, mask)
