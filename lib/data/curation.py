"""Hand-picking as a file: who accepted or rejected which face, when and why. Enough to rebuild the set.

A selection is a CSV with the columns image, face, decision (accept, reject, unsure), reason, by, time (ISO 8601; UTC
where it names no zone). Rows may be added as minds change: the latest decision on a face counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from lib.data.files import read_rows, write_table

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
    table, lines = read_rows(path)
    return _checked(table, path, lines)


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
    wanted = _wanted(selection)
    passing = [key in wanted for key in zip(table["image"], table["face"].astype(int))]
    if wanted and len(table) and not any(passing):
        raise ValueError(
            f"none of the {len(wanted)} accepted faces is among the table's {len(table)}: the selection names pictures "
            f"like {next(iter(wanted))[0]!r}, the table like {table['image'].iloc[0]!r}"
        )
    return pd.Series(passing, table.index, dtype=bool)


def strangers(table: pd.DataFrame, selection: pd.DataFrame) -> list[tuple[str, int]]:
    """The faces (image, face) that a selection accepts but the table does not have."""
    there = set(zip(table["image"], table["face"].astype(int)))
    return [key for key in _wanted(selection) if key not in there]


def apply(table: pd.DataFrame, selection: pd.DataFrame) -> pd.DataFrame:
    """The rows of a face table that a selection accepts (see `accepted`), with a fresh index."""
    return table[accepted(table, selection)].reset_index(drop=True)


def _wanted(selection: pd.DataFrame) -> dict[tuple[str, int], None]:
    """The faces whose latest decision is accept, in order."""
    latest, _ = merge([selection])
    chosen = latest[latest["decision"] == "accept"]
    return dict.fromkeys(zip(chosen["image"], chosen["face"].astype(int)))


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
        f"{line}: {wrong}"
        for line, row in zip(lines, table.itertuples(index=False))
        if (wrong := fault(row.image, row.face, row.decision, row.time))
    ]
    if bad:
        more = f"; and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        raise ValueError(f"{path}, {'; '.join(bad[:_LISTED])}{more}")
    return table.assign(face=faces.astype(int))[list(COLUMNS)]


def fault(image: str, face: object, decision: str, time: str = "") -> str:
    """What is wrong with a row of a selection, "" where nothing is."""
    if not image:
        return "no image"
    if decision not in DECISIONS:
        return f"decision {decision!r}, expected {', '.join(DECISIONS)}"
    number = pd.to_numeric(face, errors="coerce")
    if not (0 <= number < 2**31 and number % 1 == 0):
        return f"face {face!r} is no index (0, 1, …)"
    try:
        _instant(time)
    except ValueError:
        return f"time {time!r} is not ISO 8601, like 2024-05-31T18:00:00"
    return ""
