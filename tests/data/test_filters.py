"""The paper's filters, on known and unknown values."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from lib.data import filters
from lib.data.table import make_table

RNG = np.random.default_rng(0)


@pytest.fixture
def pool():
    rows = [
        {
            "image": f"{k}.jpg",
            "x": 0, "y": 0,
            "w": int(RNG.integers(40, 90)), "h": int(RNG.integers(40, 90)),
            "occluder_type": int(RNG.choice([-1, 1, 2, 3])),
            "occlusion_degree": int(RNG.choice([-1, 0, 1, 2, 3, 4])),
            "orientation": int(RNG.integers(1, 6)),
        }
        for k in range(400)
    ]  # fmt: skip
    return make_table(rows)


def test_predicates_at_their_limits():
    table = pd.DataFrame(
        {
            "occluder_type": [1, 2, 3, -1, np.nan],
            "occlusion_degree": [3, 4, 2, -1, np.nan],
            "w": [60, 59.9, 60, 200, np.nan],
            "h": [60, 60, 59, 200, 80],
            "orientation": [1, 2, 3, 4, 5],
        }
    )
    assert filters.simple_mask(table).tolist() == [True, False, False, False, False]
    assert filters.fully_occluded(table).tolist() == [True, True, False, False, False]
    assert filters.at_least_60px(table).tolist() == [True, False, False, True, False]
    assert filters.front_facing(table).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("kind", ["float64", "Int64", "object"])
@pytest.mark.parametrize("predicate", filters.STAGE_FILTERS["stage2"])
def test_unknown_values_never_pass_and_the_answer_is_plain_bool(predicate, kind):
    names = ("occluder_type", "occlusion_degree", "w", "h", "orientation")
    table = pd.DataFrame({name: pd.array([None, -1], dtype=kind) for name in names}, index=[7, 9])
    answer = predicate(table)
    assert answer.dtype == bool
    assert answer.index.tolist() == [7, 9]
    assert not answer.any()


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="no column 'orientation', which this filter needs; it has image"):
        filters.front_facing(pd.DataFrame({"image": ["a"]}))


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_funnel_keeps_what_a_query_keeps(pool, stage):
    """Oracle: the paper's words as one pandas query."""
    words = "occluder_type == 1 and occlusion_degree >= 3 and w >= 60 and h >= 60"
    expected = pool.query(words + (" and orientation in (2, 3, 4)" if stage == "stage2" else ""))
    kept, counts = filters.funnel(pool, filters.STAGE_FILTERS[stage])
    assert 0 < len(kept) < 100
    assert kept["image"].tolist() == expected["image"].tolist()
    assert kept.index.tolist() == list(range(len(kept)))
    assert counts["kept"].iloc[0] == len(pool)
    assert counts["kept"].iloc[-1] == len(kept)
    assert (counts["kept"] == len(pool) - counts["removed"].cumsum()).all()
    assert counts["step"].tolist()[:4] == ["all faces", "simple_mask", "fully_occluded", "at_least_60px"]


def test_stage2_is_part_of_stage1(pool):
    first, second = (set(filters.funnel(pool, filters.STAGE_FILTERS[s])[0]["image"]) for s in ("stage1", "stage2"))
    assert second < first


def test_steps_may_have_a_name_of_their_own(pool):
    steps = [("at least 80 px", partial(filters.at_least_60px, minimum_px=80))]
    kept, counts = filters.funnel(pool, steps)
    assert counts["step"].tolist() == ["all faces", "at least 80 px"]
    assert kept[["w", "h"]].min(axis=None) >= 80


def test_funnel_of_an_empty_table_and_of_no_steps(pool):
    assert len(filters.funnel(pool.head(0), filters.STAGE_FILTERS["stage2"])[0]) == 0
    assert len(filters.funnel(pool, [])[0]) == len(pool)


def test_the_papers_counts_add_up():
    c = filters.PAPER_COUNTS
    assert (c["stage1"], c["stage2"], c["stage3"]) == (9_517, 8_938, 1_695)
    assert c["picked"] + c["stock"] == c["stage3"]
