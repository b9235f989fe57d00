"""Held-out faces, more of them where the face world can draw them, and what is known of each face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.color import rgb2lab

from lib.data import faceworld
from lib.data.facesdf import draws
from lib.data.files import read_json
from lib.study import metrics
from lib.study.comparison import find_landmarks
from lib.study.config import StudyError
from lib.study.datasets import TestSet, load_test_set
from lib.study.runs import Study
from lib.study.sources import CMFD_POSE, FIRST_TEST_A
from lib.study.truths import held_out_spec, outlines
from lib.warp import apply_warps, non_mask_by_comparison, sample_warp_params
from lib.warp import preset as warp_preset
from lib.warp.face3d import estimate_pose

# Individual typology angle of skin, degrees, darker below (classes of Chardon et al. 1991, Del Bino et al. 2006).
SKIN = ((-90, "dark"), (-30, "brown"), (10, "tan"), (28, "intermediate"), (41, "light"), (55, "very light"), (90, ""))
ALIKE = 20.0  # ΔE up to which something has the colour of the mask


def held_out(study: Study, count: int | None = None) -> tuple[TestSet, list[np.ndarray | None]]:
    """The held-out faces and their landmarks, px; of the face world, where it has fewer than `count`, more of the same
    kind: other people, drawn, masked and named like them, no part of any set (about half a second each at 128 px).

    Raises StudyError when step one has not run yet, and for a count below 1.
    """
    if count is not None and count < 1:
        raise StudyError(f"count of faces: expected at least 1, got {count}")
    test = load_test_set(study)
    landmarks, first = find_landmarks(study, test), len(test.names)
    if study.data != "faceworld" or not count or count <= first:
        return test, landmarks
    spec, faces = held_out_spec(study), range(study.profile.count_test, study.profile.count_test + count - first)
    out = faceworld.render([spec.start + k for k in faces], [spec.picture_seed(k) for k in faces], spec.size, "full",
                           **CMFD_POSE)  # fmt: skip
    full = (out.full.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).byte().numpy()
    made = read_json(study.data_dir / "A" / "rule" / "done.json").get("preset", "study")
    config, points = warp_preset(made, mix="surgical_blue"), out.landmarks.numpy()
    drawn = [sample_warp_params(np.random.default_rng([study.seed, FIRST_TEST_A, k]), config) for k in faces]
    rule, worn = apply_warps(list(full), list(zip(range(len(faces)), points, drawn)))
    kept = [k for k, mask in enumerate(worn) if not isinstance(mask, Exception)]
    non_mask = np.stack([non_mask_by_comparison(full[k], rule[k]) for k in kept])
    more = {"full": full[kept], "rule": np.stack([rule[k] for k in kept]), "non_mask": non_mask}
    more = {key: np.concatenate([getattr(test, key), value]) for key, value in more.items()}
    names = test.names + [f"test_{faces[k]:06d}.png" for k in kept]
    return replace(test, names=names, truth=None, region=None, **more), landmarks + [points[k] for k in kept]


def traits(study: Study, test: TestSet, landmarks: Sequence[np.ndarray | None]) -> pd.DataFrame:
    """What is known of each face, a row each: numbers, and words for kinds. NaN without landmarks.

    Of any picture: |yaw|, pitch (> 0: up), |roll| in degrees; skin (class of the typology angle, median of both cheeks
    and the forehead: light and make-up count, too); framing, from brow to chin over the picture's side; brightness L*
    of the face; side light (L* between the cheeks); sharpness of the eyes' region (fine over all contrast); lightness
    L* and size (share of the picture) of the rule-based mask, and the share of all else that has its colour. The face
    world knows pose and skin from its draws, and beard, hair and sex; it draws no glasses.
    """
    cloth, rows = metrics.cloth(outlines(test)), []
    for image, rule, outside, mask, points in zip(test.full, test.rule, test.non_mask, cloth, landmarks):
        colour = rgb2lab(rule)[mask].mean(0) if mask.any() else np.full(3, np.nan)
        alike = np.linalg.norm(rgb2lab(image)[outside] - colour, axis=-1) < ALIKE
        facts = {"mask lightness": colour[0], "mask size": mask.mean(), "mask colour elsewhere": alike.mean()}
        rows.append(facts | _of_picture(image, points))
    table = pd.DataFrame(rows, index=test.names)
    if study.data == "faceworld":
        known = [_drawn(held_out_spec(study), int(Path(name).stem.removeprefix("test_"))) for name in test.names]
        table = pd.DataFrame(known, index=test.names).combine_first(table)
    classes = pd.cut(table["skin"], [edge for edge, _ in SKIN], labels=[name for _, name in SKIN[:-1]])
    return table.assign(skin=classes.astype(object)).rename_axis("image")


def _drawn(spec: faceworld.SetSpec, k: int) -> dict:
    shot, who = draws.shot(spec.picture_seed(k), spec.ranges(), False), draws.person(spec.start + k)
    skin = rgb2lab(1.055 * who["skin_colour"] ** (1 / 2.4) - 0.055)  # encoded; no tone is in sRGB's linear toe
    beard = "none" if who["beard"] == 0 else "full" if who["beard"] > 0.5 else "stubble"
    hair = "long" if who["long_hair"] > 0 else "fringe" if who["fringe"] > 0 else "short"
    return {"|yaw|": abs(shot["yaw"]), "pitch": shot["pitch"], "|roll|": abs(shot["roll"]), "skin": _ita(skin),
            "beard": beard, "hair": hair, "sex": "man" if who["male"] else "woman"}  # fmt: skip


def _of_picture(image: np.ndarray, points: np.ndarray | None) -> dict:
    if points is None:
        return {}
    lab, width = rgb2lab(image), np.linalg.norm(points[16] - points[0])
    up = (points[27] - points[8]) * 0.3
    cheeks = (points[31] + points[2]) / 2, (points[35] + points[14]) / 2
    patches = np.array([_disc(lab, at, 0.07 * width) for at in (*cheeks, points[[19, 24]].mean(0) + up)])
    seen = patches[np.isfinite(patches).all(1)]
    x, y = (points[36:48].min(0) - 0.05 * width).clip(0).astype(int)
    right, below = (points[36:48].max(0) + 0.05 * width).astype(int) + 1
    eyes = lab[y:below, x:right, 0]
    facts = {
        "skin": float(np.median([_ita(patch) for patch in seen])) if len(seen) else np.nan,
        "framing": float(np.ptp(points[:, 1]) / image.shape[0]),
        "brightness": float(seen[:, 0].mean()) if len(seen) else np.nan,
        "side light": float(abs(patches[0, 0] - patches[1, 0])),
        "sharpness": float(np.abs(ndimage.laplace(eyes)).mean() / max(eyes.std(), 1e-3)) if eyes.size else np.nan,
    }
    try:
        pose = estimate_pose(points)
    except ValueError:  # landmarks that fit no head
        return facts
    return facts | {"|yaw|": abs(pose.yaw), "pitch": pose.pitch, "|roll|": abs(pose.roll)}


def _disc(lab: np.ndarray, at: np.ndarray, radius: float) -> np.ndarray:
    """Median colour of a disc, NaN where it lies outside the picture."""
    y, x = np.indices(lab.shape[:2])
    inside = (x - at[0]) ** 2 + (y - at[1]) ** 2 <= max(radius, 1) ** 2
    return np.median(lab[inside], axis=0) if inside.any() else np.full(3, np.nan)


def _ita(lab: np.ndarray) -> float:
    return float(np.degrees(np.arctan2(lab[0] - 50, lab[2])))
