"""VOC labels of an augmented set: the source's XML files with other names, classes and masks, or made anew."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from lib.augment.label_rows import (
    Paths,
    RegionOf,
    boxed,
    by_picture,
    copied_path,
    ignored,
    mask_box,
    mask_region,
    plain,
)
from lib.augment.polygons import region_pieces
from lib.data.boxes import positive_size
from lib.data.files import write_text
from lib.data.voc import CORNERS, parse_voc

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_voc(out_dir: Path, table: pd.DataFrame, region_of: RegionOf, root: Path | None) -> list[Path]:
    """See `lib.augment.labels.write_labels`. Without a source: Annotations/ as the pictures lie, a.png → a.xml.

    Boxes count from 1 and include the last pixel (see lib.data.voc), that of the mask, too: in whole pixels where they
    are whole, with fractions else. Points of polygons are pixel edges counted from 0.
    """
    paths, pictures = Paths(out_dir), by_picture(table)
    several = Counter(rows[0].label_file for rows in pictures)
    for rows in pictures:
        row = rows[0]
        if root is None:
            annotation, name = _made(rows), f"Annotations/{PurePosixPath(row.image).with_suffix('.xml')}"
        else:
            annotation, name = parse_voc(root / row.label_file), copied_path(row, several[row.label_file] > 1)
            _keep(annotation, rows)
        for item, own in zip(annotation.findall("object"), boxed(rows) if root is None else _labelled(rows)):
            _add_mask(item, own, region_of)
        ET.indent(annotation, "\t")
        write_text(paths.new(name, row.image), ET.tostring(annotation, encoding="unicode") + "\n")
    return paths.all()


def _labelled(rows: list[tuple]) -> list[tuple]:
    return sorted((row for row in rows if row.label_entry >= 0), key=lambda row: row.label_entry)


def _keep(annotation: ET.Element, rows: list[tuple]) -> None:
    """Set the picture's name, its size where that is missing, and the classes; leave out objects without a row."""
    _set(annotation, "filename", PurePosixPath(rows[0].image).name)
    told = positive_size(annotation.findtext("size/width"), annotation.findtext("size/height"))
    if told is None and rows[0].width > 0:
        size = annotation.find("size")
        size = ET.SubElement(annotation, "size") if size is None else size
        _set(size, "width", str(rows[0].width))
        _set(size, "height", str(rows[0].height))
    kept = {row.label_entry: row for row in _labelled(rows)}
    for k, item in enumerate(annotation.findall("object")):
        if k not in kept:
            annotation.remove(item)
        elif (item.findtext("name") or "").strip() != kept[k].label:
            _set(item, "name", kept[k].label)


def _made(rows: list[tuple]) -> ET.Element:
    annotation, image = ET.Element("annotation"), PurePosixPath(rows[0].image)
    _set(annotation, "folder", image.parent.name)
    _set(annotation, "filename", image.name)
    if rows[0].width > 0:
        size = ET.SubElement(annotation, "size")
        for name, value in (("width", rows[0].width), ("height", rows[0].height), ("depth", 3)):
            _set(size, name, str(value))
    _set(annotation, "segmented", "0")
    for row in boxed(rows):
        item = ET.SubElement(annotation, "object")
        for name, value in (("name", row.label), ("pose", "Unspecified"), ("truncated", "0")):
            _set(item, name, value)
        _set(item, "difficult", str(int(ignored(row))))
        _add_box(item, row.x, row.y, row.w, row.h)
    return annotation


def _add_box(parent: ET.Element, x: float, y: float, w: float, h: float) -> None:
    box = ET.SubElement(parent, "bndbox")
    for name, value in zip(CORNERS, (x + 1, y + 1, x + w, y + h)):
        _set(box, name, str(plain(value)))


def _add_mask(item: ET.Element, row: tuple, region_of: RegionOf) -> None:
    box = mask_box(row)
    if box is None:
        return
    for old in item.findall("mask"):
        item.remove(old)
    mask = ET.SubElement(item, "mask")
    _add_box(mask, *box)
    region = mask_region(row, region_of)
    for piece in [] if region is None else region_pieces(region):
        _add_polygon(mask, piece.outer, {})
        for hole in piece.holes:
            _add_polygon(mask, hole, {"hole": "1"})


def _add_polygon(mask: ET.Element, ring: np.ndarray, attributes: dict) -> None:
    polygon = ET.SubElement(mask, "polygon", attributes)
    for x, y in ring.tolist():
        point = ET.SubElement(polygon, "pt")
        _set(point, "x", str(x))
        _set(point, "y", str(y))


def _set(parent: ET.Element, name: str, text: str) -> None:
    child = parent.find(name)
    if child is None:
        child = ET.SubElement(parent, name)
    child.text = _NOT_XML.sub("\ufffd", text)
