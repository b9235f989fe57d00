"""Every method under the one trainer: records, resume, checkpoints that translate, refusals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lib.gan import CheckpointError, Model, NoiseConfig, Translator, load_network, make_batch, methods, train
from lib.gan.checkpoints import TRAINER, size_estimate
from lib.gan.config import METHODS as NAMES
from lib.gan.method_parts import PlainGenerator
from lib.gan.methods import METHODS, build
from lib.gan.ranks import Ranks
from lib.gan.step import LOSSES, train_step

OTHERS = ("cyclegan", "iamgan", "cut")


class Stopped(Exception):
    pass


def tensors_of(model) -> dict[str, torch.Tensor]:
    weights = {f"{n}.{key}": value for n, net in model.networks.items() for key, value in net.state_dict().items()}
    return weights | model.trainer_state()


def assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def test_the_configuration_knows_the_methods(tiny):
    assert tuple(METHODS) == NAMES
    with pytest.raises(ValueError, match=r"TrainConfig.method: expected one of attentiongan, .*, got 'pix2pix'"):
        tiny(method="pix2pix")


def test_attentiongan_is_the_papers_model_bit_for_bit(tiny, toy_data):
    cfg = tiny()
    ours, papers = build(cfg), Model(cfg)
    assert ours.losses == LOSSES
    for step in range(3):
        batch = make_batch(cfg, toy_data, step)
        assert torch.equal(ours.step(batch, step), train_step(papers, batch, cfg, step))
    assert_equal(tensors_of(ours), tensors_of(papers))


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_trains_every_network_and_tells_its_losses(tiny, toy_data, method, precision):
    cfg = tiny(method=method, precision=precision)
    model = build(cfg)
    assert set(model.networks) == set(model.make(cfg))
    before = {key: value.clone() for key, value in tensors_of(model).items()}
    values = dict(zip(model.losses, model.step(make_batch(cfg, toy_data, 0), 0).tolist(), strict=True))
    assert model.losses[0] == "loss_G"
    assert np.isfinite(list(values.values())).all()
    after = tensors_of(model)
    weights = [key for key in before if key.endswith("weight")]
    # A first step without other pictures to be told apart from teaches the identity net nothing but noise's rounding.
    assert [key for key in weights if torch.equal(before[key], after[key]) and "net_identity" not in key] == []
    assert all(torch.isfinite(value).all() for value in after.values())


@pytest.mark.parametrize("method", OTHERS)
def test_training_resumes_bit_for_bit_and_the_checkpoint_translates(tiny, toy_data, run_files, tmp_path, method):
    cfg = tiny(method=method)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    result = train(cfg, toy_data, whole, progress=False)

    def stop(label: int, row: dict) -> None:
        if label == 299:
            raise Stopped

    with pytest.raises(Stopped):
        train(cfg, toy_data, stopped, progress=False, on_epoch=stop)
    train(cfg, toy_data, stopped, progress=False)
    one, two = run_files(whole), run_files(stopped)
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []

    metrics = pd.read_csv(whole / "metrics.csv")
    assert tuple(metrics.columns) == ("epoch", "step", *build(cfg).losses, "seconds")
    assert np.isfinite(metrics).all(axis=None)

    pictures = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    got = Translator(result.checkpoint, "cpu").translate(pictures, [1, 2, 3])
    assert (got.attention == 1).all()  # everything is drawn anew
    net = load_network(result.checkpoint / "net_G_AB.safetensors")
    assert isinstance(net, PlainGenerator)
    assert net.noise.sigma == (0, 1, 0.2)
    with torch.inference_mode():
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        expected = (net(x, [torch.Generator().manual_seed(k) for k in (1, 2, 3)]) + 1) * 127.5
    assert np.abs(got.images - expected.permute(0, 2, 3, 1).numpy()).max() <= 0.51
    for name in build(cfg).networks:
        assert load_network(result.checkpoint / f"{name}.safetensors").config()


@pytest.mark.parametrize("method", OTHERS)
def test_bare_faces_need_no_tensors(tiny, toy_data, method):
    toy_data.non_mask = None
    cfg = tiny(method=method, lambda_nmc=0.0, noise=NoiseConfig())
    model = build(cfg)
    values = dict(zip(model.losses, model.step(make_batch(cfg, toy_data, 0), 0).tolist()))
    assert [name for name, value in values.items() if np.isnan(value)] == ["loss_nmc"]


@pytest.mark.parametrize("method", NAMES)
def test_the_room_is_known_before(tiny, toy_data, tmp_path, method):
    """Of one epoch of three steps at batch 2, whose six fakes overflow the pools."""
    cfg = tiny(method=method, epochs=(1,), keep_epochs=(), ngf=8, ndf=8)
    told = size_estimate(cfg, toy_data)
    folder = train(cfg, toy_data, tmp_path, progress=False).checkpoint
    assert told["weights"] == pytest.approx(sum(p.stat().st_size for p in folder.glob("net_*")), rel=0.03)
    assert told["trainer"] == pytest.approx((folder / TRAINER).stat().st_size, rel=0.02)


@pytest.mark.parametrize("method", ["iamgan", "cut"])
def test_a_method_for_one_process_says_so(tiny, method):
    with pytest.raises(ValueError, match=rf"method '{method}' trains in one process only, got 2"):
        build(tiny(method=method), ranks=Ranks(0, 2))


def test_weights_of_another_method_are_no_start(tiny, toy_data, tmp_path):
    short = {"epochs": (1,), "keep_epochs": (), "steps_per_epoch": 1}
    parent = train(tiny(**short), toy_data, tmp_path / "parent", progress=False).checkpoint
    with pytest.raises(CheckpointError, match=r"epoch_0001: was trained by method 'attentiongan', expected 'cyclegan'"):
        train(tiny(method="cyclegan", **short), toy_data, tmp_path / "child", init_from=parent, progress=False)
    with pytest.raises(CheckpointError, match=r"method: 'cut', not 'attentiongan'"):
        train(tiny(method="cut", **short), toy_data, tmp_path / "parent", progress=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", OTHERS)
def test_trains_on_a_gpu(tiny, toy_data, tmp_path, method):
    cfg = tiny(method=method, device="cuda", precision="bf16")
    assert train(cfg, toy_data, tmp_path, progress=False).steps == 9
    assert methods.build(replace(cfg, device="cpu")).losses
