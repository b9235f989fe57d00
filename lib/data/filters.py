"""The paper's filters on set B (§3, §4.3) as named predicates on the face table: each gives a boolean Series.

Unknown values (−1, NaN) never pass. The codes are MAFA's; the face world's pool uses the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pandas as pd

Predicate = Callable[[pd.DataFrame], pd.Series]  # boolean, with the table's index


class Step(NamedTuple):
    """One filter of a funnel: its name, the predicate, and why it is there."""

    name: str
    passes: Predicate
    why: str = ""


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


def usable(table: pd.DataFrame) -> pd.Series:
    """Nothing speaks against the row: its picture is there, its box is one (`reason` is empty)."""
    return table["reason"].fillna("") == ""


PAPER_COUNTS = {"stage1": 9_517, "stage2": 8_938, "picked": 1_597, "stock": 98, "stage3": 1_695}
MAFA_TRAIN_FACES = 29_452  # rows of the real label file: then the first two counts must come out


def paper_steps(minimum_px: float = MINIMUM_PX) -> dict[str, list[Step]]:
    """The paper's filters (§4.3, Table 1) in order: stage → its steps; each stage adds to the one before."""
    return {
        "stage1": [
            Step("simple mask", simple_mask, "a hand, a scarf, a printed veil is no mask to learn from (§4.3)"),
            Step("fully occluded", fully_occluded, "rule-based masks cover nose, mouth and chin: so must these (§3)"),
            Step(
                f"at least {minimum_px:g} px",
                partial(at_least_60px, minimum_px=minimum_px),
                "a small face, enlarged, teaches blur (§3; the reason is ours)",
            ),
        ],
        "stage2": [
            Step("front facing", front_facing, "CMFD is much less diverse in orientation; B's variety confuses (§4.3)")
        ],
    }


def check_counts(table: pd.DataFrame) -> str | None:
    """The paper's counts held against the real MAFA, by its labels alone: one line; None for any other table.

    table: from `mafa.read_mafa`, whole. Raises ValueError where the real label file gives other counts.
    """
    if len(table) != MAFA_TRAIN_FACES:
        return None
    marked, _ = funnel(table, paper_steps())
    found = {stage: int(marked[stage].sum()) for stage in ("stage1", "stage2")}
    wanted = {stage: PAPER_COUNTS[stage] for stage in found}
    if found != wanted:
        raise ValueError(
            f"MAFA's {len(table):,} training labels give {found['stage1']:,} and {found['stage2']:,} faces for stages "
            f"1 and 2, the paper {wanted['stage1']:,} and {wanted['stage2']:,} (§3, §4.3): the label file is not the "
            "published one"
        )
    return f"MAFA's labels give {wanted['stage1']:,} and {wanted['stage2']:,} faces, as the paper says"


def funnel(table: pd.DataFrame, stages: dict[str, list[Step]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Apply the steps of all stages one after the other; every row stays.

    Returns the table with a boolean column per stage (the row passed all steps up to that stage's last) and
    `removed_by`, the step that took a row out (empty: none did); and the counts: step, kept, removed, why (first row:
    before any).
    """
    passing = pd.Series(True, table.index)
    counts = [{"step": "all faces", "kept": len(table), "removed": 0, "why": ""}]
    table = table.assign(removed_by="")
    for stage, steps in stages.items():
        for step in steps:
            removed = passing & ~step.passes(table)
            passing = passing & ~removed
            name = f"{stage}: {step.name}"
            table.loc[removed, "removed_by"] = name
            counts.append({"step": name, "kept": int(passing.sum()), "removed": int(removed.sum()), "why": step.why})
        table[stage] = passing
    return table, pd.DataFrame(counts)
