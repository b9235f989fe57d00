"""Picks as a file, the whole timeline on one axis, and numbers per checkpoint."""

from dataclasses import replace

import numpy as np
import pytest

from lib.data.files import read_json
from lib.study.config import STAGES, StudyError
from lib.study.datasets import load_test_set
from lib.study.selection import (
    candidates,
    compare,
    read_picks,
    spread,
    timeline_curves,
    tradeoff,
    whole_timeline,
    write_picks,
)


def test_without_a_selection_the_papers_picks_stand(empty):
    assert read_picks(empty) == (313, 476)


def test_picks_are_written_with_who_and_when_and_history_is_kept(trained, copy_of):
    study = copy_of(trained)
    first = write_picks(study, (313, 476), "paper", "by eye")
    assert {key: first[key] for key in ("stage", "picks", "by", "remark", "earlier")} == {
        "stage": "stage5", "picks": [313, 476], "by": "paper", "remark": "by eye", "earlier": [],
    }  # fmt: skip
    assert write_picks(study, (313, 476), "paper", "by eye") == first  # the same again changes nothing
    second = write_picks(study, (476, 510), "me")
    assert [row["by"] for row in second["earlier"]] == ["paper"]
    third = write_picks(study, (313, 510), "you")
    assert [row["by"] for row in third["earlier"]] == ["paper", "me"]
    assert read_picks(study) == (313, 510)
    assert read_json(study.root / "selection.json") == third


@pytest.mark.parametrize("picks", [(476, 313), (313, 313), (313,), (313, 500)])
def test_picks_that_cannot_be_are_refused_with_the_kept_ones(trained, picks):
    with pytest.raises(StudyError, match=r"expected two rising epochs .* 313, .*476, 510"):
        write_picks(trained, picks, "me")
    assert not (trained.root / "selection.json").exists()


def test_nobody_cannot_pick_and_nothing_can_be_picked_before_training(trained, empty):
    with pytest.raises(StudyError, match="who looked"):
        write_picks(trained, (313, 476), " ")
    with pytest.raises(StudyError, match="run notebook 09_stage5"):
        write_picks(empty, (313, 476), "me")


def test_all_stages_lie_on_the_papers_axis(trained):
    ticks, samples = whole_timeline(trained)
    assert list(ticks["stage"].unique()) == list(STAGES)
    assert ticks["position"].is_monotonic_increasing
    for name, rows in ticks.groupby("stage"):
        stage = STAGES[name]
        first, last = (-60, 0) if name == "pretraining" else (stage.first_epoch - 1, stage.last_epoch)
        assert rows["position"].min() > first
        assert rows["position"].max() == last
    late = samples[samples["stage"] == "stage5"]
    assert late["position"].tolist() == late["epoch"].tolist()


def test_nothing_trained_has_no_timeline(empty):
    with pytest.raises(StudyError, match="run the notebooks 04 to 09"):
        whole_timeline(empty)


def test_curves_mark_the_picks_and_name_each_loss_once(trained):
    ticks, samples = whole_timeline(trained)
    above, below = timeline_curves(ticks, samples, (313, 476), ["loss_cycle_A", "loss_nmc"]).axes
    marked = {line.get_xdata()[0] for line in below.lines if line.get_linestyle() == "--"}
    assert marked == {313, 476}
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["loss_cycle_A", "loss_nmc"]


def test_spread_keeps_both_ends():
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread("abc", 5) == ["a", "b", "c"]


def test_candidates_end_with_stage_5_and_hold_the_picks(trained):
    keys = candidates(trained, count=2)
    assert keys[:2] == [("stage3", 140), ("stage4", 298)]
    assert {("stage5", 313), ("stage5", 476), ("stage5", 510)} <= set(keys)


def test_numbers_per_checkpoint_start_with_step_one_itself(trained):
    table = compare(trained, load_test_set(trained), [("stage4", 298), ("stage5", 476)], seeds=2, faces=2)
    assert table["stage"].tolist() == ["rule-based", "stage4", "stage5"]
    assert table.loc[0, ["outside_change", "inside_change"]].tolist() == [0, 0]
    assert (table.loc[1:, "outside_change"] > 0).all()
    assert table["noise_diversity"].isna().tolist() == [True, True, False]
    assert ((table["truth_ssim"] <= 1) & (table["truth_distance"] > 0)).all()
    again = compare(trained, load_test_set(trained), [("stage5", 476)], seeds=2, faces=2)
    assert np.array_equal(again.iloc[1, 2:].to_numpy(float), table.iloc[2, 2:].to_numpy(float))
    assert {text.get_text() for text in tradeoff(table, (313, 476)).axes[0].texts} == {"476"}


def test_without_a_known_truth_the_numbers_leave_it_out(trained):
    test = replace(load_test_set(trained), truth=None, region=None)
    table = compare(trained, test, [("stage4", 298)], faces=2)
    assert not [column for column in table if column.startswith("truth")]
    assert table["colour_spread"].notna().all()
