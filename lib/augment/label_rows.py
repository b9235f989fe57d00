"""What the writers of label files share: a checked table, its pictures in order, numbers as text, class numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from lib.data.boxes import CROWD, INVALID, box_table
from lib.data.detection import FACE, MASKED
from lib.data.files import leaves_root
from lib.data.table import BOX

MASK_BOX = ("mask_x", "mask_y", "mask_w", "mask_h")
RegionOf = Callable[[tuple], np.ndarray | None]


def export_table(table: pd.DataFrame, copied: bool) -> pd.DataFrame:
    """The table with every column that the writers read, text as text.

    copied: the entries of the source's label files are copied, not made anew. Then every box must say where it stands,
    and a box without a class keeps it; else such a box is a face.

    Raises ValueError: no such column, paths that leave the output, a box that is in no label file.
    """
    missing = [name for name in ("image", *BOX, "label") if name not in table]
    if missing:
        raise ValueError(f"labels: the table lacks {', '.join(missing)}; read it with lib.data.detection")
    table = box_table(table.copy())
    for name in MASK_BOX:
        table[name] = pd.to_numeric(table[name]).astype(float) if name in table else math.nan
    for name in ("image", "label_file"):
        if (bad := table[name].map(leaves_root)).any():
            raise ValueError(f"labels: {name} {table.loc[bad, name].iloc[0]!r} leads out of its folder")
    if copied:
        lost = (table["label_file"] == "") & (table["w"] > 0)
        if lost.any():
            image = table.loc[lost, "image"].iloc[0]
            raise ValueError(f"labels: a box of {image} has no label_file; keep that column, or leave out `source`")
    else:
        table.loc[table["label"] == "", "label"] = FACE
    return table


def by_picture(table: pd.DataFrame) -> list[list[tuple]]:
    """The rows of each picture, as named tuples, in the order in which pictures first come."""
    pictures: dict[tuple, list[tuple]] = {}
    for row in table.itertuples(index=False):
        pictures.setdefault((row.image, row.label_file, row.label_record), []).append(row)
    return list(pictures.values())


def boxed(rows: Iterable[tuple]) -> list[tuple]:
    """Those with a box: four finite numbers, not empty."""
    return [row for row in rows if all(math.isfinite(getattr(row, k)) for k in BOX) and row.w > 0 and row.h > 0]


def ignored(row: tuple) -> bool:
    """Whether a measure of detectors should pass over the box: a crowd, or marked invalid."""
    return row.reason in (CROWD, INVALID)


def mask_box(row: tuple) -> list[float | int] | None:
    """[x, y, w, h] of the face's mask, None where it has none."""
    values = [getattr(row, name) for name in MASK_BOX]
    return [plain(value) for value in values] if all(map(math.isfinite, values)) else None


def mask_region(row: tuple, region_of: RegionOf) -> np.ndarray | None:
    """uint8 [H, W] of a masked face, None where there is none. ValueError when it is not of the picture's size."""
    region = region_of(row) if mask_box(row) else None
    if region is not None and row.width > 0 and region.shape != (row.height, row.width):
        expected = f"[{row.height}, {row.width}]"
        raise ValueError(f"{row.image}, face {row.face}: expected a region {expected}, got {list(region.shape)}")
    return region


def plain(value: float) -> float | int:
    """A number as JSON and texts should show it: 3, not 3.0; else all its digits."""
    value = float(value)
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def classes_of(table: pd.DataFrame) -> list[str]:
    """The classes of the boxes: face and face_mask, then others as they first come."""
    labels = list(dict.fromkeys(table.loc[(table["w"] > 0) | (table["label_entry"] >= 0), "label"]))
    faces = [FACE, MASKED] if {FACE, MASKED} & set(labels) else []
    return faces + [label for label in labels if label not in faces]


def file_word(text: str) -> str:
    """A text as part of a file's name."""
    return re.sub(r"[^\w.-]", "_", text)[:60]


def copied_path(row: tuple, several: bool) -> str:
    """The label file's own path; where it has `several` pictures now, one named after the picture beside it."""
    path = PurePosixPath(row.label_file)
    return (path.parent / f"{PurePosixPath(row.image).stem}{path.suffix}").as_posix() if several else row.label_file


class Paths:
    """The files of one output; two pictures must not write the same."""

    def __init__(self, root: Path):
        self.root, self.written = root, {}

    def new(self, name: str, image: str = "") -> Path:
        """The path of a file to be written. ValueError when it has been given away."""
        if name in self.written:
            raise ValueError(
                f"{self.root / name}: the labels of {self.written[name] or 'another picture'} and of {image} would be "
                "one file; give the pictures different names"
            )
        self.written[name] = image
        return self.root / name

    def all(self) -> list[Path]:
        """All paths, in the order in which they were asked for."""
        return [self.root / name for name in self.written]
