"""What is decided before the first picture is read."""

from pathlib import Path

import pytest

from lib.augment.options import AugmentError, Options, find_pictures


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
        ({"rule_only": True, "device": "banana"}, "--device: expected auto, cpu, cuda or cuda:1, …, got 'banana'"),
        ({"rule_only": True, "identity": 0}, "--identity counts from 1"),
        ({"rule_only": True, "min_face": 50, "max_face": 40}, "--max-face 40 lies below --min-face 50"),
        ({"rule_only": True, "labels": ".", "labels_format": "coco", "max_face": 20}, "below --min-face 24"),
        ({"rule_only": True, "per_image": 0}, "--per-image must be at least 1, got 0"),
        ({"rule_only": True, "share": "half"}, "--share: expected a number from 0 to 1"),
        ({"rule_only": True, "share": "0.5, 64px=2"}, "--share"),
        ({"rule_only": True, "max_yaw": 91}, "max_yaw"),
        ({"rule_only": True, "wear": "Mask=3,Nose"}, "wear: expected one of Mask, .* got 'Nose'"),
        ({"rule_only": True, "originals": True, "copy_missed": True}, "leave out --copy-missed"),
        ({"rule_only": True, "write": "coco"}, "need --labels"),
        ({"rule_only": True, "labels_format": "coco"}, "need --labels"),
        (
            {"rule_only": True, "labels": "gone", "write": "json"},
            "--write: expected coco, voc, yolo, wider, fddb",
        ),
        ({"rule_only": True, "labels": "gone"}, "--labels: gone: no such file"),
        (
            {"rule_only": True, "labels": ".", "labels_format": "coco", "pairs": "p.txt"},
            "--pairs for pictures of",
        ),
        ({"rule_only": True, "replay": "manifest.pkl"}, "expected the manifest.csv or manifest.parquet"),
        ({"rule_only": True, "replay": "manifest.csv"}, "--replay manifest.csv: cannot be read"),
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


def test_the_fingerprint_names_what_shapes_the_outputs_and_nothing_else(faces):
    def of(**changes) -> dict:
        return Options(rule_only=True, **changes).checked().fingerprint(faces)

    assert of() == of(workers=3, limit=2, force=True, progress=False, batch_size=2, device="cpu")
    assert of() != of(seed=1)
    assert of() != of(largest_only=True)
    assert of() != of(copy_missed=True)
    assert of() != of(tensors=True)
    for change in (
        {"per_image": 2},
        {"originals": True},
        {"share": "0.5"},
        {"min_face": 9},
        {"identity": 1},
        {"max_yaw": 20.0},
    ):
        assert of() != of(**change)


def test_the_pictures_are_those_of_the_folder_or_of_the_labels(faces, labelled, tmp_path):
    assert [task.source for task in find_pictures(faces, tmp_path / "out")] == [
        "deep/er/odd.bmp", "deep/two.png", "one.png",
    ]  # fmt: skip
    tasks = find_pictures(labelled / "images", tmp_path / "out", Options(labels=labelled))
    assert [task.source for task in tasks] == ["b/one.jpg", "two.png", "wall.png"]
    assert [[face.kind for face in task.labels] for task in tasks] == [[""], ["", "already masked", "", "", ""], []]
    with pytest.raises(AugmentError, match=r"none of their 3 pictures is in .*b/one.jpg, picture missing"):
        find_pictures(faces, tmp_path / "out", Options(labels=labelled))


def test_a_device_that_is_not_there_is_told_before_anything_is_done(checkpoint, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(AugmentError, match=r"^--device 'cuda': expected auto, cpu, or a CUDA device that is there"):
        Options(checkpoint=checkpoint, device="cuda").checked()
    Options(checkpoint=checkpoint, device="cuda", scheduler="tcp://host:1").checked()  # another machine's matter
    Options(checkpoint=checkpoint).checked()


def test_people_are_told_by_the_level_asked_for(faces, tmp_path):
    def who(**options) -> list[str]:
        return [task.identity for task in find_pictures(faces, tmp_path / "out", Options(**options))]

    assert (who(), who(identity=1)) == (["er", "deep", ""], ["deep", "deep", ""])


def test_a_damaged_pairs_file_is_told_before_anything_is_done(faces, tmp_path):
    (tmp_path / "pairs.txt").write_text("Ann 1\n")
    with pytest.raises(AugmentError, match=r"--pairs: .*pairs\.txt, line 1"):
        find_pictures(faces, tmp_path / "out", Options(pairs=tmp_path / "pairs.txt"))


def test_ways_of_wearing_come_with_weights():
    def wear(text: str) -> dict:
        return Options(rule_only=True, wear=text).checked().warp_config().wear

    assert wear("Mask=3, Mask_Chin=1") == {"Mask": 3.0, "Mask_Chin": 1.0}
    assert wear("Mask") == {"Mask": 1.0}
    assert wear("imfd") == {"Mask_Mouth_Chin": 0.8, "Mask_Nose_Mouth": 0.1, "Mask_Chin": 0.1}
