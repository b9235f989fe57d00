"""Order, flips and the tensor that follows its image."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.gan import TrainData, make_batch
from lib.gan.batches import _upload, draw_order, resident


def test_every_image_once_per_round():
    order = [i for step in range(12) for i in draw_order(6, step * 4, 4, 0, "s", "order_A")]
    rounds = [order[i : i + 6] for i in range(0, 48, 6)]
    assert all(sorted(r) == list(range(6)) for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1


def test_smaller_set_comes_round_sooner(tiny, toy_data):
    cfg = tiny(batch_size=1, flip=False)
    seen_A, seen_B = Counter(), Counter()
    for step in range(35):
        batch = make_batch(cfg, toy_data, step)
        seen_A[batch.real_A.numpy().tobytes()] += 1
        seen_B[batch.real_B.numpy().tobytes()] += 1
    assert set(seen_A.values()) == {5}  # 35 steps over 7 images
    assert set(seen_B.values()) == {7}  # 35 steps over 5 images


def test_images_are_rgb_floats_of_the_stated_range(tiny):
    pictures = np.zeros((1, 3, 32, 32), np.uint8)
    pictures[:, 0] = 255
    pictures[:, 1] = 51
    batch = make_batch(tiny(lambda_nmc=0.0), TrainData(pictures, pictures), 0)
    assert batch.real_A.dtype == torch.float32
    assert batch.real_A[0, :, 0, 0].tolist() == pytest.approx([1, -0.6, -1])
    assert batch.non_mask is None


def test_the_tensor_follows_its_image_through_every_flip(tiny):
    """A's pictures show their own non-mask tensor, so the two must stay equal pixel by pixel."""
    non_mask = np.random.default_rng(0).random((7, 1, 32, 32)) < 0.5
    pictures = np.repeat(non_mask, 3, axis=1).astype(np.uint8) * 255
    data = TrainData(pictures, pictures, non_mask)
    flipped = 0
    for step in range(20):
        batch = make_batch(tiny(), data, step)
        assert torch.equal(batch.real_A > 0, batch.non_mask.expand(-1, 3, -1, -1))
        plain = make_batch(tiny(flip=False), data, step)
        assert torch.equal(plain.real_A > 0, plain.non_mask.expand(-1, 3, -1, -1))
        for got, unflipped in zip(batch.real_A, plain.real_A):
            assert torch.equal(got, unflipped) or torch.equal(got, unflipped.flip(-1))
            flipped += not torch.equal(got, unflipped)
    assert 10 <= flipped <= 30  # of 40


def test_a_batch_is_a_function_of_its_step(tiny, toy_data):
    late_first = [make_batch(tiny(), toy_data, step) for step in (9, 2)]
    in_order = [make_batch(tiny(), toy_data, step) for step in (2, 9)]
    for a, b in zip(late_first, reversed(in_order)):
        assert all(torch.equal(x, y) for x, y in zip(a, b))
    assert not torch.equal(in_order[0].real_A, make_batch(tiny(seed=1), toy_data, 2).real_A)


def test_arrays_maps_and_tensors_give_the_same(tiny, toy_data, tmp_path):
    toy_data.A.tofile(tmp_path / "A.u8")
    mapped = np.memmap(tmp_path / "A.u8", np.uint8, "r", shape=toy_data.A.shape)
    expected = make_batch(tiny(), toy_data, 4)
    for A in (mapped, torch.from_numpy(toy_data.A)):
        batch = make_batch(tiny(), TrainData(A, toy_data.B, torch.from_numpy(toy_data.non_mask)), 4)
        assert torch.equal(batch.real_A, expected.real_A)
        assert torch.equal(batch.non_mask, expected.non_mask)
    assert np.array_equal(mapped, toy_data.A)


def test_data_that_does_not_fit_is_refused_by_name(tiny, toy_data):
    A, B, keep = toy_data.A, toy_data.B, toy_data.non_mask
    cases = {
        r"TrainData\.A: expected uint8 \[N, 3, 32, 32\], got float32": TrainData(A.astype("f4"), B, keep),
        r"TrainData\.B: expected .* got uint8 \[5, 3, 16, 16\]": TrainData(A, B[:, :, :16, :16], keep),
        r"TrainData\.A: expected uint8 \[N, 3, 32, 32\], got None": TrainData(None, B, keep),
        r"TrainData\.B: expected .* got None": TrainData(A, None, keep),
        r"TrainData\.B: expected .* got a list": TrainData(A, list(B), keep),
        r"TrainData\.non_mask: expected .* got a list": TrainData(A, B, list(keep)),
        r"TrainData\.A: no images, expected at least 2; check what was filtered": TrainData(A[:0], B, keep[:0]),
        r"TrainData\.B: no images, expected at least 2": TrainData(A, B[:0], keep),
        r"TrainData\.A: 1 image, expected at least 2": TrainData(A[:1], B, keep[:1]),
        r"TrainData\.B: 1 image, expected at least 2": TrainData(A, B[:1], keep),
        r"TrainData\.samples: no images; give None": TrainData(A, B, keep, samples=A[:0]),
        r"TrainData\.non_mask: expected one per image of A, got 3": TrainData(A, B, keep[:3]),
        r"TrainData\.samples_non_mask: expected one per image": TrainData(A, B, keep, samples_non_mask=keep),
        r"lambda_nmc is 10.0 but TrainData\.non_mask is None": TrainData(A, B),
    }
    for message, data in cases.items():
        with pytest.raises(ValueError, match=message):
            data.check(tiny())
    TrainData(A, B).check(tiny(lambda_nmc=0.0))
    TrainData(A[:2], B[:2], keep[:2]).check(tiny())


def resident_bytes() -> int:
    """Memory this process holds now, mapped files included."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_ten_times_the_pictures_need_no_more_memory(tiny, tmp_path):
    cfg, held = tiny(size=256, batch_size=4), {}
    for count in (1_000, 10_000):
        path = tmp_path / f"{count}.u8"
        with path.open("wb") as file:
            file.truncate(count * 3 * 256 * 256)  # sparse: takes no room on disk
        images = np.memmap(path, np.uint8, "r", shape=(count, 3, 256, 256))
        data, before = TrainData(images, images), resident_bytes()
        for step in range(100):
            make_batch(cfg, data, step)
        held[count] = resident_bytes() - before
    # 800 pictures of 196 kB are touched in either case; a loaded set would hold 1,966 MB.
    assert held[10_000] < held[1_000] + 60e6
    assert held[10_000] < 300e6


def test_upload_is_the_same_bytes_in_any_chunks(toy_data):
    for images in (toy_data.A, torch.from_numpy(toy_data.non_mask)):
        assert torch.equal(_upload(images, torch.device("cpu"), rows=3), torch.as_tensor(images))
    assert resident(toy_data, torch.device("cpu")) is toy_data


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_from_the_device_are_those_from_the_host(tiny, toy_data):
    cfg, device = tiny(), torch.device("cuda")
    moved = resident(toy_data, device)
    assert moved.A.is_cuda
    assert moved.A.dtype == torch.uint8
    for step in range(5):
        for a, b in zip(make_batch(cfg, moved, step, device), make_batch(cfg, toy_data, step)):
            assert torch.allclose(a.float().cpu(), b.float(), atol=1e-6)  # a GPU divides by multiplying
