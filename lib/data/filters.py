"""The paper's filters on set B (§3, §4.3) as named predicates on the face table: each gives a boolean Series.

Unknown values (−1, NaN) never pass. The codes are MAFA's; the face world's pool uses the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

Predicate = Callable[[pd.DataFrame], pd.Series]  # boolean, with the table's index
Step = tuple[str, Predicate]  # in words, and the predicate

SIMPLE = 1  # MAFA occluder type: 1 simple, 2 complex, 3 human body
FULLY_OCCLUDED = 3  # occluded parts, at least (paper §4.3: "occlusion degree equal to or higher than three")
MINIMUM_PX = 60  # paper §3
FRONT = (2, 3, 4)  # MAFA orientation: left-frontal, frontal, right-frontal (paper §4.3)


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    if name not in table:
        raise ValueError(f"the face table has no column {name!r}, which this filter needs; it has {', '.join(table)}")
    return pd.to_numeric(table[name], errors="coerce").astype(float)  # NaN compares False to everything


def simple_mask(table: pd.DataFrame) -> pd.Series:
    """The occluder is of the simple type (paper §4.3, 2)."""
    return _column(table, "occluder_type") == SIMPLE


def fully_occluded(table: pd.DataFrame) -> pd.Series:
    """At least three parts of the face are occluded (paper §4.3, 1)."""
    return _column(table, "occlusion_degree") >= FULLY_OCCLUDED


def at_least_60px(table: pd.DataFrame, minimum_px: float = MINIMUM_PX) -> pd.Series:
    """Width and height of the box reach 60 pixels (paper §4.3, 3)."""
    return (_column(table, "w") >= minimum_px) & (_column(table, "h") >= minimum_px)


def front_facing(table: pd.DataFrame) -> pd.Series:
    """Front, front left or front right (paper §4.3)."""
    return _column(table, "orientation").isin(FRONT)


PAPER_COUNTS = {"stage1": 9_517, "stage2": 8_938, "picked": 1_597, "stock": 98, "stage3": 1_695}


def paper_steps(minimum_px: float = MINIMUM_PX) -> dict[str, list[Step]]:
    """The paper's filters (§4.3, Table 1) in order: stage → its steps; each stage adds to the one before."""
    return {
        "stage1": [
            ("simple mask", simple_mask),
            ("fully occluded", fully_occluded),
            (f"at least {minimum_px:g} px", partial(at_least_60px, minimum_px=minimum_px)),
        ],
        "stage2": [("front facing", front_facing)],
    }


def funnel(table: pd.DataFrame, stages: dict[str, list[Step]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Apply the steps of all stages one after the other; every row stays.

    Returns the table with a boolean column per stage (the row passed all steps up to that stage's last) and
    `removed_by`, the step that took a row out (empty: none did); and the counts: step, kept, removed (first row:
    before any).
    """
    passing, counts = pd.Series(True, table.index), [{"step": "all faces", "kept": len(table), "removed": 0}]
    table = table.assign(removed_by="")
    for stage, steps in stages.items():
        for name, predicate in steps:
            removed = passing & ~predicate(table)
            passing = passing & ~removed
            table.loc[removed, "removed_by"] = f"{stage}: {name}"
            counts.append({"step": f"{stage}: {name}", "kept": int(passing.sum()), "removed": int(removed.sum())})
        table[stage] = passing
    return table, pd.DataFrame(counts)
