"""MAFA, the source of the paper's set B: labels in MATLAB files, several faces per picture.

Facts of the format: the train array has 21 columns (its readme says 18), int16; the occluder's and the glasses' boxes
are relative to the face box; −1 means unknown or none; boxes of the test set may leave the picture.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.images import find_picture
from lib.data.matfile import read_mat
from lib.data.table import BOX_LIMIT_PX, box_reason, make_table

PUBLISHED = {
    "train": {"images": 25_876, "faces": 29_452, "under_60px": 4_802},
    "test": {"images": 4_935, "faces": 10_005},
}
ORIENTATIONS = {1: "left", 2: "left-frontal", 3: "frontal", 4: "right-frontal", 5: "right"}
OCCLUDER_TYPES = {1: "simple", 2: "complex", 3: "human body"}

_TRAIN = ("x", "y", "w", "h", "eye1_x", "eye1_y", "eye2_x", "eye2_y", "occ_x", "occ_y", "occ_w", "occ_h",
          "occluder_type", "occlusion_degree", "gender", "race", "orientation",
          "glasses_x", "glasses_y", "glasses_w", "glasses_h")  # fmt: skip
_TEST = ("x", "y", "w", "h", "face_type", "occ_x", "occ_y", "occ_w", "occ_h", "occluder_type", "occlusion_degree",
         "gender", "race", "orientation", "glasses_x", "glasses_y", "glasses_w", "glasses_h")  # fmt: skip
_LAYOUT = {  # split: label folder, label file, array, pictures, columns
    "train": ("MAFA-Label-Train", "LabelTrainAll.mat", "label_train",
              ("train-images/images", "train-images", "images", "."), _TRAIN),
    "test": ("MAFA-Label-Test", "LabelTestAll.mat", "LabelTest",
             ("test-images/images", "test-images", "images", "."), _TEST),
}  # fmt: skip
INVALID = 3  # face_type of the test set


def read_mafa(root: Path | str, split: str = "train", sizes: bool = False) -> pd.DataFrame:
    """MAFA as a face table: every row of the label file, in its order.

    Besides the table's own columns: eye points, occluder box `occ_*` and glasses box `glasses_*` in picture
    coordinates (−1 where none), occluder_type, occlusion_degree, gender, race, orientation; test: face_type.
    Rows whose picture is missing or named outside `root`, whose box is empty or outside the picture, or whose face is
    invalid carry a reason. A box beyond the right or lower edge is known only with `sizes`, which opens the header of
    every picture.

    Raises:
        FileNotFoundError: no label file under `root`.
        ValueError: unknown split, or a label file of another layout.
    """
    if split not in _LAYOUT:
        raise ValueError(f"MAFA split: expected 'train' or 'test', got {split!r}")
    root = Path(root)
    folder, name, array, picture_folders, columns = _LAYOUT[split]
    path = next((p for p in (root / folder / name, root / name) if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{root}: no {folder}/{name} in it; name MAFA's root folder")
    where = [f for f in picture_folders if (root / f).is_dir() or f == picture_folders[0]]
    rows, faces_so_far = [], Counter()
    for picture, faces in _records(path, array, len(columns)):
        image, size, why_not = find_picture(root, where, [picture], sizes)
        for values in faces:
            row = dict(zip(columns, values))
            for box in ("occ", "glasses"):
                if row[f"{box}_w"] > 0 and row[f"{box}_h"] > 0:
                    row[f"{box}_x"] += row["x"]
                    row[f"{box}_y"] += row["y"]
                else:
                    row |= {f"{box}_{k}": -1 for k in "xywh"}
            index = faces_so_far[picture]  # goes on counting where a picture is listed twice
            faces_so_far[picture] += 1
            reason = why_not or box_reason(row["x"], row["y"], row["w"], row["h"], size)
            reason = reason or ("marked invalid" if row.get("face_type") == INVALID else "")
            rows.append({"image": image, "face": index, "split": split, **row, "reason": reason})
    return make_table(rows)


def _records(path: Path, array: str, width: int) -> list[tuple[str, list[list[int]]]]:
    """(picture name, rows of `width` Python integers) per entry of the label file."""
    entries = read_mat(path, array)
    if not isinstance(entries, list):
        raise ValueError(f"{path}: {array} is no list of names and their numbers")
    records = []
    for number, entry in enumerate(entries, 1):
        name, numbers = (
            entry[-2:] if len(entry) > 1 else (None, None)
        )  # train: orgImgName, imgName, label; test: name, label
        while isinstance(name, list) and name:  # the name is nested in arrays, once or twice
            name = name[0]
        if not isinstance(name, str) or not isinstance(numbers, np.ndarray):
            raise ValueError(f"{path}: entry {number} of {array} is not a name and its numbers")
        if numbers.size and (numbers.ndim != 2 or numbers.shape[1] != width):
            raise ValueError(f"{path}: {name} has rows of {numbers.shape[-1]} numbers, expected {width}")
        # int16 in the file: Python integers, so that no later sum overflows; what is no label stays recognisable
        numbers = np.nan_to_num(numbers.astype(float), nan=-1).clip(-2 * BOX_LIMIT_PX, 2 * BOX_LIMIT_PX)
        records.append((name, numbers.astype(int).tolist() if numbers.size else []))
    return records
