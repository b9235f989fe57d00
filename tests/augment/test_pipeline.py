"""A folder in, a folder out: bit-exactness, odd inputs, determinism, resume."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.augment import AugmentError, Options, augment_folder
from lib.augment.journal import NAME
from lib.augment.laying import lay_masks
from lib.data.images import read_image
from lib.warp import (
    WarpParams,
    apply_warp,
    apply_warps,
    landmarks_array,
    landmarks_table,
    read_landmarks,
    write_landmarks,
)

RULE = Options(rule_only=True, workers=0, progress=False)


def files(folder: Path, *suffixes: str) -> dict[str, bytes]:
    """Every file under the folder by its relative path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and (path.suffix in suffixes or not suffixes))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def pixels(path: Path) -> np.ndarray:
    """A PNG as an array."""
    with Image.open(path) as picture:
        return np.asarray(picture)


def failures(out: Path) -> dict[str, tuple[str, str]]:
    with (out / "failures.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: (row["kind"], row["reason"]) for row in csv.DictReader(file)}


def assert_exact_outside(in_dir: Path, out: Path, manifest: pd.DataFrame) -> None:
    """Every output: original size, equal to the original where the region is 0, changed somewhere else."""
    for row in manifest.drop_duplicates("source").itertuples():
        original = read_image(in_dir / row.source)
        result, region = pixels(out / row.output), pixels(out / row.region)
        assert result.dtype == region.dtype == np.uint8
        assert region.shape == result.shape[:2] == original.pixels.shape[:2] == (row.height, row.width)
        np.testing.assert_array_equal(result[region == 0][:, :3], original.pixels[region == 0])
        assert (result[region > 0][:, :3] != original.pixels[region > 0]).mean() > 0.5
        assert 0.02 < (region > 0).mean() < 0.6
        if original.alpha is None:
            assert result.shape[2] == 3
        else:
            np.testing.assert_array_equal(result[..., 3], original.alpha)


@pytest.fixture(scope="module")
def plain(faces, tmp_path_factory):
    """The three good pictures, by rule."""
    out = tmp_path_factory.mktemp("plain") / "out"
    return out, augment_folder(faces, out, RULE)


@pytest.fixture(scope="module")
def translated(faces, checkpoint, tmp_path_factory):
    """The same through the untrained generator."""
    out = tmp_path_factory.mktemp("translated") / "out"
    return out, augment_folder(
        faces, out, Options(checkpoint=checkpoint, workers=0, progress=False, batch_size=3, preset="ours")
    )


@pytest.fixture(scope="module")
def zoo(portrait, tmp_path_factory):
    """One of each kind of file, good and bad, and what became of them."""
    root = tmp_path_factory.mktemp("zoo")
    in_dir = root / "in"
    (in_dir / "Zoë").mkdir(parents=True)
    face = Image.fromarray(portrait(160)[:, :149])
    rgba = face.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(rgba.size))
    rgba.save(in_dir / "rgba.png")
    face.convert("L").save(in_dir / "grey.png")
    face.convert("CMYK").save(in_dir / "cmyk.jpg", quality=95)
    Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257).save(in_dir / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    face.transpose(Image.Transpose.ROTATE_90).save(in_dir / "turned.jpg", exif=exif, quality=95)
    face.save(in_dir / "dotted.name.v1.jpeg")
    face.save(in_dir / "Zoë" / "фото.JPG")
    face.save(in_dir / "small.webp")
    face.save(in_dir / "twin.jpg")
    face.save(in_dir / "twin.png")
    whole = (in_dir / "twin.jpg").read_bytes()
    (in_dir / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (in_dir / "empty.png").write_bytes(b"")
    (in_dir / "letter.jpg").write_text("Dear reviewer,")
    Image.fromarray(np.full((120, 140, 3), 128, np.uint8)).save(in_dir / "wall.png")
    Image.fromarray(np.full((1, 1, 3), 128, np.uint8)).save(in_dir / "pixel.png")
    out = root / "out"
    summary = augment_folder(in_dir, out, RULE)
    return in_dir, out, summary, pd.read_parquet(out / "manifest.parquet")


def test_the_tree_is_kept(plain):
    out, summary = plain
    expected = ["deep/er/odd.png", "deep/two.png", "one.png"]
    assert [path.relative_to(out / "images").as_posix() for path in sorted((out / "images").rglob("*.png"))] == expected
    assert [
        path.relative_to(out / "regions").as_posix() for path in sorted((out / "regions").rglob("*.png"))
    ] == expected
    assert (summary.pictures, summary.faces_found, summary.faces_masked, summary.failures) == (3, 4, 4, {})


def test_outside_the_region_every_pixel_is_the_originals(faces, plain, translated):
    for out, _ in (plain, translated):
        assert_exact_outside(faces, out, pd.read_parquet(out / "manifest.parquet"))


def test_every_kind_of_picture_is_exact_outside_its_region(zoo):
    in_dir, out, _, manifest = zoo
    good = ["Zoë/фото.JPG", "cmyk.jpg", "deep.png", "dotted.name.v1.jpeg", "grey.png", "rgba.png", "small.webp"]
    good += ["turned.jpg", "twin.jpg", "twin.png"]
    assert sorted(manifest["source"].unique()) == good
    assert_exact_outside(in_dir, out, manifest)


def test_names_follow_the_originals(zoo):
    _, out, _, manifest = zoo
    names = dict(zip(manifest["source"], manifest["output"]))
    assert names["dotted.name.v1.jpeg"] == "images/dotted.name.v1.png"
    assert names["Zoë/фото.JPG"] == "images/Zoë/фото.png"
    assert (names["twin.jpg"], names["twin.png"]) == ("images/twin.jpg.png", "images/twin.png.png")
    assert set(files(out / "images")) == {name.removeprefix("images/") for name in names.values()}


def test_what_reading_changed_is_told(zoo):
    notes = dict(zip(zoo[3]["source"], zoo[3]["notes"]))
    assert all(notes[name] for name in ("cmyk.jpg", "deep.png", "turned.jpg", "grey.png"))
    assert not notes["twin.png"]


def test_every_miss_is_listed_with_its_reason(zoo):
    _, out, summary, manifest = zoo
    listed = failures(out)
    kinds = {name: kind for name, (kind, _) in listed.items()}
    unreadable = dict.fromkeys(("cut.jpg", "empty.png", "letter.jpg"), "unreadable")
    assert kinds == {**unreadable, "wall.png": "no face", "pixel.png": "no face"}
    assert all(reason and "\n" not in reason for _, reason in listed.values())
    assert summary.failures == {"unreadable": 3, "no face": 2}
    assert not set(listed) & set(manifest["source"])


def test_two_faces_get_a_mask_each_with_parameters_of_their_own(plain):
    manifest = pd.read_parquet(plain[0] / "manifest.parquet")
    two = manifest[manifest["source"] == "deep/two.png"]
    assert two["face"].tolist() == [0, 1]
    assert two["params"].nunique() == two["warp_seed"].nunique() == 2
    region = pixels(plain[0] / "regions" / "deep" / "two.png")
    for row in two.itertuples():
        assert row.x <= row.mask_x + row.mask_w / 2 <= row.x + row.w
        assert region[row.mask_y : row.mask_y + row.mask_h, row.mask_x : row.mask_x + row.mask_w].max() == 255


def test_the_manifest_replays_a_face_to_the_bit(faces, plain):
    out, _ = plain
    row = pd.read_csv(out / "manifest.csv").set_index("source").loc["one.png"]
    table = read_landmarks(out / "landmarks.csv")
    points = landmarks_array(table[table["image"] == "one.png"])[0]
    params = WarpParams.from_dict(json.loads(row["params"]))
    again = apply_warp(read_image(faces / "one.png").pixels, points, params)
    np.testing.assert_array_equal(again.image, pixels(out / row["output"]))
    np.testing.assert_array_equal(again.region, pixels(out / row["region"]))


def test_overlapping_masks_are_replayed_in_the_manifests_order(faces, plain, tmp_path):
    table = read_landmarks(plain[0] / "landmarks.csv").query("image == 'one.png'")
    points = landmarks_array(table)[0]
    middle = points.mean(axis=0)
    three = [(0.6 * (points - middle) + middle + shift) for shift in ((0, 0), (9, 4), (-8, 9))]
    three[1] = 0.9 * (three[1] - middle) + middle
    write_landmarks(tmp_path / "three.csv", landmarks_table(("one.png", k, p) for k, p in enumerate(three)))
    (tmp_path / "in").mkdir()
    shutil.copy(faces / "one.png", tmp_path / "in")
    augment_folder(tmp_path / "in", tmp_path / "out", replace(RULE, landmarks=tmp_path / "three.csv"))
    manifest = pd.read_csv(tmp_path / "out" / "manifest.csv")
    assert sorted(manifest["order"]) == [0, 1, 2]
    assert manifest["order"].tolist() != [0, 1, 2]
    kept = landmarks_array(read_landmarks(tmp_path / "out" / "landmarks.csv"))

    def replay(rows):
        asked = [(kept[row.face], WarpParams.from_dict(json.loads(row.params))) for row in rows.itertuples()]
        boxes = manifest[["x", "y", "w", "h"]].to_numpy(float)
        return lay_masks(read_image(faces / "one.png").pixels, asked, boxes, rows["face"].tolist())[0]

    written = pixels(tmp_path / "out" / "images" / "one.png")
    assert np.array_equal(replay(manifest.sort_values("order")), written)
    assert not np.array_equal(replay(manifest), written)


def test_the_tables_agree(plain, translated, checkpoint):
    from lib.data.files import sha256

    for out, name, digest in (
        (plain[0], "rule-only", ""),
        (translated[0], "net_G_AB.safetensors", sha256(checkpoint / "net_G_AB.safetensors")),
    ):
        from_csv = pd.read_csv(out / "manifest.csv", keep_default_na=False)
        parquet = pd.read_parquet(out / "manifest.parquet")
        assert from_csv["warp_seed"].tolist() == parquet["warp_seed"].tolist()
        assert set(parquet["checkpoint"]) == {name}
        assert set(parquet["checkpoint_sha256"]) == {digest}
        assert (parquet["seconds"] > 0).all()
        assert (out / "failures.csv").read_text() == "file,face,kind,reason\n"
        run = json.loads((out / "run.json").read_text())
        assert run["status"] == "finished"
        assert run["counts"]["faces_masked"] == len(parquet) == 4


def test_the_translation_stays_inside_the_mask_and_its_margin(plain, translated):
    for name in files(plain[0] / "regions"):
        rule, soft = pixels(plain[0] / "regions" / name), pixels(translated[0] / "regions" / name)
        assert (soft >= rule).all()
        rows, columns = np.nonzero(rule)
        grown = np.zeros_like(rule)
        for dy in range(-6, 7):
            for dx in range(-6, 7):
                grown[np.clip(rows + dy, 0, len(rule) - 1), np.clip(columns + dx, 0, rule.shape[1] - 1)] = 1
        assert not soft[grown == 0].any()
        drawn, made = pixels(plain[0] / "images" / name), pixels(translated[0] / "images" / name)
        assert np.abs(made.astype(int) - drawn)[rule == 255].mean() > 5, "an untrained generator changes the mask"


def test_a_margin_of_zero_keeps_to_the_drawn_mask(faces, plain, checkpoint, tmp_path):
    options = Options(checkpoint=checkpoint, margin=0.0, workers=0, progress=False, preset="ours")
    augment_folder(faces, tmp_path / "out", options)
    assert files(tmp_path / "out" / "regions") == files(plain[0] / "regions")


def test_the_same_call_gives_the_same_bytes_and_another_seed_others(faces, plain, tmp_path):
    augment_folder(faces, tmp_path / "again", RULE)
    assert files(tmp_path / "again", ".png") == files(plain[0], ".png")
    augment_folder(faces, tmp_path / "other", Options(rule_only=True, workers=0, progress=False, seed=1))
    one, other = files(plain[0] / "images"), files(tmp_path / "other" / "images")
    assert all(one[name] != other[name] for name in one)


def test_a_face_does_not_depend_on_its_company(faces, portrait, plain, translated, checkpoint, tmp_path):
    """Another picture in the folder, another batch size, another order of batches: the same bytes."""
    shutil.copytree(faces, tmp_path / "in")
    Image.fromarray(portrait(140)).save(tmp_path / "in" / "aaa.png")
    augment_folder(tmp_path / "in", tmp_path / "rule", RULE)
    options = Options(checkpoint=checkpoint, workers=0, progress=False, batch_size=2, preset="ours")
    augment_folder(tmp_path / "in", tmp_path / "gan", options)
    for before, after in ((plain[0], tmp_path / "rule"), (translated[0], tmp_path / "gan")):
        old, new = files(before, ".png"), files(after, ".png")
        assert {name: new[name] for name in old} == old
        assert len(new) == len(old) + 2


def test_noise_differs_between_faces_of_the_same_picture_twice(translated):
    manifest = pd.read_parquet(translated[0] / "manifest.parquet")
    assert manifest["noise_seed"].nunique() == len(manifest)


def test_largest_only_masks_the_largest(faces, plain, tmp_path):
    options = Options(rule_only=True, workers=0, progress=False, largest_only=True)
    summary = augment_folder(faces, tmp_path / "out", options)
    assert summary.faces_masked == 3
    manifest = pd.read_parquet(tmp_path / "out" / "manifest.parquet")
    whole = pd.read_parquet(plain[0] / "manifest.parquet")
    kept = manifest[manifest["source"] == "deep/two.png"].iloc[0]
    both = whole[whole["source"] == "deep/two.png"]
    assert kept["w"] == both["w"].max()
    assert kept["params"] in set(both["params"]), "the same mask as with all faces"


def test_copy_missed_writes_the_untouched_picture(faces, plain, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(faces / "one.png", tmp_path / "in")
    wall = np.random.default_rng(0).integers(0, 255, (50, 41, 3), dtype=np.uint8)
    Image.fromarray(wall).save(tmp_path / "in" / "wall.bmp")
    options = Options(rule_only=True, workers=0, progress=False, copy_missed=True)
    summary = augment_folder(tmp_path / "in", tmp_path / "out", options)
    assert (summary.faces_masked, summary.pictures_copied) == (1, 1)
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "images" / "wall.png"), wall)
    assert not pixels(tmp_path / "out" / "regions" / "wall.png").any()
    assert failures(tmp_path / "out")["wall.bmp"][0] == "no face"
    whole = pd.read_parquet(plain[0] / "manifest.parquet").set_index("source")
    for table in (
        pd.read_csv(tmp_path / "out" / "manifest.csv", dtype={"warp_seed": "Int64"}),
        pd.read_parquet(tmp_path / "out" / "manifest.parquet"),
    ):
        assert table[["face", "status"]].values.tolist() == [[0, "masked"], [-1, "copied"]]
        assert table["warp_seed"][0] == whole.loc["one.png", "warp_seed"], "not rounded for the missing one"


def test_a_face_that_cannot_wear_a_mask_does_not_cost_its_neighbour(faces, tmp_path, monkeypatch):
    from lib.augment import laying

    def picky(images, asked):
        small = [k for k, (_, landmarks, _) in enumerate(asked) if np.ptp(landmarks[:, 0]) < 60]
        out, worn = apply_warps(images, [face for k, face in enumerate(asked) if k not in small])
        for k in small:
            worn.insert(k, laying.WarpError("face turned too far: 0.9"))
        return out, worn

    monkeypatch.setattr(laying, "apply_warps", picky)
    (tmp_path / "in").mkdir()
    shutil.copy(faces / "deep" / "two.png", tmp_path / "in")
    summary = augment_folder(tmp_path / "in", tmp_path / "out", RULE)
    assert (summary.faces_found, summary.faces_masked, summary.failures) == (2, 1, {"warp": 1})
    table = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert table.values.tolist() == [["two.png", 1, "warp", "face turned too far: 0.9"]]
    manifest = pd.read_csv(tmp_path / "out" / "manifest.csv")
    assert manifest["status"].tolist() == ["masked", "failed"]
    right = pixels(tmp_path / "out" / "regions" / "two.png")[:, 260:]
    assert not right.any()


def test_an_unexpected_error_costs_its_picture_only_and_is_tried_again(faces, tmp_path, monkeypatch):
    from lib.augment import steps

    def moody(path):
        if path.name == "one.png":
            raise RuntimeError("not\ntoday")
        return read_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(steps, "read_image", moody)
        summary = augment_folder(faces, tmp_path / "out", RULE)
    assert (summary.pictures_masked, summary.failures) == (2, {"error": 1})
    assert failures(tmp_path / "out")["one.png"][1] == "RuntimeError: not today"
    summary = augment_folder(faces, tmp_path / "out", RULE)
    assert (summary.done_now, summary.pictures_masked, summary.failures) == (1, 3, {})


def test_a_stopped_run_goes_on_and_ends_as_if_never_stopped(faces, plain, tmp_path, monkeypatch):
    from lib.augment import pipeline

    out, finish, seen = tmp_path / "out", pipeline.rule_based, []

    def interrupted(task, *rest):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(task.source)
        return finish(task, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "rule_based", interrupted)
        with pytest.raises(KeyboardInterrupt):
            augment_folder(faces, out, RULE)
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    assert set(pd.read_csv(out / "manifest.csv")["source"]) == set(seen), "the tables tell what is there"
    summary = augment_folder(faces, out, RULE)
    assert (summary.done_now, summary.pictures) == (1, 3)
    assert files(out, ".png") == files(plain[0], ".png")
    assert augment_folder(faces, out, RULE).done_now == 0


def test_limit_takes_the_first_and_a_later_run_the_rest(faces, plain, tmp_path):
    first = augment_folder(faces, tmp_path / "out", Options(rule_only=True, workers=0, progress=False, limit=1))
    assert (first.done_now, first.pictures) == (1, 1)
    rest = augment_folder(faces, tmp_path / "out", RULE)
    assert (rest.done_now, rest.pictures) == (2, 3)
    assert files(tmp_path / "out", ".png") == files(plain[0], ".png")


def test_changed_options_are_refused_until_forced(faces, plain, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(plain[0], out)
    (out / "mine.txt").write_text("mine")
    changed = Options(rule_only=True, workers=0, progress=False, seed=3)
    before = files(out)
    with pytest.raises(AugmentError, match="seed was 0, now 3"):
        augment_folder(faces, out, changed)
    assert files(out) == before
    summary = augment_folder(faces, out, Options(rule_only=True, workers=0, progress=False, seed=3, force=True))
    assert (summary.done_now, (out / "mine.txt").read_text()) == (3, "mine")
    assert set(pd.read_csv(out / "manifest.csv")["seed"]) == {3}


def test_a_name_that_is_no_utf8_is_written_and_told(faces, tmp_path):
    in_dir = tmp_path / "in"
    in_dir.mkdir()
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    try:
        shutil.copy(faces / "one.png", in_dir / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert augment_folder(in_dir, tmp_path / "out", RULE).faces_masked == 1
    assert (tmp_path / "out" / "images" / name).exists()
    assert pd.read_csv(tmp_path / "out" / "manifest.csv")["source"].tolist() == [r"caf\xe9.png"]


def test_nothing_temporary_stays_behind(plain, translated, zoo):
    for out in (plain[0], translated[0], zoo[1]):
        assert not list(out.rglob("*.tmp"))
        top = {path.name for path in out.iterdir()}
        tables = {"manifest.csv", "manifest.parquet", "landmarks.csv", "failures.csv", "report.html", "run.json"}
        assert top == {"images", "regions", NAME, *tables}


def test_a_scene_at_the_picture_s_edge_is_padded_not_lost(faces, checkpoint, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels(faces / "deep" / "two.png")[20:200, 40:190]).save(tmp_path / "in" / "edge.png")
    options = Options(checkpoint=checkpoint, workers=0, progress=False, crop_scale=4.0)
    summary = augment_folder(tmp_path / "in", tmp_path / "out", options)
    assert summary.faces_masked == 1
    assert_exact_outside(tmp_path / "in", tmp_path / "out", pd.read_parquet(tmp_path / "out" / "manifest.parquet"))


def test_a_picture_beyond_the_detector_s_limit_is_told(portrait, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(portrait(400)).save(tmp_path / "in" / "large.bmp")
    Image.fromarray(portrait(290)).save(tmp_path / "in" / "small.bmp")
    options = Options(rule_only=True, workers=0, progress=False, detect_side=300)
    summary = augment_folder(tmp_path / "in", tmp_path / "out", options)
    assert (summary.faces_masked, summary.pictures_reduced) == (2, 1)
    assert "--detect-side" in str(summary)
    notes = pd.read_csv(tmp_path / "out" / "manifest.csv", keep_default_na=False)["notes"]
    assert notes.tolist() == ["faces looked for at 75% of the size", ""]


def test_a_faint_detection_beside_a_sure_face_gets_no_mask(tmp_path):
    """The detector takes the badge on the astronaut's chest for a face (score 0.3 against 1.3) once JPEG softens it."""
    from skimage.data import astronaut

    (tmp_path / "in").mkdir()
    Image.fromarray(astronaut()).save(tmp_path / "in" / "astronaut.jpg", quality=90)
    sure = augment_folder(tmp_path / "in", tmp_path / "sure", RULE)
    all_of_them = augment_folder(tmp_path / "in", tmp_path / "all", replace(RULE, min_score=-10.0))
    assert sure.faces_masked == 1
    assert all_of_them.faces_masked > 1


def test_a_link_that_leads_nowhere_is_unreadable(faces, tmp_path):
    shutil.copytree(faces, tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    summary = augment_folder(tmp_path / "in", tmp_path / "out", RULE)
    assert summary.failures == {"unreadable": 1}
    assert failures(tmp_path / "out")["gone.png"] == ("unreadable", "no such file")


def test_landmarks_of_an_earlier_run_give_the_same_pictures(faces, plain, tmp_path, monkeypatch):
    from lib.warp.landmarks import DlibLandmarks

    monkeypatch.setattr(DlibLandmarks, "find", None)  # nothing is to be looked for
    given = replace(RULE, landmarks=plain[0] / "landmarks.csv")
    summary = augment_folder(faces, tmp_path / "out", given)
    assert summary.faces_masked == 4
    assert files(tmp_path / "out", ".png") == files(plain[0], ".png")
    with pytest.raises(AugmentError, match="landmarks"):  # other landmarks, other folder
        augment_folder(faces, tmp_path / "out", RULE)


def test_a_picture_that_the_landmarks_do_not_fit_is_listed(faces, plain, tmp_path):
    table = read_landmarks(plain[0] / "landmarks.csv")
    points = table.columns[2:]
    table.loc[table["image"] == "one.png", points] += 5000
    table = table[table["image"] != "deep/two.png"]
    table.loc[table["image"] == "deep/er/odd.bmp", points] *= 0.02
    table.to_csv(tmp_path / "landmarks.csv", index=False)
    summary = augment_folder(faces, tmp_path / "out", replace(RULE, landmarks=tmp_path / "landmarks.csv"))
    assert summary.failures == {"landmarks": 1, "no face": 1, "too small": 1}
    found = failures(tmp_path / "out")
    assert "outside the picture" in found["one.png"][1]
    assert found["deep/two.png"] == ("no face", "no landmarks for it in landmarks.csv")
    assert found["deep/er/odd.bmp"][1].startswith("face too small: the eyes are ")


def test_a_landmark_cache_saves_the_second_look_whatever_the_mask(faces, plain, tmp_path, monkeypatch):
    from lib.warp.landmarks import DlibLandmarks

    cached = replace(RULE, landmark_cache=tmp_path / "cache")
    assert augment_folder(faces, tmp_path / "one", cached).faces_masked == 4
    assert files(tmp_path / "one", ".png") == files(plain[0], ".png")
    monkeypatch.setattr(DlibLandmarks, "find", None)
    again = augment_folder(faces, tmp_path / "two", replace(cached, preset="cmfd"))
    assert (again.faces_masked, again.failures) == (4, {})
    assert augment_folder(faces, tmp_path / "one", cached).done_now == 0, "the cache does not change what a run is"
