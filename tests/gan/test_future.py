"""The paper's future work through the trainer: records, resume, what is refused."""

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from lib.gan import TrainData, list_checkpoints, train
from lib.gan.batches import take
from lib.gan.checkpoints import TRAINER
from lib.gan.step import LOSSES, OF_TWO_SIDES

TWO_SIDED = {
    "nmc_profile": "exponential",
    "nmc_growth": 4.0,
    "lambda_attention": 2.0,
    "attention_loss": "bce",
    "lambda_distance": 1.0,
    "distance_of": "pairs",
}
ONE_SIDED = {
    "nmc_profile": "linear",
    "nmc_growth": 4.0,
    "lambda_attention": 2.0,
    "lambda_distance": 1.0,
    "one_sided": True,
    "batch_size": 1,
}


class Stopped(Exception):
    pass


@pytest.mark.parametrize("options", [TWO_SIDED, ONE_SIDED], ids=["two sides", "one side"])
def test_options_are_recorded_and_resume_equals_never_stopped(
    tiny, toy_data, tmp_path, run_files, monkeypatch, options
):
    cfg = tiny(**options)
    train(cfg, toy_data, tmp_path / "whole", progress=False)
    told = [name for name in LOSSES if not (cfg.one_sided and name in OF_TWO_SIDES)]
    metrics = pd.read_csv(tmp_path / "whole" / "metrics.csv")
    assert list(metrics.columns) == ["epoch", "step", *told, "loss_attention", "loss_distance", "seconds"]
    assert metrics.notna().all(axis=None)
    assert metrics[["loss_attention", "loss_distance", "loss_D_B"]].gt(0).all(axis=None)

    reads = []

    def stops(images, picks, device):
        if images is toy_data.B and len(picks) == cfg.batch_size:  # a step's, not those of the spread
            reads.append(picks)
            if len(reads) == 5:
                raise Stopped
        return take(images, picks, device)

    monkeypatch.setattr("lib.gan.batches.take", stops)
    with pytest.raises(Stopped):
        train(cfg, toy_data, tmp_path / "stopped", progress=False)
    train(cfg, toy_data, tmp_path / "stopped", progress=False)
    assert len(reads) == 5 + 6  # four steps and a stop; from the first checkpoint, at 3, the other six
    assert run_files(tmp_path / "stopped") == run_files(tmp_path / "whole")


def test_the_networks_of_the_other_side_stay_in_the_checkpoint_as_they_began(tiny, toy_data, tmp_path):
    train(tiny(one_sided=True), toy_data, tmp_path, progress=False)
    first, *_, last = list_checkpoints(tmp_path / "checkpoints")
    for name, trained in {"net_G_AB": True, "net_G_BA": False, "net_D_A": False, "net_D_B": True}.items():
        one, two = (load_file(folder / f"{name}.safetensors") for folder in (first, last))
        assert all(torch.equal(one[key], two[key]) for key in one) != trained
    assert {name.split(".")[0] for name in load_file(last / TRAINER)} == {"opt_G/net_G_AB", "opt_D/net_D_B", "pool_B"}


def test_data_that_an_option_cannot_do_with_is_refused(tiny, toy_data, tmp_path):
    bare = TrainData(toy_data.A, toy_data.B)
    with pytest.raises(ValueError, match=r"lambda_attention is 1\.0 but TrainData\.non_mask is None"):
        train(tiny(lambda_nmc=0.0, lambda_attention=1.0), bare, tmp_path, progress=False)
    even = TrainData(toy_data.A * 0, toy_data.B)
    with pytest.raises(ValueError, match=r"TrainData\.A: all distances \(distance_of 'halves'\) are 0"):
        train(tiny(lambda_nmc=0.0, lambda_distance=1.0), even, tmp_path, progress=False)
