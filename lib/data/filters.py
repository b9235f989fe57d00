"""The paper's filters on set B (§3, §4.3) as named predicates on the face table: each gives a boolean Series.

Unknown values (−1, NaN) never pass. The codes are MAFA's; the face world's pool uses the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

Predicate = Callable[[pd.DataFrame], pd.Series]  # boolean, with the table's index
Step = Predicate | tuple[str, Predicate]  # a predicate goes by its function's name unless another is given

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


STAGE_FILTERS: dict[str, tuple[Predicate, ...]] = {
    "stage1": (simple_mask, fully_occluded, at_least_60px),
    "stage2": (simple_mask, fully_occluded, at_least_60px, front_facing),
}
PAPER_COUNTS = {"stage1": 9_517, "stage2": 8_938, "picked": 1_597, "stock": 98, "stage3": 1_695}


def funnel(table: pd.DataFrame, steps: Sequence[Step]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Apply predicates one after the other.

    Returns the rows that pass all, with a fresh index, and the counts: step, kept, removed (first row: before any).
    """
    counts = [{"step": "all faces", "kept": len(table), "removed": 0}]
    for step in steps:
        name, predicate = step if isinstance(step, tuple) else (step.__name__, step)
        passing = predicate(table)
        counts.append({"step": name, "kept": int(passing.sum()), "removed": int((~passing).sum())})
        table = table[passing]
    return table.reset_index(drop=True), pd.DataFrame(counts)
