"""Polygons and run lengths of a region, against the pixels."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from scipy import ndimage

from lib.augment.polygons import Piece, decode_rle, one_ring, region_pieces, region_rle, signed_area


def region_of(text):
    return np.array([[255 * (c == "#") for c in row] for row in text.split()], np.uint8)


@st.composite
def regions(draw):
    """Noise of every fineness, with holes, and soft edges on both sides of the threshold."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    h, w = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rough = ndimage.gaussian_filter(rng.normal(size=(h, w)), draw(st.sampled_from([0, 0.7, 2, 5])))
    return np.clip(128 + 300 * rough / (np.abs(rough).max() + 1e-9), 0, 255).astype(np.uint8)


def filled(ring, shape):
    """The pixels whose centres lie in the line by the even-odd rule: counts the crossings to the left of each."""
    crossings = np.zeros(shape, int)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0)):
        low, high = sorted((y0, y1))
        for y in range(low, high):
            at = x0 + (y + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            crossings[y, np.arange(shape[1]) + 0.5 > at] += 1
    return crossings % 2 == 1


@given(region=regions())
def test_pieces_have_the_regions_pixels(region):
    inside = region >= 128
    pieces = region_pieces(region)
    assert sum(piece.area for piece in pieces) == inside.sum()
    assert len(pieces) == ndimage.label(inside, np.ones((3, 3)))[1]
    background = ndimage.label(np.pad(~inside, 1, constant_values=True))[1]
    assert sum(len(piece.holes) for piece in pieces) == background - 1
    for piece in pieces:
        assert all(signed_area(piece.outer) * signed_area(hole) < 0 for hole in piece.holes)
        assert piece.outer.min() >= 0
        assert (piece.outer.max(0) <= region.shape[::-1]).all()


@given(region=regions())
def test_one_ring_fills_to_the_region(region):
    pieces = region_pieces(region)
    if pieces:
        np.testing.assert_array_equal(filled(one_ring(pieces), region.shape), region >= 128)
    else:
        with pytest.raises(ValueError, match="empty"):
            one_ring(pieces)


@given(region=regions())
def test_rle_decodes_to_the_region(region):
    code = region_rle(region)
    assert code["size"] == list(region.shape)
    np.testing.assert_array_equal(decode_rle(code), region >= 128)


def test_coordinates_are_pixel_edges():
    (piece,) = region_pieces(region_of("..... .###. .#.#. .###."))
    assert piece.outer.min(0).tolist() == [1, 1]
    assert piece.outer.max(0).tolist() == [4, 4]
    (hole,) = piece.holes
    assert sorted(map(tuple, hole.tolist())) == [(2, 2), (2, 3), (3, 2), (3, 3)]
    assert piece.area == 8


def test_pieces_come_from_above():
    tops = [piece.outer.min(0).tolist() for piece in region_pieces(region_of("...# .... #.#. .... ##.."))]
    assert tops == [[3, 0], [0, 2], [2, 2], [0, 4]]


@pytest.mark.parametrize("side", [20, 33, 150])
def test_the_area_by_coco_is_within_two_per_cent(side):
    """pycocotools draws polygons by its own rule."""
    region = np.zeros((side + 20, side + 30), np.uint8)
    cv2.ellipse(region, (side // 2 + 9, side // 2 + 8), (side // 2, side // 3), 25, 0, 360, 255, -1)
    (piece,) = region_pieces(region)
    code = coco_mask.frPyObjects([piece.outer.ravel().astype(float).tolist()], *region.shape)
    expected = (region >= 128).sum()
    assert abs(coco_mask.area(code)[0] - expected) <= 0.02 * expected
    assert piece.area == expected


@pytest.mark.parametrize("region", [np.zeros((3, 3)), np.zeros((3, 3, 3), np.uint8), np.zeros((0, 3), np.uint8)])
def test_another_array_is_refused(region):
    for take in (region_pieces, region_rle):
        with pytest.raises(ValueError, match="expected uint8"):
            take(region)


def test_an_empty_region_has_no_pieces():
    assert region_pieces(np.full((5, 5), 127, np.uint8)) == []
    assert Piece(np.array([[0, 0], [2, 0], [2, 2], [0, 2]])).area == 4
