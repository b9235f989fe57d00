import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.data.files import write_png
from lib.study import regions_check
from lib.study.regions_check import (
    CASES,
    Case,
    Pair,
    known_faces,
    measure,
    summary,
)
from lib.warp import landmarks_table, write_landmarks


@pytest.fixture(scope="module")
def faces():
    return known_faces(2, size=128)


def disc(x=64, y=70, radius=30, size=128):
    yy, xx = np.mgrid[:size, :size]
    return np.hypot(xx - x, yy - y) < radius


def pair_of(true, rule_region, contrast=80):
    """A pair whose rule-based picture is changed in one region while another is said to be the truth."""
    full = np.full((*true.shape, 3), 100, np.uint8)
    rule = np.where(rule_region[..., None], full + np.uint8(contrast), full)
    return Pair(full, rule, true.astype(np.float32), true, np.full(true.shape, float(contrast), np.float32))


# --- scores


def test_a_perfect_answer_scores_one():
    found = regions_check.score(pair_of(disc(), disc()))
    assert found["touched"] == found["lossless"] == 1
    assert found["outline"] > 0.99
    assert found["over"] == found["under"] == 0
    assert found["contrast"] == 80


def test_a_shifted_answer_scores_its_overlap():
    true, other = disc(), disc(x=70)
    found = regions_check.score(pair_of(true, other))
    assert found["touched"] == pytest.approx((true & other).sum() / (true | other).sum())
    assert found["over"] == pytest.approx((other & ~true).sum() / true.sum())
    assert found["under"] == pytest.approx((true & ~other).sum() / true.sum())


def test_jpeg_makes_it_worse_and_seeds_repeat(faces):
    cases = {"128": CASES["128"], "larger": Case(128, 96, "bilinear")}
    table = measure(faces, ("study", "smfrd"), cases, (60, 98))
    assert len(table) == 2 * 2 * 2 * 2 * 2
    mean = table.groupby("quality")["outline"].mean()
    assert 0.9 < mean[60] < mean[98]
    again = measure(faces, ("study",), {"128": CASES["128"]}, (60, 98)).drop(columns="ms")
    same = table[(table["look"] == "study") & (table["case"] == "128")].drop(columns="ms").reset_index(drop=True)
    pd.testing.assert_frame_equal(again, same)


def test_straps_and_shadow_are_no_part_of_the_truth(faces):
    full, rule, coverage = regions_check.worn(faces, 0, "ours", 128)
    changed = (full != rule).any(axis=-1)
    assert (changed & (coverage == 0)).sum() > 50
    assert 0.05 < (coverage >= 0.5).mean() < 0.5


def test_a_face_that_takes_no_mask_is_listed(faces):
    lost = regions_check.Faces(faces.names, faces.full, faces.landmarks.copy())
    lost.landmarks[1] = np.nan
    table = measure(lost, ("study",), {"128": CASES["128"]}, (85,))
    assert table["reason"].tolist().count("") == 2
    assert "not finite" in table.query("face == @lost.names[1]")["reason"].iloc[0]
    assert summary(table)["pictures"].tolist() == [2]


def test_the_summary_counts_what_keeps_the_promise():
    rows = [{"case": "c", "reason": "", "quality": q, "ms": 1.0, "over": 0.0, "under": 0.0, "touched": v, "outline": v,
             "lossless": v} for q, v in ((60, 0.94), (60, 0.96), (85, 0.97), (85, 0.99), (98, 0.98))]  # fmt: skip
    found = summary(pd.DataFrame(rows)).set_index("quality")
    assert found["touched kept"].tolist() == [0.5, 0.5, 1.0]
    assert found["touched worst"].tolist() == [0.94, 0.97, 0.98]


# --- photographs of one's own


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_own_pictures(tmp_path, faces, suffix):
    names = ["a.png", "b.png"]
    for name, full in zip(names, faces.full):
        write_png(tmp_path / name, full)
    table = tmp_path / f"points{suffix}"
    if suffix == ".npz":
        np.savez(table, names=np.array(names), landmarks=faces.landmarks)
    else:
        write_landmarks(table, landmarks_table((n, 0, p) for n, p in zip(names, faces.landmarks)))
    own = regions_check.photographs(tmp_path, table, 5)
    assert own.names == names
    np.testing.assert_allclose(own.landmarks, faces.landmarks, atol=1e-3)
    assert all(np.array_equal(a, b) for a, b in zip(own.full, faces.full))
    scaled, points = own.at(0, 256)
    assert scaled.shape == (256, 256, 3)
    np.testing.assert_allclose(points, 2 * faces.landmarks[0] + 0.5, atol=1e-2)


def test_landmarks_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "points.npz"
    np.savez(path, names=np.array(["a"]))
    with pytest.raises(ValueError, match=r"points.npz: expected arrays names and landmarks, found names"):
        regions_check.photographs(tmp_path, path, 1)
    np.savez(path, names=np.array(["a"]), landmarks=np.zeros((2, 68, 2)))
    with pytest.raises(ValueError, match=r"points.npz: expected landmarks \[1, 68, 2\], got \[2, 68, 2\]"):
        regions_check.photographs(tmp_path, path, 1)
    np.savez(path, names=np.array(["a"]), landmarks=np.full((1, 68, 2), np.nan))
    with pytest.raises(ValueError, match=r"no face with landmarks"):
        regions_check.photographs(tmp_path, path, 1)


# --- the command


def test_the_command_writes_tables_and_a_sheet(tmp_path, capsys):
    wanted = ["--smoke", "--cases", "64", "--looks", "cmfd"]
    assert regions_check.main(["--out", str(tmp_path), *wanted]) == 0
    table = pd.read_csv(tmp_path / "pictures.csv", keep_default_na=False)
    assert len(table) == 2 * 2 * 2
    assert table["outline"].min() > 0.85
    for name in ("by_case", "by_look", "by_subsampling"):
        assert pd.read_csv(tmp_path / f"{name}.csv")["pictures"].sum() == len(table)
    assert json.loads((tmp_path / "facts.json").read_text())["count"] == 2
    with Image.open(tmp_path / "worst.png") as shown:
        assert shown.size == (5 * 256, 2 * (256 + regions_check._BAND))
        band = np.asarray(shown)[: regions_check._BAND]
    assert (band < 100).any()  # what the row below shows is written there
    capsys.readouterr()
    for wrong, told in (
        (["--count", "0"], "--count must be at least 1, got 0\n"),
        (["--seed", "-2"], "--seed must be at least 0, got -2\n"),
        (["--images", str(tmp_path)], "--images and --landmarks belong together, only one is given\n"),
    ):
        assert regions_check.main(["--out", str(tmp_path), *wrong]) == 2
        assert capsys.readouterr().err == f"lib.study.regions_check: {told}"
    missing = ["--images", str(tmp_path), "--landmarks", str(tmp_path / "none.csv")]
    assert regions_check.main(["--out", str(tmp_path), *missing]) == 2
    assert "none.csv" in capsys.readouterr().err
