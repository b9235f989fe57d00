"""Recognition sets: MFR2 and LFW as face tables, and the pairs of pictures by which MFR2, LFW and MLFW are measured.

A line of a pairs file is `name n1 n2` (one person), `name1 n1 name2 n2` (two people), or two files and whether they
show one person (MLFW, whose layout we could not verify: either kind is read for every set). Numbers are those of the
file names, `name/name_0001.jpg`, not positions in a listing. LFW's files begin with a header: folds and pairs per fold
(`10 300`) or pairs alone (`1100`); each fold has first that many pairs of one person, then as many of two.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pandas as pd

from lib.data.images import IMAGE_SUFFIXES, find_picture, list_images
from lib.data.table import make_table

PUBLISHED = {
    "mfr2": {"images": 269, "people": 53, "pairs": 848},
    "lfw": {"images": 13_233, "people": 5_749, "pairs": 6_000},
    "mlfw": {"pairs": 6_000},
}
_FOLDERS = {  # kind: where the pictures may lie under the root
    "mfr2": ("mfr2", "."),
    "lfw": ("lfw", "lfw_funneled", "lfw-funneled", "lfw-deepfunneled", "lfw-deepfunneled/lfw-deepfunneled", "."),
    "mlfw": ("aligned", "origin", "images", "."),
}
_SUFFIXES = {"mfr2": (".png", ".jpg", ".jpeg"), "lfw": (".jpg", ".png", ".jpeg"), "mlfw": (".jpg", ".png", ".jpeg")}
_SAME = {"1": True, "0": False, "-1": False}
_FILE = re.compile(r"(.+?)(?:_[0-9]{4}){1,2}")  # Name_0001, in MLFW Name_0001_0000
LABELS = "mfr2_labels.txt"


def read_mfr2(root: Path | str) -> pd.DataFrame:
    """MFR2 as a face table: every line of mfr2_labels.txt, in its order, then pictures it does not name.

    `identity`, `number` (of the file name) and `masktype` ("no-mask", "surgical_blue", …; empty where not named).
    Pictures that are missing, listed again or named outside `root` carry a reason.

    Raises:
        FileNotFoundError: no mfr2_labels.txt under `root`.
        ValueError: a line that is not `Name, number, masktype`, with file and line.
    """
    root = Path(root)
    path = next((p for p in (root / "mfr2" / LABELS, root / LABELS) if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{root}: no mfr2/{LABELS} in it; name MFR2's root folder")
    folders, rows, seen = _folders(root, "mfr2"), [], Counter()
    for number, line in _lines(path):
        fields = [field.strip() for field in line.rsplit(",", 2)]
        if len(fields) != 3 or not fields[0] or not _is_number(fields[1]):
            raise ValueError(f"{path}, line {number}: {line[:200]!r} is not like 'Name, 1, surgical_blue'")
        image, _, reason = find_picture(root, folders, _named(fields[0], int(fields[1]), "mfr2"))
        reason = reason or ("picture listed again" if seen[image] else "")
        rows.append({"image": image, "face": seen[image], "identity": fields[0], "number": int(fields[1]),
                     "masktype": fields[2], "reason": reason})  # fmt: skip
        seen[image] += 1
    rows += [row | {"masktype": ""} for row in _listed(root, path.parent) if row["image"] not in seen]
    return make_table(rows)


def read_lfw(root: Path | str) -> pd.DataFrame:
    """LFW's pictures as a face table with `identity` and `number`. Other names keep a reason.

    `root` holds lfw, lfw_funneled or lfw-deepfunneled, or is that folder.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no picture in it.
    """
    root = Path(root)
    folder = next((root / f for f in _FOLDERS["lfw"] if (root / f).is_dir()), root)
    rows = _listed(root, folder)
    if not rows:
        raise ValueError(f"{folder}: no pictures in it; name the folder that holds LFW")
    return make_table(rows)


def read_pairs(path: Path | str, root: Path | str, kind: str) -> pd.DataFrame:
    """A pairs file as a frame: fold (from 1; 0 where the file has none), image1, image2, same (bool), reason.

    kind: "mfr2", "lfw" or "mlfw": where pictures lie under `root`; image1 and image2 are relative to it.

    A pair keeps its row with a reason when a picture is missing or named outside `root`, or when what the line says
    contradicts the names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unknown kind; a line that is no pair, or another number of pairs than the header tells, with file.
    """
    if kind not in _FOLDERS:
        raise ValueError(f"kind: expected {', '.join(_FOLDERS)}, got {kind!r}")
    path, root = Path(path), Path(root)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; name the pairs file of {kind.upper()}")
    folders, lines = _folders(root, kind), list(_lines(path))
    header = lines[0][1].split() if lines else []
    header = [int(field) for field in header] if len(header) in (1, 2) and all(map(_is_number, header)) else []
    lines = lines[1:] if header else lines
    per_fold = 2 * header[-1] if header else 0
    expected = per_fold * (header[0] if len(header) == 2 else 1)
    if header and len(lines) != expected:
        raise ValueError(f"{path}, line 1: the header tells {expected} pairs, the file has {len(lines)}")
    found = cache(lambda names: find_picture(root, folders, names)[::2])
    rows = []
    for k, (number, line) in enumerate(lines):
        try:
            first, second, same, people = _pair(line, kind)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {line[:200]!r} is no pair ({error})") from None
        (image1, reason1), (image2, reason2) = found(first), found(second)
        reason = reason1 or reason2 or ("" if people in (None, same) else "the names tell otherwise")
        rows.append((k // per_fold + 1 if header else 0, image1, image2, same, reason))
    table = pd.DataFrame(rows, columns=["fold", "image1", "image2", "same", "reason"])
    return table.astype({"fold": int, "same": bool})


def _pair(line: str, kind: str) -> tuple[tuple[str, ...], tuple[str, ...], bool, bool | None]:
    """What its two pictures may be called, whether they show one person, and whether the names do (None: unknown)."""
    fields = [field.strip() for field in (line.split("\t") if "\t" in line else line.split())]
    fields = [field for field in fields if field]
    files = [field for field in fields if Path(field).suffix.lower() in IMAGE_SUFFIXES]
    if len(files) == 2:
        people = [match[1] if (match := _FILE.fullmatch(Path(file).stem)) else None for file in files]
        alike = None if None in people else people[0] == people[1]
        labels = [_SAME.get(field) for field in fields if field not in files]
        same = labels[0] if labels else alike
        if len(labels) > 1 or same is None:
            raise ValueError("expected two files and 1 for one person, 0 for two")
        return _places(files[0]), _places(files[1]), same, alike
    if len(fields) == 3:
        name1, number1, number2 = fields
        name2 = name1
    elif len(fields) == 4:
        name1, number1, name2, number2 = fields
    else:
        raise ValueError("expected name n1 n2, or name1 n1 name2 n2, or two files")
    if not (_is_number(number1) and _is_number(number2)):
        raise ValueError("the numbers of the pictures are none")
    return _named(name1, int(number1), kind), _named(name2, int(number2), kind), len(fields) == 3, name1 == name2


def _places(file: str) -> tuple[str, ...]:
    match = _FILE.fullmatch(Path(file).stem)
    return (file, f"{match[1]}/{file}") if match and "/" not in file else (file,)


def _named(name: str, number: int, kind: str) -> tuple[str, ...]:
    """What a picture may be called, as published first. MLFW adds to a name; its pictures may lie in one folder."""
    file = f"{name}_{number:04d}" + ("_0000" if kind == "mlfw" else "")
    stems = (f"{name}/{file}", file)[: 2 if kind == "mlfw" else 1]
    return tuple(f"{stem}{suffix}" for stem in stems for suffix in _SUFFIXES[kind])


def _folders(root: Path, kind: str) -> list[str]:
    return [folder for folder in _FOLDERS[kind] if (root / folder).is_dir()]


def _listed(root: Path, folder: Path) -> Iterable[dict]:
    """Rows for the pictures `name/name_0001.jpg` of a folder."""
    rows = []
    for path in list_images(folder):
        match = re.fullmatch(re.escape(path.parent.name) + "_([0-9]{4,9})", path.stem)
        reason = "" if match else f"name is not like {path.parent.name}_0001{path.suffix}"
        rows.append({"image": path.relative_to(root).as_posix(), "identity": path.parent.name if match else "",
                     "number": int(match[1]) if match else -1, "reason": reason})  # fmt: skip
    return rows


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    """Number and text of the lines that are not blank; a damaged name becomes a missing picture."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return [(k, line.strip()) for k, line in enumerate(text.split("\n"), 1) if line.strip()]


def _is_number(field: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", field) is not None
