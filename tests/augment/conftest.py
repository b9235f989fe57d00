"""Small photographs for the tests: the public-domain astronaut of scikit-image, and a tiny untrained checkpoint."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

ROOT = Path(__file__).parents[2]


def portrait(size: int) -> np.ndarray:
    """uint8 [size, size, 3]: head and shoulders."""
    return np.asarray(Image.fromarray(astronaut()[:300, 70:370]).resize((size, size), Image.Resampling.LANCZOS))


def scene() -> np.ndarray:
    """uint8 [233, 419, 3]: two faces of different sizes, odd edges."""
    wall = np.random.default_rng(1).integers(100, 130, (233, 419, 3), dtype=np.uint8)
    wall[3:203, 5:205] = portrait(200)
    wall[63:213, 260:410] = portrait(150)
    return wall


def files(folder: Path, *suffixes: str) -> dict[str, bytes]:
    """Every file under the folder by its relative path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and (path.suffix in suffixes or not suffixes))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def pixels(path: Path) -> np.ndarray:
    """A PNG as an array."""
    with Image.open(path) as picture:
        return np.asarray(picture)


def start(*arguments: object) -> subprocess.Popen:
    """`python -m lib.augment …`, as a user would start it, in a process group of its own."""
    command = [sys.executable, "-m", "lib.augment", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::DeprecationWarning:lib"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes)


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """Three good pictures at three depths, with one, two and one face."""
    root = tmp_path_factory.mktemp("faces")
    (root / "deep" / "er").mkdir(parents=True)
    Image.fromarray(portrait(151)).save(root / "one.png")
    Image.fromarray(scene()).save(root / "deep" / "two.png")
    Image.fromarray(portrait(180)[:, 10:171]).save(root / "deep" / "er" / "odd.bmp")
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """An untrained generator for 64² pictures, with noise."""
    from lib.gan import Generator, NoiseConfig, init_weights
    from lib.gan.checkpoints import write_checkpoint

    net = Generator(ngf=4, n_blocks=1, noise=NoiseConfig(sigma=(0, 1, 0.2)))
    init_weights(net, torch.Generator().manual_seed(0))
    root = tmp_path_factory.mktemp("checkpoints")
    return write_checkpoint(root, 1, {"net_G_AB": net}, {}, {"config": {"size": 64}})
