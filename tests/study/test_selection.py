"""Picks as a file, the whole timeline on one axis, and numbers per checkpoint."""

import multiprocessing
from dataclasses import replace

import numpy as np
import pytest

from lib.data.files import read_json, write_json
from lib.study.config import STAGES, StudyError
from lib.study.datasets import load_test_set
from lib.study.runs import find_study
from lib.study.selection import (
    candidates,
    compare,
    mark_pick,
    present_picks,
    read_picks,
    spread,
    timeline_curves,
    tradeoff,
    whole_timeline,
    write_picks,
)
from lib.study.timeline import checkpoints_of


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


def test_zero_leaves_a_pick_as_it_is_and_two_zeros_write_nothing(trained, copy_of):
    study = copy_of(trained)
    assert write_picks(study, (0, 0), "")["picks"] == [313, 476]
    assert not (study.root / "selection.json").exists()
    write_picks(study, (313, 510), "ann", "calm")
    record = write_picks(study, (0, 476), "ben", "rich")
    assert [(pick["epoch"], pick["by"], pick["remark"]) for pick in record["each"]] == [
        (313, "ann", "calm"), (476, "ben", "rich"),
    ]  # fmt: skip
    assert write_picks(study, (0, 0), "eve") == read_json(study.root / "selection.json") == record


def test_a_file_of_before_stays_readable_and_its_words_stay_with_its_picks(trained, copy_of):
    study = copy_of(trained)
    old = {"stage": "stage5", "picks": [313, 510], "by": "ann", "remark": "calm", "at": "2026-01-01", "earlier": []}
    write_json(study.root / "selection.json", old)
    assert read_picks(study) == (313, 510)
    for again in (write_picks(study, (313, 510), "ann", "calm"), write_picks(study, (0, 0), "")):
        assert {key: again[key] for key in old} == old
        assert [pick["by"] for pick in again["each"]] == ["ann", "ann"]
    assert read_json(study.root / "selection.json") == old
    record = mark_pick(study, 2, "stage5", 476, "ben")
    assert record["each"][0] == {"epoch": 313, "by": "ann", "remark": "calm", "at": "2026-01-01"}
    assert [row["picks"] for row in record["earlier"]] == [[313, 510]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"picks": 5}, "picks: expected two epochs, got 5"),
        ({}, "picks: expected two epochs, got None"),
        ([], "expected an object, got list"),
        ({"picks": ["a", "b"]}, "expected two epochs, got .'a', 'b'."),
        ({"picks": [313]}, "expected two epochs, got .313."),
        ({"picks": [313, True]}, "expected two epochs, got .313, True."),
        ({"picks": [313, 476], "by": 5}, "by, remark, at: expected text, got 5"),
        ({"each": [{"epoch": 313}, {"by": "ann"}]}, "expected two epochs, got .313, None."),
        ({"each": [313, 476]}, "each: expected two objects"),
        ({"each": {}}, "each: expected two objects"),
        ({"picks": [313, 476], "earlier": {}}, "earlier: expected a list"),
    ],
)
def test_a_file_without_picks_is_named_with_what_to_do_and_left_alone(trained, copy_of, content, message):
    study = copy_of(trained)
    path = study.root / "selection.json"
    write_json(path, content)
    before = path.read_bytes()
    for act in (
        lambda: read_picks(study),
        lambda: write_picks(study, (0, 0), ""),
        lambda: write_picks(study, (313, 476), "ann"),
        lambda: mark_pick(study, 1, "stage5", 299, "ann"),
    ):
        with pytest.raises(StudyError, match=rf"selection\.json: {message}.*; mend it, or move it away"):
            act()
    assert path.read_bytes() == before


def test_a_file_that_is_no_json_is_named_and_words_may_be_missing(trained, copy_of):
    study = copy_of(trained)
    path = study.root / "selection.json"
    path.write_text("{")
    with pytest.raises(StudyError, match=r"selection\.json: not valid JSON"):
        read_picks(study)
    path.write_text('{"each": [{"epoch": 313}, {"epoch": 476}]}')
    assert present_picks(study) == [{"epoch": epoch, "by": "", "remark": "", "at": ""} for epoch in (313, 476)]
    assert write_picks(study, (313, 510), "ann")["picks"] == [313, 510]
    assert len(read_json(path)["earlier"]) == 1


@pytest.mark.parametrize(
    ("place", "stage", "epoch", "by", "message"),
    [
        (1, "stage4", 298, "ann", "stage4 · 298 cannot be a pick"),
        (1, "stage5", 476, "ann", "476 cannot be the first pick: the picks rise, and the second is 476 now"),
        (1, "stage5", 510, "ann", "mark that one first"),
        (2, "stage5", 299, "ann", "299 cannot be the second pick: .* the first is 313 now"),
        (1, "stage5", 300, "ann", "expected two rising epochs out of those"),
        (1, "stage5", 299, " ", "who looked"),
    ],
)
def test_a_checkpoint_that_cannot_be_a_pick_is_refused_in_words(trained, place, stage, epoch, by, message):
    with pytest.raises(StudyError, match=message):
        mark_pick(trained, place, stage, epoch, by)
    assert not (trained.root / "selection.json").exists()


def _mark(root, place, epochs, by):
    study = find_study(root.name, root.parent)
    for epoch in epochs:
        mark_pick(study, place, "stage5", epoch, by, f"{epoch}")


def test_two_pages_that_mark_at_once_lose_nothing(trained, copy_of):
    study, context = copy_of(trained), multiprocessing.get_context("fork")
    kept = sorted(checkpoints_of(study, "stage5"))
    first, second = [kept[0], 313] * 10, [510, 476] * 10
    pages = [context.Process(target=_mark, args=(study.root, *a)) for a in ((1, first, "ann"), (2, second, "ben"))]
    for page in pages:
        page.start()
    for page in pages:
        page.join(60)
        assert page.exitcode == 0
    assert [(pick["epoch"], pick["by"]) for pick in present_picks(study)] == [(313, "ann"), (476, "ben")]
    assert len(read_json(study.root / "selection.json")["earlier"]) == 39


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
