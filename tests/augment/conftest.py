"""Small photographs for the tests: the public-domain astronaut of scikit-image, and a tiny untrained checkpoint."""

import json
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


def _face_box(size: int, x: int, y: int) -> list[float]:
    """The box of the face in `_portrait(size)` pasted at (x, y), as a label file would have it."""
    scale = size / 300
    return [round(edge, 2) for edge in (x + 108 * scale, y + 62 * scale, 95 * scale, 118 * scale)]


@pytest.fixture(scope="session")
def labelled(tmp_path_factory) -> Path:
    """A COCO set: images/two.png with two faces and boxes of every other kind, images/b/one.jpg, images/wall.png
    without a box. The categories are face, face_mask and dog."""
    root = tmp_path_factory.mktemp("labelled")
    (root / "images" / "b").mkdir(parents=True)
    (root / "annotations").mkdir()
    Image.fromarray(_scene()).save(root / "images" / "two.png")
    Image.fromarray(_portrait(160)).save(root / "images" / "b" / "one.jpg", quality=95)
    Image.fromarray(np.full((50, 60, 3), 99, np.uint8)).save(root / "images" / "wall.png")
    boxes = [
        (1, 1, _face_box(200, 5, 3)),
        (1, 2, [210, 5, 40, 40]),  # masked already
        (1, 1, [212, 150, 40, 45]),  # no face there
        (1, 1, _face_box(150, 260, 63)),
        (1, 1, [215, 60, 12, 12]),  # small
        (1, 3, [0, 0, 100, 200]),  # another class
        (2, 1, _face_box(160, 0, 0)),
    ]
    names = ["two.png", "b/one.jpg", "wall.png"]
    images = [{"id": k, "file_name": name} for k, name in enumerate(names, 1)]
    entries = [{"id": 10 + k, "image_id": i, "category_id": c, "bbox": b} for k, (i, c, b) in enumerate(boxes)]
    categories = [{"id": k, "name": name} for k, name in enumerate(("face", "face_mask", "dog"), 1)]
    content = {"info": {"year": 2020}, "images": images, "annotations": entries, "categories": categories}
    (root / "annotations" / "instances.json").write_text(json.dumps(content))
    return root
