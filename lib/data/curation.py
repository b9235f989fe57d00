"""Hand-picking as a file: who accepted or rejected which face, when and why. Enough to rebuild the set.

A selection is a CSV with the columns image, face, decision (accept, reject, unsure), reason, by, time (ISO 8601; UTC
where it names no zone). Rows may be added as minds change: the latest decision on a face counts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from lib.data.files import write_table

COLUMNS = ("image", "face", "decision", "reason", "by", "time")
DECISIONS = ("accept", "reject", "unsure")
_NEEDED = COLUMNS[:3]
_DEFAULTS = {"face": 0, "reason": "", "by": "", "time": ""}
_LISTED = 5  # bad lines named in one error


def make_selection(rows: list[dict] | pd.DataFrame) -> pd.DataFrame:
    """A selection from rows that need image and decision; face is 0 and the rest empty where missing.

    Raises ValueError that names the row for an unknown decision, a bad face index or a time that is not ISO 8601.
    """
    table = pd.DataFrame(rows, columns=None if len(rows) else list(COLUMNS)).reset_index(drop=True)
    for name, default in _DEFAULTS.items():
        table[name] = table[name].fillna(default) if name in table else default
    return _checked(table, "selection", [f"row {k}" for k in range(len(table))])


def read_selection(path: Path | str) -> pd.DataFrame:
    """Read a selection. Raises ValueError that names the file, the lines and what was expected there."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no selection there; make one in notebook 01 or name another file")
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets write a byte-order mark
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        lines, rows = [], []
        if len(set(reader.fieldnames or [])) < len(reader.fieldnames or []):
            raise ValueError("line 1 names a column twice")
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"line {reader.line_num} has other than {len(reader.fieldnames)} fields")
            if any(value.strip() for value in row.values()):
                lines.append(f"line {reader.line_num}")
                rows.append(row)
    except (csv.Error, ValueError) as error:  # a UnicodeDecodeError is a ValueError
        raise ValueError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from error
    return _checked(pd.DataFrame(rows, columns=reader.fieldnames or []), path, lines)


def write_selection(path: Path | str, selection: pd.DataFrame) -> None:
    """Write a selection atomically."""
    selection = selection.reset_index(drop=True)
    write_table(path, _checked(selection, path, [f"row {k}" for k in range(len(selection))]))


def merge(selections: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join several selections.

    The latest decision on a face wins; at equal times the later file, and in it the later row. A row without a time is
    older than any other.

    Returns:
        The merged selection, one row per face, and every row of the faces on which decisions differ.
    """
    if not selections:
        return make_selection([]), make_selection([])
    rows = pd.concat(list(selections), ignore_index=True)
    rows = rows.iloc[sorted(range(len(rows)), key=lambda k: _instant(rows["time"][k]))]
    differing = rows.groupby(["image", "face"])["decision"].transform("nunique") > 1
    merged = rows.drop_duplicates(["image", "face"], keep="last").sort_values(["image", "face"], ignore_index=True)
    conflicts = rows[differing].sort_values(["image", "face"], kind="stable", ignore_index=True)  # oldest first
    return merged, conflicts


def accepted(table: pd.DataFrame, selection: pd.DataFrame) -> pd.Series:
    """Boolean per row of a face table: True where the latest decision on that face is accept.

    Faces the selection does not name are out. Raises ValueError when it accepts faces but none of this table's: then
    the two name their pictures differently.
    """
    latest, _ = merge([selection])
    chosen = latest[latest["decision"] == "accept"]
    wanted = set(zip(chosen["image"], chosen["face"].astype(int)))
    passing = [key in wanted for key in zip(table["image"], table["face"].astype(int))]
    if wanted and len(table) and not any(passing):
        raise ValueError(
            f"none of the {len(wanted)} accepted faces is among the table's {len(table)}: the selection names pictures "
            f"like {chosen['image'].iloc[0]!r}, the table like {table['image'].iloc[0]!r}"
        )
    return pd.Series(passing, table.index, dtype=bool)


def apply(table: pd.DataFrame, selection: pd.DataFrame) -> pd.DataFrame:
    """The rows of a face table that a selection accepts (see `accepted`), with a fresh index."""
    return table[accepted(table, selection)].reset_index(drop=True)


def _instant(time: str) -> datetime:
    if not time:
        return datetime.min.replace(tzinfo=UTC)
    instant = datetime.fromisoformat(time)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _checked(table: pd.DataFrame, path: Path | str, lines: list[str]) -> pd.DataFrame:
    if missing := [name for name in _NEEDED if name not in table]:
        raise ValueError(f"{path}: lacks the column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
    table = table.copy()
    for name in COLUMNS[3:]:
        table[name] = table[name].fillna("").astype(str) if name in table else ""
    table["image"] = table["image"].fillna("").astype(str)
    faces = pd.to_numeric(table["face"], errors="coerce")
    bad = [
        f"{line}: {fault}"
        for line, row, face in zip(lines, table.itertuples(index=False), faces)
        if (fault := _fault(row, face))
    ]
    if bad:
        more = f"; and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        raise ValueError(f"{path}, {'; '.join(bad[:_LISTED])}{more}")
    return table.assign(face=faces.astype(int))[list(COLUMNS)]


def _fault(row, face: float) -> str:
    if not row.image:
        return "no image"
    if row.decision not in DECISIONS:
        return f"decision {row.decision!r}, expected {', '.join(DECISIONS)}"
    if not (0 <= face < 2**31 and face % 1 == 0):
        return f"face {row.face!r} is no index (0, 1, …)"
    try:
        _instant(row.time)
    except ValueError:
        return f"time {row.time!r} is not ISO 8601, like 2024-05-31T18:00:00"
    return ""
