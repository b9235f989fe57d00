"""Numbers for what the paper only showed. All on uint8 pictures, all in [0, 1] of the full range unless said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity

# A sample face counts as redrawn when, on average over the pixels outside its mask, more than a tenth of the full
# range changed. Not given in the paper, which judged by eye (§4.2, Fig. 5); our choice (notebook 10 draws the values).
# It sees faces replaced by something else. Blur slips under it: a ghost of the same face changes little on average.
REDRAWN_ABOVE = 0.10


def change_map(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mean absolute change per pixel: uint8 [..., H, W, 3] twice → float32 [..., H, W] in [0, 1]."""
    if before.shape != after.shape:
        raise ValueError(f"change_map: pictures differ in shape: {before.shape} and {after.shape}")
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
    values = []
    for a, b, inside in zip(before, after, mask):
        lightness = [rgb2lab(image)[..., 0] for image in (a, b)]
        _, similar = structural_similarity(*lightness, data_range=100.0, full=True)
        values.append(similar[inside].mean() if inside.any() else np.nan)
    return np.array(values)


def redrawn_share(samples: pd.DataFrame, threshold: float = REDRAWN_ABOVE) -> float:
    """Share of epochs whose fixed samples changed outside the mask by more than `threshold` (paper §4.2, Fig. 5)."""
    return float((samples["outside_change"] > threshold).mean())


def redrawn_table(stages: dict[str, pd.DataFrame], threshold: float = REDRAWN_ABOVE) -> pd.DataFrame:
    """`redrawn_share` of several stages (name → samples), with Wilson's 95 % interval and the mean change outside."""
    rows = {}
    for stage, samples in stages.items():
        k, n = int((samples["outside_change"] > threshold).sum()), len(samples)
        low, high = share_interval(k, n)
        change = samples["outside_change"].mean()
        rows[stage] = {
            "passes": n,
            "redrawn": k,
            "share": k / n,
            "low": low,
            "high": high,
            "mean change outside": change,
        }
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
