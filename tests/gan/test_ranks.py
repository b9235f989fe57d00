"""Several processes: the joined batch's gradients, the same training, clear errors."""

import fcntl
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from lib.gan import CheckpointError, Model, Ranks, TrainData, TrainError, make_batch, non_mask_change, train
from lib.gan.batches import to_float
from lib.gan.job import LAUNCHED, launch, main, read_job, write_job
from lib.gan.ranks import RankNoise
from lib.gan.step import train_step

ROOT = Path(__file__).parents[2]

# Each rank trains three steps and keeps its gradients of the last; run by torchrun.
SCRIPT = """
import sys, torch, torch.distributed as dist
from pathlib import Path
from safetensors.torch import save_file
from lib.gan import Model, Ranks, make_batch
from lib.gan.job import leave_group, read_job
from lib.gan.step import train_step
torch.set_num_threads(1)
dist.init_process_group("gloo")
job, ranks = read_job(Path(sys.argv[1])), Ranks.current()
cfg, data = job["cfg"], job["data"]
model = Model(cfg, torch.device("cpu"), ranks)
values = [ranks.mean(train_step(model, make_batch(cfg, data, s, "cpu", ranks), cfg, s)) for s in range(3)]
grads = {f"{n}.{k}": p.grad.contiguous() for n, net in model.networks.items() for k, p in net.named_parameters()}
save_file(grads | {"values": torch.stack(values)}, Path(sys.argv[1]) / f"rank{ranks.rank}.safetensors")
del model, grads
leave_group()
"""


@pytest.fixture
def job(tiny, toy_data, tmp_path):
    """A run folder with its job.json: batch 4, and two pictures with larger masks, so that shares differ."""
    toy_data.non_mask[:3, :, 4:30] = 0
    stacks = {}
    for name in ("A", "B", "non_mask", "samples", "samples_non_mask"):
        images = getattr(toy_data, name)
        images.tofile(tmp_path / f"{name}.u8")
        stacks[name] = np.memmap(tmp_path / f"{name}.u8", np.uint8, "r", shape=images.shape)
    cfg = tiny(batch_size=4, pool_size=6)
    write_job(tmp_path / "run", cfg, TrainData(**stacks))
    return tmp_path / "run"


def torchrun(*command, processes: int = 2) -> subprocess.CompletedProcess:
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *command]
    return subprocess.run([str(part) for part in line], env=env, capture_output=True, text=True, timeout=120)


def test_gradients_of_two_processes_are_those_of_the_joined_batch(job, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = torchrun(tmp_path / "script.py", job)
    assert done.returncode == 0, done.stderr
    parts = read_job(job)
    cfg, data = parts["cfg"], parts["data"]
    model = Model(cfg)
    values = torch.stack([train_step(model, make_batch(cfg, data, s), cfg, s) for s in range(3)])
    ranks = [load_file(job / f"rank{r}.safetensors") for r in range(2)]
    for net, key, gradient in (
        (n, k, p.grad) for n, network in model.networks.items() for k, p in network.named_parameters()
    ):
        for rank in ranks:
            worst = (rank[f"{net}.{key}"] - gradient).abs().max()
            # Biases before an instance norm have no gradient but rounding: measured against the network's largest.
            scale = max(p.grad.abs().max() for p in model.networks[net].parameters())
            assert worst <= 2e-3 * gradient.abs().max() + 1e-5 * scale, (net, key)
    torch.testing.assert_close(ranks[0]["values"], values, rtol=1e-3, atol=1e-4)
    assert ranks[0].keys() == ranks[1].keys()
    assert all(torch.equal(ranks[0][k], ranks[1][k]) for k in ranks[0])


def test_a_stage_in_two_processes_is_that_of_one_and_resumes(job, tmp_path, capfd):
    launch(job, devices=2)
    assert "finished" in capfd.readouterr().out
    parts = read_job(job)
    alone = train(parts["cfg"], parts["data"], tmp_path / "alone", progress=False)
    metrics = [pd.read_csv(folder / "metrics.csv").drop(columns="seconds") for folder in (job, tmp_path / "alone")]
    pd.testing.assert_frame_equal(*metrics, rtol=0.02, atol=2e-3)
    assert [(job / "samples" / f"epoch_{e:04d}.png").exists() for e in parts["cfg"].epochs] == [True] * 3

    # The two share one state: one process takes over what two began, and finds it finished.
    again = train(parts["cfg"], parts["data"], job, progress=False)
    assert again.already_finished
    assert again.steps == alone.steps


def test_shares_of_a_batch_join_to_the_batch(tiny, toy_data):
    cfg = tiny(batch_size=4)
    whole = make_batch(cfg, toy_data, 5)
    shares = [make_batch(cfg, toy_data, 5, "cpu", Ranks(r, 2)) for r in range(2)]
    for k in range(3):
        assert torch.equal(torch.cat([share[k] for share in shares]), whole[k])
    with pytest.raises(ValueError, match="batch_size 4 cannot be shared by 3"):
        make_batch(cfg, toy_data, 5, "cpu", Ranks(0, 3))


def test_noise_of_the_ranks_joins_to_the_noise_of_one():
    def draw(ranks: Ranks, share: int) -> torch.Tensor:
        return RankNoise(torch.Generator().manual_seed(3), ranks, share).draw((2 * share, 1, 4, 4))

    whole = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    first, second = draw(Ranks(0, 2), 2), draw(Ranks(1, 2), 2)
    # A joined batch is [A, B]: A's four samples, then B's.
    assert torch.equal(torch.cat([first[:2], second[:2], first[2:], second[2:]]), whole)


def test_nmc_of_the_shares_is_the_mean_of_the_batch(toy_data):
    real, fake = to_float(torch.from_numpy(toy_data.A[:4])), to_float(torch.from_numpy(toy_data.B[:4]))
    non_mask = torch.ones(4, 1, 32, 32, dtype=torch.bool)
    non_mask[:2, :, 5:] = False
    halves = (slice(0, 2), slice(2, 4))
    mean_count = non_mask.sum() / 2
    for norm in ("region", "image", "sum"):
        shares = [non_mask_change(real[h], fake[h], non_mask[h], norm, lambda _: mean_count) for h in halves]
        torch.testing.assert_close(sum(shares) / 2, non_mask_change(real, fake, non_mask, norm))


def test_a_failure_in_the_processes_is_told(job, tiny):
    parts = read_job(job)
    write_job(job, replace(parts["cfg"], batch_size=3), parts["data"])
    with pytest.raises(TrainError, match="batch_size 3 cannot be shared by 2 processes"):
        launch(job, devices=2)
    assert not (job / "error.txt").exists()  # told, so nothing is left to tell


def test_a_refused_process_leaves_nothing_in_a_busy_folder(job, monkeypatch, capsys):
    with (job / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main([str(job)]) == 2
        assert "another process trains in this folder" in capsys.readouterr().err
        assert sorted(path.name for path in job.iterdir()) == [".lock", "job.json"]

        monkeypatch.setenv(LAUNCHED, "1")
        assert main([str(job)]) == 2
        assert "another process trains" in (job / "error.txt").read_text()
    assert main([str(job)]) == 0
    assert not (job / "error.txt").exists()


def test_jobs_that_cannot_be_read(job, tmp_path, toy_data, tiny, capsys):
    with pytest.raises(TypeError, match=r"TrainData\.A: expected a memory-mapped stack"):
        write_job(tmp_path / "x", tiny(), toy_data)
    data = read_job(job)["data"]
    with pytest.raises(TypeError, match=r"TrainData\.A: expected the beginning"):
        write_job(tmp_path / "x", tiny(), replace(data, A=data.A[1:]))
    (tmp_path / "A.u8").write_bytes(b"123")
    with pytest.raises(CheckpointError, match=r"job\.json: no usable job .*A\.u8: 3 bytes"):
        read_job(job)
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "no usable job" in capsys.readouterr().err
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert (out, err[:6]) == ("", "usage:")
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert (out[:6], err) == ("usage:", "")
