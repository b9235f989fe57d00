"""The bench: both loops train the same network; the counts and the command."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.gan import NoiseConfig, make_batch
from lib.gan.bench import main, memory_of, plain_model, plain_step, step_flops, toy_data
from lib.gan.step import LOSSES, Model, train_step


@pytest.fixture
def cfg(tiny):
    return tiny(noise=NoiseConfig(), batch_size=2)


def losses_of(model, step, cfg, data, count: int = 20) -> np.ndarray:
    return torch.stack([step(model, make_batch(cfg, data, k), cfg, k) for k in range(count)]).numpy()


@pytest.mark.parametrize(("precision", "rtol"), [("fp32", 0.01), ("bf16", 0.08)])
def test_both_loops_train_alike_over_20_steps(cfg, toy_data, precision, rtol):
    plain = losses_of(plain_model(cfg, torch.device("cpu")), plain_step, cfg, toy_data)
    config = replace(cfg, precision=precision)
    ours = losses_of(Model(config), train_step, config, toy_data)
    # Rounding grows from step to step (measured: 0.004 and 0.04 at worst), against a loss's size over the run.
    assert (np.abs(ours - plain) <= rtol * np.abs(plain).max(axis=0) + 1e-4).all()
    # ... and something was learnt on the way, or agreement would say nothing.
    assert plain[-1, LOSSES.index("loss_G_adv_AB")] < 0.5 * plain[0, LOSSES.index("loss_G_adv_AB")]


def test_a_wrong_weight_would_be_seen(cfg, toy_data):
    plain = losses_of(plain_model(cfg, torch.device("cpu")), plain_step, cfg, toy_data)
    wrong = replace(cfg, identity_ratio=0.4)
    ours = losses_of(Model(wrong), train_step, wrong, toy_data)
    assert (np.abs(ours - plain) > 0.01 * np.abs(plain).max(axis=0) + 1e-4).any()


def test_flops_of_the_papers_step(tiny):
    # By hand: a trunk of 9 blocks is 18 convolutions 3×3 of 256 channels at 64²; six generator passes per picture ...
    assert step_flops(tiny(size=256, ngf=64, ndf=64, n_blocks=9, batch_size=4)) == pytest.approx(8.55e12, rel=0.01)
    small = step_flops(tiny())
    assert step_flops(tiny(batch_size=4)) == 2 * small


def test_the_command_prints_and_writes_what_it_measured(tmp_path, capsys):
    small = ["--size", "32", "--ngf", "4", "--batch-size", "2", "--rounds", "1", "--steps", "1", "--device", "cpu"]
    assert main([*small, "--precision", "bf16", "--json", str(tmp_path / "bench.json")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("CPU, 1 thread (")
    note = json.loads((tmp_path / "bench.json").read_text())
    assert list(note["variants"]) == ["plain", "ours, fp32", "ours, bf16"]
    for name, row in note["variants"].items():
        assert row["seconds"] > 0
        assert 1e8 < row["peak_bytes"] < 1e10
        assert row["ratio"] == pytest.approx(note["variants"]["plain"]["seconds"] / row["seconds"])
        assert name in out
    assert "translating a face" in out


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--size", "50"], "TrainConfig.size: expected divisible by 4 and at least 24, got 50"),
        (["--size", "0"], "TrainConfig.size: expected divisible by 4 and at least 24, got 0"),
        (["--batch-size", "0"], "TrainConfig.batch_size: expected at least 1, got 0"),
        (["--ngf", "0"], "TrainConfig.ngf: expected at least 1, got 0"),
        (["--rounds", "0"], "--rounds: expected at least 1, got 0"),
        (["--steps", "0"], "--steps: expected at least 1, got 0"),
        (["--device", "banana"], "device 'banana': expected auto, cpu, or a CUDA device that is there (none is)"),
        (["--device", "cuda"], "device 'cuda': expected auto, cpu, or a CUDA device that is there (none is)"),
    ],
)
def test_arguments_that_cannot_be_run_end_in_one_line(monkeypatch, capsys, wrong, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(wrong) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"lib.gan.bench: {message}\n")


def test_memory_of_a_variant_is_that_of_its_own_process():
    small = ["--size", "32", "--ngf", "4", "--batch-size", "2", "--device", "cpu", "--precision", "fp32"]
    assert 1e8 < memory_of("plain", small) < 1e10


def test_toy_data_fits_the_trainer(tiny):
    toy_data(32).check(tiny(lambda_nmc=10.0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_compiled_bf16_on_a_gpu_trains_like_the_plain_loop(cfg, toy_data):
    device = torch.device("cuda")

    def run(model, step, config) -> np.ndarray:
        return (
            torch.stack([step(model, make_batch(config, toy_data, k, device), config, k) for k in range(20)])
            .cpu()
            .numpy()
        )

    plain = run(plain_model(cfg, device), plain_step, cfg)
    fast = replace(cfg, precision="bf16", compile=True)
    ours = run(Model(fast, device), train_step, fast)
    assert (np.abs(ours - plain) <= 0.08 * np.abs(plain).max(axis=0) + 1e-4).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_papers_step_fits_into_12_gib_and_beats_the_plain_loop(tmp_path):
    assert main(["--json", str(tmp_path / "bench.json"), "--rounds", "2", "--steps", "10"]) == 0
    best = json.loads((tmp_path / "bench.json").read_text())["variants"]["ours, bf16, compiled, graphs"]
    assert best["peak_bytes"] <= 12 * 2**30
    assert best["ratio"] > 1
