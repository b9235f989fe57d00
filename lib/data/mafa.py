"""MAFA, the source of the paper's set B: labels in MATLAB files, several faces per picture.

Facts of the format: the train array has 21 columns (its readme says 18), int16; the occluder's and the glasses' boxes
are relative to the face box; −1 means unknown or none; boxes of the test set may leave the picture.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from lib.data.table import make_table

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


def read_mafa(root: Path | str, split: str = "train") -> pd.DataFrame:
    """MAFA as a face table: every row of the label file, in its order.

    Besides the table's own columns: eye points, occluder box `occ_*` and glasses box `glasses_*` in picture
    coordinates (−1 where none), occluder_type, occlusion_degree, gender, race, orientation; test: face_type.
    Rows whose picture is missing, whose box is empty, or whose face is invalid carry a reason.

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
    where = [f for f in picture_folders if (root / f).is_dir()]
    rows, faces_so_far = [], Counter()
    for picture, faces in _records(path, array, len(columns)):
        image = next((f"{f}/{picture}".removeprefix("./") for f in where if (root / f / picture).is_file()), None)
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
            rows.append({"image": image or f"{picture_folders[0]}/{picture}", "face": index, "split": split, **row,
                         "reason": _reason(row, image)})  # fmt: skip
    return make_table(rows)


def _reason(row: dict, image: str | None) -> str:
    if image is None:
        return "picture missing"
    if row["w"] <= 0 or row["h"] <= 0:
        return "empty box"
    return "marked invalid" if row.get("face_type") == INVALID else ""


def _records(path: Path, array: str, width: int) -> list[tuple[str, list[list[int]]]]:
    """(picture name, rows of `width` Python integers) per entry of the label file."""
    try:
        content = loadmat(path)
    except Exception as error:  # damaged files make the parser raise nearly anything
        raise ValueError(f"{path}: cannot be read as a MATLAB label file ({error})") from error
    if array not in content:
        raise ValueError(f"{path}: has no array {array!r}; it holds {', '.join(k for k in content if k[0] != '_')}")
    records = []
    for number, entry in enumerate(content[array].ravel(), 1):
        try:
            name, numbers = list(entry)[-2:]  # train: orgImgName, imgName, label; test: name, label
            while isinstance(name, np.ndarray):  # the name is nested in arrays, once or twice
                name = name.ravel()[0]
            # int16 in the file: Python integers, so that no later sum overflows
            numbers = np.atleast_2d(np.nan_to_num(numbers, nan=-1)) if np.size(numbers) else np.zeros((0, width))
            faces = numbers.astype(int).tolist()
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{path}: entry {number} of {array} is not a name and its numbers ({error})") from error
        if faces and len(faces[0]) != width:
            raise ValueError(f"{path}: {name} has rows of {len(faces[0])} numbers, expected {width}")
        records.append((str(name), faces))
    return records
