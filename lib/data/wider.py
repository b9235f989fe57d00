"""WIDER FACE: many faces per picture, in scenes of 61 kinds.

`wider_face_split/wider_face_train_bbx_gt.txt` lists a path, a count, and for each face `x1 y1 w h blur expression
illumination invalid occlusion pose`. A picture without faces is followed by a row of zeros all the same. Some boxes
are empty, some faces marked invalid. The test part is published as a list of paths, without boxes.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pandas as pd

from lib.data.files import read_blocks
from lib.data.images import find_picture
from lib.data.table import BOX, box_reason, make_table

PUBLISHED = {"train": {"images": 12_880}, "val": {"images": 3_226}, "test": {"images": 16_097}}
_CODES = ("blur", "expression", "illumination", "invalid", "occlusion", "pose")
_LABELS = {split: f"wider_face_{split}_bbx_gt.txt" for split in ("train", "val")} | {
    "test": "wider_face_test_filelist.txt"
}


def read_wider(root: Path | str, split: str = "train", sizes: bool = False) -> pd.DataFrame:
    """One part of WIDER FACE as a face table: every row of its list, in its order.

    Besides the table's own columns: blur, expression, illumination, invalid, occlusion, pose (−1 where the list gives
    boxes only). A picture without faces keeps a row; it, empty boxes, boxes outside the picture, faces marked invalid,
    pictures that are missing, listed again or named outside `root` carry a reason. A box beyond the right or lower
    edge is known only with `sizes`, which opens the header of every picture. Split "test" has no boxes.

    Raises:
        FileNotFoundError: no list under `root`.
        ValueError: unknown split; a list that breaks off or holds something else, with file and line.
    """
    if split not in _LABELS:
        raise ValueError(f"WIDER FACE split: expected 'train', 'val' or 'test', got {split!r}")
    root, name = Path(root), _LABELS[split]
    path = next((p for p in (root / "wider_face_split" / name, root / name) if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{root}: no wider_face_split/{name} in it; name WIDER FACE's root folder")
    official = f"WIDER_{split}/images"
    folders = (official, f"WIDER_{split}", f"{split}/images", split, "images", ".")
    where = [f for f in folders if (root / f).is_dir() or f == official]
    rows, faces_so_far = [], Counter()
    for picture, faces in _test_list(path) if split == "test" else read_blocks(path, _face):
        image, size, why_not = find_picture(root, where, [picture], sizes)
        if picture in faces_so_far:
            why_not = why_not or "picture listed again"
        for values in faces:
            row = dict(zip((*BOX, *_CODES), values))
            reason = why_not
            if split != "test":
                reason = reason or box_reason(*values[:4], size) or ("marked invalid" if row["invalid"] == 1 else "")
            rows.append({"image": image, "face": faces_so_far[picture], "split": split, **row, "reason": reason})
            faces_so_far[picture] += 1
        if not faces:
            reason = why_not or "no face in the picture"
            rows.append({"image": image, "face": faces_so_far[picture], "split": split, "reason": reason})
            faces_so_far[picture] += 1
    table = make_table(rows)
    return table.assign(**{name: table[name].fillna(-1).astype(int) for name in _CODES if name in table})


def _face(fields: list[str]) -> list[float]:
    values = [float(field) for field in fields]
    if len(values) not in (4, 10):
        raise ValueError("expected x1 y1 w h, and after them nothing or blur expression illumination invalid occlusion "
                         "pose")  # fmt: skip
    codes = [int(value) if math.isfinite(value) and abs(value) < 1000 else -1 for value in values[4:]]
    return values[:4] + (codes or [-1] * len(_CODES))


def _test_list(path: Path) -> list[tuple[str, list[list]]]:
    lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    return [(line.strip(), [[]]) for line in lines if line.strip()]
