"""Table 1 as data, the profiles and the epoch labels of compressed stages."""

from itertools import pairwise

import pytest

from lib.study.config import (
    OPTIONAL_ROOTS,
    PROFILES,
    ROOTS,
    STAGES,
    TABLE_1,
    TIMELINE,
    StudyError,
    cost_rows,
    epoch_labels,
    get_profile,
    profile_dict,
    table_1_rows,
)
from lib.study.driver import list_notebooks
from lib.study.runs import Study
from lib.study.timeline import train_config


def test_table_1_says_what_the_paper_says():
    assert [tuple(row.values()) for row in table_1_rows()] == [
        ("1–60", "10/10", "No", "No", "9,517", "Simple mask, fully occluded"),
        ("61–90", "10/10", "No", "No", "8,938", "Front facing"),
        ("91–140", "8/8", "No", "No", "1,695", "No pitch/roll, light-colored medical mask"),
        ("141–298", "8/8", "No", "Yes", "1,695", "None"),
        ("299–510", "8/8", "Yes", "Yes", "1,695", "None"),
    ]


def test_cost_of_the_papers_timeline():
    rows = cost_rows(get_profile("paper"), seconds_per_step=0.0108)
    # By hand: 60 · 25,000 / 4 + 60 · 2,380 + 30 · 2,235 + (50 + 158 + 212) · 424
    assert sum(row["steps"] for row in rows) == 375_000 + 142_800 + 67_050 + 178_080
    assert sum(row["hours"] for row in rows) == pytest.approx(2.289, abs=0.001)
    assert rows[1] == {"stage": "stage1", "epochs": 60, "steps": 142_800, "images": 1_142_400,
                       "hours": pytest.approx(0.4284)}  # fmt: skip
    assert [row["steps"] for row in cost_rows(get_profile("smoke"))] == [20, 20, 20, 20, 40, 60]
    assert cost_rows(get_profile("smoke"))[0]["hours"] is None


def test_each_stage_starts_where_the_one_before_ended():
    for before, stage in pairwise(TABLE_1):
        assert stage.first_epoch == before.last_epoch + 1
        assert stage.parent == before.name
    assert TABLE_1[0].parent == "pretraining"
    assert STAGES["pretraining"].parent is None
    assert sum(stage.paper_epochs for stage in TABLE_1) == 510


def test_every_stage_has_its_notebook():
    present = {path.stem for path in list_notebooks()}
    assert {stage.notebook for stage in TIMELINE} <= present


@pytest.mark.parametrize("stage", TIMELINE, ids=lambda stage: stage.name)
def test_labels_keep_first_last_and_the_picked_epochs(stage):
    picks = [epoch for epoch in (313, 476) if stage.first_epoch <= epoch <= stage.last_epoch]
    for passes in range(max(2, len(picks) + 1), stage.paper_epochs + 1):
        labels = epoch_labels(stage, passes)
        assert len(labels) == passes
        assert list(labels) == sorted(set(labels))
        assert labels[-1] == stage.last_epoch
        assert labels[0] >= stage.first_epoch
        assert set(picks) <= set(labels)
        if passes > len(picks) + 1:
            assert labels[0] == stage.first_epoch


def test_labels_at_the_ends_of_the_range():
    stage = STAGES["stage5"]
    assert epoch_labels(stage, None) == tuple(range(299, 511))
    assert epoch_labels(stage, 212) == tuple(range(299, 511))
    assert epoch_labels(stage, 3) == (313, 476, 510)
    assert epoch_labels(STAGES["stage2"], 1) == (90,)


@pytest.mark.parametrize(("stage", "passes"), [("stage5", 2), ("stage5", 213), ("stage1", 0), ("stage2", 31)])
def test_too_few_or_too_many_passes_are_refused(stage, passes):
    with pytest.raises(StudyError, match=rf"{stage} can have \d+ to \d+ passes, not {passes}"):
        epoch_labels(STAGES[stage], passes)


def test_unknown_profile_lists_the_known_ones():
    with pytest.raises(StudyError, match="smoke, laptop, evening, gpu_short, gpu, paper"):
        get_profile("large")


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_gives_a_configuration_for_every_stage(name, tmp_path):
    profile = get_profile(name)
    study = Study("x", profile, "faceworld", 0, tmp_path)
    for stage in TIMELINE:
        config = train_config(study, stage)
        assert config.epochs[-1] == stage.last_epoch
        assert config.size == profile.size
        assert (config.lambda_nmc > 0) == stage.nmc
        assert config.noise.active == stage.noise
    assert {313, 476, 510} <= set(config.keep_epochs)


def test_the_paper_profile_is_table_1_to_the_letter(tmp_path):
    paper = get_profile("paper")
    assert (paper.size, paper.ngf, paper.batch_size, paper.passes, paper.steps_per_epoch) == (256, 64, 4, None, None)
    study = Study("x", paper, "faceworld", 0, tmp_path)
    lengths = [len(train_config(study, stage).epochs) for stage in TIMELINE]
    assert lengths == [60, 60, 30, 50, 158, 212]
    assert train_config(study, STAGES["stage5"]).noise.sigma == (0.0, 1.0, 0.2)


def test_overrides_replace_the_profile_and_zero_keeps_it(tmp_path):
    study = Study("x", get_profile("smoke"), "faceworld", 3, tmp_path)
    given = train_config(study, STAGES["stage1"], epochs=4, batch_size=7, steps_per_epoch=9, seed=5)
    assert (len(given.epochs), given.batch_size, given.steps_per_epoch, given.seed) == (4, 7, 9, 5)
    kept = train_config(study, STAGES["stage1"], epochs=0, batch_size=0, steps_per_epoch=0, seed=-1)
    assert kept == train_config(study, STAGES["stage1"])
    assert kept.seed == 3


def test_profiles_are_plain_values_and_sources_have_their_folders():
    assert profile_dict(get_profile("smoke"))["size"] == 64
    assert set(ROOTS) == set(OPTIONAL_ROOTS) == {"faceworld", "folders", "paper"}


def test_the_attention_is_told_where_the_mask_is_from_stage_1_on_in_gpu_short_alone(tmp_path):
    told = {}
    for name in ("gpu", "gpu_short"):
        study = Study("x", get_profile(name), "faceworld", 0, tmp_path)
        told[name] = {stage: train_config(study, STAGES[stage]) for stage in STAGES}
    assert [c.lambda_attention for c in told["gpu_short"].values()] == [0, 3, 3, 3, 3, 3]
    assert {c.average for c in told["gpu_short"].values()} == {0.999}
    assert {(c.lambda_attention, c.average, c.identity_ratio) for c in told["gpu"].values()} == {(0, 0, 0.5)}
