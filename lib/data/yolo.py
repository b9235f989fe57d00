"""YOLO: a text file per picture, `labels/train/a.txt` for `images/train/a.jpg`, a line `class cx cy w h` for each box.

Centre and size are shares of the picture's width and height, so the header of every picture is read. Class numbers get
their names from data.yaml (`names`, a list or a dict) or classes.txt. No text file, or an empty one: no box. Lines with
more numbers are polygons (the box is the one around), or boxes with a confidence or key points behind.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath

import pandas as pd
import yaml

from lib.data.boxes import BoxRows, list_files, split_of
from lib.data.files import MISSING
from lib.data.images import find_picture, list_images
from lib.data.table import BOX, BOX_LIMIT_PX

CLASSES = "classes.txt"
_DATA = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NO_LABELS = ("classes.txt", "labels.txt", "obj.names", "readme.txt", "readme.roboflow.txt", "readme.dataset.txt")


def read_yolo(root: Path | str, images: Path | str | None = None) -> pd.DataFrame:
    """A YOLO set as a face table (see lib.data.boxes): every picture, sorted by path, the boxes in the file's order.

    The text of images/train/a.jpg is labels/train/a.txt (the last folder called images counts), else labels/… under
    the root, else beside the picture. `label` is the class's name, its number as text where it has none. Pictures
    without boxes keep a row; it, texts under a labels folder whose picture is missing, damaged texts, and boxes that
    are empty or outside carry a reason. `split`: by a folder's name.

    Args:
        images: The pictures' root, where that is another; paths are relative to it.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: neither pictures nor texts in it; data.yaml with other names than texts, with file.
    """
    root = Path(root)
    base = root if images is None else Path(images)
    pictures = [path.relative_to(base).as_posix() for path in list_images(base)]
    names, key_points = read_names(root)
    texts = set(list_files(root, ".txt"))
    rows, used = BoxRows(base), set()
    for image in pictures:
        _, size, why_not = find_picture(base, ["."], [image], sizes=True)
        name = next((place for place in label_places(image) if place in texts), "")
        boxes, link = [], {"split": split_of(image), "label_file": name}
        if name:
            used.add(name)
            try:
                boxes = [
                    dict(zip(BOX, _pixels(box, size))) | {"label": names.get(number, str(number)), "label_entry": line}
                    for line, number, box in parse_yolo(root / name, key_points)
                ]
            except ValueError as error:
                detail = str(error).removeprefix(f"{root / name}")
                why_not = why_not or f"label file is damaged{detail}"
        rows.add(image, why_not, size, boxes, **link)
    for name in sorted(texts - used):
        path = PurePosixPath(name)
        if "labels" in path.parts[:-1] and path.name.lower() not in _NO_LABELS:
            parts = ["images" if part == "labels" else part for part in path.with_suffix("").parts]
            rows.add("/".join(parts), MISSING, None, [], split=split_of(name), label_file=name)
    if not rows.rows:
        raise ValueError(f"{base}: neither pictures nor labels in it; name the folder that holds images/ and labels/")
    return rows.table()


def parse_yolo(path: Path | str, key_points: bool = False) -> list[tuple[int, int, tuple[float, ...]]]:
    """(line from 1, class, (cx, cy, w, h)) of each box in a text, shares as they stand.

    Five, six (a confidence), or with `key_points` any number of fields: a box comes first. An even number of at least
    six coordinates: a polygon, and its box is the upright one around. An odd number: a box with key points.

    Raises ValueError with file and line for anything else.
    """
    path, found = Path(path), []
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    for line, words in enumerate(text.split("\n"), 1):
        fields = words.split()
        if not fields:
            continue
        try:
            number, values = float(fields[0]), [float(field) for field in fields[1:]]
            if not (0 <= number < 2**31 and number.is_integer()):
                raise ValueError("the class is no number from 0 on")
            if len(values) < 4:
                raise ValueError("fewer than five numbers")
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{path}, line {line}: {words[:200]!r} is not 'class cx cy w h' ({error})") from None
        if len(values) >= 6 and len(values) % 2 == 0 and not key_points:
            xs, ys = values[::2], values[1::2]
            values = [(min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)]
        found.append((line, int(number), tuple(values[:4])))
    return found


def read_names(root: Path | str) -> tuple[dict[int, str], bool]:
    """Names of the classes by number, and whether data.yaml says that key points follow the boxes.

    Of data.yaml (or another .yaml with `names`) in the root, else of classes.txt there or in labels/; else none.

    Raises ValueError that names the file.
    """
    root = Path(root)
    if path := names_file(root):
        if path.suffix == ".txt":
            lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
            named = [line.strip() for line in lines]
            return {k: name for k, name in enumerate(named) if name}, False
        content = load_yaml(path)
        names = content["names"]
        items = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else None
        try:
            return {int(k): _name(name) for k, name in items}, content.get("kpt_shape") is not None
        except (TypeError, ValueError, OverflowError):
            expected = "a list of texts, or numbers with texts"
            raise ValueError(f"{path}: names must be {expected}, they are {str(names)[:60]!r}") from None
    return {}, False


def names_file(root: Path | str) -> Path | None:
    """The file that names the classes of a set: data.yaml, another .yaml with `names`, or classes.txt."""
    root = Path(root)
    others = [path for suffix in ("yaml", "yml") for path in sorted(root.glob(f"*.{suffix}"))]
    for path in dict.fromkeys([*(root / name for name in _DATA), *others]):
        if path.is_file() and "names" in load_yaml(path):
            return path
    return next((p for p in (root / CLASSES, root / "labels" / CLASSES) if p.is_file()), None)


def load_yaml(path: Path | str) -> dict:
    """A YAML file's mapping, plain values only; {} where it is something else. ValueError that names the file."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "&" in text and "*" in text and any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(text)):
            raise ValueError("it has aliases, which could make it endless; write them out")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, AttributeError, TypeError, OverflowError) as error:
        words = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: not valid YAML ({words}); mend it or delete it") from None
    return content if isinstance(content, dict) else {}


def label_places(image: str) -> list[str]:
    """Where the text of a picture may lie: beside `images`, under labels/, beside the picture."""
    path = PurePosixPath(image).with_suffix(".txt")
    parts = list(path.parts)
    places = ["/".join(["labels", *parts]), "/".join(parts)]
    at = [k for k, part in enumerate(parts[:-1]) if part == "images"]
    if at:
        places.insert(0, "/".join([*parts[: at[-1]], "labels", *parts[at[-1] + 1 :]]))
    return places


def _pixels(box: tuple[float, ...], size: tuple[int, int] | None) -> tuple[float, ...]:
    if size is None or not all(map(math.isfinite, box)):
        return (math.nan,) * 4
    cx, cy, w, h = (value * side for value, side in zip(box, (*size, *size)))
    box = cx - w / 2, cy - h / 2, w, h
    return box if max(map(abs, box)) <= 10 * BOX_LIMIT_PX else (math.nan,) * 4


def _name(name: object) -> str:
    if isinstance(name, bool) or not isinstance(name, (str, int, float)):
        raise TypeError
    return str(name)
