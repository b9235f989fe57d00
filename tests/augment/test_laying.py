"""Masks never cover a nearer face."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.augment.composite import quantise
from lib.augment.laying import HAIR, HIDDEN, lay_masks, nearer, visible
from lib.data.faceworld import render
from lib.warp import WarpError, WarpParams, apply_warps

SIZE = 160


@pytest.fixture(scope="module")
def face():
    """A face of 160², its landmarks, their box."""
    scene = render([3], [5], SIZE, "full")
    points = np.asarray(scene.landmarks[0], np.float32)
    pixels = (scene.full[0] * 255).round().byte().permute(1, 2, 0).numpy()
    return pixels, points, np.array([*points.min(0), *np.ptp(points, axis=0)], float)


def other(box, x: float, y: float, scale: float) -> np.ndarray:
    """A box of `scale` times the size, its middle moved by so many px."""
    middle, size = box[:2] + box[2:] / 2 + (x, y), box[2:] * scale
    return np.array([*(middle - size / 2), *size])


def head(box, shape) -> np.ndarray:
    """bool [H, W]: the pixels whose centres lie in the ellipse inscribed in a box, or in the one with hair."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape[:2], bool)
    for up in (0, HAIR * box[3]):
        a, b = box[2] / 2, (box[3] + up) / 2
        inside |= ((x - box[0] - a) / a) ** 2 + ((y - box[1] + up - b) / b) ** 2 <= 1
    return inside


def test_without_a_nearer_face_it_is_the_plain_warp(face):
    pixels, points, box = face
    (plain,), (worn,) = apply_warps([pixels], [(0, points, WarpParams())])
    for boxes in ([box], [box, other(box, 20, 0, 0.9)], [box, other(box, 300, 0, 2)], [box, [np.nan] * 4]):
        after, (layer,) = lay_masks(pixels, [(points, WarpParams())], np.array(boxes), [0])
        np.testing.assert_array_equal(after, plain)
        whole = quantise(np.maximum(worn.alpha, worn.shadow), worn.window[:2])
        assert layer.box == whole.box
        np.testing.assert_array_equal(layer.values, whole.values)


@pytest.mark.parametrize("margin", [None, 3.0])
def test_a_nearer_face_keeps_its_pixels(face, margin):
    pixels, points, box = face
    near = other(box, 0.75 * box[2], 0.1 * box[3], 1.1)
    margins = None if margin is None else [margin]
    after, (layer,) = lay_masks(pixels, [(points, WarpParams())], np.array([box, near]), [0], margins)
    plain = apply_warps([pixels], [(0, points, WarpParams())])[0][0]
    covered = head(near, pixels.shape)
    assert (plain != pixels).any(2)[covered].any(), "else there is nothing to keep"
    np.testing.assert_array_equal(after[covered], pixels[covered])
    weight = np.zeros(pixels.shape[:2], np.uint8)
    weight[layer.window] = layer.values
    assert not weight[covered].any()
    assert not (after != pixels).any(2)[weight == 0].any(), "where the weight is 0 nothing changed"
    far = visible((0, 0, SIZE, SIZE), near[None]) == 1
    np.testing.assert_array_equal(after[far], plain[far])


def test_a_face_that_is_mostly_hidden_gets_none(face):
    pixels, points, box = face
    near = other(box, 0.25 * box[2], 0.5 * box[3], 1.3)
    faces = [(points, WarpParams()), (points + 1000, WarpParams())]
    after, (hidden, outside) = lay_masks(pixels, faces, np.array([box, near]), [0, 1])
    assert (hidden.kind, outside.kind) == (HIDDEN, "warp")
    assert isinstance(hidden, WarpError)
    assert hidden.reason.startswith("a nearer face covers ")
    assert 50 <= int(hidden.reason.split()[4].rstrip("%")) <= 100
    np.testing.assert_array_equal(after, pixels)


def test_masks_of_several_faces_keep_their_order(face):
    """The nearer face's mask lies over the farther one's cloth, which does not reach its face."""
    pixels, points, box = face
    wide = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    moved = (points + np.array([0.8 * box[2], 0])).astype(np.float32)
    boxes = np.array([box, other(box, 0.8 * box[2], 0, 1.01)])
    faces = [(points, WarpParams()), (moved, WarpParams())]
    after, (far, near) = lay_masks(wide, faces, boxes, [0, 1])
    alone, (own,) = lay_masks(wide, faces[1:], boxes, [1])
    np.testing.assert_array_equal(own.values, near.values)
    only = head(boxes[1], wide.shape)
    np.testing.assert_array_equal(after[only], alone[only])
    bare = np.ones(wide.shape[:2], bool)
    for layer in (far, near):
        bare[layer.window] &= layer.values == 0
    np.testing.assert_array_equal(after[bare], wide[bare])
    again, _ = lay_masks(wide, faces, boxes, [0, 1])
    np.testing.assert_array_equal(after, again)


def test_which_boxes_are_nearer():
    boxes = np.array([[0, 0, 10, 10], [50, 0, 10, 10], [0, 0, 10, 11], [5, 5, 20, 20], [0, 0, -9, -90], [np.nan] * 4])
    assert nearer(boxes, 0).tolist() == [[5, 5, 20, 20]], "the third is the same face, labelled twice"
    assert nearer(boxes, 1).tolist() == [[0, 0, 10, 10], [0, 0, 10, 11], [5, 5, 20, 20]], "of equal ones the first"
    assert nearer(boxes, 3).tolist() == []


@given(st.tuples(*[st.floats(-30, 60)] * 2, *[st.floats(2, 90)] * 2))
def test_the_edge_is_soft_and_lies_outside(box):
    keep = visible((0, 0, 40, 30), np.array([box]))
    inside = head(np.array(box), (30, 40))
    if keep is None:
        assert not inside.any()
        return
    assert (keep[inside] <= 1e-9).all()
    assert ((keep >= 0) & (keep <= 1)).all()
    far = head(np.array([box[0] - 9, box[1] - 9, box[2] + 18, box[3] + 18]), (30, 40)) if min(box[2:]) > 20 else None
    if far is not None and max(box[2:]) < 2 * min(box[2:]):
        assert (keep[~far] == 1).all()
