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

from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ("image", "face", "x", "y", "w", "h", "identity", "split", "reason")
BOX = ("x", "y", "w", "h")
_DEFAULTS = {"face": 0, "x": np.nan, "y": np.nan, "w": np.nan, "h": np.nan, "identity": "", "split": "", "reason": ""}
_TEXT = ("image", "identity", "split", "reason")


def make_table(rows: list[dict] | pd.DataFrame) -> pd.DataFrame:
    """A face table from rows that may lack columns: missing ones get their unknown value; the fixed ones come first.

    Raises ValueError for rows without an image.
    """
    table = pd.DataFrame(rows)
    if table.empty and "image" not in table:
        table = pd.DataFrame(columns=["image"])
    if "image" not in table:
        raise ValueError("face table: every row needs `image`, the picture's path")
    for name, value in _DEFAULTS.items():
        if name not in table:
            table[name] = value
    table["face"] = table["face"].astype(int)
    for name in _TEXT:
        table[name] = table[name].fillna("").astype(str)
    for name in BOX:
        table[name] = table[name].astype(float)
    return table[[*COLUMNS, *(c for c in table if c not in COLUMNS)]].reset_index(drop=True)


def validate(table: pd.DataFrame, path: Path | str = "face table") -> pd.DataFrame:
    """The table itself when it keeps the contract. Raises ValueError that names `path`, the column and the row."""
    if missing := [c for c in COLUMNS if c not in table]:
        raise ValueError(f"{path}: lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    for name in BOX:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise ValueError(f"{path}: column {name} must hold numbers")
    doubled = table.duplicated(["image", "face"])
    if doubled.any():
        row = table[doubled].iloc[0]
        raise ValueError(f"{path}: face {row['face']} of {row['image']} is listed twice")
    broken = (table["w"] <= 0) | (table["h"] <= 0)
    if (bad := broken & (table["reason"] == "")).any():
        row = table[bad].iloc[0]
        raise ValueError(f"{path}: face {row['face']} of {row['image']} has an empty box but no reason")
    return table


def usable(table: pd.DataFrame) -> pd.DataFrame:
    """The rows without a reason against them."""
    return table[table["reason"] == ""].reset_index(drop=True)


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a face table from CSV or Parquet. Raises ValueError that names the file when it is not one."""
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{path}: a face table is a .csv or .parquet file")
    try:
        text = {name: str for name in _TEXT}
        table = pd.read_csv(path, dtype=text, keep_default_na=True) if path.suffix == ".csv" else pd.read_parquet(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a table ({str(error).splitlines()[0]})") from error
    for name in _TEXT:
        if name in table:
            table[name] = table[name].fillna("")
    return validate(table, path)
