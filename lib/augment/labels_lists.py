"""WIDER FACE's and FDDB's lists of an augmented set, and the table of classes and masks beside them."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path, PurePosixPath

import pandas as pd

from lib.augment.label_rows import MASK_BOX, Paths, RegionOf, boxed, by_picture, file_word, ignored, mask_region, plain
from lib.augment.polygons import region_rle
from lib.data.boxes import CROWD, INVALID
from lib.data.detection import face_classes, list_blocks, list_lines
from lib.data.files import write_table, write_text
from lib.data.table import BOX

SIDECAR = "face_labels.csv"
CODES = ("blur", "expression", "illumination", "invalid", "occlusion", "pose")
_ZEROS = "0 0 0 0 0 0 0 0 0 0 "  # after a picture without faces


def write_wider(out_dir: Path, table: pd.DataFrame, region_of: RegionOf, root: Path | None) -> list[Path]:
    """See `lib.augment.labels.write_labels`. Without a source: wider_face_split/, split val and all else as train;
    codes are those of the table, else 0.
    """

    def place(row: tuple) -> str:
        return f"wider_face_split/wider_face_{'val' if row.split == 'val' else 'train'}_bbx_gt.txt"

    def folders(row: tuple) -> list[str]:
        part = f"WIDER_{row.split}"
        return [f"{part}/images/", f"{part}/", f"{row.split}/images/", f"{row.split}/", "images/"]

    def made(row: tuple) -> str:
        codes = [max(int(getattr(row, code, 0)), 0) for code in CODES]
        codes[CODES.index("invalid")] = int(ignored(row))
        return "".join(f"{value} " for value in (*(plain(getattr(row, k)) for k in BOX), *codes))

    table = table if root else _faces(table)
    lists = _blocks(table, root, place, folders, made, suffixes=True)
    return _write(Paths(out_dir), lists, table, region_of)


def write_fddb(out_dir: Path, table: pd.DataFrame, region_of: RegionOf, root: Path | None) -> list[Path]:
    """See `lib.augment.labels.write_labels`. Without a source: FDDB-folds/, a fold for splits called fold-…, all else
    fold 01; for each box the ellipse that touches its sides. Lists name pictures without suffix, as FDDB's do; beside
    each list of ellipses stands the list of pictures.
    """

    def place(row: tuple) -> str:
        fold = row.split.removeprefix("fold-") if row.split.startswith("fold-") else "01"
        return f"FDDB-folds/FDDB-fold-{file_word(fold)}-ellipseList.txt"

    def folders(row: tuple) -> list[str]:
        return ["originalPics/"]

    def made(row: tuple) -> str:
        major, minor = max(row.w, row.h) / 2, min(row.w, row.h) / 2
        angle = 0.0 if row.w >= row.h else math.pi / 2
        return " ".join(map(repr, map(float, (major, minor, angle, row.x + row.w / 2, row.y + row.h / 2)))) + "  1"

    if root is None:
        table = _faces(table)
        table = table.assign(w=table["w"].where(~table["reason"].isin([CROWD, INVALID]), math.nan))
    lists = _blocks(table, root, place, folders, made, suffixes=False)
    names = {name.replace("-ellipseList", ""): [block[0] for block in blocks] for name, blocks in lists.items()}
    paths = Paths(out_dir)
    for name, lines in names.items():
        write_text(paths.new(name), "".join(f"{line}\n" for line in lines))
    return _write(paths, lists, table, region_of)


def _faces(table: pd.DataFrame) -> pd.DataFrame:
    """Boxes of other classes become the row of a picture without faces."""
    return table.assign(w=table["w"].where(face_classes(table) != "", math.nan))


def _blocks(table: pd.DataFrame, root: Path | None, place, folders, made, suffixes: bool) -> dict[str, list[list[str]]]:
    """For each list its blocks: the lines of a picture."""
    lists: dict[str, list[list[str]]] = {}
    lines_of = cache(lambda path: list_lines(root / path))
    zeros_of = cache(lambda path: {line: zeros for _, line, _, zeros in list_blocks(root / path)})
    for rows in by_picture(table):
        row = rows[0]
        if root is not None:
            name, zeros = row.label_file, zeros_of(row.label_file)[row.label_record]
            lines = [lines_of(name)[r.label_entry - 1] for r in rows if r.label_entry > 0]
        else:
            name, zeros, lines = place(row), suffixes, [made(r) for r in boxed(rows)]
        heads = folders(row) if root else []
        image = next((row.image.removeprefix(head) for head in heads if row.image.startswith(head)), row.image)
        image = image if suffixes else PurePosixPath(image).with_suffix("").as_posix()
        block = [image, str(len(lines)), *(lines or [_ZEROS] * zeros)]
        lists.setdefault(name, []).append(block)
    return lists


def _write(paths: Paths, lists: dict[str, list[list[str]]], table: pd.DataFrame, region_of: RegionOf) -> list[Path]:
    for name, blocks in lists.items():
        write_text(paths.new(name), "".join(f"{line}\n" for block in blocks for line in block))
    rows = []
    for row in table.itertuples(index=False):
        if row.w > 0:
            region = mask_region(row, region_of)
            code = "" if region is None else region_rle(region)["counts"]
            values = {name: getattr(row, name) for name in ("image", "face", "label", "width", "height", *MASK_BOX)}
            rows.append(values | {"mask_rle": code})
    columns = ("image", "face", "label", "width", "height", *MASK_BOX, "mask_rle")
    write_table(paths.new(SIDECAR), pd.DataFrame(rows, columns=columns))
    return paths.all()
