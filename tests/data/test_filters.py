"""The paper's filters, on known and unknown values."""

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
@pytest.mark.parametrize("predicate", [step.passes for steps in filters.paper_steps().values() for step in steps])
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
    marked, counts = filters.funnel(pool, filters.paper_steps())
    assert len(marked) == len(pool)
    assert 0 < marked[stage].sum() < 100
    assert marked.loc[marked[stage], "image"].tolist() == expected["image"].tolist()
    last = counts.assign(stage=counts["step"].str.split(":").str[0]).groupby("stage")["kept"].last()
    assert last[stage] == len(expected)


def test_counts_add_up_and_name_who_removed_what(pool):
    marked, counts = filters.funnel(pool, filters.paper_steps())
    assert counts["step"].tolist() == [
        "all faces",
        "stage1: simple mask",
        "stage1: fully occluded",
        "stage1: at least 60 px",
        "stage2: front facing",
    ]
    assert (counts["kept"] == len(pool) - counts["removed"].cumsum()).all()
    removed = marked["removed_by"].value_counts()
    for row in counts.iloc[1:].itertuples():
        assert removed[row.step] == row.removed
    assert (marked["stage2"] == (marked["removed_by"] == "")).all()
    assert (marked["stage1"] | ~marked["stage2"]).all()


def test_the_limit_of_size_may_be_scaled(pool):
    marked, counts = filters.funnel(pool, filters.paper_steps(80))
    assert counts["step"][3] == "stage1: at least 80 px"
    assert marked.loc[marked["stage1"], ["w", "h"]].min(axis=None) >= 80


def test_funnel_of_an_empty_table_and_of_no_steps(pool):
    assert not len(filters.funnel(pool.head(0), filters.paper_steps())[0])
    marked, counts = filters.funnel(pool, {})
    assert (marked["removed_by"] == "").all()
    assert len(counts) == 1


def test_the_papers_counts_add_up():
    c = filters.PAPER_COUNTS
    assert (c["stage1"], c["stage2"], c["stage3"]) == (9_517, 8_938, 1_695)
    assert c["picked"] + c["stock"] == c["stage3"]


def test_the_counts_of_the_real_mafa_are_asserted_and_others_left_alone(pool):
    assert filters.check_counts(pool) is None
    c = filters.PAPER_COUNTS
    # A label file as long as the real one, with exactly as many faces of each kind as the paper says.
    side, front = c["stage1"] - c["stage2"], c["stage2"]
    rest = filters.MAFA_TRAIN_FACES - front - side
    orientation = np.repeat([3, 5, 3], [front, side, rest])
    kind = np.repeat([1, 1, 2], [front, side, rest])
    real = pd.DataFrame({"orientation": orientation, "occluder_type": kind, "occlusion_degree": 3, "w": 60, "h": 60})
    assert filters.check_counts(real) == "MAFA's labels give 9,517 and 8,938 faces, as the paper says"
    with pytest.raises(ValueError, match="give 9,516 and 8,937 faces for stages 1 and 2, the paper 9,517 and 8,938"):
        filters.check_counts(real.assign(w=real["w"].where(real.index != 0, 59)))


def test_every_step_of_the_paper_says_why_and_the_funnel_hands_it_on(pool):
    _, counts = filters.funnel(pool, filters.paper_steps())
    assert counts["why"].tolist()[0] == ""
    assert counts["why"].iloc[1:].str.contains("§").all()


def test_unusable_rows_do_not_pass():
    table = pd.DataFrame({"reason": ["", "picture missing", None]})
    assert filters.usable(table).tolist() == [True, False, True]
