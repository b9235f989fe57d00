"""The runner: trained once, measured once, resumed to the same weights, and failures told apart from results."""

import fcntl
import importlib
import json
import shutil

import numpy as np
import pytest

from lib.data.files import read_json, sha256, write_json
from lib.gan import TrainConfig, TrainError, trainer
from lib.gan.disk import DiskError
from lib.study import runner
from lib.study.config import STAGES, StudyError
from lib.study.datasets import train_data
from lib.study.runner import Task, read_result, run_tasks, state_of

CONFIG = TrainConfig(
    stage="x", epochs=(1, 2, 3, 4), steps_per_epoch=1, batch_size=1, ngf=2, ndf=2, n_blocks=1, size=32, lambda_nmc=10.0,
    keep_epochs=(1, 4), sample_count=2, device="cpu",
)  # fmt: skip


# Spawned processes find it by name, which they would not find this file by.
MEASURES = """
import os

def die(task):
    os._exit(9)

def nothing(task):
    return []
"""


def measure(task):
    return [{"metric": "steps", "value": task.steps, "n": 1}]


@pytest.fixture
def task(trained, tmp_path):
    data, facts = train_data(trained, STAGES["stage5"], 2)
    folder = tmp_path / "runs" / "one"
    return Task(folder, {"config_hash": CONFIG.hash(), "data": facts}, measure, CONFIG, data, labels=(1, 4))


def run(*tasks, **more):
    run_tasks(tasks[0].folder.parent, tasks, 0, progress=False, **more)


def changed(task, **fields):
    return runner.replace(task, **fields)


def no_training(*args, **more):
    raise AssertionError("trained again")


def weights(task):
    return sha256(task.checkpoint(4) / "net_G_AB.safetensors")


def test_a_task_leaves_its_values_its_generators_and_nothing_else_of_its_weights(task, monkeypatch):
    assert state_of(task) == "new"
    done = []
    run(task, on_done=done.append)
    assert [t.folder for t in done] == [task.folder]
    result = read_result(task.folder)
    assert (result["status"], result["values"]) == ("finished", measure(task))
    assert result["seconds"] > 0
    assert result["config_hash"] == CONFIG.hash()
    files = sorted(str(path.relative_to(task.folder)) for path in task.folder.glob("checkpoints/*/*"))
    kept = [f"checkpoints/epoch_000{k}/{name}" for k in (1, 4) for name in ("meta.json", "net_G_AB.safetensors")]
    assert files == kept
    monkeypatch.setattr(runner, "train", no_training)
    run(task)
    assert read_result(task.folder) == result


def test_another_version_measures_again_and_trains_only_where_weights_are_gone(task, monkeypatch):
    run(task)
    newer = changed(task, version=1, measure=lambda task: [{"metric": "new", "value": 1.0, "n": 2}])
    assert state_of(newer) == "trained"
    with monkeypatch.context() as patch:
        patch.setattr(runner, "train", no_training)
        run(newer)
    assert read_result(task.folder)["values"][0]["metric"] == "new"
    shutil.rmtree(task.checkpoint(1))
    assert state_of(newer) == "finished"
    newest = changed(newer, version=2)
    assert state_of(newest) == "other"
    run(newest)
    assert newest.checkpoint(1).is_dir()


@pytest.mark.parametrize("facts", [{"config_hash": "other"}, {"data": {"A": 1}}])
def test_a_folder_of_other_settings_or_data_is_made_anew(task, facts):
    run(task)
    (task.folder / "leftover").touch()
    other = changed(task, facts=task.facts | facts)
    assert state_of(other) == "other"
    run(other)
    assert not (task.folder / "leftover").exists()
    assert state_of(other) == "finished"


def test_a_stopped_task_goes_on_from_its_checkpoint_to_the_same_weights(task, monkeypatch, tmp_path):
    whole = changed(task, folder=tmp_path / "other" / "whole")
    run(whole)

    def stopped(*args, on_epoch, **more):
        def stop(label, row):
            on_epoch(label, row)
            if label == 2:
                raise KeyboardInterrupt

        return trainer.train(*args, on_epoch=stop, **more)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(task)
    assert state_of(task) == "begun"
    assert runner._trained_steps(task) == 2
    labels = []

    def watched(*args, on_epoch, **more):
        return trainer.train(*args, on_epoch=lambda label, row: labels.append(label), **more)

    monkeypatch.setattr(runner, "train", watched)
    run(task)
    assert labels == [3, 4]
    assert weights(task) == weights(whole)


def test_a_task_stopped_while_it_was_measured_is_only_measured(task, monkeypatch):
    def interrupted(task):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(changed(task, measure=interrupted))
    assert state_of(task) == "trained"
    monkeypatch.setattr(runner, "train", no_training)
    run(task)
    assert state_of(task) == "finished"


def test_a_training_that_diverges_is_a_result_and_one_that_fails_is_tried_again(task, monkeypatch):
    real = runner.train

    def fails(error):
        def train(*args, **more):
            raise error

        return train

    full = TrainError("x: step 3: no room")
    full.__cause__ = DiskError("no room")
    for error in (full, MemoryError("too much"), TrainError(f"{task.folder}: another process trains in this folder")):
        monkeypatch.setattr(runner, "train", fails(error))
        run(task)
        assert read_result(task.folder)["status"] == f"failed: {type(error).__name__}: {error}"
        assert state_of(task) == "begun"
    monkeypatch.setattr(trainer, "EXPLODED", 0.0)  # every loss is above
    monkeypatch.setattr(runner, "train", real)
    run(task)
    result = read_result(task.folder)
    assert result["status"].startswith("diverged: x: loss_")
    assert result["values"] == []
    assert "trainer.py" in result["error"]
    monkeypatch.setattr(runner, "train", no_training)
    run(task)
    assert state_of(task) == "finished"


def test_a_measure_that_fails_costs_no_training(task, monkeypatch):
    second = changed(task, folder=task.folder.with_name("two"))
    broken = changed(task, measure=lambda task: [{"metric": "x", "value": np.zeros(2), "n": 1}])
    run(broken, second)
    assert read_result(task.folder)["status"].startswith("failed: TypeError: Object of type ndarray")
    assert state_of(second) == "finished"
    monkeypatch.setattr(runner, "train", no_training)
    run(task)
    assert state_of(task) == "finished"


def test_a_worker_gives_the_weights_of_this_process_and_one_that_dies_is_told(task, tmp_path, monkeypatch, capsys):
    (tmp_path / "measures_of_tests.py").write_text(MEASURES)
    monkeypatch.syspath_prepend(tmp_path)
    measures = importlib.import_module("measures_of_tests")
    here = changed(task, folder=tmp_path / "here" / "one")
    run(here)
    doomed, there = Task(task.folder.with_name("doomed"), {}, measures.die), changed(task, measure=measures.nothing)
    run_tasks(task.folder.parent, [there, doomed], 1, what="tests")
    assert "1 badly" in capsys.readouterr().err
    assert read_result(doomed.folder)["status"] == "failed: its process ended with status 9"
    assert read_result(task.folder)["threads"] == 1
    assert weights(there) == weights(here)


def test_two_runners_do_not_work_in_the_same_folder(task):
    root = task.folder.parent
    root.mkdir()
    with (root / ".lock").open("w") as file:
        file.write("123")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StudyError, match=r"process 123 is at work there; wait for it or stop it"):
            run(task)
    run(task)


def test_a_result_of_the_first_releases_is_finished_and_a_damaged_one_is_made_anew(task):
    task.folder.mkdir(parents=True)
    write_json(task.folder / "result.json", {**task.facts, "measured": {"a": 1.0}})
    assert state_of(task) == "finished"
    (task.folder / "result.json").write_text("{")
    assert state_of(task) == "damaged"
    run(task)
    assert read_json(task.folder / "job.json")["config"] == json.loads(json.dumps(CONFIG.to_dict()))
    (task.folder / "result.json").unlink()
    assert state_of(task) == "other"


@pytest.mark.parametrize(
    "broken",
    [
        {"status": 3},
        {"seconds": "long"},
        {"version": None},
        {"values": {"metric": "x"}},
        {"values": ["x"]},
        {"values": [{"metric": "x", "value": "much", "n": 1}]},
        {"values": [{"metric": "x", "value": 1.0, "n": 1.5}]},
        {"values": [{"metric": "x", "n": 1}]},
        {"case": "corners"},
        {"case": {"experiment": "corners", "variant": "plain", "seed": 1}},  # another's, copied here
        {"case": {"experiment": "corners", "variant": "plain"}},
        {"case": ...},
        {"values": ...},
        {"size": ...},
    ],
    ids=str,
)
def test_a_result_that_lacks_something_or_has_a_word_for_a_number_is_damaged_and_made_anew(tmp_path, broken):
    case = {"experiment": "corners", "variant": "plain", "seed": 0}
    one = Task(tmp_path / "one", {}, measure, notes={"case": case, "size": 64})
    run(one)
    assert state_of(one) == "finished"
    found = read_json(one.folder / "result.json") | broken
    write_json(one.folder / "result.json", {key: value for key, value in found.items() if value is not ...})
    assert state_of(one) == "damaged"
    run(one)
    assert state_of(one) == "finished"
    assert read_result(one.folder)["values"] == [{"metric": "steps", "value": 0, "n": 1}]


@pytest.mark.parametrize("state", ["new", "finished"])
def test_a_negative_number_of_workers_is_told_even_where_nothing_is_to_do(tmp_path, state):
    one = Task(tmp_path / "one", {}, measure)
    if state == "finished":
        run(one)
    with pytest.raises(StudyError, match="-3 workers: expected 0 or more"):
        run_tasks(tmp_path, [one], -3, progress=False)
