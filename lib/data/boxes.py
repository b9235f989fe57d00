"""What the readers of detection labels (COCO, VOC, YOLO) share: rows of boxes, and where their label stands.

Columns beside those of every face table:
    label          class of the box, as the file names it; empty where the file has no classes
    width height   of the picture in pixels; −1 unknown
    label_file     the label file, relative to its root, with forward slashes; empty where the picture has none
    label_record   which record in it is the picture (COCO: place among `images`; WIDER FACE, FDDB: line); 0 elsewhere
    label_entry    which entry is the box (COCO: place among `annotations`; VOC: place among the objects; YOLO, WIDER
                   FACE, FDDB: line, from 1); −1: the row has no box
With the last three a writer finds again what only the original file knows.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.images import ImageError, image_size
from lib.data.table import BOX, box_reason, make_table

NO_FACE = "no face in the picture"
NO_BOX = "box is no four numbers"
CROWD = "marked as a crowd"
INVALID = "marked invalid"
LISTED_AGAIN = "picture listed again"
LABEL_FOLDERS = ("annotations", "annotation", "xml", "xmls", "labels")  # in lower case: what COCO and VOC sets call it
_NUMBERS = {"width": -1, "height": -1, "label_record": 0, "label_entry": -1}
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class BoxRows:
    """Rows of a face table, added picture by picture; numbers the faces and gives the reasons.

    root: the pictures' root.
    """

    def __init__(self, root: Path):
        self.root, self.rows, self._faces = root, [], Counter()

    def add(self, image: str, why_not: str, size: tuple[int, int] | None, boxes: list[dict], **link) -> None:
        """A picture with its boxes; without any it keeps one row that says so.

        Args:
            image: Relative to the root.
            why_not: The reason against the picture, "" for none.
            size: (width, height) that the label file tells, or None. The picture's header is asked instead where there
                is none, and where a box would lie outside: such sizes are often wrong.
            boxes: For each x, y, w, h, label, label_entry, and perhaps a reason.
            link: What is the same for all: split, label_file, label_record.
        """
        if not why_not:
            outside = size and any(box_reason(*(b[k] for k in BOX), size).startswith("box outside") for b in boxes)
            if size is None or outside:
                try:
                    size = image_size(self.root / image)
                except ImageError as error:
                    why_not = f"picture {error.reason}"
        if image in self._faces:
            why_not = why_not or LISTED_AGAIN
        width, height = size or (-1, -1)
        for box in boxes or [{"reason": NO_FACE}]:
            reason = why_not or box.get("reason") or box_reason(*(box[k] for k in BOX), size)
            row = {"image": image, "face": self._faces[image], **link, **box, "reason": reason}
            self.rows.append(row | {"width": width, "height": height})
            self._faces[image] += 1

    def table(self, flags: Sequence[str] = ()) -> pd.DataFrame:
        """The face table. flags: columns of 0 and 1, 0 where a row has none."""
        return box_table([dict.fromkeys(flags, 0) | row for row in self.rows])


def box_table(rows: list[dict] | pd.DataFrame) -> pd.DataFrame:
    """A face table with the columns of detection labels; those that are missing get their unknown value."""
    table = make_table(rows)
    for name in ("label", "label_file"):
        values = table[name].astype(object) if name in table else pd.Series("", table.index, dtype=object)
        table[name] = values.where(values.notna(), "").astype(str)
    for name, unknown in _NUMBERS.items():
        values = pd.to_numeric(table[name]) if name in table else pd.Series(unknown, table.index)
        table[name] = values.fillna(unknown).astype("int64")
    return table


def numbers(values: object, count: int = 4) -> tuple[float, ...] | None:
    """So many finite numbers, of texts, too; None where it is something else."""
    if not isinstance(values, (list, tuple)) or len(values) != count:
        return None
    try:
        found = tuple(float(value) for value in values if not isinstance(value, bool))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count and np.isfinite(found).all() else None


def positive_size(width: object, height: object) -> tuple[int, int] | None:
    """(width, height) that a label file tells, None where it tells none."""
    found = numbers((width, height), 2)
    return (int(found[0]), int(found[1])) if found and min(found) >= 1 and max(found) < 2**31 else None


def split_of(path: str) -> str:
    """The split that the file or a folder above it is named after, "" for none: annotations/x_train2017.json: train."""
    for part in reversed(path.split("/")):
        for word in reversed(re.split("[-_. ]", part.casefold())):
            if split := _SPLITS.get(word.rstrip("0123456789")):
                return split
    return ""


def list_files(root: Path, suffix: str) -> list[str]:
    """Files under `root` of this suffix, relative to it, sorted; hidden ones skipped, each real folder once.

    Raises PermissionError for a folder that cannot be listed.
    """
    found, seen = [], set()
    for folder, subfolders, names in os.walk(root, onerror=_refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        here = Path(folder).relative_to(root)
        found += [(here / n).as_posix() for n in names if n[0] != "." and n.lower().endswith(suffix)]
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise error
