"""FDDB, source A of the pretraining: multi-face pictures with faces marked as ellipses.

`FDDB-folds/FDDB-fold-01.txt` lists paths without suffix, `FDDB-fold-01-ellipseList.txt` the ellipses: half axes in
pixels, angle of the major axis from the horizontal in radians, centre. The whole picture archive (`2002/…`, `2003/…`)
has ten times the annotated pictures; the paper's "about 25,000" fit only that archive.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from lib.data.images import ImageError, image_size, list_images
from lib.data.table import make_table

PUBLISHED = {"images": 2_845, "faces": 5_171, "archive": 28_204}


def ellipse_box(major: float, minor: float, angle: float, cx: float, cy: float) -> tuple[float, float, float, float]:
    """The upright box (x, y, w, h) around an ellipse; half axes in pixels, angle in radians from the horizontal."""
    half_w = math.hypot(major * math.cos(angle), minor * math.sin(angle))
    half_h = math.hypot(major * math.sin(angle), minor * math.cos(angle))
    return cx - half_w, cy - half_h, 2 * half_w, 2 * half_h


def read_fddb(root: Path | str) -> pd.DataFrame:
    """The annotated faces as a face table; boxes clipped to their picture; ellipse_* columns keep the ellipse.

    A face without its picture keeps the unclipped box and a reason; so does one whose ellipse lies outside.

    Raises:
        FileNotFoundError: no FDDB-folds with ellipse lists under `root`.
        ValueError: a list that breaks off or holds something else, with file and line.
    """
    root = Path(root)
    lists = sorted(root.glob("FDDB-folds/FDDB-fold-*-ellipseList.txt"))
    if not lists:
        raise FileNotFoundError(f"{root}: no FDDB-folds/FDDB-fold-01-ellipseList.txt in it; name FDDB's root folder")
    rows = []
    for path in lists:
        fold = path.name.split("-")[2]
        text = path.read_text(encoding="utf-8-sig", errors="replace")  # a damaged name shows up as a missing picture
        lines = iter(enumerate(text.splitlines(), 1))
        for number, line in lines:
            if line.strip():
                rows += _picture(root, path, fold, number, line.strip(), lines)
    return make_table(rows)


def _picture(root: Path, path: Path, fold: str, number: int, name: str, lines) -> list[dict]:
    try:
        number, line = next(lines)
        count = int(line)
        if count < 0:
            raise ValueError("a number of faces below 0")
        ellipses = []
        for _ in range(count):
            number, line = next(lines)
            ellipses.append([float(value) for value in line.split()[:5]])  # split on any white space
            if len(ellipses[-1]) < 5 or not all(map(math.isfinite, ellipses[-1])) or min(ellipses[-1][:2]) <= 0:
                raise ValueError("expected major and minor half axis, angle, centre x and y")
    except StopIteration:
        raise ValueError(f"{path}, line {number}: the list breaks off after {name}") from None
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {line!r} is not what belongs after {name} ({error})") from None
    image, size, reason = root / f"{name}.jpg", None, "picture missing"
    if image.is_file():
        try:
            size = image_size(image)
        except ImageError as error:
            reason = f"picture {error.reason}"
    rows = []
    for index, (major, minor, angle, cx, cy) in enumerate(ellipses):
        x, y, w, h = ellipse_box(major, minor, angle, cx, cy)
        if size:
            left, top = max(x, 0.0), max(y, 0.0)
            clipped = left, top, min(x + w, size[0]) - left, min(y + h, size[1]) - top
            reason = "" if min(clipped[2:]) > 0 else "box outside the picture"
            x, y, w, h = (x, y, w, h) if reason else clipped
        rows.append({"image": f"{name}.jpg", "face": index, "x": x, "y": y, "w": w, "h": h, "split": f"fold-{fold}",
                     "reason": reason, "ellipse_major": major, "ellipse_minor": minor, "ellipse_angle_rad": angle,
                     "ellipse_cx": cx, "ellipse_cy": cy})  # fmt: skip
    return rows


def pictures(root: Path | str) -> list[Path]:
    """All pictures of the archive (2002/…, 2003/…), annotated or not: the paper's pretraining set A (§4.3).

    Raises FileNotFoundError when neither folder is there.
    """
    root = Path(root)
    years = [folder for folder in (root / "2002", root / "2003") if folder.is_dir()]
    if not years:
        raise FileNotFoundError(f"{root}: has neither 2002/ nor 2003/; unpack FDDB's picture archive there")
    return [path for folder in years for path in list_images(folder)]
