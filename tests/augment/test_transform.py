"""Masks in a v2 pipeline: same structure, nothing else changed, the same masks however samples are loaded."""

import copy
import doctest
import pickle
import subprocess
import sys
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from lib.augment import MaskedDataset, MaskTransform, transform
from lib.augment.samples import matched
from lib.data.faceworld import render
from lib.warp import Face, landmarks_table, preset, write_landmarks

SIZE = 72
Pair = namedtuple("Pair", "image target")


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [5, SIZE, SIZE, 3] faces and their landmarks [5, 68, 2]."""
    faces = render(range(5), range(5), SIZE, "full", 1.0)
    return (faces.full * 255).round().byte().permute(0, 2, 3, 1).numpy(), faces.landmarks.numpy()


def box_of(points: np.ndarray) -> list[float]:
    return [*(points.min(0) - 3).tolist(), *(points.max(0) + 3).tolist()]


def boxes_of(points: np.ndarray, canvas: tuple[int, int], form: str = "XYXY") -> tv_tensors.BoundingBoxes:
    boxes = tv_tensors.BoundingBoxes([box_of(p) for p in points], format="XYXY", canvas_size=canvas)
    return v2.functional.convert_bounding_box_format(boxes, new_format=form)


@pytest.fixture(scope="module")
def pair(world) -> tuple[tv_tensors.Image, dict]:
    """A scene of two faces side by side, with everything that a detector trains on."""
    pictures, points = world
    wide = np.concatenate(list(pictures[:2]), axis=1)
    points = np.stack([points[0], points[1] + [SIZE, 0]])
    target = {
        "image_id": 4,
        "boxes": boxes_of(points, wide.shape[:2]),
        "labels": torch.tensor([1, 1]),
        "masks": tv_tensors.Mask(torch.ones(2, *wide.shape[:2], dtype=torch.uint8)),
        "landmarks": torch.from_numpy(points),
        "note": "kept",
    }
    return tv_tensors.Image(torch.from_numpy(wide).permute(2, 0, 1)), target


class Faces(Dataset):
    """One face a picture; the targets tell no key. Not in a test: spawned workers import it."""

    def __init__(self, pictures, points):
        self.pictures, self.points = pictures, points

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, k):
        image = tv_tensors.Image(torch.from_numpy(self.pictures[k]).permute(2, 0, 1))
        return image, {"labels": torch.tensor([0]), "landmarks": torch.from_numpy(self.points[k][None]), "number": k}


class Known:
    """A source that knows the faces of every picture; counts how often it is asked."""

    nothing = "no face"

    def __init__(self, points, by_pixels=True):
        self.points, self.by_pixels, self.asked = points, by_pixels, []

    def find(self, key, pixels):
        self.asked.append(key)
        return [Face((0, 0, 9, 9), p.astype(np.float32), 1.0) for p in self.points]

    def fingerprint(self):
        return "known"


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return type(one) is type(other) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Image.Image):
        return one.mode == other.mode and np.array_equal(np.asarray(one), np.asarray(other))
    return one == other


def changed(one, other) -> bool:
    return not same(one, other)


# --- structures and pixels -----------------------------------------------------------------------


def test_the_example_of_the_docstring():
    assert doctest.testmod(transform).attempted > 5
    assert doctest.testmod(transform).failed == 0


NESTINGS = {
    "pair": lambda image, target: (image, target),
    "list": lambda image, target: [image, target],
    "one dict": lambda image, target: {"image": image, **target},
    "dict in dict": lambda image, target: {"x": image, "y": OrderedDict(target), "z": None},
    "deep": lambda image, target: {"a": [{"b": (target, "text")}, 3.5], "c": (image,)},
    "named": lambda image, target: Pair(image, target),
}


@pytest.mark.parametrize("nest", NESTINGS.values(), ids=NESTINGS)
def test_the_structure_comes_back_and_what_was_given_is_not_touched(nest, pair):
    sample = nest(*pair)
    before = copy.deepcopy(sample)
    out = MaskTransform(p=1, masked_label=2)(sample)
    assert same(sample, before)
    assert type(out) is type(sample)
    flat, flat_before = (torch.utils._pytree.tree_leaves(tree) for tree in (out, sample))
    assert len(flat) == len(flat_before)
    for one, old in zip(flat, flat_before, strict=True):
        if isinstance(old, tv_tensors.Image):
            assert changed(one, old)
        elif isinstance(old, torch.Tensor) and old.tolist() == [1, 1]:
            assert one.tolist() == [2, 2]
        else:
            assert same(one, old)


def test_two_arguments_are_as_good_as_a_pair(pair):
    mask = MaskTransform(p=1)
    assert same(mask(*pair), mask(pair))


def kinds(image: tv_tensors.Image) -> dict:
    pil = v2.functional.to_pil_image(image)
    return {
        "PIL": pil,
        "RGBA": Image.merge("RGBA", [*pil.split(), pil.getchannel("G")]),
        "L": pil.convert("L"),
        "tensor": image.as_subclass(torch.Tensor),
        "grey tensor": v2.functional.rgb_to_grayscale(image.as_subclass(torch.Tensor)),
        "float": v2.functional.to_dtype(image, torch.float32, scale=True),
        "half": v2.functional.to_dtype(image, torch.float16, scale=True),
    }


@pytest.mark.parametrize("kind", ["PIL", "RGBA", "L", "tensor", "grey tensor", "float", "half"])
def test_every_kind_of_picture_gets_the_same_masks_and_keeps_all_else(kind, pair):
    image, target = pair
    mask = MaskTransform(p=1, outputs=("mask_regions",))
    expected = mask(image, target)[0]
    given = kinds(image)[kind]
    out, told = mask(given, target)
    assert type(out) is type(given)
    untouched = (told["mask_regions"] == 0).all(0).numpy()
    arrays = [np.asarray(p) if isinstance(p, Image.Image) else p.permute(1, 2, 0).numpy() for p in (given, out)]
    assert arrays[0].dtype == arrays[1].dtype
    np.testing.assert_array_equal(arrays[1][untouched], arrays[0][untouched])
    assert (arrays[0] != arrays[1]).any()
    if kind in ("PIL", "tensor", "RGBA"):
        np.testing.assert_array_equal(
            arrays[1][..., :3] if kind != "tensor" else arrays[1], expected.permute(1, 2, 0).numpy()
        )
    if kind in ("float", "half"):
        assert torch.equal(out, v2.functional.to_dtype(expected, out.dtype, scale=True))


def test_floats_off_the_grid_of_bytes_are_kept_to_the_bit(pair):
    image, target = pair
    noisy = (image.float() / 255 * 0.98 + 0.003 + torch.rand(image.shape) / 900).clamp(0, 1)
    out, told = MaskTransform(p=1, outputs=("mask_regions",))(tv_tensors.Image(noisy), target)
    untouched = (told["mask_regions"] == 0).all(0)
    assert torch.equal(out[:, untouched], noisy[:, untouched])
    assert not torch.equal(out, noisy)


@settings(max_examples=15)
@given(
    st.floats(0, 1), st.integers(0, 2**40), st.integers(0, 5), st.text(max_size=5), st.sampled_from(["ours", "cmfd"])
)
def test_whatever_is_drawn_only_regions_change_and_labels_follow(pair, p, seed, epoch, key, how):
    image, target = pair
    mask = MaskTransform(p=p, seed=seed, preset=how, masked_label=9, outputs=("masked", "mask_regions"))
    mask.set_epoch(epoch)
    out, told = mask(image, target, key=key)
    untouched = (told["mask_regions"] == 0).all(0)
    assert torch.equal(out[:, untouched], image[:, untouched])
    assert told["mask_regions"].flatten(1).any(1).tolist() == told["masked"].tolist()
    assert told["labels"].tolist() == [9 if hit else 1 for hit in told["masked"]]
    assert same({k: told[k] for k in ("boxes", "masks", "landmarks", "note")},
                {k: target[k] for k in ("boxes", "masks", "landmarks", "note")})  # fmt: skip
    again = MaskTransform(p=p, seed=seed, preset=how, masked_label=9, outputs=("masked", "mask_regions"))
    again.set_epoch(epoch)
    assert same(again(image, target, key=key), (out, told))
    assert mask.counts == again.counts
    assert sum(mask.counts.values()) == 2


def test_masks_follow_later_transforms(pair):
    pipeline = v2.Compose([MaskTransform(p=1, outputs=("mask_regions",)), v2.RandomHorizontalFlip(1)])
    out, told = pipeline(*pair)
    flipped = v2.functional.horizontal_flip(pair[0])
    untouched = (told["mask_regions"] == 0).all(0)
    assert torch.equal(out[:, untouched], flipped[:, untouched])


# --- which faces, which labels -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "after"),
    [
        (torch.tensor([1, 1]), torch.tensor([5, 5])),
        (np.array([3, 5]), np.array([5, 5])),
        ([1, 2], [5, 5]),
        (("a", "b"), (5, 5)),
        (torch.tensor(1), torch.tensor(5)),
        (1, 5),
    ],
    ids=["tensor", "array", "list", "texts", "tensor of the picture", "number of the picture"],
)
def test_labels_of_any_kind_change(labels, after, pair):
    target = {**pair[1], "labels": labels}
    told = MaskTransform(p=1, masked_label=5)(pair[0], target)[1]["labels"]
    assert type(told) is type(after)
    assert np.array_equal(np.asarray(told), np.asarray(after))
    assert labels is target["labels"]


def test_only_faces_of_the_given_classes_are_masked(pair):
    target = {**pair[1], "labels": torch.tensor([7, 1])}
    mask = MaskTransform(p=1, masked_label=2, face_labels={1}, outputs=("masked",))
    told = mask(pair[0], target)[1]
    assert (told["labels"].tolist(), told["masked"].tolist()) == ([7, 2], [False, True])
    assert mask.counts == {"masked": 1, "another class": 1}
    again = MaskTransform(p=1, masked_label=2)
    assert again(pair[0], told)[1]["labels"].tolist() == [2, 2]
    assert again.counts == {"masked": 1, "masked before": 1}, "nobody wears two masks"


@pytest.mark.parametrize("form", ["XYXY", "XYWH", "CXCYWH"])
def test_found_faces_go_to_their_boxes(form, pair):
    image, target = pair
    points = target["landmarks"].numpy()
    given = {k: v for k, v in target.items() if k != "landmarks"} | {"boxes": boxes_of(points, (SIZE, 2 * SIZE), form)}
    mask = MaskTransform(p=1, masked_label=2, outputs=("mask_regions",))
    expected = mask(image, target)
    other_order = MaskTransform(p=1, masked_label=2, outputs=("mask_regions",), source=Known(points[::-1]))
    out = other_order(image, given)
    assert same(out[0], expected[0])
    assert same(out[1]["mask_regions"], expected[1]["mask_regions"])
    assert same(out[1]["boxes"], given["boxes"])
    assert out[1]["boxes"].format.value == form


def test_the_best_pairs_of_faces_and_boxes_come_first():
    corners = np.zeros((68, 2), np.float32)
    near, far = corners.copy(), corners.copy()
    near[1], far[0], far[1] = (10, 10), (4, 0), (14, 10)
    near[2:], far[2:] = near[1], far[1]
    boxes = tv_tensors.BoundingBoxes([[0, 0, 10, 10], [5, 0, 15, 10]], format="XYXY", canvas_size=(20, 20))
    assert [points is far for points in matched([far, near], boxes, "")] == [False, True]
    assert [points is near for points in matched([near], boxes, "")] == [True, False]
    assert matched([near + 100], boxes, "") == [None, None]
    turned = tv_tensors.BoundingBoxes([[5.0, 5, 10, 10, 30]], format="CXCYWHR", canvas_size=(20, 20))
    with pytest.raises(ValueError, match="sample 1: found faces go to upright boxes"):
        matched([near], turned, "sample 1")


def test_the_mask_of_a_near_face_covers_that_of_a_far_one(pair):
    image, target = pair
    far = target["landmarks"][0].numpy()
    near = (far - far.mean(0)) * 1.2 + far.mean(0) + [0.7 * np.ptp(far[:, 0]), 0]
    on_it = torch.zeros(image.shape[1:], dtype=torch.bool)
    (left, top), (right, bottom) = (near.mean(0) + s * 0.3 * np.ptp(near, axis=0) for s in (-1, 1))
    on_it[int(top) : int(bottom), int(left) : int(right)] = True
    mask = MaskTransform(p=1, preset="study", masks="surgical_blue, cloth#aa3322", outputs=("mask_regions",))
    for rows, large in (([near, far], 0), ([far, near], 1)):
        out, told = mask(image, {"landmarks": np.stack(rows)}, key=2)
        alone = [np.full_like(near, np.nan)] * 2
        alone[large] = near
        expected = mask(image, {"landmarks": np.stack(alone)}, key=2)[0]
        whole = told["mask_regions"][large] == 255
        assert told["mask_regions"][1 - large].any(), "beside the near face"
        assert not told["mask_regions"][1 - large][on_it].any()
        assert (out.int() - expected.int())[:, whole].abs().max() <= 2  # 255 stands for 254.01 too


def test_a_face_behind_another_gets_no_mask(pair):
    image, target = pair
    far = target["landmarks"][0].numpy()
    near = (far - far.mean(0)) * 1.2 + far.mean(0) + [8, 12]
    boxes = [[*marks.min(0), *marks.max(0)] for marks in (near, far)]
    boxes = tv_tensors.BoundingBoxes(np.array(boxes), format="XYXY", canvas_size=image.shape[1:])
    target = {"boxes": boxes, "labels": torch.tensor([1, 1]), "landmarks": np.stack([near, far])}
    mask = MaskTransform(p=1, masked_label=2, face_labels=(1,))
    told = mask(image, target, key=2)[1]
    assert mask.counts == {"masked": 1, "hidden": 1}
    assert told["labels"].tolist() == [2, 1]
    target["labels"][0] = 7
    assert mask(image, target, key=2)[1]["labels"].tolist() == [7, 2], "of another class: no face"
    assert mask.counts == {"masked": 2, "hidden": 1, "another class": 1}


def test_a_box_without_a_found_face_stays(pair):
    image, target = pair
    person = torch.tensor([[0.0, 0, 2 * SIZE, SIZE]])
    boxes = tv_tensors.wrap(torch.cat([person, target["boxes"][1:]]), like=target["boxes"])
    mask = MaskTransform(p=1, outputs=("masked",), source=Known(target["landmarks"].numpy()[1:]))
    assert mask(image, {"boxes": boxes})[1]["masked"].tolist() == [False, True]
    assert mask.counts == {"masked": 1, "no landmarks": 1}


def test_a_source_is_not_asked_where_nothing_is_drawn_and_once_with_a_cache(pair, tmp_path):
    image, target = pair
    source = Known(target["landmarks"].numpy())
    bare = {"boxes": target["boxes"]}
    MaskTransform(p=0, source=source)(image, bare)
    assert source.asked == []
    mask = MaskTransform(p=1, source=source, cache=tmp_path)
    first = mask(image, bare, key=1)
    assert same(mask(image, bare, key=1), first)
    assert len(source.asked) == 1
    mask(v2.functional.vertical_flip(image), bare)
    assert len(source.asked) == 2


def test_landmarks_come_from_a_table_by_the_picture_s_name(pair, world, tmp_path):
    image, target = pair
    write_landmarks(tmp_path / "landmarks.csv", landmarks_table(zip(["a/b.png"] * 2, (0, 1), target["landmarks"])))
    mask = MaskTransform(p=1, source=tmp_path, outputs=("masked",))
    expected = MaskTransform(p=1)(image, target)[0]
    assert same(mask(image, {"image_id": 4, "file_name": "a/b.png"})[0], expected)
    assert same(MaskedDataset([(image, {})], mask, keys=["a/b.png"])[0], mask(image, {}, key="a/b.png"))
    assert mask(image, {"file_name": "unknown.png"})[1]["masked"].tolist() == []
    assert mask.counts["no face"] == 1


def test_dlib_finds_a_face_in_a_bare_picture(portrait):
    mask = MaskTransform(p=1, source="dlib")
    picture = Image.fromarray(portrait(160))
    out, label = mask(picture, 17)
    assert label == 17
    assert changed(out, picture)
    assert mask.counts == {"masked": 1}


def test_a_picture_without_a_face_comes_back_and_is_counted(pair):
    mask = MaskTransform(p=1, source=Known([]))
    assert mask(pair[0]) is pair[0]
    assert mask.counts == {"no face": 1}


@pytest.mark.parametrize("flip", [v2.functional.horizontal_flip, v2.functional.vertical_flip])
def test_landmarks_flipped_with_the_picture_are_numbered_anew(flip, pair):
    """A flip mirrors coordinates, and leaves the left eye's number to the right one."""
    image, target = pair
    points = tv_tensors.KeyPoints(target["landmarks"], canvas_size=image.shape[-2:])
    mask = MaskTransform(p=1, preset="study", masks="surgical_blue", outputs=("mask_regions",))
    before = mask(image, {"landmarks": points}, key=1)[1]["mask_regions"]
    after = mask(flip(image), {"landmarks": flip(points)}, key=1)[1]
    there, here = flip(before) > 127, after["mask_regions"] > 127
    assert (there & here).sum() > 0.9 * (there | here).sum()
    assert same(after["landmarks"], flip(points)), "the sample's own are kept"


def test_faces_that_cannot_be_masked_stay_and_are_counted(pair):
    image, target = pair
    good = target["landmarks"][0].numpy()
    flat = good.copy()
    flat[:, 0] = good[33, 0] + (good[:, 0] - good[33, 0]) * 0.2 + np.where(np.arange(68) < 17, 12, 0)  # a profile
    rows = [good, np.full_like(good, np.nan), (good - good[33]) * 0.05 + good[33], flat, good * 0 + 5, good + 900]
    mask = MaskTransform(p=1, outputs=("masked",))
    out, told = mask(image, {"landmarks": np.stack(rows)}, key=4)
    assert told["masked"].tolist() == [True, *[False] * 5]
    assert mask.counts["masked"] == 1
    assert {"no landmarks", "too small", "turned too far", "warp"} >= set(mask.counts) - {"masked"}
    assert sum(mask.counts.values()) == 6
    alone = MaskTransform(p=1)(image, {"landmarks": good[None]}, key=4)[0]
    assert torch.equal(out[:, :, :SIZE], alone[:, :, :SIZE])


def test_an_unforeseen_error_costs_the_masks_not_the_training(pair, monkeypatch):
    def broken(*_):
        raise RuntimeError("strange picture")

    monkeypatch.setattr(transform, "lay_masks", broken)
    mask = MaskTransform(p=1, masked_label=2)
    with pytest.warns(UserWarning, match="sample 4: left as it is"):
        out = mask(*pair)
    assert same(out, pair)
    assert mask.counts == {"error": 2}


# --- chance --------------------------------------------------------------------------------------


def test_the_share_of_faces_is_p_and_another_share_leaves_the_masks_as_they_are(world):
    nobody = {"landmarks": np.full((2000, 68, 2), np.nan)}
    mask = MaskTransform(p=0.3)
    mask(Image.new("RGB", (8, 8)), nobody)
    assert 500 < mask.counts["no landmarks"] < 700  # 600 ± 5 standard deviations
    few, all_ = MaskTransform(p=0.5), MaskTransform(p=1)
    kept = [same(few(*s, key=k), all_(*s, key=k)) for k, s in enumerate(Faces(*world))]
    assert kept.count(True) == few.counts["masked"] > 0


def test_the_draw_depends_on_seed_epoch_key_and_face(pair):
    image, target = pair
    mask = MaskTransform(p=1, masks="surgical_blue, cloth#aa3322")
    first = mask(image, target)[0]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert same(mask(image, target)[0], first)
    assert same(mask(image, {**target, "image_id": torch.tensor([4])})[0], first)
    assert same(mask(image, {**target, "image_id": 1}, key=np.int64(4))[0], first)
    assert torch.equal(torch.get_rng_state(), state), "other transforms draw as if there were no masks"
    assert changed(mask(image, {**target, "image_id": 5})[0], first)
    assert changed(MaskTransform(p=1, seed=1, masks="surgical_blue, cloth#aa3322")(image, target)[0], first)
    mask.set_epoch(1)
    assert changed(mask(image, target)[0], first)
    mask.set_epoch(0)
    assert same(mask(image, target)[0], first)


def test_without_a_key_torch_s_generator_decides(pair):
    image, target = pair
    bare = {"landmarks": target["landmarks"]}
    mask, results = MaskTransform(p=1), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results += [mask(image, bare)[0], mask(image, bare)[0]]
    assert same(results[:2], results[2:4])
    assert changed(results[0], results[1])
    assert changed(results[0], results[4])


def epoch_of(loader) -> dict[int, tuple]:
    return {target["number"]: (image, target) for batch in loader for image, target in batch}


@pytest.mark.parametrize(
    ("workers", "kept", "shuffled", "batch"), [(0, False, True, 2), (1, False, False, 3), (2, True, True, 2)]
)
def test_any_loader_gives_the_same_samples(workers, kept, shuffled, batch, world):
    data = MaskedDataset(Faces(*world), MaskTransform(p=0.7, masked_label=2, outputs=("masked", "mask_regions")))
    expected = []
    for epoch in (0, 1):
        data.set_epoch(epoch)
        expected.append({k: data[k] for k in range(5)})
    assert changed(expected[0], expected[1])
    loaded = MaskedDataset(Faces(*world), MaskTransform(p=0.7, masked_label=2, outputs=("masked", "mask_regions")))
    options = {"num_workers": workers, "persistent_workers": kept, "shuffle": shuffled, "batch_size": batch}
    loader = DataLoader(loaded, collate_fn=list, **options)
    for epoch in (0, 1, 0):
        loaded.set_epoch(epoch)
        got = epoch_of(loader)
        assert same(dict(sorted(got.items())), expected[epoch])
    first, second = (sum(bool(t["masked"]) for _, t in one.values()) for one in expected)
    assert loaded.transform.counts["masked"] == 2 * first + second, "counted over all workers"
    rows = loaded.transform._counts.sum(1).nonzero().flatten().tolist()
    assert rows == ([0] if workers == 0 else [*range(1, workers + 1)]), "none adds to what another counts"
    del loader


def test_samples_collate_by_default(world):
    data = MaskedDataset(Faces(*world), MaskTransform(p=1, outputs=("masked", "mask_regions")))
    images, targets = next(iter(DataLoader(data, batch_size=5)))
    assert images.shape == (5, 3, SIZE, SIZE)
    assert targets["mask_regions"].shape == (5, 1, SIZE, SIZE)
    assert targets["masked"].shape == (5, 1)


@pytest.mark.slow
def test_spawned_workers_give_the_same_samples_and_hear_of_the_epoch(world):
    data = MaskedDataset(Faces(*world), MaskTransform(p=1, masked_label=2))
    options = {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "spawn"}
    loader = DataLoader(data, collate_fn=list, **options)
    for epoch in (3, 4):
        data.set_epoch(epoch)
        assert same(epoch_of(loader), {k: data[k] for k in range(5)})
    assert data.transform.counts == {"masked": 20}
    del loader


def test_a_copy_is_as_good_and_has_an_epoch_of_its_own(pair):
    mask = MaskTransform(p=1, seed=8)
    mask.set_epoch(2)
    first = mask(*pair)
    for other in (copy.deepcopy(mask), pickle.loads(pickle.dumps(mask))):
        assert same(other(*pair), first)
        assert other._epoch.is_shared(), "workers kept hear of it"
        mask.set_epoch(6)
        assert other.epoch == 2
        mask.set_epoch(2)


def test_a_masked_dataset_takes_indices_as_lists_do(world):
    data = MaskedDataset(Faces(*world), MaskTransform(p=1), then=v2.Compose([v2.ToDtype(torch.float32, scale=True)]))
    assert len(data) == 5
    assert same(data[-1], data[np.int64(4)])
    assert data[0][0].dtype == torch.float32
    with pytest.raises(IndexError):
        data[5]


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"p": 1.5}, "p: expected a share"),
        ({"outputs": ("mask",)}, "outputs: expected some of masked, mask_regions"),
        ({"preset": "nice"}, "expected one of"),
        ({"masks": "velvet"}, "velvet"),
        ({"wear": "hat"}, "hat"),
        ({"preset": preset("ours"), "wear": "Mask_Chin"}, "WarpConfig"),
        ({"source": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_options_that_do_not_exist_are_refused_at_once(options, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        MaskTransform(**options)


def test_a_config_of_lib_warp_is_taken_as_it_is(pair):
    config = preset("mlfw", wear={"Mask_Chin": 1.0})
    assert MaskTransform(preset=config).config == config
    assert MaskTransform(preset="mlfw", wear="Mask_Chin").config == config


BAD = {
    "no picture": (lambda i, t: t, "expected one picture"),
    "two pictures": (lambda i, t: (i, i, t), "expected one picture .*got 2"),
    "a batch": (lambda i, t: (i[None], t), r"expected a picture \[3, H, W\]"),
    "int16": (lambda i, t: (tv_tensors.Image(i.to(torch.int16)), t), "int16"),
    "normalised": (lambda i, t: (tv_tensors.Image(i / 100 - 1), t), "Normalize"),
    "palette": (lambda i, t: (Image.new("P", (9, 9)), t), 'mode RGB, L or RGBA, got P; use convert'),
    "no landmarks": (lambda i, t: (i, {**t, "landmarks": None}), "no entry 'landmarks'"),
    "wrong landmarks": (lambda i, t: (i, {**t, "landmarks": torch.zeros(2, 5, 2)}), r"expected \[N, 68, 2\]"),
    "landmarks as text": (lambda i, t: (i, {**t, "landmarks": "68"}), "expected numbers"),
    "fewer landmarks": (lambda i, t: (i, {**t, "landmarks": t["landmarks"][:1]}), "boxes and landmarks in pairs"),
    "fewer labels": (lambda i, t: (i, {**t, "labels": t["labels"][:1]}), "labels and landmarks in pairs"),
    "no labels": (lambda i, t: (i, {k: v for k, v in t.items() if k != "labels"}), "no entry 'labels'"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "words"), BAD.values(), ids=BAD)
def test_a_sample_of_another_kind_is_refused_by_its_key(spoil, words, pair):
    with pytest.raises(ValueError, match=f"sample 4: .*{words}"):
        MaskTransform(p=1, masked_label=2)(spoil(*pair))


def test_keys_that_are_missing_or_none_are_refused(pair):
    image, target = pair
    with pytest.raises(ValueError, match="without the entry 'id'"):
        MaskTransform(key="id")(image, target)
    with pytest.raises(ValueError, match="image_id: expected a whole number or a text"):
        MaskTransform()(image, {**target, "image_id": 1.5})
    with pytest.raises(ValueError, match="expected a dict in the sample for masked"):
        MaskTransform(outputs=("masked",), source=Known([]))(image)
    with pytest.raises(ValueError, match="whose are the 2 labels"):
        MaskTransform(masked_label=1, source=Known([]))(image, {"labels": [1, 1]})
    with pytest.raises(ValueError, match="no entry 'file_name'"):
        MaskTransform(source=Known([], by_pixels=False))(image)
    with pytest.raises(ValueError, match="others go to then="):
        MaskedDataset([pair], v2.Identity())
    with pytest.raises(ValueError, match="keys: expected one for each of the 1 samples"):
        MaskedDataset([pair], MaskTransform(), keys=[])


def test_the_package_does_not_take_torchvision_with_it():
    code = "import sys, lib.augment as a; assert 'torchvision' not in sys.modules; a.MaskTransform; a.SecondStep"
    subprocess.run([sys.executable, "-c", code], check=True)
