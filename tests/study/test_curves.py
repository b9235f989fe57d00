"""The curves agree with the files they come from; numbers are computed once and follow the weights."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from lib.study import curves as module
from lib.study import selection
from lib.study.config import StudyError
from lib.study.curves import curves, kept_numbers, numbers, position
from lib.study.datasets import load_test_set

KEYS = [("stage4", 298), ("stage5", 313)]


@pytest.fixture
def study(trained, copy_of):
    return copy_of(trained)


def test_the_pretraining_lies_left_of_zero():
    assert [position("pretraining", 1), position("pretraining", 60)] == [-59, 0]
    assert [position("stage1", 1), position("stage5", 313)] == [1, 313]


def test_curves_are_plain_and_hold_the_files_values(trained):
    drawn = json.loads(json.dumps(curves(trained), allow_nan=False))
    assert [stage["name"] for stage in drawn["stages"]][:2] == ["pretraining", "stage1"]
    assert (drawn["stages"][0]["first"], drawn["stages"][0]["last"]) == (-60, 0)
    lines = {line["name"]: line["points"] for panel in drawn["panels"] for line in panel["lines"]}
    samples = pd.read_csv(trained.stage_dir("stage5") / "samples.csv")
    assert lines["outside the mask"][-1] == [510, pytest.approx(samples["outside_change"].iloc[-1], rel=1e-4)]
    assert all(np.diff([x for x, _ in points]).min() >= 0 for points in lines.values())
    assert "over noise draws of one face" not in lines  # nothing was computed yet


def test_numbers_are_computed_once_and_are_those_of_compare(study, monkeypatch):
    test, told = load_test_set(study), []
    table = numbers(study, test, KEYS, lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]
    expected = selection.compare(study, test, KEYS)
    pd.testing.assert_frame_equal(table, expected[table.columns], check_dtype=False)
    monkeypatch.setattr(selection, "compare", lambda *a: pytest.fail("computed twice"))
    pd.testing.assert_frame_equal(numbers(study, test, KEYS), table, check_dtype=False)
    pd.testing.assert_frame_equal(kept_numbers(study), table, check_dtype=False)
    names = [panel["title"] for panel in curves(study)["panels"]]
    assert {"diversity", "distance to the truth"} <= set(names)


def test_other_weights_or_other_faces_are_computed_anew(study):
    test, told = load_test_set(study), []
    numbers(study, test, KEYS)
    folder = study.stage_dir("stage5") / "checkpoints"
    shutil.rmtree(folder / "epoch_0313")
    shutil.copytree(folder / "epoch_0299", folder / "epoch_0313")
    numbers(study, test, KEYS, lambda done, total: told.append(total) or True)
    numbers(study, test.take([0, 1]), KEYS, lambda done, total: told.append(total) or True)
    assert told == [1, 2]


def test_stopping_keeps_what_was_done_and_a_damaged_file_counts_as_none(study):
    test = load_test_set(study)
    assert len(numbers(study, test, KEYS, lambda done, total: done == 1)) == 2
    path = study.root / "checkpoints.csv"
    for damage in ("", "stage,epoch\nx", "\0\0"):
        path.write_text(damage)
        assert len(kept_numbers(study)) == 0
    assert len(numbers(study, test, KEYS)) == 3


def test_an_unknown_checkpoint_is_named(study):
    with pytest.raises(StudyError, match="no checkpoint stage5 5 is kept"):
        numbers(study, load_test_set(study), [("stage5", 5)])


def test_long_lines_are_thinned(trained, monkeypatch):
    monkeypatch.setattr(module, "MOST_POINTS", 5)
    assert max(len(line["points"]) for panel in curves(trained)["panels"] for line in panel["lines"]) == 5
