"""What is decided before the first picture is read."""

from pathlib import Path

import pytest

from lib.augment.options import AugmentError, Options, face_seed, find_pictures, output_names


def test_seeds_are_fixed_numbers_of_seed_path_and_face():
    assert face_seed(0, "a/b.jpg", 0) == 7880539428490247621
    others = {
        face_seed(s, p, f, u) for s in (0, 1) for p in ("a.jpg", "b.jpg") for f in (0, 1) for u in ("warp", "noise")
    }
    assert len(others) == 16
    assert all(0 <= seed < 2**63 for seed in others)


def test_a_name_gives_the_same_seed_however_its_accents_are_spelled():
    assert face_seed(0, "Jose\u0301.jpg", 0) == face_seed(0, "Jos\u00e9.jpg", 0)


def test_names_lose_their_last_suffix_only():
    names = output_names(["a/img.01.JPG", "b.jpeg", "a/b.webp", "ü/фото.tiff"])
    assert list(names.values()) == ["a/img.01.png", "b.png", "a/b.png", "ü/фото.png"]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["a.jpg", "a.png", "b.jpg"], ["a.jpg.png", "a.png.png", "b.png"]),
        (["a.jpg", "A.png"], ["a.jpg.png", "A.png.png"]),
        (["a.jpg", "a.png", "a.jpg.webp"], ["a.jpg.png", "a.png.png", "a.jpg.webp.png"]),
        (["x/a.jpg", "y/a.png"], ["x/a.png", "y/a.png"]),
    ],
)
def test_pictures_that_would_collide_keep_their_suffix(sources, expected):
    assert list(output_names(sources).values()) == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no released model"),
        ({"rule_only": True, "checkpoint": Path("x.safetensors")}, "exclude"),
        ({"checkpoint": Path("missing.safetensors")}, "missing.safetensors: no such checkpoint"),
        ({"checkpoint": "unknown"}, r"no released model of that name \(there are: none yet\)"),
        ({"rule_only": True, "batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"rule_only": True, "workers": -1}, "--workers"),
        ({"rule_only": True, "limit": 0}, "--limit"),
        ({"rule_only": True, "margin": float("nan")}, "--margin"),
        ({"rule_only": True, "crop_scale": 99.0}, "--crop-scale"),
        ({"rule_only": True, "size": 30}, "--size"),
        ({"rule_only": True, "landmarks": "points.csv"}, r"--landmarks: points\.csv: no such file"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_in_one_line(options, words):
    with pytest.raises(AugmentError, match=words) as caught:
        Options(**options).checked()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_folder_stands_for_its_generator(checkpoint):
    assert Options(checkpoint=checkpoint).checked().checkpoint == checkpoint / "net_G_AB.safetensors"


def test_a_released_model_is_found_by_name_by_folder_and_by_default(models):
    for which in (None, "tiny", Path("tiny"), models / "tiny"):
        options = Options(checkpoint=which).checked()
        assert options.checkpoint == models / "tiny"
        assert options.checked() == options, "checking twice changes nothing"
    assert Options(checkpoint="other").checked().checkpoint == models / "other"
    assert Options(rule_only=True).checked().checkpoint is None
    with pytest.raises(AugmentError, match="there are: tiny, other"):
        Options(checkpoint="thrid").checked()


def test_a_damaged_registry_is_told_in_one_line(models, tmp_path, monkeypatch):
    (tmp_path / "registry.json").write_text("{")
    monkeypatch.setattr("lib.gan.released.WEIGHTS", tmp_path)
    with pytest.raises(AugmentError, match=r"registry\.json: damaged"):
        Options().checked()


def test_the_fingerprint_knows_a_released_model_by_name_and_checksum(models, faces):
    from lib.gan.released import read_model

    told = Options().checked().fingerprint(faces)
    assert (told["checkpoint"], told["checkpoint_sha256"]) == ("tiny", read_model(models / "tiny")["sha256"])
    assert told == Options(checkpoint=models / "tiny").checked().fingerprint(faces)
    assert told != Options(checkpoint="other").checked().fingerprint(faces)


def test_folders_that_cannot_be_used_are_refused(tmp_path, faces):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    (tmp_path / "file").write_text("x")
    for in_dir, out_dir, words in [
        (tmp_path / "none", tmp_path / "out", "no such folder"),
        (tmp_path / "file", tmp_path / "out", "is a file"),
        (tmp_path / "empty", tmp_path / "out", "no pictures found"),
        (faces, faces, "same folder"),
        (faces, faces / "deep" / ".." / "out", "inside IN"),
        (faces / "deep", faces, "inside OUT"),
        (faces, tmp_path / "file", "must be a folder"),
    ]:
        with pytest.raises(AugmentError, match=words):
            find_pictures(in_dir, out_dir)


def test_a_link_does_not_hide_that_out_lies_inside_in(tmp_path, faces):
    (tmp_path / "link").symlink_to(faces)
    with pytest.raises(AugmentError, match="inside IN"):
        find_pictures(faces, tmp_path / "link" / "out")


def test_the_fingerprint_names_what_shapes_the_outputs_and_nothing_else(faces):
    def of(**changes) -> dict:
        return Options(rule_only=True, **changes).checked().fingerprint(faces)

    assert of() == of(workers=3, limit=2, force=True, progress=False, batch_size=2, device="cpu")
    assert of() != of(seed=1)
    assert of() != of(largest_only=True)
    assert of() != of(copy_missed=True)
