"""FFHQ: the full faces behind CMFD, and their 68 landmarks, so that no detection is needed.

`images1024x1024/00000/00000.png` or `thumbnails128x128/…`, in folders named by their first id, or flat; landmarks in
`ffhq-dataset-v2.json` in the frame of the 1024² picture. Licence: CC BY-NC-SA, by picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.files import read_json
from lib.data.images import list_images
from lib.data.table import BOX_LIMIT_PX, make_table

PUBLISHED = {"images": 70_000}
ID = "[0-9]{5}"  # FFHQ's number of a face, as a pattern
JSON_FRAME = 1024  # pixels of the frame the json's landmarks are given in
_FOLDERS = ("images1024x1024", "thumbnails128x128", ".")
_RAW = "in-the-wild-images"  # FFHQ's uncropped originals carry the same ids: a flat listing must not take them


def read_ffhq(root: Path | str) -> pd.DataFrame:
    """FFHQ's pictures as a face table with `identity` = the five-digit id. The large pictures win over thumbnails.

    Names of another pattern, ids beyond FFHQ's, the uncropped originals, and second pictures of one id carry a reason.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no picture in it.
    """
    root = Path(root)
    folders = [root / name for name in _FOLDERS if (root / name).is_dir()] or [root]
    rows, seen = [], set()
    for path in next(filter(None, map(list_images, folders)), []):  # a folder made but not yet filled does not count
        image = path.relative_to(root)
        known = re.fullmatch(ID, path.stem)
        reason = "" if known else "name is not a five-digit id"
        if known and int(path.stem) >= PUBLISHED["images"]:
            reason = f"FFHQ has no face {path.stem}"
        if _RAW in image.parts:
            reason = "uncropped original, not an aligned face"
        elif not reason and path.stem in seen:
            reason = f"second picture of {path.stem}"
        else:
            seen.add(path.stem)
        rows.append({"image": image.as_posix(), "identity": path.stem if known else "", "reason": reason})
    if not rows:
        raise ValueError(f"{root}: no pictures in images1024x1024, thumbnails128x128 or the folder itself")
    return make_table(rows)


def ffhq_landmarks(
    json_path: Path | str, ids: Iterable[str | int] | None = None, size: int = JSON_FRAME
) -> dict[str, np.ndarray]:
    """Landmarks of `ffhq-dataset-v2.json`: five-digit id → float32 [68, 2], pixels of a `size`² picture.

    Pixel centres are at integers. `ids` None takes every face of the file. The whole json (255 MB) is read into
    memory, about 2 GB for a moment.

    Raises ValueError, naming the file and the id: not FFHQ's json, an id that is not in it, other than 68 points, or
    points that are no pixels.
    """
    content = read_json(json_path)
    if not isinstance(content, dict):
        raise ValueError(f"{json_path}: expected FFHQ's object of faces by id, got a {type(content).__name__}")
    scale, found = np.float32(size / JSON_FRAME), {}
    for identity in content if ids is None else ids:
        if not re.fullmatch("[0-9]{1,9}", str(identity)) or (entry := content.get(str(int(identity)))) is None:
            raise ValueError(f"{json_path}: has no face {identity!r}")
        try:
            points = np.array(entry["image"]["face_landmarks"], np.float32)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{json_path}: face {identity} has no usable image.face_landmarks ({error!r})") from error
        if points.shape != (68, 2):
            raise ValueError(
                f"{json_path}: face {identity} has landmarks of shape {list(points.shape)}, expected [68, 2]"
            )
        if not (abs(points) <= BOX_LIMIT_PX).all():  # NaN compares False
            raise ValueError(f"{json_path}: face {identity} has landmarks that are no pixels: {points.max()}")
        # Pixel centres at integers: the picture spans −0.5 … size − 0.5, and that span is what scales.
        found[f"{int(identity):05d}"] = points if size == JSON_FRAME else (points + 0.5) * scale - np.float32(0.5)
    return found
