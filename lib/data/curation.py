"""Hand-picking as a file: who accepted or rejected which face, when and why. Enough to rebuild the set.

A selection is a CSV with the columns image, face, decision (accept, reject, unsure), reason, by, time (ISO 8601).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lib.data.files import write_table

COLUMNS = ("image", "face", "decision", "reason", "by", "time")
DECISIONS = ("accept", "reject", "unsure")


def make_selection(rows: list[dict] | pd.DataFrame) -> pd.DataFrame:
    """A selection from rows that need image and decision; face is 0 and the rest empty where missing.

    Raises ValueError for an unknown decision.
    """
    table = pd.DataFrame(rows, columns=None if len(rows) else list(COLUMNS))
    for name, default in (("face", 0), ("reason", ""), ("by", ""), ("time", "")):
        if name not in table:
            table[name] = default
    return _checked(table, "selection", 0)


def read_selection(path: Path | str) -> pd.DataFrame:
    """Read a selection. Raises ValueError that names the file, the line and what was expected."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no selection there; make one in notebook 01 or name another file")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]})") from error
    return _checked(table, path, 2)


def write_selection(path: Path | str, selection: pd.DataFrame) -> None:
    """Write a selection atomically."""
    write_table(path, _checked(selection, path, 2))


def merge(selections: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join several selections. The latest decision on a face wins; faces with differing ones come back as conflicts."""
    rows = pd.concat(list(selections), ignore_index=True).sort_values("time", kind="stable")
    differing = rows.groupby(["image", "face"])["decision"].transform("nunique") > 1
    merged = rows.drop_duplicates(["image", "face"], keep="last").sort_values(["image", "face"], ignore_index=True)
    return merged, rows[differing].sort_values(["image", "face", "time"], ignore_index=True)


def accepted(table: pd.DataFrame, selection: pd.DataFrame) -> pd.Series:
    """Boolean per row of a face table: True where the selection accepts that face. Faces it does not name are out."""
    chosen = selection[selection["decision"] == "accept"]
    wanted = set(zip(chosen["image"], chosen["face"].astype(int)))
    return pd.Series([key in wanted for key in zip(table["image"], table["face"].astype(int))], table.index, dtype=bool)


def _checked(table: pd.DataFrame, path: Path | str, first_line: int) -> pd.DataFrame:
    if missing := [name for name in COLUMNS[:3] if name not in table]:
        raise ValueError(f"{path}: lacks the column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
    table = table.reset_index(drop=True)
    for name in COLUMNS[3:]:
        table[name] = table[name].fillna("").astype(str) if name in table else ""
    wrong = ~table["decision"].isin(DECISIONS)
    if wrong.any():
        at = wrong.idxmax()
        raise ValueError(
            f"{path}, line {at + first_line}: decision {table['decision'][at]!r}; expected {', '.join(DECISIONS)}"
        )
    faces = pd.to_numeric(table["face"], errors="coerce")
    if (bad := faces.isna() | (faces < 0) | (faces % 1 != 0)).any():
        at = bad.idxmax()
        raise ValueError(f"{path}, line {at + first_line}: face {table['face'][at]!r} is no index (0, 1, …)")
    return table.assign(face=faces.astype(int))[list(COLUMNS)]
