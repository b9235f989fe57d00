"""Other ways of masking the same faces: every preset, other weights at their own size, and what refuses a face."""

import numpy as np
import pytest

from lib.study.comparison import RULES, Way, by_rule, find_landmarks, other_generator, scores
from lib.study.config import StudyError
from lib.study.datasets import load_test_set
from lib.study.printed import checkpoint
from lib.warp import PRESETS


def test_every_preset_is_there_and_changes_the_mask_alone(trained):
    test = load_test_set(trained)
    ways = by_rule(trained, test)
    assert set(ways) == set(RULES) == set(PRESETS)
    for way in ways.values():
        assert len(way.pictures) == len(test.names)
        for picture, full in zip(way.pictures, test.full):
            assert picture is None or 0 < (picture != full).any(-1).mean() < 0.7
    again = by_rule(trained, test, ("ours",))["ours"]
    assert all(np.array_equal(a, b) for a, b in zip(again.pictures, ways["ours"].pictures) if a is not None)


def test_a_face_that_a_rule_refuses_has_no_picture_but_a_reason(trained, monkeypatch):
    test = load_test_set(trained)
    known = find_landmarks(trained, test)
    monkeypatch.setattr("lib.study.comparison.find_landmarks", lambda *_: [None, np.zeros((68, 2)), *known[2:]])
    way = by_rule(trained, test, ("study",))["study"]
    assert way.pictures[:2] == [None, None]
    assert set(way.reasons) == set(test.names[:2])
    assert way.reasons[test.names[0]] == "no face found"


def test_other_weights_work_at_their_own_size_and_come_back(trained):
    rule = load_test_set(trained).rule
    folder = checkpoint(trained, "stage5", 476)
    label, outputs, record = other_generator(folder, rule, range(len(rule)))
    assert label == "tiny, 476"
    assert outputs.shape == rule.shape
    assert record["size_px"] == 32
    assert len(record["sha256"]) == 64
    label, outputs, record = other_generator("evening-128", rule[:1], [0])
    assert (label, record["size_px"]) == ("evening-128", 256)
    assert outputs.shape == rule[:1].shape


def test_weights_that_are_not_there_are_named(trained):
    with pytest.raises(StudyError, match=r"another generator, nowhere: .*no released model of that name"):
        other_generator("nowhere", load_test_set(trained).rule, [0])


def test_scores_know_the_truth_and_leave_out_what_has_no_picture(trained):
    test = load_test_set(trained)
    ways = {
        "truth": Way.of(test.truth),
        "part": Way([None, *test.rule[1:]], {}),
        "none": Way([None] * len(test.rule), {}),
    }
    table = scores(test, ways)
    assert table.loc["truth", "truth_distance"] == 0
    assert table.loc["truth", "truth_ssim"] == pytest.approx(1)
    assert table["faces"].tolist() == [len(test.rule), len(test.rule) - 1, 0]
    assert table.loc["none"].isna().sum() == 3
