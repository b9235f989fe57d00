"""The non-mask tensors of a study, where no truth is known: the odd ones, to look at; and how regions are shown."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
from scipy import ndimage

from lib.data.images import read_image
from lib.study.runs import Study
from lib.warp import load_non_mask, non_mask_path


def worst_regions(
    study: Study, count: int = 8, sample: int | None = 2000, seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray]:
    """The non-mask tensors of a study that look least like the others, the oddest first, as table and contact sheet.

    No truth is known here. Each region tells its `share` of the picture, how `dented` it is (share of its convex hull
    that it lacks) and what is `left` outside it (the 99th percentile of the blurred difference there over the median
    inside). `odd` is the largest of the three distances from the set's median, in median deviations (`why` names it);
    a share may be odd both ways.

    sample: so many tensors are looked at, drawn by seed; None all. Returns the table (image, share, dented, left, odd,
    why) of the `count` oddest, and for each a row of full face, rule-based image, region, and its outline.
    Raises FileNotFoundError when step one has not run yet.
    """
    folder = study.data_dir / "A"
    names = pd.read_csv(folder / "rule" / "faces.csv")["image"].tolist()
    if sample is not None and sample < len(names):
        names = [names[k] for k in np.sort(np.random.default_rng(seed).permutation(len(names))[:sample])]

    def read(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rule = folder / "rule" / name
        full = read_image(folder / "full" / name).pixels
        return full, read_image(rule).pixels, ~load_non_mask(non_mask_path(rule), full.shape[:2])

    table = oddness(pd.DataFrame([{"image": name, **region_facts(*read(name))} for name in names])).head(count)
    return table, sheet([marked(*read(name)) for name in table["image"]])


def region_facts(full: np.ndarray, rule: np.ndarray, region: np.ndarray) -> dict[str, float]:
    """share, dented and left of a region, bool [H, W]; see `worst_regions`. 0 for what an empty one does not have."""
    facts = {"share": float(region.mean()), "dented": 0.0, "left": 0.0}
    if not region.any() or region.all():
        return facts
    hull = cv2.convexHull(np.argwhere(region)[:, ::-1].astype(np.int32))
    filled = cv2.fillConvexPoly(np.zeros(region.shape, np.uint8), hull, 1)
    difference = cv2.GaussianBlur(rule.astype(np.float32) - full, (0, 0), 1.0)
    strength = np.abs(difference).max(axis=-1)
    left = np.percentile(strength[~region], 99) / max(np.median(strength[region]), 1.0)
    return facts | {"dented": float(1 - region.sum() / filled.sum()), "left": float(left)}


def oddness(table: pd.DataFrame) -> pd.DataFrame:
    """A table with share, dented and left, and now odd and why, the oddest first."""
    facts = table[["share", "dented", "left"]]
    apart = facts - facts.median()
    # A set of nearly equal masks has hardly any spread; a hundredth is never odd.
    scaled = (apart / np.maximum(1.48 * apart.abs().median(), 0.01)).assign(share=lambda t: t["share"].abs())
    small = table["share"] < facts["share"].median()
    why = scaled.idxmax(axis=1).where(scaled.idxmax(axis=1) != "share", np.where(small, "small", "large"))
    return table.assign(odd=scaled.max(axis=1), why=why).sort_values("odd", ascending=False, kind="stable")


def marked(full: np.ndarray, rule: np.ndarray, found: np.ndarray, true: np.ndarray | None = None) -> list[np.ndarray]:
    """Pictures to look at, uint8 [S, S, 3] each: full face, rule-based, (true region,) region found, and the full face
    dimmed with the region lighter; red is missed, blue too many. Without a truth the last has the outline in yellow."""
    shown = full * np.where(found, 0.75, 0.35)[..., None]
    if true is None:
        shown = rule.astype(float)
        shown[found & ~ndimage.binary_erosion(found, iterations=1)] = (255, 220, 0)
        truth = []
    else:
        shown[true & ~found], shown[found & ~true] = (255, 50, 50), (60, 130, 255)
        truth = [true]
    regions = [np.repeat((region * np.uint8(235))[..., None], 3, axis=2) for region in (*truth, found)]
    return [full, rule, *regions, shown.astype(np.uint8)]


def sheet(rows: Sequence[Sequence[np.ndarray]], size: int = 256) -> np.ndarray:
    """Rows of pictures, uint8 [h, w, 3] each, all at one size, as one: uint8 [rows · S, columns · S, 3]."""

    def scaled(tile: np.ndarray) -> np.ndarray:
        way = cv2.INTER_AREA if len(tile) > size else cv2.INTER_NEAREST
        return cv2.resize(tile, (size, size), interpolation=way)

    return np.concatenate([np.concatenate([scaled(tile) for tile in row], axis=1) for row in rows])
