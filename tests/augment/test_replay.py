"""A run made again from its manifest: the same bytes, or a refusal that says why."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.augment import AugmentError, Options, augment_folder
from lib.augment import faces as drawing
from lib.warp import landmarks_table, write_landmarks

QUIET = Options(workers=0, progress=False)
RULE = replace(QUIET, rule_only=True)


def files(folder: Path, *suffixes: str) -> dict[str, bytes]:
    """Every file under the folder with such a suffix, by its relative path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and (path.suffix in suffixes or not suffixes))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def told(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "manifest.parquet").drop(columns="seconds")


@pytest.fixture
def nothing_drawn(monkeypatch):
    """Whatever chance or a detector would give now: it is not asked."""
    from lib.warp.landmarks import DlibLandmarks

    monkeypatch.setattr(DlibLandmarks, "find", None)
    monkeypatch.setattr(drawing, "sample_warp_params", None)
    monkeypatch.setattr(drawing, "drawn", None)


@pytest.fixture(scope="module")
def people(faces, tmp_path_factory) -> Path:
    """Two people, one picture with two faces, one with none."""
    root = tmp_path_factory.mktemp("people")
    shutil.copytree(faces / "deep", root / "Ann")
    (root / "Bo").mkdir()
    shutil.copy(faces / "one.png", root / "Bo" / "Bo_0001.png")
    Image.fromarray(np.full((60, 50, 3), 120, np.uint8)).save(root / "Bo" / "Bo_0002.png")
    return root


@pytest.fixture(scope="module")
def by_rule(people, tmp_path_factory) -> Path:
    """Two variants each beside the original, worn in odd ways."""
    out = tmp_path_factory.mktemp("rule") / "out"
    options = replace(RULE, seed=5, per_image=2, originals=True, wear="imfd", masks="cloth#334455/dots=2, n95, kn95")
    augment_folder(people, out, replace(options, share="0.8", max_yaw=40.0))
    return out


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_manifest_alone_gives_every_file_again(people, by_rule, tmp_path, nothing_drawn, suffix):
    for name in (f"manifest.{suffix}", "landmarks.csv"):
        (tmp_path / "kept").mkdir(exist_ok=True)
        shutil.copy(by_rule / name, tmp_path / "kept")
    summary = augment_folder(people, tmp_path / "out", replace(QUIET, replay=tmp_path / "kept" / f"manifest.{suffix}"))
    assert summary.masks >= 2
    assert files(tmp_path / "out", ".png") == files(by_rule, ".png")
    assert "images/Bo/Bo_0002.png" in files(tmp_path / "out", ".png"), "an original without a face"
    pd.testing.assert_frame_equal(told(tmp_path / "out"), told(by_rule))
    for name in ("landmarks.csv", "failures.csv", "report.html"):
        assert (tmp_path / "out" / name).read_bytes() == (by_rule / name).read_bytes()
    again = augment_folder(people, tmp_path / "out", replace(QUIET, replay=tmp_path / "kept" / f"manifest.{suffix}"))
    assert again.done_now == 0, "a replay is resumed, too"


def test_copied_pictures_are_copied_again(people, tmp_path):
    points = np.random.default_rng(0).uniform(30, 90, (68, 2))  # no face
    write_landmarks(tmp_path / "points.csv", landmarks_table([("Bo/Bo_0001.png", 0, points)]))
    augment_folder(people, tmp_path / "one", replace(RULE, copy_missed=True, landmarks=tmp_path / "points.csv"))
    augment_folder(people, tmp_path / "two", replace(QUIET, replay=tmp_path / "one" / "manifest.csv"))
    assert files(tmp_path / "one", ".png") == files(tmp_path / "two", ".png")
    assert {"images/Bo/Bo_0001.png", "images/Bo/Bo_0002.png"} <= set(files(tmp_path / "two", ".png"))
    assert (tmp_path / "one" / "failures.csv").read_bytes() == (tmp_path / "two" / "failures.csv").read_bytes()


def test_pictures_without_a_row_are_told_again(people, tmp_path):
    augment_folder(people, tmp_path / "one", RULE)
    (tmp_path / "kept").mkdir()
    for name in ("manifest.csv", "landmarks.csv"):
        shutil.copy(tmp_path / "one" / name, tmp_path / "kept")
    failed = (tmp_path / "one" / "failures.csv").read_bytes()
    assert b"Bo/Bo_0002.png,-1,no face" in failed
    augment_folder(people, tmp_path / "two", replace(QUIET, replay=tmp_path / "one" / "manifest.csv"))
    assert (tmp_path / "two" / "failures.csv").read_bytes() == failed
    summary = augment_folder(people, tmp_path / "three", replace(QUIET, replay=tmp_path / "kept" / "manifest.csv"))
    assert summary.failures == {}, "told by failures.csv alone"
    (tmp_path / "kept" / "failures.csv").write_bytes(b"file,kind\n")
    with pytest.raises(AugmentError, match=r"failures\.csv cannot be read"):
        augment_folder(people, tmp_path / "four", replace(QUIET, replay=tmp_path / "kept" / "manifest.csv"))


def test_tensors_are_written_again_where_they_are_asked_for_and_what_is_missing_is_made_anew(people, tmp_path):
    augment_folder(people, tmp_path / "one", replace(RULE, tensors=True, copy_missed=True))
    made = files(tmp_path / "one", ".safetensors")
    assert sorted(made) == sorted(told(tmp_path / "one")["tensor"].unique())
    (tmp_path / "one" / "tensors" / "Bo" / "Bo_0001.safetensors").unlink()
    summary = augment_folder(people, tmp_path / "one", replace(RULE, tensors=True, copy_missed=True))
    assert summary.done_now == 1
    assert files(tmp_path / "one", ".safetensors") == made
    replay = replace(QUIET, replay=tmp_path / "one" / "manifest.csv")
    augment_folder(people, tmp_path / "two", replace(replay, tensors=True))
    pd.testing.assert_frame_equal(told(tmp_path / "two"), told(tmp_path / "one"))
    assert files(tmp_path / "two", ".safetensors") == made
    augment_folder(people, tmp_path / "two", replace(replay, force=True))
    assert not (tmp_path / "two" / "tensors").exists()


def test_both_steps_are_replayed_with_the_checkpoint_of_the_manifest(people, checkpoint, tmp_path):
    options = replace(QUIET, checkpoint=checkpoint, seed=2, margin=0.05, crop_scale=2.0, size=32)
    augment_folder(people, tmp_path / "one", options)
    replay = replace(QUIET, replay=tmp_path / "one" / "manifest.parquet", checkpoint=checkpoint)
    augment_folder(people, tmp_path / "two", replay)
    assert files(tmp_path / "two", ".png") == files(tmp_path / "one", ".png")
    pd.testing.assert_frame_equal(told(tmp_path / "two"), told(tmp_path / "one"))
    from safetensors.numpy import load_file, save_file

    other = tmp_path / "other.safetensors"
    save_file({name: value + 1 for name, value in load_file(checkpoint / "net_G_AB.safetensors").items()}, other)
    for wrong, words in (
        ({"checkpoint": other}, r"made with net_G_AB.safetensors \(sha256 .*not with other.safetensors"),
        ({"checkpoint": None, "rule_only": True}, "--rule-only: the manifest is of net_G_AB.safetensors"),
        ({"margin": 0.5}, "--margin: --replay takes it from the manifest"),
    ):
        with pytest.raises(AugmentError, match=words):
            augment_folder(people, tmp_path / "three", replace(replay, **wrong))
    assert not (tmp_path / "three").exists()


def test_labels_are_written_again_where_they_are_given(labelled, tmp_path, monkeypatch):
    options = replace(RULE, labels=labelled, write="voc")
    augment_folder(labelled / "images", tmp_path / "one", options)
    monkeypatch.setattr(drawing, "sample_warp_params", None)
    replay = replace(QUIET, replay=tmp_path / "one" / "manifest.csv", labels=labelled, write="voc")
    augment_folder(labelled / "images", tmp_path / "two", replay)
    for suffix in (".png", ".json", ".xml"):
        one, two = (files(tmp_path / name, suffix) for name in ("one", "two"))
        one.pop("run.json", None), two.pop("run.json", None)
        assert one == two
    pd.testing.assert_frame_equal(told(tmp_path / "two"), told(tmp_path / "one"))


def test_other_pictures_are_refused_and_listed(people, by_rule, tmp_path):
    shutil.copytree(people, tmp_path / "in")
    (tmp_path / "in" / "Bo" / "Bo_0001.png").unlink()
    Image.new("RGB", (9, 9)).save(tmp_path / "in" / "Ann" / "two.png")
    replay = replace(QUIET, replay=by_rule / "manifest.csv")
    with pytest.raises(
        AugmentError, match=r"2 of 4 pictures .*Ann/two.png .changed., Bo/Bo_0001.png .missing."
    ) as caught:
        augment_folder(tmp_path / "in", tmp_path / "out", replay)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 7}, "--seed: --replay takes it"),
        ({"masks": "n95"}, "--masks"),
        ({"per_image": 3}, "--per-image"),
        ({"share": "0.1"}, "--share"),
        ({"checkpoint": "tiny"}, "drawn by rule; leave it out"),
    ],
)
def test_options_that_contradict_the_manifest_are_refused(by_rule, change, words):
    with pytest.raises(AugmentError, match=words):
        replace(QUIET, replay=by_rule / "manifest.csv", **change).checked()
    same = replace(QUIET, replay=by_rule / "manifest.csv", seed=5, per_image=2).checked()
    assert same.checked() == same


def test_a_manifest_that_leads_elsewhere_or_is_none_is_refused(people, by_rule, tmp_path):
    table = pd.read_csv(by_rule / "manifest.csv", keep_default_na=False, dtype=str)

    def replay(changed: pd.DataFrame) -> None:
        changed.to_csv(tmp_path / "manifest.csv", index=False)
        augment_folder(people, tmp_path / "out", replace(QUIET, replay=tmp_path / "manifest.csv"))

    with pytest.raises(AugmentError, match=r"landmarks\.csv"):
        replay(table)
    shutil.copy(by_rule / "landmarks.csv", tmp_path)
    for column, value, words in (
        ("source", "../secret.png", "leads out of IN or OUT"),
        ("output", "images/../../x.png", "leads out of IN or OUT"),
        ("original", "/etc/x.png", "leads out of IN or OUT"),
        ("output", "images/run.json", "no PNG"),
        ("output", table["output"][0], "twice"),
    ):
        changed = table.copy()
        changed.loc[len(table) - 2 if value == table["output"][0] else 0, column] = value
        with pytest.raises(AugmentError, match=words):
            replay(changed)
    with pytest.raises(AugmentError, match="lacks variant"):
        replay(table.drop(columns="variant"))
    with pytest.raises(AugmentError, match="holds no face"):
        replay(table[:0])
    (tmp_path / "manifest.pkl").write_bytes(b"\x80\x04cposix\nsystem\n.")
    with pytest.raises(AugmentError, match=r"expected the manifest\.csv"):
        augment_folder(people, tmp_path / "out", replace(QUIET, replay=tmp_path / "manifest.pkl"))
    with pytest.raises(AugmentError, match="lies inside OUT"):
        augment_folder(people, by_rule, replace(QUIET, replay=by_rule / "manifest.csv"))
    assert not (tmp_path / "out").exists()
