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
from lib.data.table import make_table

PUBLISHED = 70_000
JSON_FRAME = 1024  # pixels of the frame the json's landmarks are given in
_FOLDERS = ("images1024x1024", "thumbnails128x128", ".")


def read_ffhq(root: Path | str) -> pd.DataFrame:
    """FFHQ's pictures as a face table with `identity` = the five-digit id. The large pictures win over thumbnails.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no picture in it.
    """
    root = Path(root)
    folder = next((root / name for name in _FOLDERS if (root / name).is_dir()), root)
    rows = []
    for path in list_images(folder):
        known = re.fullmatch(r"\d{5}", path.stem)
        rows.append({"image": path.relative_to(root).as_posix(), "identity": path.stem if known else "",
                     "reason": "" if known else "name is not a five-digit id"})  # fmt: skip
    if not rows:
        raise ValueError(f"{root}: no pictures in images1024x1024, thumbnails128x128 or the folder itself")
    return make_table(rows)


def ffhq_landmarks(path: Path | str, ids: Iterable[str] | None = None, size: int = JSON_FRAME) -> dict[str, np.ndarray]:
    """Landmarks of `ffhq-dataset-v2.json`: id → float32 [68, 2], pixels of a `size`² picture, centres at integers.

    The whole json (255 MB) is read into memory, about 2 GB for a moment.

    Raises ValueError for an id that is not in the file or has other than 68 points.
    """
    content = read_json(path)
    wanted = [f"{int(key):05d}" for key in content] if ids is None else list(ids)
    scale, found = size / JSON_FRAME, {}
    for identity in wanted:
        entry = content.get(str(int(identity)))
        if entry is None:
            raise ValueError(f"{path}: has no face {identity}")
        points = np.array(entry["image"]["face_landmarks"], np.float32)
        if points.shape != (68, 2):
            raise ValueError(f"{path}: face {identity} has {points.shape[0]} landmarks, expected 68")
        found[identity] = (points + 0.5) * np.float32(scale) - np.float32(0.5)
    return found
