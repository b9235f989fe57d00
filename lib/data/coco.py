"""COCO's JSON: pictures, annotations and categories in one file.

`{"images": [{"id", "file_name", "width", "height"}], "annotations": [{"id", "image_id", "category_id", "bbox"}],
"categories": [{"id", "name"}]}`; bbox is [x, y, width, height] in pixels, floats, origin at the upper left corner of
the upper left pixel. Exports bend this: ids that are texts or come twice, boxes as texts, no width and height, names
with folders or backslashes, annotations of pictures that are not listed.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib.data.boxes import CROWD, LABEL_FOLDERS, NO_BOX, BoxRows, numbers, positive_size, split_of
from lib.data.files import leaves_root, read_json
from lib.data.images import find_picture
from lib.data.table import BOX

NOT_LISTED = "annotation of a picture that is not listed"
NO_NAME = "its file_name is empty"
_NONE = (float("nan"),) * 4


def read_coco(json_path: Path | str, images: Path | str | None = None) -> pd.DataFrame:
    """A COCO file as a face table (see lib.data.boxes): picture by picture as listed, boxes in the file's order.

    Paths are relative to `coco_root(json_path, images)`. `label` is the category's name, the id as text where no
    category has it. Besides: `crowd` (iscrowd, 0 or 1). A picture without annotations keeps a row; it, pictures that
    are missing, listed again or named outside the root, crowds, boxes that are empty, outside, or no four numbers,
    pictures without a name, and annotations of pictures that are not listed (image "(id 17)" both) carry a reason.

    Args:
        images: The pictures' root (default: the folder of the file, or above it where that is called annotations).

    Raises:
        FileNotFoundError: no such file.
        ValueError: no JSON, or not laid out like COCO; names the file and the entry.
    """
    path = Path(json_path)
    content = load_coco(path)
    root = coco_root(path, images)
    label_file = path.relative_to(coco_root(path)).as_posix()
    names = category_names(content)
    boxes: dict[str, list[dict]] = {}
    for k, annotation in enumerate(content["annotations"]):
        box = numbers(annotation.get("bbox"))
        crowd = int(annotation.get("iscrowd") in (1, True, "1"))
        row = dict(zip(BOX, box or _NONE)) | {"label": label_of(annotation, names), "label_entry": k, "crowd": crowd}
        row["reason"] = NO_BOX if box is None else CROWD if crowd else ""
        boxes.setdefault(key(annotation["image_id"]), []).append(row)
    rows, known = BoxRows(root), set()
    split = split_of(label_file)
    folders = _picture_folders(root, path)
    for k, entry in enumerate(content["images"]):
        name, identity = entry["file_name"], key(entry["id"])
        spellings = [name] if "\\" not in name else [name, name.replace("\\", "/")]
        image, why_not = f"(id {identity})", NO_NAME
        if name.strip():
            image, _, why_not = find_picture(root, folders, spellings)
        if identity in known:
            why_not = why_not or "image id listed again"
        known.add(identity)
        size = positive_size(entry.get("width"), entry.get("height"))
        link = {"split": split, "label_file": label_file, "label_record": k}
        rows.add(image, why_not, size, boxes.pop(identity, []), **link)
    for identity, left in boxes.items():
        rows.add(f"(id {identity})", NOT_LISTED, None, left, split=split, label_file=label_file, label_record=-1)
    return rows.table(flags=("crowd",))


def coco_root(json_path: Path | str, images: Path | str | None = None) -> Path:
    """To which folder the pictures' paths of `read_coco` are relative."""
    if images is not None:
        return Path(images)
    folder = Path(json_path).parent
    return folder.parent if folder.name.lower() in LABEL_FOLDERS else folder


def load_coco(path: Path | str) -> dict:
    """The file's content, checked: three lists of objects that have what every reader needs.

    Missing annotations and categories (lists of pictures alone) become empty lists. Raises as `read_coco`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; name a COCO file (.json)")
    content = read_json(path)
    if not isinstance(content, dict) or "images" not in content:
        raise ValueError(f"{path}: not laid out like COCO: expected an object with images, annotations, categories")
    needed = {"images": ("id", "file_name"), "annotations": ("image_id",), "categories": ("id", "name")}
    for part, fields in needed.items():
        entries = content.setdefault(part, [])
        if not isinstance(entries, list):
            raise ValueError(f"{path}: {part} must be a list, it is {type(entries).__name__}")
        for k, entry in enumerate(entries):
            for field in fields:
                value = entry.get(field) if isinstance(entry, dict) else None
                text = field in ("file_name", "name")
                if isinstance(value, bool) or not isinstance(value, str if text else (int, str, float)):
                    expected = "a text" if text else "a number or text"
                    raise ValueError(f"{path}: {part}[{k}] needs {field}, {expected}; it has {str(value)[:60]!r}")
            if part == "annotations" and not isinstance(entry.get("category_id"), (int, str, float, type(None))):
                raise ValueError(f"{path}: {part}[{k}] has the category_id {str(entry['category_id'])[:60]!r}")
    return content


def category_names(content: dict) -> dict[str, str]:
    """Names by the categories' ids as `key` spells them; of two with one id the first counts."""
    return {key(category["id"]): category["name"] for category in reversed(content["categories"])}


def label_of(annotation: dict, names: dict[str, str]) -> str:
    """An annotation's class: the category's name, its id as text where it has none, "" where there is no category."""
    category = annotation.get("category_id")
    return "" if category is None else names.get(key(category), key(category))


def key(identity: int | float | str) -> str:
    """An id as text: 7, 7.0 and "7" are one, since exports mix them."""
    if isinstance(identity, float) and identity.is_integer():
        identity = int(identity)
    return str(identity)


def find_coco(root: Path | str) -> list[Path]:
    """The COCO files of a data set's folder: annotations/*.json, *.json, */*.coco.json, whatever of it is COCO.

    Of COCO's own release only the `instances_*` (captions and keypoints tell of the same pictures). Files are not read
    whole: what is COCO has "images" in its first or last 64 KB, or "annotations".
    """
    root = Path(root)
    places = [f"{folder}/*.json" for folder in ("annotations", "Annotations")] + ["*.json", "*/*.coco.json"]
    found = sorted({path for place in places for path in root.glob(place) if path.is_file() and _looks_like(path)})
    return [path for path in found if path.name.startswith("instances")] or found


def _looks_like(path: Path) -> bool:
    with path.open("rb") as file:
        ends = file.read(65_536)
        file.seek(max(path.stat().st_size - 65_536, 0))
        ends += file.read(65_536)
    return b'"images"' in ends or (b'"annotations"' in ends and b'"image_id"' in ends)


def _picture_folders(root: Path, path: Path) -> list[str]:
    """Where under the root names may be relative to: beside the file, the root, and in both `images`, and `train2017`
    for instances_train2017.json.
    """
    own, real = coco_root(path).resolve(), root.resolve()
    homes = [own.relative_to(real).as_posix(), "."] if own.is_relative_to(real) else ["."]
    parts = [path.stem.rsplit("_", 1)[-1], split_of(path.stem)]
    guesses = [".", "images", *parts, *(f"images/{part}" for part in parts)]
    places = [f"{home}/{guess}".replace("./", "").removesuffix("/.") for home in homes for guess in guesses if guess]
    return list(dict.fromkeys(g for g in places if g == "." or (not leaves_root(g) and (root / g).is_dir())))
