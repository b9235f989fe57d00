"""The RMFD family: pictures of known people with and without masks.

RMFRD  `self-built-masked-face-recognition-dataset/AFDB_face_dataset/<name>/*.jpg`, masked: `AFDB_masked_face_dataset`
RWMFD  `RWMFD_part_1/0000/0001.jpg`, …: raw pictures, masked or not is not told
SMFRD  known data sets with masks drawn on, 128² crops, in a folder for each person

There are no boxes. Of the 5,000 masked pictures that RMFRD claims 2,203 are published.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib.data.images import list_images
from lib.data.table import make_table

PUBLISHED = {"RMFRD": {"normal": 90_468, "masked": 2_203, "people": 460, "masked_people": 525, "people_in_both": 403}}
CLAIMED_MASKED = 5_000
KINDS = ("RMFRD", "RWMFD", "SMFRD")
_RMFRD = "self-built-masked-face-recognition-dataset"
_MASKED = {"AFDB_face_dataset": 0, "AFDB_masked_face_dataset": 1}


def read_rmfd(root: Path | str, kind: str = "RMFRD") -> pd.DataFrame:
    """One data set of the family as a face table with `identity` and `masked` (1, 0, or −1 where it is not told).

    `root` is the data set's folder or the one that holds it. In RMFRD an identity is the person's name and means the
    same person with and without mask; in the others it is the folder's path, as two parts may use a number twice.
    Pictures that lie in no person's folder keep a reason.

    Raises:
        FileNotFoundError: none of the folders of `kind`.
        ValueError: unknown kind, or no picture.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected {', '.join(KINDS)}, got {kind!r}")
    root = Path(root)
    folders = _folders(root, kind)
    if not folders:
        expected = {"RMFRD": f"{_RMFRD}/AFDB_face_dataset", "RWMFD": "RWMFD_part_1", "SMFRD": "SMFRD"}[kind]
        raise FileNotFoundError(f"{root}: no {expected} in it; name the folder that holds {kind}")
    rows = []
    for folder, masked in folders:
        for path in list_images(folder):
            people = path.relative_to(folder).parent.parts
            identity = "/".join(people if kind == "RMFRD" else (folder.resolve().name, *people))
            known = len(people) == 1 if kind == "RMFRD" else bool(people)
            rows.append({"image": path.relative_to(root).as_posix(), "identity": identity if known else "",
                         "masked": masked, "reason": "" if known else "not in a person's folder"})  # fmt: skip
    if not rows:
        raise ValueError(f"{root}: no pictures in {', '.join(folder.name for folder, _ in folders)}")
    return make_table(rows)


def _folders(root: Path, kind: str) -> list[tuple[Path, int]]:
    if kind == "RMFRD":
        base = root / _RMFRD if (root / _RMFRD).is_dir() else root
        return [(base / name, masked) for name, masked in _MASKED.items() if (base / name).is_dir()]
    if kind == "RWMFD":
        parts = sorted(path for path in root.glob("RWMFD_part_*") if path.is_dir())
        return [(path, -1) for path in parts or ([root] if root.resolve().name.startswith("RWMFD_part_") else [])]
    return [(path, 1) for path in (root / "SMFRD", root) if path.is_dir() and path.resolve().name == "SMFRD"][:1]
