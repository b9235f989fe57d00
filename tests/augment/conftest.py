"""Small photographs for the tests: the public-domain astronaut of scikit-image, and a tiny untrained checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from lib.gan import released as released_models


def _portrait(size: int) -> np.ndarray:
    """uint8 [size, size, 3]: head and shoulders."""
    return np.asarray(Image.fromarray(astronaut()[:300, 70:370]).resize((size, size), Image.Resampling.LANCZOS))


def _scene() -> np.ndarray:
    """uint8 [233, 419, 3]: two faces of different sizes, odd edges."""
    wall = np.random.default_rng(1).integers(100, 130, (233, 419, 3), dtype=np.uint8)
    wall[3:203, 5:205] = _portrait(200)
    wall[63:213, 260:410] = _portrait(150)
    return wall


@pytest.fixture(scope="session")
def portrait():
    """A function: size → uint8 [size, size, 3], head and shoulders."""
    return _portrait


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """Three good pictures at three depths, with one, two and one face."""
    root = tmp_path_factory.mktemp("faces")
    (root / "deep" / "er").mkdir(parents=True)
    Image.fromarray(_portrait(151)).save(root / "one.png")
    Image.fromarray(_scene()).save(root / "deep" / "two.png")
    Image.fromarray(_portrait(180)[:, 10:171]).save(root / "deep" / "er" / "odd.bmp")
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


@pytest.fixture(scope="session")
def _models(checkpoint, tmp_path_factory) -> Path:
    """A registry with two released models made of the untrained generator; "tiny" is the default."""
    root = tmp_path_factory.mktemp("models")
    for name, limit in (("other", 2**20), ("tiny", 12_000)):
        released_models.pack_released(checkpoint, root / name, {"trained_on": "nothing"}, limit)
        released_models.register_released(root / name, default=name == "tiny")
    return root


@pytest.fixture(autouse=True)
def _nothing_released(tmp_path_factory, monkeypatch):
    """The tests do not depend on which models this copy of the package holds."""
    monkeypatch.setattr(released_models, "WEIGHTS", tmp_path_factory.getbasetemp() / "no models")


@pytest.fixture
def models(_models, monkeypatch) -> Path:
    """The registry is the package's for this test."""
    monkeypatch.setattr(released_models, "WEIGHTS", _models)
    return _models
