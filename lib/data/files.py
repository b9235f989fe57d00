"""Files that are either whole or not there: temporary name in the same folder, flush to disk, rename.

And what readers of label files share: names that would lead out of a data set, lists of pictures with their faces.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath

import numpy as np
import pandas as pd
from PIL import Image


def write_bytes(path: Path | str, content: bytes) -> Path:
    """Write a file atomically; folders above it are made. A killed write leaves only a `*.tmp` file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # 80 characters and 240 bytes of the name at most: with the rest it must stay below the usual 255 bytes.
    head = os.fsencode(path.name)[:240].decode(errors="ignore")[:80]
    partial = path.with_name(f".{head}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_text(path: Path | str, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_bytes(path, text.encode())


def write_json(path: Path | str, value: object) -> Path:
    """Write plain JSON values atomically, indented. TypeError that names the file for a value JSON has no form for."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False)
    except TypeError as error:
        raise TypeError(f"{path}: {error}; turn arrays and numpy numbers into lists, int or float first") from error
    try:
        return write_text(path, text + "\n")
    except UnicodeEncodeError:  # a file name that is not UTF-8: escaped it survives
        return write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path | str):
    """Read JSON. Raises ValueError that names the file when it is damaged, FileNotFoundError when it is missing."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # some editors write a byte-order mark
    except (ValueError, RecursionError) as error:  # damaged, not UTF-8, a number of 4,300 digits, nested without end
        raise ValueError(f"{path}: not valid JSON ({error}); delete it or restore it") from error


def write_table(path: Path | str, table: pd.DataFrame) -> Path:
    """Write a table (without its index) atomically as CSV or Parquet, by the suffix.

    Raises ValueError that names the file: another suffix, or columns that Parquet cannot hold.
    """
    path, buffer = Path(path), io.BytesIO()
    if path.suffix == ".csv":
        table.to_csv(buffer, index=False, lineterminator="\n")
        if b"\r" in buffer.getvalue():  # the csv module leaves it unquoted, and it would be read as the end of a line
            buffer = io.BytesIO()
            table.to_csv(buffer, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    elif path.suffix == ".parquet":
        try:
            table.to_parquet(buffer, index=False)
        except (TypeError, ValueError) as error:  # pyarrow's errors are subclasses of these
            raise ValueError(f"{path}: cannot be written as Parquet ({error}); one kind of value per column") from error
    else:
        raise ValueError(f"{path}: tables are written as .csv or .parquet, not {path.suffix or 'without suffix'!r}")
    return write_bytes(path, buffer.getvalue())


def read_rows(path: Path | str) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a CSV that people write, as text, and where each stands ("line 2"); blank rows are passed over.

    Raises ValueError that names the file and, where there is one, the line: no UTF-8, a quote left open, a row of
    another length than the first, a column named twice.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets write a byte-order mark
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names, lines, rows = reader.fieldnames or [], [], []
        if len(set(names)) < len(names):
            raise ValueError("line 1 names a column twice")
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"line {reader.line_num} has other than {len(names)} fields")
            if any(value.strip() for value in row.values()):
                lines.append(f"line {reader.line_num}")
                rows.append(row)
    except (csv.Error, ValueError) as error:  # a UnicodeDecodeError is a ValueError
        raise ValueError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from error
    return pd.DataFrame(rows, columns=names), lines


def write_png(path: Path | str, pixels: np.ndarray) -> Path:
    """Write uint8 [H, W], [H, W, 3] or [H, W, 4] as PNG atomically. ValueError for anything else."""
    pixels = np.asarray(pixels)
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not shaped or not pixels.size:
        raise ValueError(f"{path}: expected uint8 [H, W] or [H, W, 3 or 4], got {pixels.dtype} {list(pixels.shape)}")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return write_bytes(path, buffer.getvalue())


# Reasons against a row whose picture is never opened.
LEAVES = "path leaves the data set"
MISSING = "picture missing"
NOT_UTF8 = "name is not UTF-8; rename it"
NOT_OPENED = (LEAVES, MISSING, NOT_UTF8)


def leaves_root(name: str) -> bool:
    """Whether a relative path, as a label file names it, may lead out of its folder: `..`, absolute, or with a drive.

    Both slashes part folders, whatever the system: the file may come from another one. Links are not looked at.
    """
    path = PureWindowsPath(name)
    return bool(path.anchor) or ".." in path.parts


def read_blocks(path: Path | str, numbers: Callable[[list[str]], list[float]]) -> Iterator[tuple[str, list]]:
    """(picture, its rows) of a list as FDDB and WIDER FACE write it: a path, a count, a line of numbers for each face.

    `numbers` turns the fields of such a line (parted by any white space) into its row, or raises ValueError. A count
    of 0 may be followed by a line of zeros (WIDER FACE). Blank lines between pictures are passed over.

    Raises ValueError with file and line for a list that breaks off or holds something else.
    """
    path = Path(path)
    # A damaged name becomes a missing picture. Only \n ends a line (and \r\n): names may hold other separators.
    text = path.read_text(encoding="utf-8-sig", errors="replace").removesuffix("\n")
    lines, k = text.split("\n"), 0
    while k < len(lines):
        name, k = lines[k].strip(), k + 1
        if not name:
            continue
        try:
            count, rows = int(lines[k]), []
            if count < 0:
                raise ValueError("a number of faces below 0")
            k += 1
            for _ in range(count):
                rows.append(numbers(lines[k].split()))
                k += 1
            if count == 0 and k < len(lines) and len(zeros := lines[k].split()) >= 4 and set(zeros) == {"0"}:
                k += 1
        except IndexError:
            raise ValueError(f"{path}, line {len(lines)}: the list breaks off after {name}") from None
        except (ValueError, OverflowError) as error:
            line = f"line {k + 1}: {lines[k][:200]!r}"
            raise ValueError(f"{path}, {line} is not what belongs after {name} ({error})") from None
        yield name, rows


def sha256(path: Path | str) -> str:
    """Hex digest of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
