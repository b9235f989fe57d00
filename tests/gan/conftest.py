"""Tiny networks and data: the mathematics is the same at 32² with four channels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib.gan import NoiseConfig, TrainConfig, TrainData


@pytest.fixture(autouse=True)
def _one_thread():
    """Bit-exactness is promised for a fixed number of threads; one is fastest at these sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def run_files():
    """run_files(run_dir) → every file of a run by its place, byte for byte; of the metrics all but the seconds."""

    def read(run_dir: Path) -> dict[str, bytes | str]:
        files = {str(path.relative_to(run_dir)): path for path in run_dir.rglob("*") if path.is_file()}
        metrics = pd.read_csv(files.pop("metrics.csv"), dtype=str).drop(columns="seconds")
        return {name: path.read_bytes() for name, path in files.items()} | {"metrics.csv": metrics.to_csv()}

    return read


@pytest.fixture
def tiny():
    """tiny(**changes) → a stage of three epochs of three steps, with noise and NMC."""

    def make(**changes) -> TrainConfig:
        values = {
            "stage": "stage5",
            "epochs": (299, 313, 510),
            "steps_per_epoch": 3,
            "batch_size": 2,
            "lambda_A": 8.0,
            "lambda_B": 8.0,
            "lambda_nmc": 10.0,
            "noise": NoiseConfig((0, 1, 0.2)),
            "ngf": 4,
            "ndf": 4,
            "n_blocks": 2,
            "size": 32,
            "pool_size": 3,
            "keep_epochs": (299,),
            "sample_count": 2,
            "tick_steps": 2,
            "device": "cpu",
        }
        return TrainConfig(**(values | changes))

    return make


@pytest.fixture
def toy_data():
    """Seven A with a square mask each, five B, 32²; two samples. Unequal counts, so that B comes round sooner."""
    rng = np.random.default_rng(0)

    def pictures(count: int) -> np.ndarray:
        return rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)

    non_mask = np.ones((7, 1, 32, 32), np.uint8)
    non_mask[:, :, 16:28, 4:20] = 0
    return TrainData(pictures(7), pictures(5), non_mask, samples=pictures(2), samples_non_mask=non_mask[:2])
