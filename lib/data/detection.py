"""Scenes with labelled boxes, whatever the format: COCO, VOC, YOLO, WIDER FACE and FDDB as one kind of table.

The table is a face table with the columns of lib.data.boxes: a row for each box of the label files. Classes that are no
faces keep their rows, too; `face_classes` says which are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lib.data.boxes import INVALID, LABEL_FOLDERS, LISTED_AGAIN, NO_FACE, box_table, split_of
from lib.data.coco import coco_root, find_coco, read_coco
from lib.data.fddb import read_fddb
from lib.data.files import read_blocks
from lib.data.images import ImageError, find_picture, image_size, list_images
from lib.data.table import BOX, box_reason
from lib.data.voc import read_voc
from lib.data.wider import read_wider
from lib.data.yolo import label_places, names_file, read_yolo

FORMATS = ("coco", "voc", "yolo", "wider", "fddb")
FACE, MASKED = "face", "face_mask"  # the classes that augmented sets are written with
# Compared without case, and with blanks and hyphens as underscores. "" is WIDER FACE and FDDB: all their boxes are
# faces. A sole class "0" is a YOLO set without names.
FACE_LABELS = frozenset({"", "face", "faces", "full_face", "human_face", "without_mask", "without_a_mask", "no_mask",
                         "nomask", "not_masked", "unmasked", "unmasked_face", "face_no_mask", "face_without_mask",
                         "no_facemask", "bare_face", "maskless"})  # fmt: skip
MASKED_LABELS = frozenset({"face_mask", "facemask", "with_mask", "with_a_mask", "mask", "masked", "masked_face",
                           "face_masked", "face_with_mask", "mask_weared_incorrect", "mask_worn_incorrectly",
                           "incorrect_mask", "incorrectly_masked", "wearing_mask", "mask_on"})  # fmt: skip
_WIDER_LIST = re.compile(r"wider_face_(train|val)_bbx_gt\.txt")
_FDDB_LIST = re.compile(r"FDDB-fold-(.+)-ellipseList\.txt")
_LABEL_FOLDERS = {"coco": LABEL_FOLDERS, "voc": LABEL_FOLDERS, "yolo": ("labels",), "wider": ("wider_face_split",),
                  "fddb": ("fddb-folds",)}  # fmt: skip
_WIDER_FOLDERS = ("WIDER_{0}/images", "WIDER_{0}", "{0}/images", "{0}", "images", ".")
_FDDB_FOLDERS = (".", "originalPics")


def read_detection(
    path: Path | str, format: str | None = None, images: Path | str | None = None
) -> tuple[pd.DataFrame, Path]:
    """A labelled set as (face table, pictures' root); `image` is relative to that root.

    Args:
        path: The set's root folder, the folder of its labels (`labels_root` tells which root that means), or its label
            file (COCO's .json; YOLO's data.yaml; of WIDER FACE or FDDB a list: the other lists are read, too). Of WIDER
            FACE train and val are read.
        format: One of FORMATS (default: `guess_format`).
        images: The pictures' root where it is not that of the labels; looked into as into the set's own, and WIDER
            FACE's and FDDB's names are found there as .png, too: this way an augmented set is read back,
            `read_detection(OUT / "labels" / "voc", "voc", OUT / "images")`.

    Raises:
        FileNotFoundError: no such folder, or no labels in it.
        ValueError: unknown format; label files that are damaged or laid out otherwise, with file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    format = format or guess_format(path)
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f"{images}: no such folder of pictures")
    root = labels_root(path, format)
    pictures = root if images is None else Path(images)
    if format == "coco":
        return _read_coco(path, root, images), pictures
    if format == "voc":
        return read_voc(root, images), pictures
    if format == "yolo":
        return read_yolo(root, images), pictures
    lists = [list_path for list_path, _ in label_lists(root, format)]
    if not lists:
        what = "wider_face_split/wider_face_train_bbx_gt.txt" if format == "wider" else "FDDB-folds with ellipse lists"
        raise FileNotFoundError(f"{root}: no {what} in it; name the root folder of the set")
    return _read_lists(root, format, images), pictures


def guess_format(path: Path | str) -> str:
    """Which of FORMATS a label file or folder is, by its names; where several are there the first of FDDB, WIDER FACE,
    COCO, VOC, YOLO.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: none of them; says what was looked for.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if path.is_file():
        if _WIDER_LIST.fullmatch(path.name):
            return "wider"
        if _FDDB_LIST.fullmatch(path.name):
            return "fddb"
        kinds = {".json": "coco", ".xml": "voc", ".yaml": "yolo", ".yml": "yolo"}
        if kind := kinds.get(path.suffix.lower()):
            return kind
    else:
        for kind in ("fddb", "wider"):
            if label_lists(labels_root(path, kind), kind):
                return kind
        if find_coco(path):
            return "coco"
        if next(path.rglob("*.xml"), None):
            return "voc"
        if names_file(path) or _has_texts(path):
            return "yolo"
    raise ValueError(
        f"{path}: no labels known here: looked for COCO (annotations/*.json, *.json), VOC (*.xml), YOLO (data.yaml, "
        "labels/*.txt, texts beside pictures), WIDER FACE (wider_face_split/) and FDDB (FDDB-folds/); name the "
        "set's root folder, or the format"
    )


def labels_root(path: Path | str, format: str) -> Path:
    """The folder that `label_file` is relative to: `path` or the file's folder; what lies above it where that is
    only the labels' part of a set (Annotations, labels, FDDB-folds, …).
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    return folder.parent if folder.name.lower() in _LABEL_FOLDERS[format] else folder


def label_lists(root: Path | str, format: str) -> list[tuple[Path, str]]:
    """(list, split) of WIDER FACE or FDDB in their root folder, in the order in which they are read."""
    root = Path(root)
    if format == "fddb":
        found = sorted(root.glob("FDDB-folds/FDDB-fold-*-ellipseList.txt"))
        return [(path, f"fold-{path.name.split('-')[2]}") for path in found]
    lists = []
    for split in ("train", "val"):
        name = f"wider_face_{split}_bbx_gt.txt"
        path = next((p for p in (root / "wider_face_split" / name, root / name) if p.is_file()), None)
        lists += [(path, split)] if path else []
    return lists


def list_blocks(path: Path | str) -> Iterator[tuple[str, int, list[int], bool]]:
    """(picture, its line, the lines of its faces, whether a row of zeros follows) for each block of such a list.

    Lines count from 1. Raises as `lib.data.files.read_blocks`.
    """
    lines, k = list_lines(path), 0
    for name, rows in read_blocks(path, list):
        while not lines[k].strip():
            k += 1
        first = k + 2
        last = first + len(rows)
        follows = lines[last].split() if not rows and last < len(lines) else []
        zeros = len(follows) >= 4 and set(follows) == {"0"}
        yield name, k + 1, [line + 1 for line in range(first, last)], zeros
        k = last + zeros


def list_lines(path: Path | str) -> list[str]:
    """The lines of such a list as `list_blocks` counts them, without their ends."""
    text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    return text.removesuffix("\n").split("\n")


def face_classes(table: pd.DataFrame) -> pd.Series:
    """For each row "face", "face_mask", or "" for what is no face or no box, by its label.

    Example: `table[face_classes(table) == "face"]` are the faces that may be masked.
    """
    labels = table["label"].str.strip().str.casefold().str.replace(r"[\s\-]+", "_", regex=True)
    named = table.loc[table["w"].notna(), "label"].unique()
    faces = FACE_LABELS | ({"0"} if list(named) == ["0"] else set())
    classes = pd.Series("", table.index, dtype=object)
    classes = classes.mask(labels.isin(faces), FACE).mask(labels.isin(MASKED_LABELS), MASKED)
    return classes.where(table["w"].notna(), "")


def _has_texts(root: Path) -> bool:
    if next(root.glob("**/labels/**/*.txt"), None):
        return True
    pictures = list_images(root)
    return any((root / place).is_file() for p in pictures for place in label_places(p.relative_to(root).as_posix()))


def _read_coco(path: Path, root: Path, images: Path | str | None) -> pd.DataFrame:
    if path.is_file():
        return read_coco(path, images)
    files, tables = find_coco(root), []
    if not files:
        raise FileNotFoundError(f"{root}: no COCO file (annotations/*.json, *.json) in it; name the file")
    for file in files:
        table, base = read_coco(file, images), coco_root(file)
        if images is None and base != root:
            table["image"] = f"{base.relative_to(root).as_posix()}/" + table["image"]
        name = file.relative_to(root).as_posix()
        tables.append(table.assign(label_file=name, split=split_of(name)))
    return _joined(tables)


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables of several label files as one: a picture that an earlier one has is listed again."""
    earlier: set[str] = set()
    for table in tables:
        again = table["image"].isin(earlier) & (table["reason"] == "")
        table.loc[again, "reason"] = LISTED_AGAIN
        earlier |= set(table["image"])
    joined = pd.concat(tables, ignore_index=True)
    joined["face"] = joined.groupby("image", sort=False).cumcount()
    return joined


def _read_lists(root: Path, format: str, images: Path | str | None) -> pd.DataFrame:
    """WIDER FACE or FDDB by its reader, and for each row where it stands, the picture's size, and where it is told
    that pictures lie elsewhere, what follows from that."""
    tables, sizes, records = [], {}, iter(())
    pictures = root if images is None else Path(images)
    if format == "fddb":
        records = iter(read_fddb(root).to_dict("records"))
    for path, split in label_lists(root, format):
        rows, seen = [], set()
        if format == "wider":
            records = iter(read_wider(root, split).to_dict("records"))
        for name, line, entries, _ in list_blocks(path):
            unread = format == "fddb" and not entries  # its reader passes over pictures without faces
            found = _find(pictures, format, split, name) if unread or images is not None else None
            for entry in entries or [-1]:
                row = {} if unread else next(records)
                if found is not None:
                    row["image"] = found[0]
                    row["reason"] = found[1] or (LISTED_AGAIN if name in seen else _own_reason(row, entry))
                row |= {"split": split, "label_file": path.relative_to(root).as_posix(), "label_record": line}
                rows.append(row | {"label_entry": entry})
            seen.add(name)
        tables.append(box_table(rows))
    table = _joined(tables)
    for image in table.loc[~table["reason"].str.startswith(("picture ", "path ", "name ")), "image"].unique():
        try:
            sizes[image] = image_size(pictures / image)
        except ImageError as error:
            table.loc[table["image"] == image, "reason"] = f"picture {error.reason}"
    for side, name in enumerate(("width", "height")):
        known = {image: size[side] for image, size in sizes.items()}
        table[name] = table["image"].map(known).fillna(-1).astype("int64")
    outside = [
        not row.reason and row.width > 0 and box_reason(row.x, row.y, row.w, row.h, (row.width, row.height)) != ""
        for row in table.itertuples()
    ]
    table.loc[outside, "reason"] = "box outside the picture"
    return table


def _find(pictures: Path, format: str, split: str, name: str) -> tuple[str, str]:
    folders = _FDDB_FOLDERS if format == "fddb" else [folder.format(split) for folder in _WIDER_FOLDERS]
    names = [f"{name}.jpg", f"{name}.png"] if format == "fddb" else [name, re.sub(r"\.[^./]*$", "", name) + ".png"]
    image, _, why_not = find_picture(pictures, folders, names)
    return image, why_not


def _own_reason(row: dict, entry: int) -> str:
    if entry < 0:
        return NO_FACE
    return box_reason(*(row[k] for k in BOX)) or (INVALID if row.get("invalid") == 1 else "")
