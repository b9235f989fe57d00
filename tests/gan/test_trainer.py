"""A stage from start to end: records, resume, refusal, hand-over to the next stage."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from lib.gan import (
    CheckpointError,
    NoiseConfig,
    TrainConfig,
    TrainError,
    list_checkpoints,
    method_cyclegan,
    read_meta,
    train,
    trainer,
)
from lib.gan.checkpoints import TRAINER
from lib.gan.step import LOSSES

NEWEST = "checkpoints/epoch_0510"


class Stopped(Exception):
    pass


class StopsAt:
    """An image set that raises when it is read for the n-th time: a stop in the middle of a step."""

    def __init__(self, images, n):
        self.images, self.left = images, n
        self.shape, self.dtype = images.shape, images.dtype

    def __len__(self):
        return len(self.images)

    def __getitem__(self, picks):
        self.left -= 1
        if self.left == 0:
            raise Stopped
        return self.images[picks]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """keep(make) → run folder of an uninterrupted stage, trained once for the module."""
    cache = {}

    def keep(cfg, data):
        if cfg not in cache:
            cache[cfg] = tmp_path_factory.mktemp("whole")
            train(cfg, data, cache[cfg], progress=False)
        return cache[cfg]

    return keep


def run_with_stop(cfg, data, run_dir, reads):
    images = data.A
    data.A = StopsAt(images, reads)
    with pytest.raises(Stopped):
        train(cfg, data, run_dir, progress=False)
    data.A = images


def assert_same_run(one, two):
    """Every tensor of every checkpoint, every table but for the seconds, every sample strip."""
    assert [p.name for p in list_checkpoints(one / "checkpoints")] == [
        p.name for p in list_checkpoints(two / "checkpoints")
    ]
    for folder in list_checkpoints(one / "checkpoints"):
        twin = two / "checkpoints" / folder.name
        assert {p.name for p in folder.iterdir()} == {p.name for p in twin.iterdir()}
        for path in folder.glob("*.safetensors"):
            a, b = load_file(path), load_file(twin / path.name)
            assert a.keys() == b.keys()
            assert all(torch.equal(a[key], b[key]) for key in a), f"{folder.name}/{path.name}"
        assert read_meta(folder) == read_meta(twin)
    tables = [pd.read_csv(run / "metrics.csv").drop(columns="seconds") for run in (one, two)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert (one / "samples.csv").read_bytes() == (two / "samples.csv").read_bytes()
    for path in (one / "samples").iterdir():
        assert path.read_bytes() == (two / "samples" / path.name).read_bytes()


def test_a_stage_leaves_its_records(tiny, toy_data, whole):
    run, cfg = whole(tiny(), toy_data), tiny()
    metrics = pd.read_csv(run / "metrics.csv")
    assert tuple(metrics.columns) == ("epoch", "step", *LOSSES, "seconds")
    assert metrics["step"].tolist() == [2, 3, 5, 6, 8, 9]  # every second step, and each epoch's end
    assert metrics["epoch"].tolist() == [299, 299, 313, 313, 510, 510]
    assert np.isfinite(metrics).all(axis=None)
    samples = pd.read_csv(run / "samples.csv")
    assert samples["epoch"].tolist() == [299, 313, 510]
    assert samples[["outside_change", "inside_change"]].gt(0).all(axis=None)
    assert sorted(p.name for p in (run / "samples").iterdir()) == [f"epoch_0{e}.png" for e in (299, 313, 510)]

    folders = list_checkpoints(run / "checkpoints")
    assert [p.name for p in folders] == ["epoch_0299", "epoch_0313", "epoch_0510"]
    assert [(p / TRAINER).exists() for p in folders] == [False, True, True]
    meta = read_meta(folders[-1])
    assert (meta["epoch"], meta["step"], meta["parent"]) == (510, 9, None)
    assert TrainConfig.from_dict(meta["config"]) == cfg
    assert meta["config_hash"] == cfg.hash()


def test_metrics_are_means_of_their_steps(tiny, toy_data, whole, tmp_path):
    fine = tmp_path / "fine"
    train(tiny(tick_steps=1), toy_data, fine, progress=False)
    each = pd.read_csv(fine / "metrics.csv").set_index("step")["loss_G"]
    ticks = pd.read_csv(whole(tiny(), toy_data) / "metrics.csv").set_index("step")["loss_G"]
    assert ticks[5] == pytest.approx((each[4] + each[5]) / 2, rel=1e-6)
    assert ticks[6] == pytest.approx(each[6], rel=1e-6)


@pytest.mark.parametrize("reads", [2, 5, 9])
def test_resume_equals_never_stopped(tiny, toy_data, whole, tmp_path, reads):
    """Stopped in the first, second and third epoch; rows of the lost steps must not stay."""
    run_with_stop(tiny(tick_steps=1), toy_data, tmp_path, reads)
    result = train(tiny(tick_steps=1), toy_data, tmp_path, progress=False)
    assert result.steps == 9
    assert_same_run(whole(tiny(tick_steps=1), toy_data), tmp_path)


def test_a_stop_between_the_last_checkpoint_and_its_pruning(tiny, toy_data, whole, tmp_path, monkeypatch):
    """Nothing is left to train, yet the folder must end as it does without the stop."""
    real = trainer.checkpoints.prune

    def prune(root, keep_epochs):
        if (root / "epoch_0510").exists():
            raise Stopped
        real(root, keep_epochs)

    monkeypatch.setattr(trainer.checkpoints, "prune", prune)
    with pytest.raises(Stopped):
        train(tiny(), toy_data, tmp_path, progress=False)
    assert len(list((tmp_path / "checkpoints").glob(f"*/{TRAINER}"))) == 3
    monkeypatch.undo()
    assert train(tiny(), toy_data, tmp_path, progress=False).already_finished
    assert_same_run(whole(tiny(), toy_data), tmp_path)


@pytest.mark.parametrize("name", ["net_D_A.safetensors", TRAINER])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tiny, toy_data, whole, tmp_path, name):
    run_with_stop(tiny(), toy_data, tmp_path, reads=8)
    path = tmp_path / "checkpoints" / "epoch_0313" / name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match=rf"falling back.*epoch_0313.{name}: damaged or truncated"):
        train(tiny(), toy_data, tmp_path, progress=False)
    assert_same_run(whole(tiny(), toy_data), tmp_path)
    (line,) = (tmp_path / "fallbacks.txt").read_text().splitlines()
    told = rf"checkpoint refused, falling back to epoch_0299: .*epoch_0313.{name}: damaged or truncated .*"
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ {told}", line)


def test_the_only_checkpoint_damaged_means_from_the_start(tiny, toy_data, whole, tmp_path):
    run_with_stop(tiny(), toy_data, tmp_path, reads=5)
    (tmp_path / "checkpoints" / "epoch_0299" / "meta.json").write_text("{")
    with pytest.warns(UserWarning, match=r"back to the start of the stage: .*epoch_0299.meta\.json: missing or dam"):
        train(tiny(), toy_data, tmp_path, progress=False)
    assert_same_run(whole(tiny(), toy_data), tmp_path)


def test_a_finished_stage_returns_at_once(tiny, toy_data, whole, monkeypatch):
    run = whole(tiny(), toy_data)
    (run / "checkpoints" / ".tmp_epoch_0600_1").mkdir()
    monkeypatch.setattr(trainer, "build", None)  # building a network would fail
    result = train(tiny(), toy_data, run, init_from="gone", progress=False)
    assert result.already_finished
    assert result.checkpoint == run / NEWEST
    assert not (run / "checkpoints" / ".tmp_epoch_0600_1").exists()


def test_another_configuration_is_refused(tiny, toy_data, whole):
    run = whole(tiny(), toy_data)
    with pytest.raises(CheckpointError, match=r"lambda_nmc: 5.0, not 10.0; seed: 1, not 0"):
        train(tiny(lambda_nmc=5.0, seed=1), toy_data, run, progress=False)
    with pytest.raises(CheckpointError, match=r"epoch_0510 belongs to another .*stage: 'stage4', not 'stage5'.*delete"):
        train(tiny(stage="stage4"), toy_data, run, progress=False)
    with pytest.raises(CheckpointError, match=r"upsampling: 'resize', not 'transposed'; precision: 'bf16', not 'fp32'"):
        train(tiny(upsampling="resize", precision="bf16"), toy_data, run, progress=False)
    with pytest.raises(CheckpointError, match=r"parent: .*stage4.* not None"):
        train(tiny(), toy_data, run, parent={"stage": "stage4"}, progress=False)
    toy_data.B = toy_data.B[:4]
    with pytest.raises(CheckpointError, match=r"images: .*'B': 4.* not .*'B': 5"):
        train(tiny(), toy_data, run, progress=False)


def test_data_that_does_not_fit_is_refused_before_anything_is_written(tiny, toy_data, tmp_path):
    toy_data.non_mask = None
    with pytest.raises(ValueError, match=r"lambda_nmc is 10\.0 but TrainData\.non_mask is None: compute the tensors"):
        train(tiny(), toy_data, tmp_path / "run", progress=False)
    toy_data.B = toy_data.B[:1]
    with pytest.raises(ValueError, match=r"TrainData\.B: 1 image, expected at least 2"):
        train(tiny(lambda_nmc=0.0), toy_data, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def poisoned(values_at):
    """train_step that returns what it should, but for one loss at one step."""
    real, (bad_step, bad_loss, bad_value) = method_cyclegan.train_step, values_at

    def step_function(model, batch, cfg, step):
        values = real(model, batch, cfg, step)
        if step + 1 == bad_step:
            values[LOSSES.index(bad_loss)] = bad_value
        return values

    return step_function


@pytest.mark.parametrize(("loss", "value"), [("loss_D_B", float("nan")), ("loss_G_adv_AB", 2e3)])
def test_a_loss_gone_wrong_stops_with_its_step_and_the_last_good_checkpoint(
    tiny, toy_data, tmp_path, monkeypatch, loss, value
):
    monkeypatch.setattr(method_cyclegan, "train_step", poisoned((4, loss, value)))
    with pytest.raises(TrainError, match=rf"stage5: {loss} is .* at step 4 \(epoch 313\); .*epoch_0299"):
        train(tiny(), toy_data, tmp_path, progress=False)
    assert [p.name for p in list_checkpoints(tmp_path / "checkpoints")] == ["epoch_0299"]
    assert pd.read_csv(tmp_path / "metrics.csv")["step"].max() == 3


def test_a_real_explosion_is_caught_before_anything_is_saved(tiny, toy_data, tmp_path):
    with pytest.raises(TrainError, match=r"at step [123] .*none in this stage"):
        train(tiny(lr=1e25), toy_data, tmp_path, progress=False)
    assert list_checkpoints(tmp_path / "checkpoints") == []


def test_weights_broken_by_the_last_update_are_not_saved(tiny, toy_data, tmp_path, monkeypatch):
    """The losses of an epoch's last step are finite, its update is not."""
    real = method_cyclegan.train_step

    def step_function(model, batch, cfg, step):
        values = real(model, batch, cfg, step)
        if step == 5:
            with torch.no_grad():
                model.net_G_BA.conv2.bias[1] = float("inf")
        return values

    monkeypatch.setattr(method_cyclegan, "train_step", step_function)
    message = r"step 6 \(epoch 313\): net_G_BA: conv2\.bias .*not finite.*last good checkpoint: .*epoch_0299"
    with pytest.raises(TrainError, match=message):
        train(tiny(), toy_data, tmp_path, progress=False)
    assert [p.name for p in list_checkpoints(tmp_path / "checkpoints")] == ["epoch_0299"]


def test_the_next_stage_takes_the_weights_and_adds_noise(tiny, toy_data, tmp_path):
    before = tiny(stage="stage4", epochs=(297, 298), keep_epochs=(), noise=NoiseConfig())
    parent = train(before, toy_data, tmp_path / "stage4", progress=False).checkpoint
    after = tiny(epochs=(299,), steps_per_epoch=1, lr=1e-12, keep_epochs=(299,))
    child = train(after, toy_data, tmp_path / "stage5", init_from=parent, progress=False).checkpoint
    for name in ("net_G_AB", "net_G_BA", "net_D_A", "net_D_B"):
        old, new = (load_file(folder / f"{name}.safetensors") for folder in (parent, child))
        assert all(torch.allclose(old[key], new[key], atol=1e-9) for key in old)
    steps = {key: v.item() for key, v in load_file(child / TRAINER).items() if key.endswith("/step")}
    assert set(steps.values()) == {1.0}  # the optimisers started afresh
    assert read_meta(child)["parent"] == {"stage": "stage4", "epoch": 298, "config_hash": before.hash()}
    assert trainer.checkpoints.load_network(child / "net_G_AB.safetensors").noise.sigma == (0, 1, 0.2)
    assert trainer.checkpoints.load_network(parent / "net_G_AB.safetensors").noise.sigma == (0, 0, 0)

    with pytest.raises(CheckpointError, match="do not fit this network"):
        train(tiny(ngf=8), toy_data, tmp_path / "wider", init_from=parent, progress=False)


def test_runs_without_tensors_samples_or_identity(tiny, toy_data, tmp_path):
    toy_data.non_mask = toy_data.samples = toy_data.samples_non_mask = None
    cfg = tiny(lambda_nmc=0.0, identity_ratio=0.0, pool_size=0, noise=NoiseConfig(), epochs=(1,), keep_epochs=())
    train(cfg, toy_data, tmp_path, progress=False)
    metrics = pd.read_csv(tmp_path / "metrics.csv")
    assert metrics[["loss_idt_A", "loss_idt_B", "loss_nmc"]].isna().all(axis=None)
    assert metrics.drop(columns=["loss_idt_A", "loss_idt_B", "loss_nmc"]).notna().all(axis=None)
    assert not (tmp_path / "samples.csv").exists()


def test_bar_and_callback(tiny, toy_data, tmp_path, capsys):
    called = []
    train(tiny(), toy_data, tmp_path, on_epoch=lambda label, row: called.append((label, row["step"])))
    assert called == [(299, 3), (313, 6), (510, 9)]
    shown = capsys.readouterr().err
    assert "stage5 epoch 510" in shown
    assert "9/9" in shown
    assert shown.isascii()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_trains_and_resumes_on_a_gpu(tiny, toy_data, tmp_path):
    def stop(label: int, row: dict) -> None:
        raise Stopped

    with pytest.raises(Stopped):  # the pictures are on the device: nothing is read that could stop it
        train(tiny(device="cuda"), toy_data, tmp_path, progress=False, on_epoch=stop)
    assert train(tiny(device="cuda"), toy_data, tmp_path, progress=False).steps == 9


def test_two_processes_never_train_in_one_folder(tiny, toy_data, tmp_path):
    def meanwhile(label: int, row: dict) -> None:
        with pytest.raises(TrainError, match="another process trains in this folder"):
            train(tiny(), toy_data, tmp_path, progress=False)

    assert train(tiny(), toy_data, tmp_path, progress=False, on_epoch=meanwhile).steps == 9
    assert train(tiny(), toy_data, tmp_path, progress=False).already_finished
