"""Parts of samples: numbers, dicts, pictures, labels, and whose landmarks are whose."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from lib.augment.samples import (
    dicts,
    face_boxes,
    holder_of,
    in_order,
    matched,
    picture_like,
    picture_pixels,
    relabelled,
    whole_number,
)


def points(x: float, y: float, side: float = 20) -> np.ndarray:
    """float32 [68, 2] that fill a square."""
    marks = np.random.default_rng(0).random((68, 2))
    marks[0], marks[1] = 0, 1
    return (marks * side + (x, y)).astype(np.float32)


def boxes(*rows, format="XYXY") -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(torch.tensor(rows, dtype=torch.float32), format=format, canvas_size=(99, 99))


def test_whole_numbers():
    assert [whole_number(value) for value in (3, np.int64(4), torch.tensor(5), torch.tensor([6]))] == [3, 4, 5, 6]
    for value in (1.5, "7", torch.tensor([1, 2]), None):
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            whole_number(value)


def test_dicts_of_a_sample_outer_ones_first():
    inner, sample = {"b": 1}, ({"a": [{"b": 1}]}, 3)
    assert list(dicts(sample)) == [sample[0], inner]
    assert holder_of(sample, "b") is sample[0]["a"][0]
    assert holder_of(sample, "c") is None


def test_labels_change_in_a_copy():
    for labels in (torch.tensor([1, 1]), np.array([1, 1]), [1, 1], (1, 1)):
        new = relabelled(labels, [False, True], 2)
        assert type(new) is type(labels)
        assert list(map(int, new)) == [1, 2]
        assert list(map(int, labels)) == [1, 1]
    assert relabelled("face", [True], "face_mask") == "face_mask"
    assert relabelled(torch.tensor(1), [True], 2).item() == 2


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pictures_come_back_as_they_were_given(mode):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (7, 9, 4), dtype=np.uint8), "RGBA").convert(mode)
    before = picture_pixels(image, "one")
    assert before.shape == (7, 9, len(mode))
    after = before[..., :3].repeat(3 if mode == "L" else 1, 2)
    assert picture_like(image, before, after).tobytes() == image.tobytes()
    tensor = torch.from_numpy(before.copy()).permute(2, 0, 1)
    for given in (tensor, tensor.float() / 255 + 1e-4 * (tensor < 200)):
        assert torch.equal(picture_like(given, picture_pixels(given, "one"), after), given), (
            "also what 8 bits cannot hold"
        )


def test_pictures_that_are_none():
    for image, match in (
        (Image.new("P", (3, 3)), "mode RGB"),
        (torch.zeros(3, 4), "picture"),
        (torch.full((3, 4, 4), 2.0), r"\[0, 1\]"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "uint8 or float"),
    ):
        with pytest.raises(ValueError, match=f"sample 7: .*{match}"):
            picture_pixels(image, "sample 7")


@pytest.mark.parametrize("format", ["XYXY", "XYWH", "CXCYWH"])
def test_faces_go_to_the_boxes_that_they_overlap_most(format):
    rows = {"XYXY": [[0, 0, 20, 20], [5, 0, 25, 20], [0, 0, 99, 99]],
            "XYWH": [[0, 0, 20, 20], [5, 0, 20, 20], [0, 0, 99, 99]],
            "CXCYWH": [[10, 10, 20, 20], [15, 10, 20, 20], [49.5, 49.5, 99, 99]]}[format]  # fmt: skip
    first, second = points(1, 0), points(4, 0)
    found = matched([second, first, points(70, 70, 9)], boxes(*rows, format=format), "one")
    assert found[0] is first
    assert found[1] is second
    assert found[2] is None, "a person's box is no face's"


def test_boxes_that_stand_askew_are_refused():
    with pytest.raises(ValueError, match="one: found faces go to upright boxes only"):
        matched([points(0, 0)], boxes([10, 10, 5, 5, 30], format="CXCYWHR"), "one")


def test_where_each_face_is():
    rows = boxes([0, 0, 25, 25], [0, 0, 90, 90], [40, 40, 60, 60])
    marks = [points(1, 1), points(10, 10), None]
    np.testing.assert_array_equal(face_boxes(marks, rows), [[0, 0, 25, 25], [10, 10, 20, 20], [np.nan] * 4])
    nothing = np.full((68, 2), np.nan)
    askew = boxes([10, 10, 5, 5, 30], [10, 10, 5, 5, 30], format="CXCYWHR")
    for given in (None, askew):
        found = face_boxes([points(1, 1), nothing], given)
        assert found[0].tolist() == [1, 1, 20, 20]
        assert np.isnan(found[1]).all()
    assert face_boxes([], None).shape == (0, 4)
    assert rows.tolist() == [[0, 0, 25, 25], [0, 0, 90, 90], [40, 40, 60, 60]], "as they were"


def test_flipped_landmarks_are_numbered_anew():
    marks = points(0, 0)
    marks[36], marks[45], marks[8] = (5, 5), (15, 5), (10, 18)
    flipped = marks * (-1, 1) + (20, 0)
    np.testing.assert_allclose(in_order(flipped[None])[0][[36, 45, 8]], [(5, 5), (15, 5), (10, 18)], atol=1e-5)
    np.testing.assert_array_equal(in_order(marks[None])[0], marks)
