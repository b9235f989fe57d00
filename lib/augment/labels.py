"""The labels of an augmented set, in its own format or another.

Boxes are written as they were. A masked face gets the class face_mask and, where the format has a place for it, the box
and the region of its mask:

    coco   keys of the annotation: mask_bbox [x, y, w, h] and mask_segmentation (compressed run lengths, of pycocotools)
    voc    in the <object>: <mask><bndbox/><polygon><pt><x/><y/></pt>…</polygon></mask>, holes as <polygon hole="1">
    yolo   labels_seg beside labels: the mask's polygon in place of the face's box; with images/ and data.yaml a set
           that can be trained on as it is
    wider, fddb   their lists have no classes and stay as they are; face_labels.csv beside them: image, face, label,
           width, height, mask_x, mask_y, mask_w, mask_h, mask_rle (as COCO's counts)
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib.augment.label_rows import RegionOf, export_table
from lib.augment.labels_coco import write_coco
from lib.augment.labels_lists import write_fddb, write_wider
from lib.augment.labels_voc import write_voc
from lib.augment.labels_yolo import write_yolo
from lib.data.detection import FORMATS, guess_format, labels_root

_WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo, "wider": write_wider, "fddb": write_fddb}


def write_labels(
    format: str,
    out_dir: Path | str,
    table: pd.DataFrame,
    region_of: RegionOf,
    source: Path | str | None = None,
    source_format: str | None = None,
    images: Path | str | None = None,
) -> list[Path]:
    """Write a set's labels; gives the files. The same table gives the same bytes; each file is written atomically.

    In the source's own format each label file keeps its name (but see `write_yolo`), and every entry is copied as it
    stands in it, with all that only it knows (COCO's info, licences, key points; VOC's pose; WIDER FACE's codes; FDDB's
    ellipses): only class, the picture's name and the mask are set, and the box is the file's, whatever the table says.
    In another format, entries are made from the table; boxes that are empty are left out, and so are, in WIDER FACE and
    FDDB, those that are no faces. Crowds and invalid faces become `iscrowd` (COCO), `difficult` (VOC), `invalid` (WIDER
    FACE); YOLO and FDDB have no such mark, they are left out.

    A picture is written when it has a row, a box when it has a row. Several pictures may come from one (variants): rows
    with another `image` and the same `label_file`, `label_record` and `label_entry`.

    Args:
        format: "coco", "voc", "yolo", "wider" or "fddb".
        out_dir: For this format's files alone, like OUT/labels/coco.
        table: As `lib.data.detection.read_detection` gives it, with these columns set anew: `image` (relative to the
            folder of the pictures that belong to these labels), `label` ("face", "face_mask"; others as they were), and
            `mask_x mask_y mask_w mask_h` (pixels; NaN or no such columns: no mask). Pictures without boxes keep their
            row. Columns of the reader must stay.
        region_of: Called with a row (named tuple: row.image, row.face, …) for each masked face: the region of its own
            mask, uint8 [H, W] at the picture's size, ≥ 128 inside; or None (then only the box is written).
        source: What the table was read from: the path given to `read_detection`. None: nothing to copy.
        source_format: Its format (default: `guess_format(source)`).
        images: Where the table's pictures are, for YOLO, whose sets hold them: they get names there, too.

    Raises:
        ValueError: unknown format, a table without the columns, a region of another size, paths that leave their
            folders, two pictures whose labels would be one file.
        FileNotFoundError: a label file of the source is no longer there.

    Example:
        table, root = read_detection("masks_voc")
        table["image"] = [str(Path(name).with_suffix(".png")) for name in table["image"]]
        masked = face_classes(table) == "face"
        …                                                  # masks the faces, notes their boxes in mask_x, …
        table.loc[masked, "label"] = "face_mask"
        regions = {("images/1.png", 0): region}
        region_of = lambda row: regions.get((row.image, row.face))
        for format in ("voc", "coco"):
            write_labels(format, out / "labels" / format, table, region_of, "masks_voc")
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    copied = source is not None and (source_format or guess_format(source)) == format
    root = labels_root(source, format) if copied else None
    more = {"images": Path(images)} if format == "yolo" and images is not None else {}
    return _WRITERS[format](Path(out_dir), export_table(table, copied), region_of, root, **more)
