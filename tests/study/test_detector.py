"""Average precision against COCO's own code, scenes with true masks, and a detector that learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat
from torchmetrics.detection import MeanAveragePrecision

from lib.data.files import write_png
from lib.study.config import StudyError
from lib.study.detector import (
    FACE,
    IGNORED,
    MASKED,
    Detector,
    Scenes,
    average_precision,
    mafa_scenes,
    match,
    precision,
    render_scenes,
)


def boxes_at(rng, count):
    corner, side = rng.uniform(0, 80, (count, 2)), rng.uniform(10, 30, (count, 1))
    return np.concatenate([corner, corner + side], 1).astype(np.float32)


def some_scenes(seed, count=6):
    """Scenes, and detections that lie near their faces or nowhere, of any class."""
    rng = np.random.default_rng(seed)
    boxes = [boxes_at(rng, rng.integers(1, 5)) for _ in range(count)]
    labels = [rng.choice([FACE, MASKED], len(own)) for own in boxes]
    found = []
    for own, told in zip(boxes, labels):
        near = np.repeat(own, 2, 0) + rng.normal(0, 2.5, (2 * len(own), 4)).astype(np.float32)
        every = np.concatenate([near, boxes_at(rng, 3)])
        guess = np.concatenate([np.repeat(told, 2), rng.choice([FACE, MASKED], 3)])
        wrong = rng.random(len(guess)) < 0.2
        scores = rng.random(len(guess)).astype(np.float32)
        found.append({"boxes": every, "scores": scores, "labels": np.where(wrong, FACE + MASKED - guess, guess)})
    return found, Scenes(np.zeros((count, 8, 8, 3), np.uint8), boxes, labels)


def as_torch(rows):
    return [{key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in row.items()} for row in rows]


@given(st.integers(0, 10_000))
def test_it_is_cocos_average_precision(seed):
    found, scenes = some_scenes(seed)
    recall = np.linspace(0, 1, 101).tolist()
    theirs = MeanAveragePrecision(iou_thresholds=[0.5], rec_thresholds=recall, class_metrics=True)
    theirs.update(as_torch(found), as_torch([{"boxes": b, "labels": k} for b, k in zip(scenes.boxes, scenes.labels)]))
    told = theirs.compute()
    expected = dict(zip(told["classes"].reshape(-1).tolist(), told["map_per_class"].reshape(-1).tolist()))
    values = precision(found, scenes, 0)[0]
    for label, name in ((FACE, "ap_face"), (MASKED, "ap_face_mask")):
        if any((own == label).any() for own in scenes.labels):
            assert values[name] == pytest.approx(expected[label], abs=1e-6)
        else:
            assert np.isnan(values[name])


def test_perfect_and_useless_detections():
    _, scenes = some_scenes(1)
    perfect = [
        {"boxes": own, "scores": np.linspace(0.9, 0.5, len(own), dtype=np.float32), "labels": told}
        for own, told in zip(scenes.boxes, scenes.labels)
    ]
    assert set(precision(perfect, scenes, 0)[0].values()) == {1.0}
    swapped = [{**one, "labels": FACE + MASKED - one["labels"]} for one in perfect]
    values = precision(swapped, scenes, 0)[0]
    assert (values["ap_any"], values["ap_masked"], values["ap_face"], values["ap_face_mask"]) == (1, 1, 0, 0)
    nothing = [{"boxes": np.zeros((0, 4), np.float32), "scores": np.zeros(0, np.float32), "labels": np.zeros(0, int)}]
    assert set(precision(nothing * len(scenes.boxes), scenes, 0)[0].values()) == {0.0}


def test_a_box_slightly_off_passes_at_a_half_and_not_at_three_quarters():
    scenes = Scenes(np.zeros((1, 8, 8, 3), np.uint8), [np.array([[0, 0, 10, 10]], np.float32)], [np.array([MASKED])])
    found = [{"boxes": np.array([[3, 0, 13, 10]], np.float32), "scores": np.ones(1, np.float32),
              "labels": np.array([MASKED])}]  # fmt: skip
    values = precision(found, scenes, 0)[0]
    assert (values["ap_masked"], values["ap75_masked"]) == (1, 0)


def test_faces_that_do_not_count_count_neither_way():
    truth, counted = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32), np.array([True, False])
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60], [0, 0, 10, 9.9]], np.float32)
    hit = match(boxes, np.array([0.9, 0.8, 0.7, 0.6]), truth, counted, 0.5)
    assert hit.tolist() == [1, -1, 0, 0]  # the last: found a second time


def test_an_ignored_face_is_ignored_in_every_view():
    found, scenes = some_scenes(2)
    extra = np.array([[200, 200, 230, 230]], np.float32)
    before = precision(found, scenes, 0)[0]
    wider = replace(scenes, boxes=[np.concatenate([own, extra]) for own in scenes.boxes],
                    labels=[np.append(own, IGNORED) for own in scenes.labels])  # fmt: skip
    also = [{"boxes": np.concatenate([one["boxes"], extra]), "scores": np.append(one["scores"], np.float32(0.99)),
             "labels": np.append(one["labels"], MASKED)} for one in found]  # fmt: skip
    assert precision(also, wider, 0)[0] == before


@given(st.integers(0, 10_000))
def test_weights_do_what_repeating_a_scene_does(seed):
    found, scenes = some_scenes(seed, 3)
    _, samples, _ = precision(found, scenes, 5)
    drawn = np.random.default_rng(3).multinomial(3, [1 / 3] * 3, 5)
    for sample, times in zip(samples.to_dict("records"), drawn):
        picks = np.repeat(np.arange(3), times)
        again = replace(scenes, boxes=[scenes.boxes[k] for k in picks], labels=[scenes.labels[k] for k in picks])
        expected = precision([found[k] for k in picks], again, 0)[0]
        assert sample == pytest.approx(expected, nan_ok=True, abs=0.02)  # equal scores, in another order


def test_average_precision_of_nothing():
    assert np.isnan(average_precision(np.zeros(0, bool), np.zeros(0), 0)[0])
    assert average_precision(np.zeros(0, bool), np.zeros(0), 3)[0] == 0


@pytest.fixture(scope="module")
def scenes():
    return render_scenes(7_900_000, 2, 64, 1.0, progress=False)


def test_scenes_are_rendered_with_their_boxes_and_people(scenes):
    assert scenes.images.shape == scenes.worn.shape == (2, 64, 64, 3)
    for boxes, points, ids in zip(scenes.boxes, scenes.landmarks, scenes.identity):
        assert len(boxes) == len(points) == len(set(ids.tolist())) >= 2
        assert boxes.min() >= 0
        assert boxes.max() <= 64
        inside = (points[:, 30] > boxes[:, :2]) & (points[:, 30] < boxes[:, 2:])  # the tip of the nose
        assert inside.all()
    assert not set(scenes.identity[0].tolist()) & set(scenes.identity[1].tolist())


def test_true_masks_are_put_on_the_chosen_faces_alone(scenes):
    one = [np.arange(len(own)) == 0 for own in scenes.boxes]
    made = scenes.with_true_masks(one)
    none = scenes.with_true_masks([np.zeros(len(own), bool) for own in scenes.boxes])
    every = scenes.with_true_masks([np.ones(len(own), bool) for own in scenes.boxes])
    assert (none.images == scenes.images).all()
    assert (every.images == scenes.worn).all()
    assert [own.tolist() for own in made.labels] == [[MASKED] + [FACE] * (len(own) - 1) for own in scenes.boxes]
    for before, after, boxes in zip(scenes.images, made.images, scenes.boxes):
        x0, y0, x1, y1 = boxes[0].astype(int)
        changed = (before != after).any(2)
        assert changed[y0:y1, x0:x1].mean() > 0.05
        around = changed[y0 : y1 + (y1 - y0) // 2, max(0, x0 - 3) : x1 + 3]  # with the shadow on the neck
        assert around.sum() > 0.95 * changed.sum()


def test_it_learns_to_find_and_to_tell_apart():
    """Red squares are faces, green ones masked faces."""
    rng = np.random.default_rng(0)
    images, boxes, labels = rng.integers(90, 130, (8, 64, 64, 3)).astype(np.uint8), [], []
    for image in images:
        at = np.array([rng.integers(2, 12, 2), rng.integers(34, 42, 2)])
        labels.append(rng.permutation([FACE, MASKED]))
        boxes.append(np.concatenate([at, at + 20], 1).astype(np.float32))
        for (x, y), label in zip(at, labels[-1]):
            image[y : y + 20, x : x + 20] = (200, 40, 40) if label == FACE else (40, 200, 40)
    torch.manual_seed(0)
    net = Detector(64)
    adam = torch.optim.AdamW(net.parameters(), 3e-3)
    for _ in range(40):
        adam.zero_grad()
        told = [{"boxes": own, "labels": label} for own, label in zip(boxes, labels)]
        net.loss(torch.from_numpy(images).permute(0, 3, 1, 2), told).backward()
        adam.step()
    values = precision(net.detect(images), Scenes(images, boxes, labels), 0)[0]
    assert values["ap_any"] > 0.9
    assert min(values["ap_face"], values["ap_face_mask"]) > 0.8


def test_a_mirrored_picture_has_mirrored_boxes(monkeypatch):
    net, seen = Detector(64), {}
    monkeypatch.setattr(net.fcos, "forward", lambda x, told: seen.update(x=x, told=told) or {"loss": x[0].sum()})
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[0, 10:30, 4:20] = 255
    flipped = set()
    for seed in range(8):
        torch.manual_seed(seed)
        boxes = np.array([[4, 10, 20, 30]], np.float32)
        net.loss(torch.from_numpy(image).permute(0, 3, 1, 2), [{"boxes": boxes, "labels": np.array([1])}])
        x0, y0, x1, y1 = seen["told"][0]["boxes"][0].int().tolist()
        lit = seen["x"][0].sum(0) > 0
        assert lit[y0:y1, x0:x1].all()
        assert lit.sum() == 16 * 20
        flipped.add(x0)
    assert flipped == {4, 44}


@pytest.fixture
def mafa(tmp_path):
    rows = [[10, 4, 20, 20, kind, *[0] * 4, 1, 3, 1, 1, 3, *[-1] * 4] for kind in (1, 2, 3)]
    array = np.empty((1, 3), [("name", object), ("label", object)])
    for k, name in enumerate(("a.png", "broken.png", "missing.png")):
        array[0, k] = (name, np.array(rows, np.int16))
    (tmp_path / "MAFA-Label-Test").mkdir()
    savemat(tmp_path / "MAFA-Label-Test" / "LabelTestAll.mat", {"LabelTest": array})
    write_png(tmp_path / "test-images" / "images" / "a.png", np.full((40, 80, 3), 200, np.uint8))
    (tmp_path / "test-images" / "images" / "broken.png").write_bytes(b"no picture")
    return tmp_path


def test_mafas_test_part_is_squared_and_labelled(mafa):
    scenes, unusable = mafa_scenes(mafa, 64)
    assert scenes.images.shape == (1, 64, 64, 3)
    assert unusable == 2
    assert scenes.labels[0].tolist() == [MASKED, FACE, IGNORED]
    assert scenes.boxes[0][0] == pytest.approx(np.array([8, 3.2, 24, 19.2]))
    assert (scenes.images[0, 34:] == 127).all()


def test_mafa_without_a_readable_picture_is_refused(mafa):
    (mafa / "test-images" / "images" / "a.png").write_bytes(b"no picture")
    with pytest.raises(StudyError, match="none of 3 pictures"):
        mafa_scenes(mafa, 64)
