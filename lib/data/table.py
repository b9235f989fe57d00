"""The face table: one row per face, a pandas frame stored as CSV or Parquet, returned by every reader.

Columns every table has:
    image     path of the picture, relative to the data set's root, with forward slashes
    face      index of the face in its picture
    x y w h   box in pixels, top-left origin; may leave the picture and is clipped only when cropping
    identity  who it is, as text; empty where unknown
    split     the data set's own split, or empty
    reason    why the row cannot be used; empty = usable
and whatever else the data set knows. Unknown is −1 (codes) or NaN (measures).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import parquet

from lib.data.files import NOT_UTF8

COLUMNS = ("image", "face", "x", "y", "w", "h", "identity", "split", "reason")
BOX = ("x", "y", "w", "h")
_DEFAULTS = {"face": 0, "x": np.nan, "y": np.nan, "w": np.nan, "h": np.nan, "identity": "", "split": "", "reason": ""}
BOX_LIMIT_PX = 1_000_000  # no picture is that long: a box beyond it is damage
_UNKNOWN = ("", "nan", "NaN")  # read as NaN, but never in the text columns: somebody may be called NaN
_TEXT = ("image", "identity", "split", "reason")


def make_table(rows: list[dict] | pd.DataFrame) -> pd.DataFrame:
    """A face table from rows that may lack columns: missing ones get their unknown value; the fixed ones come first.

    A name that is not UTF-8 (archives from other systems) is spelled with escapes and carries that as its reason.

    Raises ValueError for a row without an image, or with a face index or box that is no number.
    """
    if not isinstance(rows, pd.DataFrame):
        rows = [_spelled(row) for row in rows]
    table = pd.DataFrame(rows).reset_index(drop=True)
    if table.empty and "image" not in table:
        table = pd.DataFrame(columns=["image"])
    if "image" not in table:
        raise ValueError("face table: every row needs `image`, the picture's path")
    for name, value in _DEFAULTS.items():
        if name not in table:
            table[name] = value
    for name in _TEXT:
        table[name] = _text(table[name])
    _refuse(table["image"] == "", table, None, "has no image")
    for name in BOX:
        table[name] = _numbers(table, name, None).astype(float)
    table["face"] = table["face"].fillna(_DEFAULTS["face"])
    table["face"] = _indices(table, None)
    return table[[*COLUMNS, *(c for c in table if c not in COLUMNS)]]


def validate(table: pd.DataFrame, path: Path | str | None = None) -> pd.DataFrame:
    """The table itself when it keeps the contract.

    Raises ValueError that names the column and the row; with a `path` the file and its line (the header is line 1).
    """
    if missing := [c for c in COLUMNS if c not in table]:
        raise ValueError(f"{path or 'face table'}: lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    rows = table.reset_index(drop=True)
    for name in BOX:
        _numbers(rows, name, path)
        if not pd.api.types.is_numeric_dtype(rows[name]):
            raise ValueError(
                f"{path or 'face table'}: column {name} must hold numbers, it is of type {rows[name].dtype}"
            )
    _indices(rows, path)
    _refuse(rows["image"].isna() | (rows["image"] == ""), rows, path, "has no image")
    _refuse(rows.duplicated(["image", "face"]), rows, path, "face {face} of {image} is listed twice")
    endless = np.isinf(rows[list(BOX)].astype(float)).any(axis=1)
    _refuse(endless & (rows["reason"] == ""), rows, path, "face {face} of {image} has an endless box but no reason")
    broken = (rows["w"] <= 0) | (rows["h"] <= 0)
    _refuse(broken & (rows["reason"] == ""), rows, path, "face {face} of {image} has an empty box but no reason")
    return table


def box_reason(x: float, y: float, w: float, h: float, size: tuple[int, int] | None = None) -> str:
    """Why a box in pixels cannot be used, "" where it can; with the picture's (width, height) also whether it is in it.

    A box that only leaves the picture is fine: it is clipped when cropping.
    """
    if not all(abs(value) <= BOX_LIMIT_PX for value in (x, y, w, h)):  # NaN compares False
        return "box out of range"
    if w <= 0 or h <= 0:
        return "empty box"
    outside = x + w <= 0 or y + h <= 0 or (size is not None and (x >= size[0] or y >= size[1]))
    return "box outside the picture" if outside else ""


def usable(table: pd.DataFrame) -> pd.DataFrame:
    """The rows without a reason against them."""
    return table[table["reason"] == ""].reset_index(drop=True)


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a face table from CSV or Parquet. Text stays text: an identity called "007" or "NA" is kept.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a face table; names the file, and the line where there is one.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{path}: a face table is a .csv or .parquet file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        if path.suffix == ".csv":
            others = [name for name in pd.read_csv(path, nrows=0).columns if name not in _TEXT]
            table = pd.read_csv(
                path, dtype=dict.fromkeys(_TEXT, str), keep_default_na=False, na_values=dict.fromkeys(others, _UNKNOWN)
            )
        else:
            content = parquet.read_table(path)
            content.validate(full=True)  # damaged text would otherwise be found much later
            table = content.to_pandas()
    except Exception as error:  # damaged files make the parsers raise nearly anything
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: cannot be read as a table ({words})") from error
    if table.columns.has_duplicates:
        raise ValueError(f"{path}: has the column {table.columns[table.columns.duplicated()][0]!r} twice")
    for name in _TEXT:
        if name in table:
            table[name] = _text(table[name])
    if table.empty:  # a CSV without rows does not tell the kind of its columns
        table = table.astype({name: float for name in BOX if name in table})
    return validate(table, path).astype({"face": int})


def _spelled(row: dict) -> dict:
    """The row itself, or one that can be written as UTF-8."""
    try:
        "".join(value for value in row.values() if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        text = {k: _escaped(v) for k, v in row.items() if isinstance(v, str)}
        return {**row, **text, "reason": text.get("reason") or NOT_UTF8}
    return row


def _escaped(text: str) -> str:
    try:
        return os.fsencode(text).decode(errors="backslashreplace")  # a file's name: byte by byte
    except UnicodeEncodeError:  # half of a surrogate pair, from a damaged label file
        return text.encode(errors="backslashreplace").decode()


def _text(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), "").astype(str)


def _numbers(table: pd.DataFrame, name: str, path: Path | str | None) -> pd.Series:
    values = pd.to_numeric(table[name], errors="coerce")
    _refuse(values.isna() & table[name].notna(), table, path, f"{name} is {{{name}!r}}, not a number")
    return values


def _indices(table: pd.DataFrame, path: Path | str | None) -> pd.Series:
    values = pd.to_numeric(table["face"], errors="coerce")
    good = (values >= 0) & (values < 2**31) & (values % 1 == 0)
    _refuse(~good.astype(bool), table, path, "face is {face!r}, not an index (0, 1, …)")
    return values.astype(int)


def _refuse(bad: pd.Series, table: pd.DataFrame, path: Path | str | None, what: str) -> None:
    """Raise about the first bad row; `what` may name columns in braces. `table` has a fresh index."""
    if bad.any():
        index = int(bad.idxmax())
        where = f"{path}, line {index + 2}" if path else f"face table, row {index}"
        raise ValueError(f"{where}: {what.format(**table.loc[index].to_dict())}")
