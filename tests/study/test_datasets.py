"""Prepared sets: nested stages, a clean split, step one with its tensors, and stacks that fit together."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.data import curation
from lib.gan import TrainConfig
from lib.study.config import STAGES, TABLE_1, StudyError
from lib.study.datasets import (
    known_picking,
    load_test_set,
    pool_B,
    prepare_A,
    prepare_B,
    prepare_scenes,
    straddlers,
    train_data,
)
from lib.study.rule_based import warp_A
from lib.study.runs import read_failures
from lib.study.sources import landmarks_of
from lib.warp import WarpParams, apply_warp, load_non_mask


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_set_B_is_nested_and_its_funnel_counts_the_same(trained):
    table, (_, funnel) = prepare_B(trained), pool_B(trained)
    assert not (table["stage3"] & ~table["stage2"]).any()
    assert not (table["stage2"] & ~table["stage1"]).any()
    assert table["stage1"].all()
    last = funnel.assign(stage=funnel["step"].str.split(":").str[0]).groupby("stage")["kept"].last()
    assert [last[stage] for stage in ("stage1", "stage2", "stage3")] == [
        int(table[stage].sum()) for stage in ("stage1", "stage2", "stage3")
    ]
    removed = funnel["kept"].shift().sub(funnel["kept"]).iloc[1:]
    assert (removed == funnel["removed"].iloc[1:]).all()
    for name in table["image"]:
        assert pixels(trained.data_dir / "B" / "images" / name).shape == (32, 32, 3)


def test_the_known_picking_read_back_gives_stage_3_and_every_rejection_its_reason(trained, tmp_path):
    pool, _ = pool_B(trained)
    curation.write_selection(tmp_path / "picked.csv", known_picking(trained, pool))
    selection = curation.read_selection(tmp_path / "picked.csv")
    seen = pool[pool["stage2"]]
    assert len(selection) == len(seen)
    accepted = curation.accepted(seen.assign(image=seen["original"]), selection)
    assert accepted.tolist() == seen["stage3"].tolist()
    assert (selection["reason"].ne("") == selection["decision"].eq("reject")).all()


def test_straddlers_are_those_of_two_splits():
    table = pd.DataFrame({
        "image": ["a", "b", "c", "d", "e"],
        "identity": ["1", "1", "2", None, None],  # the last two: nobody known, so two people
        "split": ["train", "test", "train", "train", "test"],
    })  # fmt: skip
    assert straddlers(table) == ["1"]
    apart = pd.DataFrame({"image": ["c", "d", "e"], "identity": ["2", "3", ""], "split": ["test", "train", "train"]})
    assert straddlers(apart) == []
    assert straddlers(table.iloc[2:], apart) == ["2"]  # nobody known is nobody else's double


def test_the_pool_is_the_same_when_it_is_read_again(trained, copy_of):
    study = copy_of(trained)
    shutil.rmtree(study.data_dir)
    first, again = pool_B(study, progress=False), pool_B(study)
    for one, two in zip(first, again):
        pd.testing.assert_frame_equal(one, two)
    assert first[0]["reason"].eq("").all()
    pd.testing.assert_frame_equal(prepare_B(study, progress=False), prepare_B(study))
    pd.testing.assert_frame_equal(prepare_A(study, progress=False), prepare_A(study))


def test_nobody_is_in_training_and_test_or_in_both_sets(trained):
    table_A, table_B = prepare_A(trained), prepare_B(trained)
    for table in (table_A, table_B):
        people = table.groupby("split")["identity"].agg(set)
        assert people["train"]
        assert people["test"]
        assert not people["train"] & people["test"]
    assert not set(table_A["identity"]) & set(table_B["identity"])


def test_step_one_changes_the_mask_region_only_and_exactly(trained):
    table, folder = warp_A(trained), trained.data_dir / "A"
    for name in table["image"]:
        full, rule = pixels(folder / "full" / name), pixels(folder / "rule" / name)
        non_mask = load_non_mask((folder / "rule" / name).with_suffix(".safetensors"))
        assert non_mask.shape == (32, 32)
        assert 0.02 < (~non_mask).mean() < 0.6
        assert np.array_equal(full[non_mask], rule[non_mask])  # nothing was compressed: the comparison is exact


def test_step_one_can_be_replayed_from_its_parameters(trained):
    table, folder = warp_A(trained), trained.data_dir / "A"
    params = json.loads((folder / "rule" / "params.json").read_text())
    landmarks = landmarks_of(trained)
    for name in table["image"].head(4):
        again = apply_warp(pixels(folder / "full" / name), landmarks[name], WarpParams.from_dict(params[name])).image
        assert np.array_equal(again, pixels(folder / "rule" / name))


def test_what_is_prepared_is_not_prepared_again(trained):
    files = sorted(p for p in trained.data_dir.rglob("*") if p.is_file())
    times = [p.stat().st_mtime_ns for p in files]
    prepare_B(trained)
    prepare_A(trained)
    warp_A(trained)
    assert prepare_scenes(trained) == {"A": 2, "B": 2}
    assert [p.stat().st_mtime_ns for p in files] == times


def test_a_face_that_step_one_cannot_warp_is_listed_and_left_out(trained, copy_of):
    study = copy_of(trained)
    folder = study.data_dir / "A"
    before = pd.read_csv(folder / "rule" / "faces.csv")
    marks = pd.read_csv(folder / "landmarks.csv")
    marks.loc[marks["image"] == before["image"][1], [c for c in marks if c not in ("image", "face")]] = 3.0
    marks.to_csv(folder / "landmarks.csv", index=False)
    kept = {name: (folder / "rule" / name).read_bytes() for name in before["image"]}
    shutil.rmtree(folder / "rule")
    table = warp_A(study, progress=False)
    assert set(before["image"]) - set(table["image"]) == {before["image"][1]}
    assert read_failures(study)["file"].tolist() == [before["image"][1]]
    for name in table["image"]:  # the others come out as before: each face has a seed of its own
        assert (folder / "rule" / name).read_bytes() == kept[name]


def test_unreadable_pictures_stop_only_when_all_are(trained, copy_of):
    study = copy_of(trained)
    shutil.rmtree(study.data_dir / "B")
    for folder in (study.cache_dir).glob("*/masked"):
        for path in sorted(folder.glob("*.png"))[:1]:
            path.write_bytes(b"\x89PNG broken")
    table = prepare_B(study, progress=False)
    failures = read_failures(study)
    assert len(failures)
    assert not set(failures["file"]) & set(table["source"])


def test_the_test_set_knows_the_truth_in_the_face_world(trained):
    test = load_test_set(trained)
    assert test.full.shape == test.rule.shape == test.truth.shape == (len(test.names), 32, 32, 3)
    assert test.region.dtype == test.non_mask.dtype == bool
    assert (~test.non_mask & test.region).sum() > 0.5 * min((~test.non_mask).sum(), test.region.sum())
    away = test.non_mask & ~test.region  # the same face, apart from the mask and its shadow
    changed = np.abs(test.truth.astype(int) - test.full).mean(-1)
    assert changed[away].mean() < 0.25 * changed[test.region].mean()
    two = test.take([1, 0])
    assert two.names == [test.names[1], test.names[0]]
    assert np.array_equal(two.region[0], test.region[1])
    assert len(two.B) == len(test.B)


@pytest.mark.parametrize("stage", TABLE_1, ids=lambda stage: stage.name)
def test_a_stage_trains_on_equal_sets_without_held_out_faces(trained, stage):
    data, facts = train_data(trained, stage, sample_count=2)
    table_B = pd.read_csv(trained.data_dir / "B" / "faces.csv")
    assert len(data.B) == (table_B[stage.set_B] & (table_B["split"] == "train")).sum() == facts["B"]
    assert len(data.A) == facts["A"] <= len(data.B)
    held_out = load_test_set(trained).rule.transpose(0, 3, 1, 2)
    for picture in held_out:
        assert not (np.asarray(data.A) == picture).all((1, 2, 3)).any()
    assert np.array_equal(data.samples, held_out[:2])
    data.check(TrainConfig(size=32, lambda_nmc=1.0))


def test_tensors_stay_with_their_pictures(trained):
    data, _ = train_data(trained, STAGES["stage4"], sample_count=2)
    table = pd.read_csv(trained.data_dir / "A" / "rule" / "faces.csv").query("split == 'train'")
    for n, name in enumerate(table["image"].head(len(data.A))):
        full = pixels(trained.data_dir / "A" / "full" / name).transpose(2, 0, 1)
        outside = np.broadcast_to(data.non_mask[n].astype(bool), full.shape)
        assert np.array_equal(full[outside], data.A[n][outside])


def test_the_pretraining_has_scenes_and_no_tensors(trained):
    data, _ = train_data(trained, STAGES["pretraining"], sample_count=2)
    assert len(data.A) == len(data.B) == 2
    assert data.non_mask is None


def test_the_same_seed_prepares_the_same_bytes(trained, copy_of):
    study = copy_of(trained)
    shutil.rmtree(study.data_dir)
    prepare_B(study, progress=False)
    warp_A(study, progress=False)
    kinds = {".png", ".safetensors"}
    for path in sorted(p for p in (trained.data_dir / "A" / "rule").iterdir() if p.suffix in kinds):
        assert (study.data_dir / "A" / "rule" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("stage", "notebook"), [("pretraining", "04_"), ("stage1", "01_data_filtering")])
def test_unprepared_data_names_the_notebook(empty, stage, notebook):
    with pytest.raises(StudyError, match=f"run notebook {notebook}"):
        train_data(empty, STAGES[stage], 2)


def test_a_missing_test_set_names_the_notebook(empty):
    with pytest.raises(StudyError, match="run notebook 02_rule_based_warping"):
        load_test_set(empty)


def test_every_preset_puts_on_the_papers_uniformly_blue_mask(trained, copy_of):
    """Paper §3, of set A; the tool's `ours` alone would draw masks of the street."""
    study = copy_of(trained)
    shutil.rmtree(study.data_dir / "A" / "rule")
    warp_A(study, progress=False, preset="ours")
    drawn = json.loads((study.data_dir / "A" / "rule" / "params.json").read_text())
    looks = {(params["template"], params["colour"], params["texture"]) for params in drawn.values()}
    assert len(drawn) == 12
    assert looks == {("surgical_blue", "", "")}
