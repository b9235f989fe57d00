import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from scipy import ndimage

from lib.data.faceworld import render
from lib.data.images import resize
from lib.warp import PRESETS, WarpParams, apply_warp, sample_warp_params
from lib.warp.regions import (
    OUTLINE,
    TOUCHED,
    load_non_mask,
    non_mask_by_comparison,
    non_mask_path,
    save_non_mask,
)

LEVELS = (TOUCHED, OUTLINE)
MASKS = [("cmfd", "surgical_blue"), ("study", "surgical_white"), ("study", "surgical_black")]
FACES = range(70_000, 70_004)


def jpeg(pixels, quality, subsampling=2):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(buffer))


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def scaled(plane, size, filter=Image.Resampling.BICUBIC):
    return np.asarray(Image.fromarray(plane).resize((size, size), filter))


def covered(alpha, level):
    """The true region: coverage of at least `level`, holes filled."""
    return ndimage.binary_fill_holes(alpha >= level)


@pytest.fixture(scope="module")
def pair(astronaut, astronaut_landmarks):
    """A full face of 256², its rule-based picture, and the true alpha, cropped as in the paper's sets."""
    crop = np.asarray(Image.fromarray(astronaut).crop((120, 0, 328, 208)).resize((256, 256), Image.Resampling.LANCZOS))
    landmarks = (astronaut_landmarks - [120, 0] + 0.5) * (256 / 208) - 0.5
    warped = apply_warp(crop, landmarks, WarpParams(style=PRESETS["study"].style))
    return crop, warped.image, warped.alpha


@pytest.fixture(scope="module")
def worn():
    """Faces of the face world with masks: size → (full, rule-based, alpha) each; the larger ones are enlarged faces."""
    out = render(FACES, FACES, size=256, what=("full",))
    faces = (out.full.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    made = {256: [], 512: []}
    for k, (face, points) in enumerate(zip(faces, out.landmarks.numpy())):
        for name, template in MASKS:
            drawn = sample_warp_params(np.random.default_rng(k), PRESETS[name])
            params = replace(drawn, template=template, style=replace(drawn.style, max_yaw=90.0))
            for size in made:
                full = scaled(face, size, Image.Resampling.LANCZOS)
                warped = apply_warp(full, (points + 0.5) * (size / 256) - 0.5, params)
                made[size].append((full, warped.image, warped.alpha))
    return made


# --- the promise: what it finds under JPEG is the true region


@pytest.mark.parametrize("subsampling", [2, 0], ids=["4:2:0", "4:4:4"])
@pytest.mark.parametrize(("quality", "promised"), [(60, 0.95), (85, 0.98), (98, 0.98)])
@pytest.mark.parametrize("size", [256, 512])
def test_every_face_keeps_the_promise(worn, size, quality, promised, subsampling):
    for full, rule_based, alpha in worn[size]:
        pictures = resize(full, 256), resize(jpeg(rule_based, quality, subsampling), 256)
        for level in LEVELS:
            found = ~non_mask_by_comparison(*pictures, coverage=level)
            assert iou(found, covered(scaled(alpha, 256), level)) >= promised


@pytest.mark.parametrize("way", ["BILINEAR", "LANCZOS"])
def test_another_filter_on_one_side(worn, way):
    for full, rule_based, alpha in worn[512][::3]:
        small = scaled(jpeg(rule_based, 85), 256, Image.Resampling[way])
        for level in LEVELS:
            found = ~non_mask_by_comparison(resize(full, 256), small, coverage=level)
            assert iou(found, covered(scaled(alpha, 256), level)) >= 0.97


def test_large_pictures(worn):
    full, rule_based, alpha = worn[512][0]
    for level in LEVELS:
        found = ~non_mask_by_comparison(full, jpeg(rule_based, 60), coverage=level)
        assert iou(found, covered(alpha, level)) >= 0.98


@pytest.mark.parametrize("size", [64, 128])
def test_small_pictures_err_by_less_than_a_pixel(worn, size):
    for full, rule_based, alpha in worn[256]:
        found = ~non_mask_by_comparison(scaled(full, size), scaled(jpeg(rule_based, 85), size), coverage=OUTLINE)
        true = covered(scaled(alpha, size), OUTLINE)
        wrong = ndimage.distance_transform_edt(found ^ true)
        assert wrong.max() <= 2
        assert iou(found, true) >= 0.95


def test_nothing_touched_is_forbidden_to_change(worn):
    """A pixel of the mask that counts as non-mask does more harm than one of the skin that does not."""
    for full, rule_based, alpha in worn[256]:
        non_mask = non_mask_by_comparison(full, jpeg(rule_based, 75))
        assert (non_mask & (alpha > 0.25)).sum() <= 0.001 * (alpha > 0.25).sum()


def test_the_outline_of_a_lossless_pair_is_the_half_covered_one(pair):
    full, rule_based, alpha = pair
    found = ~non_mask_by_comparison(full, rule_based, coverage=OUTLINE)
    assert iou(found, covered(alpha, OUTLINE)) >= 0.99
    assert found.sum() < (~non_mask_by_comparison(full, rule_based)).sum()


def test_a_hard_edge_gets_hardly_any_rim():
    y, x = np.mgrid[:256, :256]
    disc = np.hypot(x - 130, y - 140) < 60
    full = np.full((256, 256, 3), (200, 160, 140), np.uint8)
    full[::7] -= 20
    rule_based = np.where(disc[..., None], np.uint8([90, 140, 200]), full)
    found = ~non_mask_by_comparison(full, jpeg(rule_based, 90))
    assert (disc & ~found).sum() <= 0.001 * disc.sum()
    assert iou(found, disc) >= 0.97


def test_a_mask_as_light_as_the_skin_is_found_by_its_colour():
    y, x = np.mgrid[:256, :256]
    disc = np.hypot(x - 130, y - 140) < 60
    full = np.full((256, 256, 3), (170, 150, 140), np.uint8)
    grey = np.array([0.299, 0.587, 0.114])
    colour = np.array([135, 165, 0])
    colour[2] = round((full[0, 0] @ grey - colour[:2] @ grey[:2]) / grey[2])
    rule_based = np.where(disc[..., None], colour.astype(np.uint8), full)
    assert abs(colour @ grey - full[0, 0] @ grey) < 0.1
    noisy = jpeg(rule_based, 75)
    assert iou(~non_mask_by_comparison(full, noisy, coverage=OUTLINE), disc) >= 0.98
    assert iou(~non_mask_by_comparison(full, noisy), disc) >= 0.93  # a soft edge is assumed: only luma would tell


# --- other pairs


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


@pytest.mark.parametrize("size", [64, 128, 256])
def test_straps_and_shadow_count_without_compression(worn, size):
    """The preset `ours` changes far more than it covers; a tensor must not forbid its own picture."""
    for k, (face, _, _) in enumerate(worn[256][:: len(MASKS)]):
        full = resize(face, size)
        points = (render([FACES[k]], [FACES[k]], size=256, what=()).landmarks[0].numpy() + 0.5) * (size / 256) - 0.5
        warped = apply_warp(full, points, sample_warp_params(np.random.default_rng(k), PRESETS["ours"]))
        non_mask = non_mask_by_comparison(full, warped.image)
        changed = (full != warped.image).any(axis=-1)
        assert np.array_equal(~non_mask, ndimage.binary_fill_holes(changed))


def test_one_quality_on_both_sides_is_not_taken_for_lossless(worn):
    """Far from the mask such a pair is equal, too."""
    for full, rule_based, alpha in worn[512][:: len(MASKS)]:
        for size in (256, 512):
            small = resize(jpeg(full, 92), size), resize(jpeg(rule_based, 92), size)
            assert iou(~non_mask_by_comparison(*small), covered(scaled(alpha, size), TOUCHED)) >= 0.96


def test_another_brightness_all_over_is_no_mask(pair):
    full, rule_based, alpha = pair
    assert iou(~non_mask_by_comparison(full, np.clip(rule_based, 0, 250) + np.uint8(4)), alpha > 0) >= 0.95


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
    with pytest.raises(ValueError, match="coverage: expected a share between 0 and 1, got 1"):
        non_mask_by_comparison(picture, picture, coverage=1)


@pytest.mark.parametrize("shape", [(64, 64), (300, 190), (1, 1), (3, 200), (700, 1030)])
def test_any_shape_and_masks_that_fill_it(shape):
    rng = np.random.default_rng(0)
    full = rng.integers(0, 60, (*shape, 3), dtype=np.uint8)
    rule_based = rng.integers(180, 240, (*shape, 3), dtype=np.uint8)
    assert not non_mask_by_comparison(full, rule_based).any()
    assert non_mask_by_comparison(full, full).all()
    half = full.copy()
    half[: shape[0] // 2] = rule_based[: shape[0] // 2]
    found = ~non_mask_by_comparison(full, half)
    assert found.shape == shape
    if min(shape) > 60:
        assert iou(found, np.arange(shape[0])[:, None] + np.zeros(shape) < shape[0] // 2) > 0.97


def test_same_answer_twice(pair):
    noisy = jpeg(pair[1], 75)
    before = noisy.copy()
    assert np.array_equal(non_mask_by_comparison(pair[0], noisy), non_mask_by_comparison(pair[0], noisy))
    assert np.array_equal(noisy, before)


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
