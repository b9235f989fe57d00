"""The ranking: what each column measures, on pictures of known truth; the score; the cache; the agreement."""

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.data import faceworld
from lib.data.images import to_pixels
from lib.study import ranking
from lib.study.ranking import FEATURES, PARTS, agreement, measure, parts, ranked, reader, score
from lib.warp import landmarks_table, write_landmarks


@pytest.fixture(scope="module")
def worn():
    """Sixteen masked faces of the face world: pictures uint8 [16, 96, 96, 3], landmarks, true yaw in degrees."""
    out = faceworld.render(range(16), range(16), 96, ("masked",), 1.0, yaw=50.0, mask_kinds=(1.0, 0.0, 0.0))
    return to_pixels(out.masked * 2 - 1), out.landmarks.numpy(), out.pose[:, 0].numpy()


def flat(*colour):
    return np.full((200, 160, 3), colour, np.uint8)


def test_lightness_and_chroma_are_those_of_the_lower_face():
    pixels = flat(20, 20, 20)
    pixels[105:185, 35:125] = (170, 220, 210)  # a mint mask on a dark picture
    light = measure(pixels)
    lab = cv2.cvtColor(np.float32([[[170, 220, 210]]]) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    assert light["lightness"] == pytest.approx(lab[0], abs=0.5)
    assert light["chroma"] == pytest.approx(np.hypot(lab[1], lab[2]), abs=0.5)
    assert measure(flat(20, 20, 20))["lightness"] < 10
    assert measure(flat(200, 20, 20))["chroma"] > 60


def test_blur_lowers_the_sharpness_whatever_the_size():
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    large = cv2.resize(noise, (512, 512), interpolation=cv2.INTER_NEAREST)
    sharp, blurred = measure(large), measure(cv2.GaussianBlur(large, (0, 0), 12))
    assert sharp["sharpness"] == pytest.approx(measure(noise)["sharpness"], abs=0.05)
    assert blurred["sharpness"] < sharp["sharpness"] - 1


def test_symmetry_finds_the_axis_and_falls_with_the_yaw(worn):
    rng = np.random.default_rng(1)
    half = cv2.resize(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8), (56, 128))
    mirrored = np.concatenate([half, half[:, ::-1], flat(128, 128, 128)[:128, :16]], axis=1)  # axis left of the middle
    assert measure(mirrored)["symmetry"] > 0.95
    pictures, _, yaw = worn
    values = np.array([measure(picture)["symmetry"] for picture in pictures])
    assert ((values >= -1) & (values <= 1)).all()
    assert np.corrcoef(values, np.abs(yaw))[0, 1] < -0.3


def test_every_picture_has_a_score_even_a_flat_one():
    values = pd.DataFrame([measure(flat(c, c, c)) for c in (0, 128, 255)])
    assert np.isfinite(values[list(FEATURES[:4])].to_numpy()).all()
    assert score(values).between(0, 1).all()


def test_the_score_rises_with_what_the_paper_kept_and_a_missing_part_is_neutral():
    good = {"lightness": 90, "chroma": 5, "symmetry": 0.95, "sharpness": 3, "yaw": 0, "pitch": 0, "roll": 0}
    rows = pd.DataFrame([
        good, good | {"lightness": 20}, good | {"chroma": 80}, good | {"yaw": -60.0}, good | {"yaw": np.nan},
        dict.fromkeys(good, np.nan),
    ])  # fmt: skip
    found = score(rows)
    assert found[0] == 1.0
    assert (found[1:3] < 1).all()
    assert found[3] < found[4] < found[0]
    assert found[4] - found[3] == pytest.approx(found[0] - found[4])
    assert np.isnan(found[5])
    assert list(parts(rows)) == list(PARTS)


def test_the_pose_comes_from_landmarks(worn, tmp_path):
    pictures, landmarks, yaw = worn
    for k, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
    names = [f"{k}.png" for k in range(len(pictures))]
    write_landmarks(tmp_path / "landmarks.csv", landmarks_table((n, 0, p) for n, p in zip(names[:-1], landmarks)))
    table = ranked(pd.DataFrame({"image": names}), tmp_path, None, tmp_path / "landmarks.csv", progress=False)
    assert table["yaw"].isna().tolist() == [False] * 15 + [True]  # one without landmarks
    assert np.median(np.abs(table["yaw"][:-1] - yaw[:-1])) < 4


def saved(folder, count=6):
    rng = np.random.default_rng(2)
    for k in range(count):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    return pd.DataFrame({"image": [f"{k}.png" for k in range(count)], "face": 0}, index=range(100, 100 + count))


def test_a_stopped_run_goes_on_and_a_changed_picture_is_measured_anew(tmp_path, monkeypatch):
    table, cache = saved(tmp_path), tmp_path / "cache" / "ranking.csv"
    measured = []

    def counted(*arguments):
        if len(measured) == 4:
            raise KeyboardInterrupt
        measured.append(arguments)
        return measure(*arguments)

    monkeypatch.setattr(ranking, "_KEEP_EVERY", 2)
    monkeypatch.setattr(ranking, "measure", counted)
    with pytest.raises(KeyboardInterrupt):
        ranked(table, tmp_path, cache, progress=False)
    monkeypatch.setattr(ranking, "measure", lambda *a: measured.append(a) or measure(*a))
    first = ranked(table, tmp_path, cache, progress=False)
    assert len(measured) == 6
    pd.testing.assert_frame_equal(ranked(table, tmp_path, cache, progress=False), first)
    assert len(measured) == 6
    assert first.index.tolist() == table.index.tolist()
    Image.fromarray(flat(9, 9, 9)).save(tmp_path / "3.png")
    again = ranked(table.assign(score=7.0), tmp_path, cache, progress=False)
    assert len(measured) == 7
    assert again.loc[103, "lightness"] < 10
    pd.testing.assert_frame_equal(again.drop(index=103), first.drop(index=103))
    cache.write_text("damaged")
    pd.testing.assert_frame_equal(ranked(table, tmp_path, cache, progress=False), again)


@pytest.mark.parametrize("name", ["c.csv", "c.parquet"])
def test_the_cache_may_be_either_kind_of_table_and_a_function_may_read(tmp_path, name):
    rows = pd.DataFrame({"image": ["x", "y", "gone"], "face": [0, 1, 0]})
    pictures = {"x": flat(250, 250, 250), "y": flat(10, 10, 10)}
    table = ranked(rows, lambda row: pictures.get(row.image), tmp_path / name, progress=False)
    assert table["lightness"].round().tolist()[:2] == [98, 3]
    assert table.loc[2, [*FEATURES, "score"]].isna().all()
    pictures["x"] = flat(0, 0, 0)
    assert ranked(rows, lambda row: pictures.get(row.image), tmp_path / name, progress=False)["lightness"][0] == 0


def test_a_folder_is_read_with_boxes_where_they_are_known(tmp_path):
    pixels = np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    table = pd.DataFrame({"image": "a.png", "x": [10.0, np.nan], "y": [5.0, np.nan], "w": [20.0, np.nan], "h": 20.0})
    boxed, whole = map(reader(tmp_path), table.itertuples())
    assert np.array_equal(boxed, pixels[5:25, 10:30])
    assert np.array_equal(whole, pixels)
    with pytest.raises(ValueError, match=r"no\.png"):
        reader(tmp_path)(pd.DataFrame({"image": ["no.png"]}).itertuples().__next__())


def test_agreement_is_the_area_under_the_roc_curve():
    rng = np.random.default_rng(3)
    features = pd.DataFrame({name: rng.uniform(0, 1, 80).round(1) for name in FEATURES})
    features["lightness"] = rng.normal(60, 15, 80).round()
    features.loc[:20, "yaw"] = np.nan
    accepted = pd.Series(features["lightness"] + rng.normal(0, 10, 80) > 60)
    pairs_of_people = pd.Series(np.arange(80) // 2)
    table = agreement(features, accepted, pairs_of_people, draws=200).set_index("part")
    part = parts(features)["lightness"]
    pairs = np.sign(part[accepted].to_numpy()[:, None] - part[~accepted].to_numpy())
    assert table.loc["lightness", "auc"] == pytest.approx(((pairs + 1) / 2).mean())
    assert table.loc["lightness", "low"] < table.loc["lightness", "auc"] < table.loc["lightness", "high"]
    assert table.loc["yaw", "faces"] == 59
    assert len(table) == 1 + len(PARTS)
    pd.testing.assert_frame_equal(table, agreement(features, accepted, pairs_of_people, 200).set_index("part"))
    with pytest.raises(ValueError, match="some of both"):
        agreement(features, accepted | True)
