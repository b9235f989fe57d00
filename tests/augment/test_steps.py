"""One picture's way: variants, originals, which faces, what the record tells."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lib.augment.options import Options
from lib.augment.steps import finish, rule_based, step_one
from lib.augment.tasks import Labelled, Task, name_tasks
from lib.data.files import sha256
from lib.data.images import read_image
from lib.warp import load_non_mask

RULE = Options(rule_only=True, preset="ours")


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def task(source: str, **options) -> Task:
    return name_tasks([source], **options)[0]


@pytest.fixture(scope="module")
def three(faces, tmp_path_factory):
    """Three variants of a picture with two faces, beside the original."""
    out = tmp_path_factory.mktemp("three")
    options = replace(RULE, per_image=3, originals=True)
    return out, rule_based(task("deep/two.png", per_image=3, originals=True), faces, out, options)


def test_variants_wear_different_masks_and_the_first_is_that_of_a_single_run(faces, three, tmp_path):
    out, record = three
    for face in (0, 1):
        rows = [row for row in record["faces"] if row["face"] == face]
        looks = {(row["params"]["template"], row["params"]["colour"], row["params"]["texture"]) for row in rows}
        assert len(looks) == len(rows) == 3
    single = rule_based(task("deep/two.png"), faces, tmp_path, RULE)
    assert (tmp_path / "images/deep/two.png").read_bytes() == (out / "images/deep/two_mask1.png").read_bytes()
    first = [row for row in record["faces"] if row["variant"] == 1]
    assert first == single["faces"]


def test_a_mix_of_one_mask_is_worn_by_all_variants(faces, tmp_path):
    options = replace(RULE, per_image=3, masks="n95")
    record = rule_based(task("one.png", per_image=3), faces, tmp_path, options)
    assert [row["params"]["template"] for row in record["faces"]] == ["n95"] * 3
    assert len({row["params"]["grain_seed"] for row in record["faces"]}) == 3


def test_each_variant_is_exact_outside_its_region_and_the_original_everywhere(faces, three):
    out, record = three
    original = read_image(faces / "deep/two.png").pixels
    np.testing.assert_array_equal(pixels(out / record["original"]), original)
    for image, region in record["variants"].values():
        np.testing.assert_array_equal(
            pixels(out / image)[pixels(out / region) == 0], original[pixels(out / region) == 0]
        )
        assert (pixels(out / image) != original).any()


def test_the_record_is_json_and_names_every_file_with_its_hash(three):
    out, record = three
    assert json.loads(json.dumps(record)) == record
    assert {path: sha256(out / path) for path in record["files"]} == record["files"]
    assert len(record["files"]) == 7
    assert [bool(row["landmarks"]) for row in record["faces"]] == [row["variant"] == 1 for row in record["faces"]]


def test_an_original_is_written_without_a_face_too(tmp_path):
    wall = np.random.default_rng(0).integers(0, 255, (50, 41, 4), dtype=np.uint8)
    Image.fromarray(wall, "RGBA").save(tmp_path / "wall.png")
    record = rule_based(task("wall.png", originals=True), tmp_path, tmp_path / "out", replace(RULE, originals=True))
    assert [*record["files"]] == ["images/wall.png"]
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "images" / "wall.png"), wall)


def test_a_face_beyond_the_limits_or_the_share_is_left(faces, tmp_path):
    record = rule_based(task("deep/two.png"), faces, tmp_path, replace(RULE, min_face=58))
    assert [(row["status"], row["kind"]) for row in record["faces"]] == [("masked", ""), ("left", "too small")]
    assert [failure["kind"] for failure in record["failures"]] == ["too small"]
    record = rule_based(task("one.png"), faces, tmp_path, replace(RULE, share="0"))
    assert [(row["status"], row["kind"]) for row in record["faces"]] == [("left", "not chosen")]
    assert not record["failures"]
    assert not record["files"]
    assert record["faces"][0]["landmarks"], "known all the same"


def test_the_pose_decides_where_the_share_asks_for_it(faces, tmp_path):
    for share, masked in (("0, 0deg=1", True), ("1, 0deg=0", False), ("0, 80deg=1", False)):
        record = rule_based(task("one.png"), faces, tmp_path, replace(RULE, share=share))
        assert (record["faces"][0]["status"] == "masked") == masked


def test_the_share_of_labelled_faces_by_pose_is_decided_with_their_landmarks(faces, tmp_path):
    options = replace(RULE, labels="set", share="1, 0deg=0")
    labelled = replace(task("one.png"), labels=(Labelled(0, 54.4, 31.2, 47.8, 59.4),))
    record = rule_based(labelled, faces, tmp_path, options)
    assert [(row["status"], row["kind"]) for row in record["faces"]] == [("left", "not chosen")]
    assert record["files"], "pictures of labelled sets are always written"


def test_an_error_in_a_later_variant_leaves_no_row_that_claims_a_mask(faces, tmp_path, monkeypatch):
    from lib.augment import laying

    calls, real = [], laying.apply_warps

    def moody(*args):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("not today")
        return real(*args)

    monkeypatch.setattr(laying, "apply_warps", moody)
    options = replace(RULE, per_image=2, copy_missed=True)
    record = rule_based(task("one.png", per_image=2), faces, tmp_path, options)
    assert [failure["kind"] for failure in record["failures"]] == ["error"]
    assert {row["status"] for row in record["faces"]} == {"failed"}
    np.testing.assert_array_equal(pixels(tmp_path / "images/one_mask1.png"), read_image(faces / "one.png").pixels)


def test_translated_variants_come_back_to_their_own_picture(faces, tmp_path):
    options = replace(RULE, per_image=2)
    stepped = step_one(task("deep/two.png", per_image=2), faces, options, 32)
    assert [(face.variant, face.index) for face in stepped.faces] == [(1, 1), (1, 0), (2, 1), (2, 0)]
    fakes = [np.full((32, 32, 3), 40 * (k + 1), np.uint8) for k in range(4)]
    record = finish(stepped, fakes, tmp_path, options)
    for k, face in enumerate(stepped.faces):
        picture = pixels(tmp_path / record["variants"][str(face.variant)][0])
        inside = picture[face.weight.window][face.weight.values == 255]
        assert (inside == 40 * (k + 1)).all()


def test_an_overlapped_mask_s_region_ends_where_the_nearer_one_begins(faces, tmp_path):
    from lib.augment.composite import Layer
    from lib.augment.polygons import decode_rle
    from lib.augment.steps import Masked, _tell_regions

    full = np.full((10, 10), 255, np.uint8)
    laid = [Masked(0, Layer((0, 0, 10, 10), full)), Masked(1, Layer((5, 5, 10, 10), full))]
    record = {"faces": [{"face": k, "variant": 1} for k in (0, 1)]}
    _tell_regions(record, 1, laid, (20, 20), codes=True)
    codes = [row["mask_rle"] for row in record["faces"]]
    far, near = (decode_rle(code) for code in codes)
    assert near.sum() == 100
    assert far.sum() == 75
    assert not (far & near).any()
    assert [row["mask_box"] for row in record["faces"]] == [[0, 0, 10, 10], [5, 5, 10, 10]]


def test_a_mask_s_box_is_that_of_its_region_not_of_its_shadow():
    from pycocotools import mask as coco_mask

    from lib.augment.composite import Layer
    from lib.augment.steps import Masked, _tell_regions

    soft = np.full((10, 10), 127, np.uint8)
    core = soft.copy()
    core[2:5, 3:9] = 128
    laid = [Masked(0, Layer((4, 6, 10, 10), core)), Masked(1, Layer((0, 0, 10, 10), soft))]
    record = {"faces": [{"face": k, "variant": 1, "mask_box": None} for k in (0, 1)]}
    _tell_regions(record, 1, laid, (20, 20), codes=True)
    told, faint = record["faces"]
    assert told["mask_box"] == [7, 8, 6, 3]
    assert coco_mask.toBbox({**told["mask_rle"], "counts": told["mask_rle"]["counts"].encode()}).tolist() == [
        7,
        8,
        6,
        3,
    ]
    assert faint["mask_box"] is None


@pytest.mark.parametrize("name", ["deep/two.png", "wall.png"])
def test_a_tensor_tells_of_each_written_picture_what_stayed_as_it_was(faces, tmp_path, name):
    root = faces
    if name == "wall.png":  # nobody there: copied untouched
        root = tmp_path
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 41, 3), dtype=np.uint8)).save(root / name)
    options = replace(RULE, tensors=True, per_image=2, copy_missed=True)
    record = rule_based(task(name, per_image=2), root, tmp_path / "out", options)
    original = read_image(root / name).pixels
    assert len(record["variants"]) == 2
    for image, region, tensor in record["variants"].values():
        assert tensor == "tensors/" + image.removeprefix("images/").replace(".png", ".safetensors")
        kept = load_non_mask(tmp_path / "out" / tensor, original.shape[:2])
        np.testing.assert_array_equal(kept, pixels(tmp_path / "out" / region) == 0)
        assert (pixels(tmp_path / "out" / image) == original)[kept].all()
        assert kept.all() == (name == "wall.png")
    assert {path: sha256(tmp_path / "out" / path) for path in record["files"]} == record["files"]


@pytest.mark.parametrize("moved", [-60.0, 0.0])
def test_masks_of_labelled_faces_leave_a_nearer_one_alone(tmp_path, portrait, moved, monkeypatch):
    from lib.augment import faces as module
    from lib.warp import Face

    wall = np.full((230, 330, 3), 120, np.uint8)
    wall[5:225, 100:320] = portrait(220)
    Image.fromarray(wall).save(tmp_path / "two.png")
    x, y, w, h = 179, 50, 70, 87
    labels = (Labelled(0, x, y, w, h), Labelled(1, x + moved, y, w * 0.7, h * 0.7))
    (own,) = step_one(task("two.png"), tmp_path, RULE, None).record["faces"]
    points = np.array(own["landmarks"], np.float32) + np.array([moved, 0], np.float32)
    faces = {1: Face((0, 0, 9, 9), points, 1.0, "dlib")}
    monkeypatch.setattr(module.scenes, "faces_of", lambda *_: faces)
    monkeypatch.setattr(module.scenes, "chosen", lambda source, face, *_: face == 1)
    options = replace(RULE, labels="set")
    record = rule_based(replace(task("two.png"), labels=labels), tmp_path, tmp_path / "out", options)
    row = record["faces"][1]
    if not moved:  # right behind it
        assert (row["status"], row["kind"]) == ("failed", "hidden")
        assert record["failures"][0]["reason"].startswith("a nearer face covers")
        np.testing.assert_array_equal(pixels(tmp_path / "out/images/two.png"), wall)
        return
    assert row["status"] == "masked"
    rows, columns = np.mgrid[:230, :330] + 0.5
    inside = ((columns - x - w / 2) / (w / 2)) ** 2 + ((rows - y - h / 2) / (h / 2)) ** 2 <= 1
    np.testing.assert_array_equal(pixels(tmp_path / "out/images/two.png")[inside], wall[inside])
    assert not pixels(tmp_path / "out/regions/two.png")[inside].any()
    assert pixels(tmp_path / "out/regions/two.png").any()


def test_a_thorough_look_masks_a_small_face_beside_a_large_one(tmp_path):
    from skimage.data import astronaut

    wall = np.full((256, 400, 3), 110, np.uint8)
    large, small = (Image.fromarray(part).resize((side, side)) for part, side in
                    ((astronaut(), 256), (astronaut()[:256, 90:346], 70)))  # fmt: skip
    wall[:, :256], wall[90:160, 310:380] = large, small
    Image.fromarray(wall).save(tmp_path / "wall.png")
    once, all_looks = (
        step_one(task("wall.png"), tmp_path, replace(RULE, thorough=thorough), None) for thorough in (False, True)
    )
    assert (len(once.faces), len(all_looks.faces)) == (1, 2)
