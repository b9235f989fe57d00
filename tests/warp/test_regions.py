import io

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from scipy import ndimage

from lib.warp import PRESETS, WarpParams, apply_warp
from lib.warp.regions import load_non_mask, non_mask_by_comparison, non_mask_path, save_non_mask


def jpeg(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.fixture(scope="module")
def pair(astronaut, astronaut_landmarks):
    """A full face of 256², its rule-based picture, and the true alpha, cropped as in the paper's sets."""
    crop = np.asarray(Image.fromarray(astronaut).crop((120, 0, 328, 208)).resize((256, 256), Image.Resampling.LANCZOS))
    landmarks = (astronaut_landmarks - [120, 0] + 0.5) * (256 / 208) - 0.5
    warped = apply_warp(crop, landmarks, WarpParams(style=PRESETS["study"].style))
    return crop, warped.image, warped.alpha


def test_exact_on_a_lossless_pair(pair):
    full, rule_based, alpha = pair
    non_mask = non_mask_by_comparison(full, rule_based)
    assert non_mask.dtype == np.bool_
    assert non_mask.shape == (256, 256)
    changed = (full != rule_based).any(axis=-1)
    assert np.array_equal(~non_mask, ndimage.binary_fill_holes(changed))
    assert non_mask[alpha == 0].all()
    assert not non_mask[alpha > 0.02].any()
    assert np.array_equal(full[non_mask], rule_based[non_mask])


@pytest.mark.parametrize("quality", [75, 85, 92, 98])
@pytest.mark.parametrize("side", ["rule_based", "full"])
def test_jpeg_on_one_side(pair, quality, side):
    full, rule_based, alpha = pair
    if side == "full":
        full = jpeg(full, quality)
    else:
        rule_based = jpeg(rule_based, quality)
    non_mask = non_mask_by_comparison(full, rule_based)
    assert iou(~non_mask, alpha > 0) >= 0.95
    assert not non_mask[alpha > 0.25].any()


def test_jpeg_of_different_quality_on_both_sides(pair):
    full, rule_based, alpha = pair
    non_mask = non_mask_by_comparison(jpeg(full, 85), jpeg(rule_based, 90))
    assert iou(~non_mask, alpha > 0) >= 0.95


def test_equal_pictures_are_all_non_mask(pair):
    assert non_mask_by_comparison(pair[0], pair[0].copy()).all()


def test_noise_alone_is_all_non_mask(pair):
    assert non_mask_by_comparison(pair[0], jpeg(pair[0], 85)).all()


def test_places_where_the_mask_happens_to_equal_the_skin_are_mask():
    full = np.full((128, 128, 3), 120, np.uint8)
    rule_based = full.copy()
    rule_based[40:90, 30:100] = (150, 190, 220)
    rule_based[60:66, 60:66] = 120
    non_mask = non_mask_by_comparison(full, rule_based)
    expected = np.ones((128, 128), bool)
    expected[40:90, 30:100] = False
    assert np.array_equal(non_mask, expected)


def test_only_the_largest_parts_count(noise_picture):
    full = noise_picture(160) // 4
    rule_based = full.copy()
    rule_based[20:70, 20:70] = 200
    rule_based[100:140, 90:130] = 200
    one, two = (~non_mask_by_comparison(full, rule_based, n_masks=n) for n in (1, 2))
    assert one[30:60, 30:60].all()
    assert not one[100:140, 90:130].any()
    assert two[30:60, 30:60].all()
    assert two[110:130, 100:120].all()
    assert two.sum() == 50 * 50 + 40 * 40  # lossless once both are known


def test_a_mask_that_leaves_the_picture():
    full = np.full((128, 128, 3), 30, np.uint8)
    rule_based = full.copy()
    rule_based[80:, 40:90] = 200
    non_mask = non_mask_by_comparison(full, jpeg(rule_based, 80))
    expected = np.zeros((128, 128), bool)
    expected[80:, 40:90] = True
    assert iou(~non_mask, expected) > 0.9
    assert not non_mask[127, 45:85].any()


@pytest.mark.parametrize("size", [64, 512])
def test_other_sizes_are_exact_too(plain_face, noise_picture, size):
    full = ndimage.gaussian_filter(noise_picture(size), (2, 2, 0))
    warped = apply_warp(full, plain_face(size), WarpParams(style=PRESETS["study"].style))
    non_mask = non_mask_by_comparison(full, warped.image)
    assert non_mask[warped.alpha == 0].all()
    assert not non_mask[warped.alpha > 0.05].any()


def test_pictures_that_cannot_be_compared():
    picture = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match=r"one size, got \(32, 32\) and \(31, 32\)"):
        non_mask_by_comparison(picture, picture[1:])
    with pytest.raises(ValueError, match=r"rule_based: expected uint8 \[H, W, 3\], got float32"):
        non_mask_by_comparison(picture, picture.astype(np.float32))


# --- files


def test_same_stem_another_extension():
    assert non_mask_path("a/b.c/41192_Mask.v2.jpg").as_posix() == "a/b.c/41192_Mask.v2.safetensors"


@pytest.mark.parametrize("shape", [(256, 256), (7, 13)])
def test_file_round_trip(tmp_path, shape):
    non_mask = np.random.default_rng(0).random(shape) < 0.5
    path = tmp_path / "new" / "x.safetensors"
    save_non_mask(path, non_mask.T.copy().T)  # not contiguous
    found = load_non_mask(path, shape)
    assert found.dtype == np.bool_
    assert np.array_equal(found, non_mask)
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]


def test_only_bool_pictures_are_saved(tmp_path):
    with pytest.raises(ValueError, match=r"expected bool \[H, W\], got uint8"):
        save_non_mask(tmp_path / "x.safetensors", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"expected bool \[H, W\]"):
        save_non_mask(tmp_path / "x.safetensors", np.zeros((1, 4, 4), bool))
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        save_non_mask(tmp_path / "x.npy", np.zeros((4, 4), bool))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"mask": np.zeros((4, 4), bool)}, "expected a tensor named non_mask, found mask"),
        ({"non_mask": np.zeros((4, 4), np.float32)}, r"expected bool \[H, W\], found float32"),
        ({"non_mask": np.zeros((5, 4), bool)}, "expected 4 × 4, found 5 × 4"),
    ],
)
def test_files_with_something_else_are_named(tmp_path, tensors, message):
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    with pytest.raises(ValueError, match=message) as caught:
        load_non_mask(path, (4, 4))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a tensor at all", b"\xff" * 64])
def test_damaged_and_missing_files(tmp_path, content):
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError):
        load_non_mask(path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_non_mask(path)
