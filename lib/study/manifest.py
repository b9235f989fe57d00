"""A `manifest.csv` that a user puts beside the pictures of a folder: who is in them, and what else is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.files import read_rows
from lib.data.table import COLUMNS
from lib.study.config import StudyError
from lib.study.runs import Study, add_failure


def read_manifest(path: Path) -> pd.DataFrame:
    """A `manifest.csv` beside pictures: `image` (its column `name` or `image`), `identity` (`group` or `identity`, as
    text) where it has one, and its other columns, numbers where all of a column's values are.

    Raises StudyError that names the file, the column, and the line where there is one.
    """
    try:
        manifest, lines = read_rows(path)
    except ValueError as error:
        raise StudyError(str(error)) from None
    key = next((k for k in ("image", "name") if k in manifest), None)
    if key is None:
        raise StudyError(
            f"{path}: needs a column `name` or `image` with the picture's path; it has {', '.join(manifest)}"
        )
    if {"group", "identity"} <= set(manifest):
        raise StudyError(f"{path}: has both a column `group` and a column `identity`; keep the one that says who it is")
    # What a face table says of its pictures itself is not for a manifest to say.
    manifest = manifest.rename(columns={key: "image", "group": "identity"})
    manifest = manifest.drop(columns=[c for c in manifest if c in COLUMNS and c not in ("image", "identity")])
    lines = pd.Series(lines, manifest.index, dtype=object)
    if (again := manifest.duplicated("image") & ~manifest.duplicated()).any():
        line, name = lines[again].iloc[0], manifest.loc[again, "image"].iloc[0]
        raise StudyError(f"{path}, {line}: {name!r} is listed before, with other values; keep one of the rows")
    for name in manifest.columns.difference(["image", "identity", "tier"]):
        values = manifest[name].replace(("NA", "nan", "NaN"), "")
        numbers = pd.to_numeric(values, errors="coerce").replace((np.inf, -np.inf), np.nan)
        wrong = numbers.isna() & (values != "")
        if name == "yaw_estimate" and wrong.any():
            line, value = lines[wrong].iloc[0], values[wrong].iloc[0]
            raise StudyError(f"{path}, {line}: yaw_estimate is {value!r}, expected degrees as a number, or nothing")
        if not wrong.any():
            manifest[name] = numbers
    return manifest.drop_duplicates("image", ignore_index=True)


def with_manifest(study: Study, root: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of a `manifest.csv` beside the pictures, joined by the picture's path."""
    path = root / "manifest.csv"
    if not path.exists():
        return table
    manifest = read_manifest(path)
    strange, without = ~manifest["image"].isin(table["image"]), ~table["image"].isin(manifest["image"])
    if without.all():
        names = f"it names {manifest['image'].iloc[0]!r}" if len(manifest) else "it names nothing"
        raise StudyError(
            f"{path}: none of its {len(manifest):,} rows is of a picture here: {names}, expected paths inside {root}, "
            f"like {table['image'].iloc[0]!r}"
        )
    if told := [
        f"{part.sum():,} of {len(part):,} {what}, the first: {names[part].iloc[0]}"
        for part, what, names in (
            (strange, "rows are of no picture here", manifest["image"]),
            (without, "pictures are not in it", table["image"]),
        )
        if part.any()
    ]:
        add_failure(study, "manifest", str(path), "; ".join(told))
    replaced = [c for c in manifest if c in table and c != "image"]
    return table.drop(columns=replaced).merge(manifest, on="image", how="left")


def people(table: pd.DataFrame, split: str | None = None) -> set[str]:
    """The known identities of a table, or of one of its splits."""
    rows = table if split is None else table[table["split"] == split]
    return set(rows["identity"].dropna().astype(str)) - {""} if "identity" in rows else set()
