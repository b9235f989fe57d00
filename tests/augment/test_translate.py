"""Batches across pictures, and the checkpoint's training size."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lib.augment.composite import Layer
from lib.augment.options import AugmentError, Task
from lib.augment.steps import Masked, Stepped
from lib.augment.translate import training_size, translate

NOTHING = Layer((0, 0, 0, 0), np.zeros((0, 0), np.uint8))


class Inverter:
    """Stands in for a translator; keeps what it was given."""

    def __init__(self):
        self.batches = []

    def translate(self, images, seeds):
        self.batches.append((images.copy(), list(seeds)))
        return SimpleNamespace(images=255 - images)


def pictures(*counts: int) -> list[Stepped]:
    """Pictures with so many faces; every crop and seed is another number."""
    number = iter(range(100))
    made = []
    for k, count in enumerate(counts):
        crops = [(n, np.full((8, 8, 3), n, np.uint8)) for n in (next(number) for _ in range(count))]
        faces = [Masked(i, NOTHING, crop=crop, noise_seed=n) for i, (n, crop) in enumerate(crops)]
        made.append(Stepped(Task(f"{k}.jpg", f"{k}.png"), {}, faces=faces))
    return made


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_every_crop_returns_to_its_own_face(batch):
    given, inverter = pictures(2, 0, 1, 7, 1), Inverter()
    results = list(translate(given, inverter, batch))
    assert sorted(p.task.source for p, _ in results) == [p.task.source for p in given]
    for picture, fakes in results:
        assert [fake[0, 0, 0] for fake in fakes] == [255 - face.noise_seed for face in picture.faces]
    assert all(len(images) == len(seeds) == batch for images, seeds in inverter.batches), "batches are always full"
    assert len(inverter.batches) == -(-11 // batch)


def test_pictures_are_handed_on_as_soon_as_they_are_whole():
    seen = []

    def feed():
        for picture in pictures(1, 1, 1, 1, 1, 1):
            seen.append(picture)
            yield picture

    for k, _ in enumerate(translate(feed(), Inverter(), 2)):
        assert len(seen) <= k + 2


def test_a_failing_device_becomes_one_line():
    class Full:
        def translate(self, images, seeds):
            raise RuntimeError("CUDA out of memory.\nTried to allocate")

    with pytest.raises(AugmentError, match="smaller --batch-size"):
        list(translate(pictures(1), Full(), 1))


def test_the_training_size_is_found(tmp_path, checkpoint):
    weights = {"w": torch.zeros(1)}
    assert training_size(checkpoint / "net_G_AB.safetensors") == 64
    save_file(weights, tmp_path / "own.safetensors", metadata={"config": json.dumps({"size": 128})})
    assert training_size(tmp_path / "own.safetensors") == 128
    save_file(weights, tmp_path / "bare.safetensors")
    assert training_size(tmp_path / "bare.safetensors") == 256, "the paper's"


def test_a_released_model_tells_its_size(models):
    assert training_size(models / "tiny") == 64


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"PK\x03\x04 a pickle in a zip")
    with pytest.raises(AugmentError, match="not a safetensors checkpoint"):
        training_size(tmp_path / "weights.safetensors")
