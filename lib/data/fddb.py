"""FDDB, source A of the pretraining: multi-face pictures with faces marked as ellipses.

`FDDB-folds/FDDB-fold-01.txt` lists paths without suffix, `FDDB-fold-01-ellipseList.txt` the ellipses: half axes in
pixels, angle of the major axis from the horizontal in radians, centre. The whole picture archive (`2002/…`, `2003/…`)
has ten times the annotated pictures; the paper's "about 25,000" fit only that archive.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pandas as pd

from lib.data.files import read_blocks
from lib.data.images import find_picture, list_images
from lib.data.table import box_reason, make_table

PUBLISHED = {"images": 2_845, "faces": 5_171, "archive": 28_204}
_ARCHIVE = (".", "originalPics")  # the archive unpacked in place, or beside the folds under its own name


def ellipse_box(major: float, minor: float, angle: float, cx: float, cy: float) -> tuple[float, float, float, float]:
    """The upright box (x, y, w, h) around an ellipse; half axes in pixels, angle in radians from the horizontal."""
    half_w = math.hypot(major * math.cos(angle), minor * math.sin(angle))
    half_h = math.hypot(major * math.sin(angle), minor * math.cos(angle))
    return cx - half_w, cy - half_h, 2 * half_w, 2 * half_h


def read_fddb(root: Path | str) -> pd.DataFrame:
    """The annotated faces as a face table; boxes clipped to their picture; ellipse_* columns keep the ellipse.

    A face without its picture keeps the unclipped box and a reason; so does one whose ellipse lies outside, and those
    of a picture that is listed again or named outside `root`.

    Raises:
        FileNotFoundError: no FDDB-folds with ellipse lists under `root`.
        ValueError: a list that breaks off or holds something else, with file and line.
    """
    root = Path(root)
    lists = sorted(root.glob("FDDB-folds/FDDB-fold-*-ellipseList.txt"))
    if not lists:
        raise FileNotFoundError(f"{root}: no FDDB-folds/FDDB-fold-01-ellipseList.txt in it; name FDDB's root folder")
    rows, faces_so_far = [], Counter()
    for path in lists:
        split = f"fold-{path.name.split('-')[2]}"
        for name, ellipses in read_blocks(path, _ellipse):
            image, size, why_not = find_picture(root, _ARCHIVE, [f"{name}.jpg"], sizes=True)
            if name in faces_so_far:
                why_not = why_not or "picture listed again"
            for major, minor, angle, cx, cy in ellipses:
                box = ellipse_box(major, minor, angle, cx, cy)
                reason = why_not or box_reason(*box, size)
                x, y, w, h = _clipped(box, size) if size and not reason else box
                rows.append({"image": image, "face": faces_so_far[name], "x": x, "y": y, "w": w, "h": h, "split": split,
                             "reason": reason, "ellipse_major": major, "ellipse_minor": minor,
                             "ellipse_angle_rad": angle, "ellipse_cx": cx, "ellipse_cy": cy})  # fmt: skip
                faces_so_far[name] += 1
    return make_table(rows)


def _ellipse(fields: list[str]) -> list[float]:
    values = [float(value) for value in fields[:5]]  # the sixth is always 1
    if len(values) < 5 or not all(map(math.isfinite, values)) or min(values[:2]) <= 0:
        raise ValueError("expected major and minor half axis, angle, centre x and y")
    return values


def _clipped(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    x, y, w, h = box
    left, top = max(x, 0.0), max(y, 0.0)
    return left, top, min(x + w, size[0]) - left, min(y + h, size[1]) - top


def pictures(root: Path | str) -> list[Path]:
    """All pictures of the archive (2002/…, 2003/…), annotated or not: the paper's pretraining set A (§4.3).

    Raises FileNotFoundError when neither folder is there.
    """
    root = Path(root)
    years = [f for archive in _ARCHIVE for year in ("2002", "2003") if (f := root / archive / year).is_dir()]
    if not years:
        raise FileNotFoundError(f"{root}: has neither 2002/ nor 2003/; unpack FDDB's picture archive there")
    return [path for folder in years for path in list_images(folder)]
