"""Stages follow one another: weights carry over, labels stay the paper's, wrong parents are refused, stops resume."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from lib.data.files import read_json
from lib.gan import CheckpointError, train
from lib.study import timeline
from lib.study.config import STAGES, StudyError
from lib.study.timeline import (
    all_checkpoints,
    checkpoints_of,
    compressed,
    joined,
    load_stage,
    loss_weights,
    parent_checkpoint,
    run_stage,
    train_config,
    what_changed,
)

NETS = ("net_G_AB", "net_G_BA", "net_D_A", "net_D_B")


def weights(folder, net="net_G_AB"):
    return load_file(folder / f"{net}.safetensors")


def distance(a, b):
    return max(float((a[key] - b[key]).abs().max()) for key in a)


def test_every_stage_finished_and_kept_its_labels(trained):
    for name, stage in STAGES.items():
        run = load_stage(trained, name)
        assert run.manifest["status"] == "finished"
        assert run.samples["epoch"].tolist() == run.manifest["config"]["epochs"]
        assert max(run.checkpoints) == stage.last_epoch
        assert run.sample_image(stage.last_epoch).is_file()
        assert run.metrics["loss_G"].notna().all()
    assert {313, 476, 510} <= set(checkpoints_of(trained, "stage5"))
    assert next(iter(all_checkpoints(trained)))[0] == "pretraining"
    assert list(all_checkpoints(trained))[-1] == ("stage5", 510)


@pytest.mark.parametrize("name", ["stage1", "stage4", "stage5"])
def test_weights_carry_over_from_the_stage_before(trained, copy_of, monkeypatch, name):
    study = copy_of(trained)
    shutil.rmtree(study.stage_dir(name))
    # A learning rate of (almost) zero: what comes out is what was put in.
    monkeypatch.setattr(timeline, "train", lambda cfg, *rest, **more: train(replace(cfg, lr=1e-12), *rest, **more))
    run = run_stage(study, name, progress=False)
    parent = checkpoints_of(study, STAGES[name].parent)
    last = parent[max(parent)]
    for net in NETS:
        assert distance(weights(run.checkpoints[max(run.checkpoints)], net), weights(last, net)) < 1e-7
    assert run.manifest["parent"]["checkpoint"] == f"{STAGES[name].parent}/checkpoints/{last.name}"


def test_training_moved_the_weights(trained):
    for before, after in (("stage1", "stage2"), ("stage4", "stage5")):
        a, b = checkpoints_of(trained, before), checkpoints_of(trained, after)
        assert distance(weights(a[max(a)]), weights(b[max(b)])) > 1e-5


def test_a_stage_without_its_parent_names_the_notebook_to_run(empty):
    with pytest.raises(StudyError, match=r"stage3 starts from the last weights of stage2.*run notebook 06_stage2"):
        run_stage(empty, "stage3", progress=False)
    assert not empty.stage_dir("stage3").exists()
    assert parent_checkpoint(empty, STAGES["pretraining"]) is None


def test_a_half_trained_parent_is_no_parent(trained, copy_of):
    study = copy_of(trained)
    path = study.stage_dir("stage2") / "manifest.json"
    path.write_text(path.read_text().replace('"finished"', '"running"'))
    with pytest.raises(StudyError, match="has not been trained to its end"):
        parent_checkpoint(study, STAGES["stage3"])


def test_a_finished_stage_returns_at_once_and_nothing_changes(trained, copy_of):
    study = copy_of(trained)
    folder = study.stage_dir("stage2")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    run_stage(study, "stage2", progress=False)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_retrained_parent_is_refused_and_the_child_keeps_its_manifest(trained, copy_of):
    study = copy_of(trained)
    shutil.rmtree(study.stage_dir("stage2"))
    run_stage(study, "stage2", progress=False, seed=9)
    before = (study.stage_dir("stage3") / "manifest.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"belongs to another configuration.*parent"):
        run_stage(study, "stage3", progress=False)
    assert (study.stage_dir("stage3") / "manifest.json").read_bytes() == before


def test_other_settings_for_a_trained_stage_are_refused(trained, copy_of):
    study = copy_of(trained)
    with pytest.raises(CheckpointError, match="batch_size"):
        run_stage(study, "stage2", progress=False, batch_size=1)
    assert load_stage(study, "stage2").manifest["status"] == "finished"


def test_an_interrupted_stage_goes_on_as_if_never_stopped(trained, copy_of, monkeypatch):
    study = copy_of(trained)
    shutil.rmtree(study.stage_dir("stage4"))

    def stop(label, row):
        raise KeyboardInterrupt

    monkeypatch.setattr(timeline, "train", lambda *rest, **more: train(*rest, **more, on_epoch=stop))
    with pytest.raises(KeyboardInterrupt):
        run_stage(study, "stage4", progress=False)
    assert load_stage(study, "stage4").manifest["status"].startswith("failed: KeyboardInterrupt")
    assert set(checkpoints_of(study, "stage4")) == {141}
    with pytest.raises(StudyError, match="stage5 starts from"):
        run_stage(study, "stage5", progress=False)
    monkeypatch.undo()
    run = run_stage(study, "stage4", progress=False)
    assert (run.manifest["status"], run.manifest["sessions"]) == ("finished", 2)
    whole = load_stage(trained, "stage4")
    for net in NETS:
        assert distance(weights(run.checkpoints[298], net), weights(whole.checkpoints[298], net)) == 0
    assert run.metrics["loss_G"].tolist() == whole.metrics["loss_G"].tolist()


def test_a_failing_stage_says_so_in_its_manifest(trained, copy_of, monkeypatch):
    study = copy_of(trained)
    shutil.rmtree(study.stage_dir("stage5"))

    def fail(*args, **more):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(timeline, "train", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        run_stage(study, "stage5", progress=False)
    manifest = read_json(study.stage_dir("stage5") / "manifest.json")
    assert manifest["status"] == "failed: RuntimeError: out of memory"


def test_an_untrained_stage_names_its_notebook(empty):
    with pytest.raises(StudyError, match="run notebook 05_stage1"):
        load_stage(empty, "stage1")


def test_the_manifest_tells_what_it_was_made_from(trained):
    manifest = load_stage(trained, "stage5").manifest
    assert manifest["config"]["noise"]["sigma"] == [0.0, 1.0, 0.2]
    assert manifest["config"]["lambda_nmc"] == 10
    assert manifest["data"]["A"] == manifest["data"]["B"]
    assert len(manifest["parent"]["sha256_net_G_AB"]) == 64
    assert manifest["lineage"][0] == manifest["parent"]
    assert [row["stage"] for row in manifest["lineage"]] == ["stage4", "stage3", "stage2", "stage1", "pretraining"]
    assert all((trained.root / row["checkpoint"]).is_dir() for row in manifest["lineage"])
    assert manifest["versions"]["torch"] == torch.__version__.split("+")[0]
    assert manifest["study"]["profile"] == "tiny"


def test_joined_metrics_run_on(trained):
    table = joined([load_stage(trained, name) for name in ("stage3", "stage4")])
    assert table["step"].is_monotonic_increasing
    assert table["step"].max() == sum(load_stage(trained, name).manifest["steps"] for name in ("stage3", "stage4"))


def test_tables_of_the_timeline(trained):
    table = compressed(trained).set_index("stage")
    assert list(table.index) == list(STAGES)
    assert table.loc["stage5", "passes here"] == 4
    assert table.loc["stage4", "paper epochs"] == "141–298"
    changed = what_changed(trained, "stage4")
    assert changed["changed"].any()
    assert loss_weights(train_config(trained, STAGES["stage4"]))["loss_nmc"] == 10


@pytest.mark.parametrize("devices", [0, 3])
def test_processes_that_cannot_share_a_batch_are_refused(trained, devices):
    with pytest.raises(StudyError, match=f"devices is {devices}: expected a number that divides the batch size"):
        run_stage(trained, "stage1", progress=False, devices=devices)


def test_a_stage_in_two_processes(trained, tmp_path):
    copy = replace(trained, root=tmp_path / trained.name)
    shutil.copytree(trained.root, copy.root)
    shutil.rmtree(copy.stage_dir("stage1"))
    run = run_stage(copy, "stage1", progress=False, devices=2)
    assert run.manifest["devices"] == 2
    assert run.manifest["status"] == "finished"
    alone = load_stage(trained, "stage1")
    assert run.metrics["loss_cycle_A"].to_numpy() == pytest.approx(alone.metrics["loss_cycle_A"].to_numpy(), rel=0.02)


def test_tables_tell_the_settings_that_are_used(trained, copy_of):
    study = copy_of(trained)
    shutil.rmtree(study.stage_dir("stage5"))
    table = what_changed(study, "stage5", epochs=5, batch_size=1)
    assert table.loc["here: passes"].tolist() == ["2", "5", "←"]  # stage 4 is trained: its own
    assert table.loc["here: batch size", "stage5"] == "1"
    assert what_changed(study, "stage1").loc["paper: λ of the cycle loss"].tolist() == ["lost from the text", "10", ""]
    table = compressed(replace(study, training={"epochs": 6})).set_index("stage")["passes here"]
    assert (table["stage4"], table["stage5"]) == (2, 6)


def test_a_stage_says_where_it_begins(trained, copy_of, monkeypatch, capsys):
    study = copy_of(trained)
    shutil.rmtree(study.stage_dir("stage4"))

    def stop(*args, **more):
        def interrupt(label, row):
            raise KeyboardInterrupt

        return train(*args, **more, on_epoch=interrupt)

    monkeypatch.setattr(timeline, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        run_stage(study, "stage4")
    assert "stage4: starts from stage3/checkpoints/epoch_0140" in capsys.readouterr().out
    monkeypatch.setattr(timeline, "train", train)
    run_stage(study, "stage4")
    assert "stage4: resumes at step 2 of 4 (checkpoint epoch_0141)" in capsys.readouterr().out
    run_stage(study, "stage4")
    assert "stage4: already finished (checkpoint epoch_0298)" in capsys.readouterr().out


def test_a_stage_keeps_its_precision_on_another_machine(trained, empty, monkeypatch):
    study = replace(trained, profile=replace(trained.profile, precision="auto"))
    begun = read_json(study.stage_dir("stage1") / "manifest.json")["config"]["precision"]
    other = "fp32" if begun == "bf16" else "bf16"
    monkeypatch.setattr(timeline, "pick_precision", lambda device: other)
    assert train_config(study, STAGES["stage1"]).precision == begun
    fresh = replace(empty, profile=replace(empty.profile, precision="auto"))
    assert train_config(fresh, STAGES["stage1"]).precision == other
    assert (
        train_config(replace(fresh, profile=replace(fresh.profile, precision="fp32")), STAGES["stage1"]).precision
        == "fp32"
    )


def test_a_profile_may_tell_the_attention_where_the_mask_is_and_keep_a_running_mean(trained, copy_of):
    study = copy_of(trained)
    study = replace(study, profile=replace(study.profile, identity_ratio=0.1, lambda_attention=3.0, average=0.9))
    for name in ("pretraining", "stage1"):
        shutil.rmtree(study.stage_dir(name))
    first, second = (run_stage(study, name, progress=False) for name in ("pretraining", "stage1"))
    assert "loss_attention" not in first.metrics, "scenes have no masks that are known"
    assert second.metrics["loss_attention"].between(0, 1).all()
    assert (second.last_checkpoint / "net_G_AB_average.safetensors").is_file()
    told = what_changed(study, "stage1").loc["here: λ of the attention's error"]
    assert told.tolist() == ["0", "3", "←"]
