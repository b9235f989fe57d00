"""Crops of stock photographs as a file: which squares of which pictures, and whose they are (paper §3: 98 of set B).

crops.csv: image (path in the folder), crop (index in the picture; one that is deleted leaves a gap), x, y, w, h (whole
px of the upright picture, inside it), credit, source, licence, by, time (ISO 8601), sha256 (of the picture's file).
`lib.study.crop_stock` writes it; `export_crops` makes of it and the photographs the same PNGs anywhere, to the bit.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from lib.data.files import sha256, write_png, write_table
from lib.data.images import image_size, read_image

BOX, CREDIT = ("x", "y", "w", "h"), ("credit", "source", "licence")
COLUMNS = ("image", "crop", *BOX, *CREDIT, "by", "time", "sha256")
CREDITS = "CREDITS.csv"
_LISTED = 5  # bad rows named in one error


def read_crops(path: Path | str) -> pd.DataFrame:
    """Read a crops.csv: one row per crop, in the file's order, x, y, w, h and crop as integers.

    Raises ValueError that names the file, its lines and what was expected there: columns, boxes, a picture's path that
    leaves its folder, a crop listed twice. Credits may be empty (`export_crops` asks for them).
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no crops there; make them with lib.study.crop_stock or name another file")
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        rows, lines = [], []
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"line {reader.line_num} has other than {len(reader.fieldnames)} fields")
            rows.append(row)
            lines.append(f"line {reader.line_num}")
    except (csv.Error, ValueError) as error:  # a UnicodeDecodeError is a ValueError
        raise ValueError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from error
    table = pd.DataFrame(rows, columns=list(dict.fromkeys(reader.fieldnames or [])))
    if missing := [name for name in COLUMNS if name not in table]:
        raise ValueError(f"{path}: lacks the column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
    bad = [f"{line}: {fault}" for line, row in zip(lines, table.itertuples()) if (fault := _fault(row))]
    again = table[["image"]].assign(crop=pd.to_numeric(table["crop"], errors="coerce")).duplicated()
    bad += [f"{lines[k]}: this crop is listed twice" for k in np.flatnonzero(again)]
    if bad:
        more = f"; and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        raise ValueError(f"{path}, {'; '.join(bad[:_LISTED])}{more}")
    return table[list(COLUMNS)].astype(dict.fromkeys(("crop", *BOX), int))


def export_crops(crops: Path | str, root: Path | str, out: Path | str) -> pd.DataFrame:
    """Cut the crops of a crops.csv out of the pictures under `root` and write them as PNG to `out`.

    The same CSV and pictures give the same files. A name is the picture's, the beginning of its SHA-256 and the crop's
    index, so that it depends on nothing else. Crops of an earlier export that are no longer in the CSV are deleted.

    Returns what is written to CREDITS.csv: file, image, crop, x, y, w, h, credit, source, licence, sha256.

    Raises ValueError, before anything is written, for crops without author, source or licence, pictures that are not
    there or have changed since, a box that leaves its picture; ImageError for a picture that cannot be decoded.
    """
    crops, root, out = Path(crops), Path(root), Path(out)
    table = read_crops(crops)
    if table.empty:
        raise ValueError(f"{crops}: no crops in it yet")
    if without := {row.image: lacking_credit(row) for row in table.itertuples() if lacking_credit(row)}:
        some = "; ".join(f"{image} ({', '.join(names)})" for image, names in list(without.items())[:_LISTED])
        more = f" and {len(without) - _LISTED} more" if len(without) > _LISTED else ""
        raise ValueError(f"{crops}: credits are missing, fill them in first: {some}{more}")
    for image, rows in table.groupby("image", sort=False):
        try:
            digest = sha256(root / image)
        except OSError as error:
            raise ValueError(
                f"{root / image}: {crops.name} names it, but it cannot be read ({error.strerror})"
            ) from None
        if (rows["sha256"] != digest).any():
            raise ValueError(f"{root / image}: is another file than the crop was drawn on; draw it anew")
        width, height = image_size(root / image)
        outside = rows[(rows["x"] + rows["w"] > width) | (rows["y"] + rows["h"] > height)]
        if len(outside):
            raise ValueError(f"{crops}: crop {outside['crop'].iloc[0]} of {image} leaves its {width} × {height} px")
    table["file"] = [f"{PurePosixPath(r.image).stem}_{r.sha256[:8]}_{r.crop}.png" for r in table.itertuples()]
    if (doubled := table["file"].duplicated()).any():
        first = table[doubled].iloc[0]
        raise ValueError(f"{crops}: {first['image']} is there twice under one name; keep one of the copies")
    for image, rows in table.groupby("image", sort=False):
        pixels = read_image(root / image).pixels
        for row in rows.itertuples():
            write_png(out / row.file, pixels[row.y : row.y + row.h, row.x : row.x + row.w])
    if (out / CREDITS).is_file():
        before = pd.read_csv(out / CREDITS, dtype=str, keep_default_na=False).get("file", ())
        for name in set(before) - set(table["file"]):
            if re.fullmatch(r"[^/\\]+_[0-9a-f]{8}_\d+\.png", name):  # nothing but what an export has written
                (out / name).unlink(missing_ok=True)
    credits = table[["file", "image", "crop", *BOX, *CREDIT, "sha256"]]
    write_table(out / CREDITS, credits)
    return credits


def lacking_credit(row) -> list[str]:
    """Which of author, source and licence a row leaves empty."""
    return [name for name in CREDIT if not getattr(row, name).strip()]


def _fault(row) -> str:
    path = PurePosixPath(row.image)
    if not row.image or path.is_absolute() or ".." in path.parts or "\\" in row.image:
        return f"image {row.image!r} is no path inside a folder"
    if wrong := next((name for name in ("crop", *BOX) if not re.fullmatch(r"\d{1,9}", getattr(row, name))), ""):
        return f"{wrong} is {getattr(row, wrong)!r}, expected a whole number of 0 or more"
    if not (int(row.w) and int(row.h)):
        return f"the box of {row.w} × {row.h} px is empty"
    if not re.fullmatch(r"[0-9a-f]{64}", row.sha256):
        return f"sha256 is {row.sha256[:20]!r}, expected 64 hex digits"
    return ""
