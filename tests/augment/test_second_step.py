"""The second step on a batch: mask pixels only, each face back in its place, nothing of the training touched."""

import threading

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from lib.augment import MaskedDataset, MaskTransform, SecondStep
from lib.augment.composite import Layer, paste
from lib.augment.second_step import Crop, checksum, pack, unpack
from lib.data.faceworld import render

SIZE = 72


@pytest.fixture(scope="module")
def samples(checkpoint) -> list[tuple]:
    """Four samples after step one, two of them of one size, one with two faces that overlap, one without a mask; with
    the picture before."""
    faces = render(range(3), range(3), SIZE, "full", 1.0)
    images = [tv_tensors.Image((face * 255).round().byte()) for face in faces.full]
    points = list(faces.landmarks[:, None])
    wide = torch.cat(images[:2], dim=2)[:, :, 12:]
    images.append(tv_tensors.Image(wide))
    points.append(torch.cat([points[0] - torch.tensor([12.0, 0]), points[1] + torch.tensor([SIZE - 42.0, 0])]))
    out = []
    for k, (image, own) in enumerate(zip(images, points)):
        mask = MaskTransform(p=k != 1, checkpoint=checkpoint, outputs=("mask_regions", "masked"))
        out.append((*mask(image, {"image_id": k, "landmarks": own}), image))
    return out


@pytest.fixture
def step(checkpoint) -> SecondStep:
    return SecondStep(checkpoint, "cpu", 3)


def test_only_mask_pixels_change_in_batches_and_in_lists(step, samples):
    images, targets, originals = zip(*samples)
    kept = [image.clone() for image in images]
    out = step(list(images), targets)
    assert [type(o) for o in out] == [tv_tensors.Image] * 4
    assert all(torch.equal(a, b) for a, b in zip(images, kept)), "what was given is left as it was"
    for k, (result, original) in enumerate(zip(out, originals)):
        untouched = (targets[k]["mask_regions"] == 0).all(0)
        assert torch.equal(result[:, untouched], original[:, untouched])
        assert torch.equal(result, images[k]) == (k == 1)
    batch = step(torch.stack(images[:3]), default_collate([{"mask_crops": t["mask_crops"]} for t in targets[:3]]))
    assert batch.dtype == torch.uint8
    assert batch.shape == (3, 3, SIZE, SIZE)
    difference = [(a.int() - b.int()).abs().max() for a, b in zip(batch, out)]
    assert max(difference) <= 1, "another number of faces at once may round differently"


def test_it_is_what_the_command_does_with_a_face(step, samples):
    """Against the functions of lib.augment on the whole picture, without windows."""
    image, target, original = samples[3]
    crops = unpack(target["mask_crops"])
    assert len(crops) == 2
    expected = original.permute(1, 2, 0).numpy().copy()
    fakes = step.translator.translate(np.stack([c.pixels for c in crops]), [c.seed for c in crops]).images
    for crop, fake in zip(crops, fakes, strict=True):
        paste(expected, fake, crop.square, crop.weight)
    np.testing.assert_array_equal(step([image], [target])[0].permute(1, 2, 0).numpy(), expected)


def test_floats_change_in_mask_pixels_only_and_equal_the_bytes(step, samples):
    image, target, _ = samples[3]
    precise = v2.functional.to_dtype(image, torch.float32, scale=True)
    out = step([precise], [target])[0]
    assert torch.equal(out, v2.functional.to_dtype(step([image], [target])[0], torch.float32, scale=True))
    noisy = (precise + torch.rand(precise.shape) / 600 - 1 / 1200).clamp(0, 1)
    untouched = (target["mask_regions"] == 0).all(0)
    assert torch.equal(step([noisy], [target])[0][:, untouched], noisy[:, untouched])


def test_noise_depends_on_the_sample_and_the_epoch_alone(checkpoint, samples):
    image, original, points = samples[0][0], samples[0][2], samples[0][1]["landmarks"]
    mask = MaskTransform(p=1, checkpoint=checkpoint)

    def seed(epoch: int, key: int) -> int:
        mask.set_epoch(epoch)
        (crop,) = unpack(mask(original, {"landmarks": points}, key=key)[1]["mask_crops"])
        return crop.seed

    assert torch.equal(mask(original, {"landmarks": points}, key=0)[0], image)
    assert seed(0, 0) == seed(0, 0) == unpack(samples[0][1]["mask_crops"])[0].seed
    assert len({seed(0, 0), seed(1, 0), seed(0, 1)}) == 3


def test_faces_of_a_picture_have_noise_of_their_own(samples):
    one, other = unpack(samples[3][1]["mask_crops"])
    assert one.seed != other.seed


def test_the_border_that_may_change_grows_with_the_margin(checkpoint, samples):
    _, target, original = samples[0]
    sizes = []
    for options in ({}, *({"checkpoint": checkpoint, "margin": m} for m in (0, 0.05, 0.15))):
        mask = MaskTransform(p=1, preset="study", outputs=("mask_regions",), **options)
        sizes.append(int((mask(original, target, key=0)[1]["mask_regions"] > 0).sum()))
    assert sizes[0] == sizes[1] < sizes[2] < sizes[3]


def test_nothing_of_the_training_is_touched(step, samples):
    image, target, _ = samples[0]
    expected = step([image], [target])[0]
    torch.manual_seed(3)
    state, given = torch.get_rng_state(), v2.functional.to_dtype(image, torch.float32, scale=True).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = step([given], [target])[0]
    assert not out.requires_grad
    assert not torch.is_inference(out), "it may go into a network that is trained"
    assert torch.equal(out, v2.functional.to_dtype(expected, torch.float32, scale=True)), "in full precision"
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert not step.translator.generator.training


def test_threads_take_turns(step, samples):
    images, targets, _ = zip(*samples)
    expected, results = step(list(images), targets), []
    threads = [threading.Thread(target=lambda: results.append(step(list(images), targets))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(torch.equal(a, b) for result in results for a, b in zip(result, expected))


def test_through_a_loader_with_workers(step, checkpoint, samples):
    faces = [(original, {"landmarks": target["landmarks"]}) for _, target, original in samples[:3]]
    data = MaskedDataset(faces, MaskTransform(p=1, checkpoint=checkpoint), v2.ToDtype(torch.float32, scale=True))
    images, targets = next(iter(DataLoader(data, batch_size=3, num_workers=1)))
    out = step(images, targets)
    assert (out != images).flatten(1).any(1).all()


def test_a_batch_without_masks_comes_back(step):
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(step(images, [b"", b""]), images)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda image: image.flip(-1),
        lambda image: image[:, :40, :40],
        lambda image: image // 2,
        lambda image: v2.functional.resize(image, [SIZE // 2, SIZE // 2]),
    ],
    ids=["flip", "crop", "colour", "resize"],
)
def test_a_picture_changed_between_the_steps_is_refused(spoil, step, samples):
    image, target, _ = samples[0]
    with pytest.raises(ValueError, match=r"images\[0\]: not as step one left it"):
        step([spoil(image)], [target])


def test_other_mistakes_are_named(step, checkpoint, samples):
    image, target, _ = samples[0]
    with pytest.raises(ValueError, match="no entry 'mask_crops'; give MaskTransform the checkpoint"):
        step([image], [{}])
    with pytest.raises(ValueError, match="expected 'mask_crops' of 2 pictures, got 1"):
        step([image, image], [target])
    with pytest.raises(ValueError, match="Normalize"):
        step([image / 50 - 2], [target])
    crop = unpack(target["mask_crops"])[0]
    larger = Crop(
        np.zeros((8, 8, 3), np.uint8), *(vars(crop)[n] for n in ("square", "weight", "below", "seed", "check"))
    )
    with pytest.raises(ValueError, match="expected one size"):
        step([image], [pack([crop, larger])])
    with pytest.raises(ValueError, match="sample 0: the second step needs an RGB picture"):
        MaskTransform(checkpoint=checkpoint)(image[:1], {**target})
    with pytest.raises(ValueError, match="sample 7: expected a dict in the sample for mask_crops"):
        MaskTransform(checkpoint=checkpoint, source="dlib")(image, key=7)


def test_crops_survive_packing():
    rng = np.random.default_rng(0)
    crops = []
    for k in range(12):
        h, w = rng.integers(1, 9, 2)
        values, below = rng.integers(0, 256, (h, w), dtype=np.uint8), rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        crops.append(Crop(pixels, (-3, k, 9), Layer((k, 2, int(w), int(h)), values), below, 2**32 - 1 - k, 7))
    again = unpack(pack(crops))
    for one, other in zip(crops, again, strict=True):
        assert (one.square, one.weight.box, one.seed, one.check) == (other.square, other.weight.box, other.seed, 7)
        for name in ("pixels", "below"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_array_equal(one.weight.values, other.weight.values)
    assert pack([]) == b""
    assert unpack(b"") == []
    picture = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    assert checksum(picture, crops[0].weight) != checksum(picture[::-1], crops[0].weight)


@pytest.mark.gpu
def test_on_a_gpu(checkpoint, samples):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    images, targets, _ = zip(*samples)
    on_cpu = SecondStep(checkpoint, "cpu")(list(images), targets)
    on_gpu = SecondStep(checkpoint, "cuda")([image.cuda() for image in images], targets)
    for here, there in zip(on_cpu, on_gpu):
        assert there.is_cuda
        assert (here.int() - there.cpu().int()).abs().max() <= 3
