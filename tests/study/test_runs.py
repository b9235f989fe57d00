"""Study folders, manifests and lineage."""

import json
import re
from dataclasses import replace

import pytest

from lib.data.files import read_json, write_json
from lib.study.config import STAGES, StudyError
from lib.study.runs import (
    add_failure,
    config_hash,
    describe,
    find_study,
    finish_manifest,
    git_state,
    lineage,
    open_study,
    read_failures,
    start_manifest,
    versions,
)


def test_a_study_is_made_once_and_opened_again(tmp_path):
    made = open_study("one", "smoke", seed=4, runs_dir=tmp_path)
    assert json.loads((tmp_path / "one" / "study.json").read_text())["seed"] == 4
    assert open_study("one", "smoke", seed=4, runs_dir=tmp_path) == made
    assert find_study("one", tmp_path) == made


@pytest.mark.parametrize("change", [{"profile": "laptop"}, {"seed": 1}])
def test_another_study_under_the_same_name_is_refused(tmp_path, change):
    open_study("one", runs_dir=tmp_path)
    with pytest.raises(StudyError, match=r"is a study with .* choose another --name"):
        open_study("one", **change, runs_dir=tmp_path)


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a b", "a/b", "x" * 65, "cache"])
def test_names_that_are_no_folder_names_are_refused(tmp_path, name):
    with pytest.raises(StudyError, match="name"):
        open_study(name, runs_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_source_and_profile_are_refused_with_the_known_ones(tmp_path):
    with pytest.raises(StudyError, match="faceworld, folders, paper"):
        open_study("one", data="internet", runs_dir=tmp_path)
    with pytest.raises(StudyError, match="smoke, laptop"):
        open_study("one", "huge", runs_dir=tmp_path)


def test_folders_must_be_named_exist_and_be_used(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(StudyError, match="needs --a FOLDER"):
        open_study("one", data="folders", runs_dir=tmp_path / "runs")
    roots = {"a": str(tmp_path / "a"), "b": str(tmp_path / "missing")}
    with pytest.raises(StudyError, match="named as --b but not there"):
        open_study("one", data="folders", roots=roots, runs_dir=tmp_path / "runs")
    with pytest.raises(StudyError, match="does not use --mafa"):
        open_study("one", roots={"mafa": str(tmp_path)}, runs_dir=tmp_path / "runs")


def test_a_study_remembers_its_folders(tmp_path):
    for side in "ab":
        (tmp_path / side).mkdir()
    roots = {side: str(tmp_path / side) for side in "ab"}
    made = open_study("one", data="folders", roots=roots, runs_dir=tmp_path / "runs")
    assert open_study("one", data="folders", runs_dir=tmp_path / "runs") == made
    assert made.source("a") == tmp_path / "a"


def test_a_study_made_before_a_profile_had_a_field_stays_what_it_was(tmp_path):
    made = open_study("old", "laptop", runs_dir=tmp_path)
    assert (made.profile.precision, made.profile.upsampling) == ("auto", "transposed")
    path = tmp_path / "old" / "study.json"
    content = read_json(path)
    del content["resolved_profile"]["precision"], content["resolved_profile"]["upsampling"]
    write_json(path, content)
    old = find_study("old", tmp_path)
    assert old.profile == replace(made.profile, precision="fp32")
    content["resolved_profile"]["size"] = 32
    write_json(path, content)
    with pytest.raises(StudyError, match="resolved_profile"):
        find_study("old", tmp_path)


def test_a_missing_study_lists_those_that_are_there(tmp_path):
    open_study("one", runs_dir=tmp_path)
    with pytest.raises(StudyError, match="found: one"):
        find_study("two", tmp_path)


def test_failures_are_kept_once_per_step_and_file(empty):
    assert read_failures(empty).empty
    add_failure(empty, "landmarks", "a.png", "no face found")
    add_failure(empty, "landmarks", "a.png", "too small")
    add_failure(empty, "step one", "a.png", "turned, too far")
    rows = read_failures(empty)
    assert rows.values.tolist() == [["landmarks", "a.png", "too small"], ["step one", "a.png", "turned, too far"]]


def test_the_hash_depends_on_values_not_on_order():
    assert config_hash({"a": 1, "b": [2]}) == config_hash({"b": [2], "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})


def test_outside_a_checkout_there_is_no_commit(tmp_path):
    assert git_state(tmp_path) == {"commit": None, "dirty": None}


def test_a_manifest_counts_sessions_and_keeps_its_first_start(empty):
    first = start_manifest(empty, "stage1", {"seed": 3}, "cpu", {"A": 1}, None)
    assert (first["status"], first["sessions"], first["seed"], first["end"]) == ("running", 1, 3, None)
    finish_manifest(empty, "stage1", "failed: KeyboardInterrupt: ")
    again = start_manifest(empty, "stage1", {"seed": 3}, "cpu", {"A": 1}, None)
    assert (again["sessions"], again["start"], again["status"]) == (2, first["start"], "running")
    done = finish_manifest(empty, "stage1", "finished", steps=7)
    assert (done["status"], done["steps"]) == ("finished", 7)
    assert done["end"] >= done["start"]


def test_lineage_goes_back_to_random_weights(trained):
    rows = lineage(trained, "stage5")
    assert [row["stage"] for row in rows] == list(reversed(STAGES))
    assert rows[0]["starts from"] == "stage4/checkpoints/epoch_0298"
    assert "random weights" in rows[-1]["starts from"]


def test_lineage_of_an_untrained_stage_names_its_notebook(empty):
    with pytest.raises(StudyError, match="run notebook 07_stage3"):
        lineage(empty, "stage3")


def test_a_study_describes_itself(empty):
    text = describe(empty)
    for part in ("'empty'", "profile tiny", "data faceworld", "torch " + versions()["torch"]):
        assert part in text


def test_all_missing_folders_are_named_at_once(tmp_path):
    with pytest.raises(StudyError, match=r"needs --mafa FOLDER --cmfd FOLDER --ffhq FOLDER --fddb FOLDER"):
        open_study("one", data="paper", runs_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_hand_picking_may_be_named_later_but_not_other_pictures(tmp_path):
    roots = {key: str(tmp_path) for key in ("mafa", "cmfd", "ffhq", "fddb")}
    open_study("one", data="paper", roots=roots, runs_dir=tmp_path / "runs")
    picked = tmp_path / "picked.csv"
    with pytest.raises(StudyError, match="named as --selection but not there"):
        open_study("one", data="paper", roots=roots | {"selection": str(picked)}, runs_dir=tmp_path / "runs")
    picked.write_text("image,face,decision\n")
    later = open_study("one", data="paper", roots={"selection": str(picked)}, runs_dir=tmp_path / "runs")
    assert later.roots == {**roots, "selection": str(picked)}
    assert find_study("one", tmp_path / "runs") == later
    (tmp_path / "other").mkdir()
    with pytest.raises(StudyError, match="is a study with roots"):
        open_study("one", data="paper", roots=roots | {"mafa": str(tmp_path / "other")}, runs_dir=tmp_path / "runs")


def test_of_another_profile_only_what_differs_is_told(tmp_path):
    study = open_study("smoke", "smoke", runs_dir=tmp_path)
    text = (study.root / "study.json").read_text()
    (study.root / "study.json").write_text(re.sub(r'"batch_size": \d+', '"batch_size": 99', text))
    with pytest.raises(
        StudyError, match=r"is a study with resolved_profile = \{'batch_size': 99\}, not \{'batch_size'"
    ):
        open_study("smoke", "smoke", runs_dir=tmp_path)
