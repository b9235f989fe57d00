"""YOLO labels of an augmented set: the source's lines with other classes, or lines made anew; masks as polygons."""

from __future__ import annotations

import re
from collections import Counter
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
    copied_path,
    file_word,
    ignored,
    mask_box,
    mask_region,
)
from lib.augment.polygons import one_ring, region_pieces
from lib.data.files import write_text
from lib.data.yolo import label_places, load_yaml, names_file, read_names

SEGMENTS = "labels_seg"


def write_yolo(out_dir: Path, table: pd.DataFrame, region_of: RegionOf, root: Path | None) -> list[Path]:
    """See `lib.augment.labels.write_labels`. Without a source: labels/ as the pictures lie, data.yaml and a list of the
    pictures for each split.

    Lines of the source keep their numbers as they are written, only the class changes; classes keep their numbers, new
    ones take the lowest that are free. Polygons are in shares of the picture, pixel edges counted from 0; a mask of
    several parts or with holes is one line that goes to and fro between them.
    """
    paths, pictures = Paths(out_dir), by_picture(table)
    several = Counter(rows[0].label_file for rows in pictures)
    names = read_names(root)[0] if root else {}
    numbers = _numbers(table, names, named=root is None)
    for rows in pictures:
        row = rows[0]
        if root is None:
            name, lines = label_places(row.image)[0], _made(rows, numbers)
        elif row.label_file:
            name = copied_path(row, several[row.label_file] > 1)
            lines = _copied(root / row.label_file, rows, names, numbers)
        else:
            continue  # the source has no text for it, and no box
        write_text(paths.new(name, row.image), "".join(f"{line}\n" for line in lines))
        if segments := [_segment(row, region_of, numbers) for row in rows if mask_box(row)]:
            write_text(paths.new(_beside(name), row.image), "".join(f"{line}\n" for line in segments if line))
    _write_names(paths, table, names, numbers, root)
    return paths.all()


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
        centre = (row.x + row.w / 2) / row.width, (row.y + row.h / 2) / row.height
        lines.append(_line(numbers[row.label], [*centre, row.w / row.width, row.h / row.height]))
    return lines


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
    """data.yaml or classes.txt, whichever the source has, with the new classes added."""
    unnamed = {str(number) for number in numbers.values()} if root else set()
    new = {k: label for label, k in numbers.items() if k not in names and label not in unnamed}
    path, named = names_file(root) if root else None, dict(sorted((names | new).items()))
    if path is not None and path.suffix == ".txt":
        lines = [named.get(k, str(k)) for k in range(max(named, default=-1) + 1)]
        write_text(paths.new(path.relative_to(root).as_posix()), "".join(f"{line}\n" for line in lines))
        return
    if path is None and not named:
        return
    content = load_yaml(path) if path else _parts(paths, table) if root is None else {}
    listed = isinstance(content.get("names"), list) and list(named) == list(range(len(named)))
    content["names"] = list(named.values()) if listed else named
    if "nc" in content:
        content["nc"] = len(named)
    name = path.relative_to(root).as_posix() if path else "data.yaml"
    write_text(paths.new(name), yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _parts(paths: Paths, table: pd.DataFrame) -> dict:
    """What data.yaml tells of the pictures: a list of them for each split (without splits: train)."""
    content = {"path": "."}
    for split, rows in table.groupby("split", sort=False):
        word = file_word(split) or "train"
        images = [image if "images" in image.split("/") else f"images/{image}" for image in rows["image"].unique()]
        write_text(paths.new(f"{word}.txt"), "".join(f"./{image}\n" for image in images))
        content[word] = f"{word}.txt"
    return content
