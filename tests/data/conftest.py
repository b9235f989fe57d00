"""Small pictures made on the spot; no test of this room reads anything from outside."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def noise():
    """noise(h, w, seed): uint8 [h, w, 3], a different value in nearly every pixel."""
    return lambda h=24, w=32, seed=0: np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.fixture
def touch_picture(tmp_path):
    """touch_picture("a/b.jpg", size=(w, h)): a small valid picture under tmp_path, format by suffix."""

    def write(name: str, size: tuple[int, int] = (8, 6), value: int = 128) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (value, value, value)).save(path)
        return path

    return write
