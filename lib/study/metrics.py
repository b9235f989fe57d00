"""Numbers for what the paper only showed. All on uint8 pictures, all in [0, 1] of the full range unless said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage, stats
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity

# Not given in the paper, which judged redrawn faces by eye (§4.2, Fig. 5). The mean change outside the mask sees faces
# replaced by something else, above a tenth of the range; blur of the same face hardly changes that mean.
REDRAWN_ABOVE = 0.10
# `structure_lost` sees blur, and this bar is its unit: as much as a blur that anybody sees. On 48 faces of 64²: JPEG of
# quality 75, which nobody minds, 0.5; a blur of σ 1 px 1; a picture shifted by one pixel 2.5; another person 7. The
# mean change has them in another order (0.017, 0.019, 0.032, 0.18; 0.051 for a picture 5 % brighter).
REDRAWN_BLUR = 1.0
EQUAL_DB = 100.0  # the PSNR of pictures without a difference, which would be infinite; one grey level is 48 dB
LEAST_ATTENTION = 1e-3  # attention below a thousandth counts as one in `attention_ratio`: no grey level hangs on it


def _check(*pictures: np.ndarray) -> None:
    """ValueError for pictures that are not uint8 (floats in [0, 1] would give numbers that look right), or differ in
    shape."""
    for images in pictures:
        if images.dtype != np.uint8:
            raise ValueError(f"expected uint8 pictures, 0 to 255, got {images.dtype}")
        if images.shape != pictures[0].shape:
            raise ValueError(f"pictures differ in shape: {pictures[0].shape} and {images.shape}")


def change_map(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mean absolute change per pixel: uint8 [..., H, W, 3] twice → float32 [..., H, W] in [0, 1].

    Raises ValueError for pictures of another type or of different shapes, as all measures of pictures here do.
    """
    _check(before, after)
    return np.abs(before.astype(np.float32) - after.astype(np.float32)).mean(-1) / 255


def outside_change(before: np.ndarray, after: np.ndarray, non_mask: np.ndarray) -> np.ndarray:
    """Mean absolute change over the pixels where nothing may change (the quantity of the NMC loss, paper §4.1).

    Args:
        before, after: uint8 [N, H, W, 3].
        non_mask: bool [N, H, W], True where nothing may change.

    Returns:
        float64 [N]; NaN where a picture has no such pixel.
    """
    change = change_map(before, after)
    count = non_mask.sum((1, 2))
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, (change * non_mask).sum((1, 2)) / np.maximum(count, 1), np.nan)


def attention_split(attention: np.ndarray, non_mask: np.ndarray) -> pd.DataFrame:
    """How much each face is drawn anew inside its mask and outside (paper §4.1: is the attention misled?).

    Args:
        attention: float [N, H, W] in [0, 1], 1 minus the attention map of the input.
        non_mask: bool [N, H, W], True where nothing may change.

    Returns:
        One row per face: inside, outside (means over the pixels), ratio = inside / outside; NaN without such pixels.
    """
    rows = []
    for weight, outside in zip(attention, non_mask):
        parts = [float(weight[where].mean()) if where.any() else np.nan for where in (~outside, outside)]
        rows.append([*parts, parts[0] / max(parts[1], 1e-6)])
    return pd.DataFrame(rows, columns=["inside", "outside", "ratio"])


def mask_colour_lab(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean CIE Lab colour inside each mask: uint8 [N, H, W, 3], bool [N, H, W] → float64 [N, 3] (NaN: empty mask)."""
    colours = []
    for image, inside in zip(images, mask):
        colours.append(rgb2lab(image)[inside].mean(0) if inside.any() else np.full(3, np.nan))
    return np.array(colours)


def colour_diversity(colours: np.ndarray) -> float:
    """Spread of mask colours: the root of the summed variances of Lab (ΔE units) over the first axis.

    For one face under several noise seeds it measures what the noise does; over many faces, the spread of a set.
    """
    return float(np.sqrt(np.nanvar(colours, axis=0).sum()))


def noise_diversity(outputs: np.ndarray, mask: np.ndarray) -> float:
    """Mean over faces of the colour diversity over noise seeds: uint8 [K, N, H, W, 3], bool [N, H, W] → ΔE units."""
    colours = np.stack([mask_colour_lab(images, mask) for images in outputs])  # [K, N, 3]
    return float(np.nanmean([colour_diversity(colours[:, n]) for n in range(colours.shape[1])]))


def ssim_inside(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Structural similarity of the lightness, averaged inside each mask: it asks for folds and borders, not for colour.

    uint8 [N, H, W, 3] twice, bool [N, H, W] → float64 [N] in [−1, 1], 1 for equal pictures; NaN: empty mask. Windows of
    7 × 7 pixels, the default of Wang et al. 2004 as scikit-image has it.
    """
    _check(before, after)
    values = []
    for a, b, inside in zip(before, after, mask):
        lightness = [rgb2lab(image)[..., 0] for image in (a, b)]
        _, similar = structural_similarity(*lightness, data_range=100.0, full=True)
        values.append(similar[inside].mean() if inside.any() else np.nan)
    return np.array(values)


def well_inside(mask: np.ndarray, px: int) -> np.ndarray:
    """The pixels of each mask with nothing else within `px` rows and columns: bool [N, H, W] → bool [N, H, W].

    What lies beyond the picture's border counts as mask.
    """
    side = 2 * px + 1
    return ndimage.binary_erosion(mask, np.ones((1, side, side), bool), border_value=1)


def cloth(region: np.ndarray) -> np.ndarray:
    """Masks without what is thin (ear loops): bool [N, S, S], opened by a square of S/32 + 1 px."""
    side = region.shape[-1] // 32 + 1
    return ndimage.binary_opening(region, np.ones((1, side, side), bool))


def core_region(masks: np.ndarray, share: float = 0.9) -> np.ndarray:
    """The pixels that lie in at least `share` of the masks: bool [N, H, W] → bool [H, W].

    It lets the masks of two sets be compared where only one set's outlines are known. Where masks lie so far apart that
    fewer than 16 pixels are left, the 16 that most masks share (more at a tie).
    """
    covered = masks.mean(0)
    return covered >= min(share, np.sort(covered.ravel())[-16])


def outside_psnr(before: np.ndarray, after: np.ndarray, non_mask: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all pixels where nothing may change, of all pictures together.

    uint8 [N, H, W, 3] twice, bool [N, H, W]. The squared error is averaged before the logarithm: the mean of many PSNRs
    would hang on the few pictures without a change. At most `EQUAL_DB`; NaN without such pixels.
    """
    _check(before, after)
    if not non_mask.any():
        return float("nan")
    error = ((before[non_mask].astype(np.float64) - after[non_mask]) / 255) ** 2
    return float(min(EQUAL_DB, -10 * np.log10(max(error.mean(), 1e-30))))


def composited(full: np.ndarray, outputs: np.ndarray, non_mask: np.ndarray) -> np.ndarray:
    """What a data set gets: the full face, its mask region from the output, with a soft border as `lib.augment` has it.

    uint8 [N, S, S, 3] twice (outputs may be floats on that scale), bool [N, S, S] → uint8. Weight 1 on the mask, a
    smooth step to 0 over S/64 + 1 px around it.
    """
    _check(full)
    margin = full.shape[1] / 64 + 1
    away = np.stack([ndimage.distance_transform_edt(outside) for outside in non_mask])
    near = np.clip(1 - away / margin, 0, 1)[..., None]
    weight = near * near * (3 - 2 * near)
    return np.rint(full + (outputs.astype(np.float64) - full) * weight).astype(np.uint8)


def attention_ratio(attention: np.ndarray, non_mask: np.ndarray) -> float:
    """Mean attention inside the masks over the mean outside, of all pictures together; see `attention_split`.

    Each mean counts as `LEAST_ATTENTION` at least, so that the ratio of a nearly blind network is a number still.
    """
    inside, outside = (max(float(attention[where].mean()), LEAST_ATTENTION) for where in (~non_mask, non_mask))
    return inside / outside


def region_iou(attention: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Intersection over union of what the attention marks (above ½) with a region: float and bool [N, H, W] → [N].

    NaN where both are empty.
    """
    marked = attention > 0.5
    both, either = (marked & region).sum((1, 2)), (marked | region).sum((1, 2))
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)


def noise_pixel_std(outputs: np.ndarray, mask: np.ndarray) -> float:
    """How much the pixels of the masks vary over noise draws.

    uint8 [K, N, H, W, 3], bool [N, H, W] → [0, 1]: standard deviation of each pixel and channel over K, mean over the
    masks of all pictures.
    """
    _check(outputs)
    return float((outputs.astype(np.float32).std(0)[mask] / 255).mean())


def colour_wasserstein(colours: np.ndarray, others: np.ndarray) -> float:
    """How far two sets of mask colours lie apart: the 1-D Wasserstein distance in L*, a* and b*, summed (ΔE units).

    float [N, 3] and [M, 3], Lab, as `mask_colour_lab` gives them. 0 for equal distributions; unlike the distance of the
    means it sees a set that has one colour where the other has many.
    """
    sets = [x[np.isfinite(x).all(1)] for x in (colours, others)]
    return float(sum(stats.wasserstein_distance(sets[0][:, k], sets[1][:, k]) for k in range(3)))


def blotches(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Spots and tints within one mask: the spread of a* and b* over its pixels (ΔE units): float64 [N], NaN: empty."""
    spread = []
    for image, inside in zip(images, mask):
        spread.append(np.sqrt(rgb2lab(image)[inside][:, 1:].var(0).sum()) if inside.any() else np.nan)
    return np.array(spread)


def grain(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fine noise within one mask: mean |Laplacian| of L* over its pixels: float64 [N], NaN: empty."""
    found = []
    for image, inside in zip(images, mask):
        change = np.abs(ndimage.laplace(rgb2lab(image)[..., 0]))
        found.append(change[inside].mean() if inside.any() else np.nan)
    return np.array(found)


def blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    """Pictures after a Gaussian blur of `sigma` px: uint8 [N, H, W, 3] → uint8."""
    return np.rint(ndimage.gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0))).astype(np.uint8)


def structure_lost(before: np.ndarray, after: np.ndarray, non_mask: np.ndarray) -> np.ndarray:
    """How much structure is gone where nothing may change: 1 − SSIM (`ssim_inside`, windows that touch no mask) over
    what a Gaussian blur of σ = S/64 px of the same picture takes there.

    uint8 [N, S, S, 3] twice, bool [N, S, S] → float64 [N]: 0 for equal pictures, 1 as by that blur; NaN without such
    windows. A change of colour or brightness alone counts little, grain counts as blur does.
    """
    where, blur = well_inside(non_mask, 3), blurred(before, before.shape[1] / 64)
    lost, unit = (1 - ssim_inside(before, other, where) for other in (after, blur))
    return lost / np.maximum(unit, 1e-3)  # a picture without structure has none to lose


def redrawn_table(
    stages: dict[str, pd.DataFrame], column: str = "outside_change", above: float = REDRAWN_ABOVE
) -> pd.DataFrame:
    """Share of passes whose fixed samples have more than `above` in this column (paper §4.2, Fig. 5): of each stage
    (name → samples), with Wilson's 95 % interval and the column's mean."""
    rows = {}
    for stage, samples in stages.items():
        k, n = int((samples[column] > above).sum()), len(samples)
        low, high = share_interval(k, n)
        mean = samples[column].mean()
        rows[stage] = {"passes": n, "redrawn": k, "share": k / n, "low": low, "high": high, f"mean {column}": mean}
    return pd.DataFrame(rows).T.astype({"passes": int, "redrawn": int})


def share_interval(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of k in n."""
    if n == 0:
        return 0.0, 1.0
    p, d = k / n, 1 + z * z / n
    centre, half = (p + z * z / (2 * n)) / d, z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def fixed_features(images: np.ndarray) -> np.ndarray:
    """What a small convolutional network with fixed random weights sees in each picture: a stand-in for Inception.

    uint8 [N, H, W, 3] → float64 [N, 112]: mean and standard deviation over the picture of 8, 16 and 32 maps of absolute
    responses at 64², 32² and 16². They answer to colours, edges and grain, not to meaning. The weights are drawn by
    NumPy's PCG64 with seed 0, the same everywhere. The picture is first brought to 64² by Pillow's antialiased bicubic
    filter, as clean-fid does it.
    """
    small = [Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC) for image in images]
    x = torch.from_numpy(np.stack([np.asarray(image) for image in small])).permute(0, 3, 1, 2).double() / 127.5 - 1
    draw, parts = np.random.default_rng(0), []
    for channels in (8, 16, 32):
        weights = draw.standard_normal((channels, x.shape[1], 3, 3)) * np.sqrt(2 / (9 * x.shape[1]))  # He et al. 2015
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), torch.from_numpy(weights)).abs()
        parts += [x.mean((2, 3)), x.std((2, 3))]
        x = F.avg_pool2d(x, 2)
    return torch.cat(parts, 1).numpy()


def random_feature_distance(images: np.ndarray, target: np.ndarray) -> float:
    """`frechet_distance` of pictures to a target set in `fixed_features`, each feature in units of the target's spread.

    No FID: no Inception, no meaning; it orders checkpoints by how near colours, edges and grain come to the target's.
    uint8 [N, H, W, 3] and [M, H, W, 3], two pictures or more in each (ValueError).
    """
    goal = fixed_features(target)
    # A feature that hardly varies in the target would drown all others: its spread counts as a twentieth of the mean's.
    unit = goal.std(0) + 0.05 * goal.std(0).mean()
    return frechet_distance(fixed_features(images) / unit, goal / unit)


def frechet_distance(features: np.ndarray, others: np.ndarray) -> float:
    """Distance of two sets of features [N, D] and [M, D] seen as Gaussians (Heusel et al. 2017, equation of the FID):
    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½), 0 for equal sets.

    It depends on N and M: fewer pictures give a larger value. Compare values of equal counts only.
    Raises ValueError for fewer than two pictures in a set.
    """
    if min(len(features), len(others)) < 2:
        raise ValueError(f"frechet_distance: expected two pictures or more, got {len(features)} and {len(others)}")
    (mean, cov), (mean_2, cov_2) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (features, others))
    # tr (Σ₁ Σ₂)^½ through the symmetric Σ₁^½ Σ₂ Σ₁^½: real and stable where the sets have fewer pictures than features.
    values, vectors = np.linalg.eigh(cov)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_2 @ root).clip(0)).sum()
    return float(max(0.0, ((mean - mean_2) ** 2).sum() + np.trace(cov) + np.trace(cov_2) - 2 * cross))
