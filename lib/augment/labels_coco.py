"""COCO labels of an augmented set: the source's file with other names, classes and masks, or one made anew."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from lib.augment.label_rows import (
    Paths,
    RegionOf,
    boxed,
    by_picture,
    classes_of,
    file_word,
    ignored,
    mask_box,
    mask_region,
    plain,
)
from lib.augment.polygons import region_rle
from lib.data.boxes import positive_size
from lib.data.coco import NOT_LISTED, category_names, key, label_of, load_coco
from lib.data.files import write_text
from lib.data.table import BOX


def write_coco(out_dir: Path, table: pd.DataFrame, region_of: RegionOf, root: Path | None) -> list[Path]:
    """See `lib.augment.labels.write_labels`. Without a source: annotations/instances.json, with splits one for each.

    Ids are kept; of an id that comes twice (in the source, or by variants) the second becomes a new one. Pictures and
    annotations keep the source's order.
    """
    paths = Paths(out_dir)
    table = table[table["reason"] != NOT_LISTED]
    for group, rows in table.groupby("split" if root is None else "label_file", sort=False):
        if root is None:
            name, content = f"annotations/instances{'_' * bool(group)}{file_word(group)}.json", _made(rows, region_of)
        elif group:
            name, content = group, _copied(load_coco(root / group), rows, region_of)
        else:
            continue
        write_text(paths.new(name), json.dumps(content, separators=(",", ":")) + "\n")
    return paths.all()


def _copied(content: dict, table: pd.DataFrame, region_of: RegionOf) -> dict:
    names = category_names(content)
    categories = list(content["categories"])
    numbers = {category["name"]: category["id"] for category in reversed(categories)}
    new_category, new_image, new_entry = (_Ids(content[part]) for part in ("categories", "images", "annotations"))
    images, entries = [], []
    for rows in by_picture(table.sort_values(["label_record"], kind="stable")):
        picture = content["images"][rows[0].label_record]
        size = positive_size(picture.get("width"), picture.get("height"))
        known = {"width": rows[0].width, "height": rows[0].height} if size is None and rows[0].width > 0 else {}
        picture = {**picture, "id": new_image.take(picture["id"]), "file_name": rows[0].image, **known}
        images.append(picture)
        for row in rows:
            if row.label_entry < 0:
                continue
            entry = dict(content["annotations"][row.label_entry])
            if row.label != label_of(entry, names):
                if row.label not in numbers:
                    numbers[row.label] = new_category.take(None)
                    category = {"id": numbers[row.label], "name": row.label, "supercategory": "face"}
                    categories.append(category)
                entry["category_id"] = numbers[row.label]
            if key(entry["image_id"]) != key(picture["id"]):
                entry["image_id"] = picture["id"]
            entries.append((row.label_entry, entry | _mask(row, region_of)))
    entries = [entry for _, entry in sorted(entries, key=lambda pair: pair[0])]
    for entry in entries:  # in the file's order, so that the first of an id keeps it
        entry["id"] = new_entry.take(entry.get("id"))
    return content | {"images": images, "annotations": entries, "categories": categories}


def _made(table: pd.DataFrame, region_of: RegionOf) -> dict:
    numbers = {label: k for k, label in enumerate(classes_of(table), 1)}
    images, entries = [], []
    for rows in by_picture(table):
        row = rows[0]
        size = {"width": row.width, "height": row.height} if row.width > 0 else {}
        images.append({"id": len(images) + 1, "file_name": row.image, **size})
        for row in boxed(rows):
            box = [plain(getattr(row, k)) for k in BOX]
            entry = {"id": len(entries) + 1, "image_id": len(images), "category_id": numbers[row.label], "bbox": box,
                     "area": plain(row.w * row.h), "iscrowd": int(ignored(row)), "segmentation": []}  # fmt: skip
            entries.append(entry | _mask(row, region_of))
    categories = [{"id": k, "name": label, "supercategory": "face"} for label, k in numbers.items()]
    return {"info": {}, "licenses": [], "images": images, "annotations": entries, "categories": categories}


def _mask(row: tuple, region_of: RegionOf) -> dict:
    box = mask_box(row)
    if box is None:
        return {}
    region = mask_region(row, region_of)
    return {"mask_bbox": box} | ({} if region is None else {"mask_segmentation": region_rle(region)})


class _Ids:
    """Ids of one list of the file: each is given once, then a whole number above all of them."""

    def __init__(self, entries: list[dict]):
        own = [entry.get("id") for entry in entries]
        whole = [int(key(i)) for i in own if isinstance(i, (int, str, float)) and key(i).isascii() and key(i).isdigit()]
        self.next, self.taken = max(whole, default=0) + 1, set()

    def take(self, identity: object) -> object:
        """The id itself when it is still free, else a new one."""
        if isinstance(identity, (int, str, float)) and key(identity) not in self.taken:
            self.taken.add(key(identity))
            return identity
        self.next += 1
        return self.next - 1
