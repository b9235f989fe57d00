"""YOLO labels of an augmented set: the source's lines with other classes, or lines made anew; masks as polygons.

Trainers find a picture's text by its path: the last folder called images becomes labels. So all of it is laid out that
way, `images/train/a.png` and `labels/train/a.txt`, and data.yaml stands in their common root, without `path`: then that
root is meant, wherever the set lies.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import yaml

from lib.augment.label_rows import (
    Paths,
    RegionOf,
    boxed,
    by_picture,
    classes_of,
    ignored,
    mask_box,
    mask_region,
)
from lib.augment.polygons import one_ring, region_pieces
from lib.data.files import write_text
from lib.data.yolo import label_places, load_yaml, names_file, read_names

SEGMENTS = "labels_seg"
SPLITS = ("train", "val", "test")
_FILLED = 1000  # classes without a name get their number for one, where there are no more


def write_yolo(
    out_dir: Path, table: pd.DataFrame, region_of: RegionOf, root: Path | None, images: Path | None = None
) -> list[Path]:
    """See `lib.augment.labels.write_labels`. Beside labels/ and labels_seg/: data.yaml with names, train and val, and
    images/ with the pictures, as further names of the same files (hard links; copies where the disk has none).

    Splits are the source's where its data.yaml tells folders or lists, else told by folders' names; a set with only one
    of train and val names it twice, as trainers want both. A text that lies otherwise in the source, such as beside its
    picture, is moved to where its picture asks for it.

    Lines of the source keep their numbers as they are written, only the class changes; classes keep their numbers, new
    ones take the lowest that are free. Polygons are in shares of the picture, pixel edges counted from 0; a mask of
    several parts or with holes is one line that goes to and fro between them.

    images: The folder that the table's pictures are relative to; None: images/ is left to the caller.
    """
    paths, places = Paths(out_dir), {}
    names = read_names(root)[0] if root else {}
    numbers = _numbers(table, names, named=root is None)
    for rows in by_picture(table):
        row = rows[0]
        place = places[row.image] = _place(row, root)
        if images is not None:
            _link(images / row.image, paths.new(place, row.image))
        if root is None:
            lines = _made(rows, numbers)
        elif row.label_file:
            lines = _copied(root / row.label_file, rows, names, numbers)
        else:
            continue  # the source has no text for it, and no box
        name = label_places(place)[0]
        write_text(paths.new(name, row.image), "".join(f"{line}\n" for line in lines))
        if segments := [_segment(row, region_of, numbers) for row in rows if mask_box(row)]:
            write_text(paths.new(_beside(name), row.image), "".join(f"{line}\n" for line in segments if line))
    _write_names(paths, table.assign(image=table["image"].map(places)), names, numbers, root)
    return paths.all()


def _place(row: tuple, root: Path | None) -> str:
    """Where a picture belongs, so that the rule leads to its text; the source's own text keeps its name if it can."""
    told = PurePosixPath(row.label_file if root and row.label_file else row.image)
    parts = list(told.parts[:-1])
    at = [k for k, part in enumerate(parts) if part == "labels"]
    if root and row.label_file and at:
        parts[at[-1]] = "images"
    elif "images" not in parts:
        parts.insert(0, "images")
    return "/".join([*parts, PurePosixPath(row.image).name])


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy on a disk that has no hard links."""
    if target.exists() and target.samefile(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name[:80]}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)


def _numbers(table: pd.DataFrame, names: dict[int, str], named: bool) -> dict[str, int]:
    """Class number of each label; a label that is a number, in a set that does not name it, is that number."""
    numbers = {name: k for k, name in sorted(names.items(), reverse=True)}
    new = [label for label in classes_of(table) if label not in numbers]
    if not named:
        numbers |= {label: int(label) for label in new if re.fullmatch("[0-9]{1,10}", label)}
    taken, free = {*names, *numbers.values()}, 0
    for label in new:
        if label not in numbers:
            while free in taken:
                free += 1
            numbers[label] = free
            taken.add(free)
    return numbers


def _copied(path: Path, rows: list[tuple], names: dict[int, str], numbers: dict[str, int]) -> list[str]:
    lines = path.read_bytes().decode("utf-8-sig", errors="replace").split("\n")
    found = []
    for row in sorted(rows, key=lambda row: row.label_entry):
        if row.label_entry > 0:
            line = lines[row.label_entry - 1].strip()
            number = int(float(line.split()[0]))
            same = names.get(number, str(number)) == row.label
            found.append(line if same else re.sub(r"^\S+", str(numbers[row.label]), line))
    return found


def _made(rows: list[tuple], numbers: dict[str, int]) -> list[str]:
    lines = []
    for row in boxed(rows):
        if ignored(row):
            continue
        _needs_size(row)
        if shares := _shares(row):
            lines.append(_line(numbers[row.label], shares))
    return lines


def _shares(row: tuple) -> list[float] | None:
    """Centre, width and height in shares of the picture. Trainers pass over a whole picture for one centre outside of
    it, or a box larger than it: such a box is cut to the picture, and left out (None) where nothing of it is there."""
    left, top, right, bottom = row.x, row.y, row.x + row.w, row.y + row.h
    centre = (row.x + row.w / 2) / row.width, (row.y + row.h / 2) / row.height
    shares = [*centre, row.w / row.width, row.h / row.height]
    if all(0 <= share <= 1 for share in shares):
        return shares
    left, right = (min(max(edge, 0.0), row.width) for edge in (left, right))
    top, bottom = (min(max(edge, 0.0), row.height) for edge in (top, bottom))
    if right <= left or bottom <= top:
        return None
    width, height = (right - left) / row.width, (bottom - top) / row.height
    return [(left + right) / 2 / row.width, (top + bottom) / 2 / row.height, width, height]


def _segment(row: tuple, region_of: RegionOf, numbers: dict[str, int]) -> str:
    region = mask_region(row, region_of)
    pieces = [] if region is None else region_pieces(region)
    if not pieces:
        return ""
    ring = one_ring(pieces) / np.array(region.shape[::-1])
    return _line(numbers[row.label], ring.ravel().tolist())


def _needs_size(row: tuple) -> None:
    if row.width <= 0 or row.height <= 0:
        raise ValueError(f"{row.image}: YOLO's labels are shares of the picture: width and height are needed")


def _line(number: int, shares: list[float]) -> str:
    return " ".join([str(number), *map(repr, map(float, shares))])


def _beside(name: str) -> str:
    parts = list(PurePosixPath(name).parts)
    at = [k for k, part in enumerate(parts[:-1]) if part == "labels"]
    return "/".join([*parts[: at[-1]], SEGMENTS, *parts[at[-1] + 1 :]] if at else [SEGMENTS, *parts])


def _write_names(
    paths: Paths, table: pd.DataFrame, names: dict[int, str], numbers: dict[str, int], root: Path | None
) -> None:
    """data.yaml, and classes.txt where the source has that, with the new classes added."""
    named = dict(sorted((names | {k: label for label, k in numbers.items()}).items()))
    if named and max(named) < _FILLED:
        named = {k: named.get(k, str(k)) for k in range(max(named) + 1)}  # trainers want every number named
    path = names_file(root) if root else None
    if path is not None and path.suffix == ".txt":
        lines = [named.get(k, str(k)) for k in range(max(named, default=-1) + 1)]
        write_text(paths.new(path.relative_to(root).as_posix()), "".join(f"{line}\n" for line in lines))
        path = None
    if path is None and not named:
        return
    content = load_yaml(path) if path else {}
    listed = isinstance(content.get("names"), list) and list(named) == list(range(len(named)))
    splits = _splits(paths, table, content, root)
    content = {key: value for key, value in content.items() if key not in ("path", "download", *SPLITS)}
    content = splits | content | {"names": list(named.values()) if listed else named}
    if "nc" in content:
        content["nc"] = len(named)
    name = path.relative_to(root).as_posix() if path else "data.yaml"
    write_text(paths.new(name), yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _splits(paths: Paths, table: pd.DataFrame, content: dict, root: Path | None) -> dict:
    """The pictures of train, val and test: folders as the source's data.yaml has them, or lists. table: its `image` is
    the picture's place here."""
    places, told, lists = list(table["image"].unique()), {}, {}
    for name in SPLITS:
        entries = content.get(name) or []
        entries = [str(entry) for entry in (entries if isinstance(entries, list) else [entries])]
        folders = [_folder(entry, places) for entry in entries]
        if entries and all(folders):
            told[name] = folders[0] if len(folders) == 1 else folders
        else:
            lists[name] = [place for entry in entries for place in _listed(entry, table, root)]
    if not told and not any(lists.values()):
        own = table["split"].where(table["split"].isin(SPLITS), "train")
        lists = {name: rows["image"].tolist() for name, rows in table.groupby(own, sort=False)}
    for name, own in lists.items():
        if own:
            told[name] = f"{name}.txt"
            write_text(paths.new(told[name]), "".join(f"./{place}\n" for place in dict.fromkeys(own)))
    only = next((told[name] for name in SPLITS if name in told), None)
    both = {name: told.get(name, only) for name in ("train", "val")} if told else {}
    return both | told


def _folder(entry: str, places: list[str]) -> str:
    """The end of a path that is a folder of pictures here, "" for none."""
    parts = _parts(entry)
    tails = ["/".join(parts[k:]) for k in range(len(parts))]
    return next((tail for tail in tails if any(place.startswith(f"{tail}/") for place in places)), "")


def _listed(entry: str, table: pd.DataFrame, root: Path | None) -> list[str]:
    """The places of the pictures that a list of the source names."""
    parts = _parts(entry) if root and entry.endswith(".txt") else []
    path = next((path for k in range(len(parts)) if (path := root.joinpath(*parts[k:])).is_file()), None)
    if path is None:
        return []
    by_text: dict[str, list[str]] = {}
    for row in table.drop_duplicates("image").itertuples():
        by_text.setdefault(row.label_file or label_places(row.image)[0], []).append(row.image)
    found = []
    for line in path.read_text(encoding="utf-8-sig", errors="replace").split("\n"):
        parts = _parts(line.strip())
        texts = (text for k in range(len(parts)) for text in label_places("/".join(parts[k:])))
        found += by_text.get(next((text for text in texts if text in by_text), ""), [])
    return found


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
