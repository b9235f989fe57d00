"""Pairs files, extended: which pictures are paired, in which style, and what is left out."""

import zipfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from lib.augment.pairs import read_any, write_pairs
from lib.augment.tasks import AugmentError, name_tasks
from lib.data.pairs import read_pairs

PEOPLE = {"Ann_Lee": 3, "Bo": 2, "Cy": 2}


@pytest.fixture
def lfw(tmp_path) -> Path:
    """IN of three people, named as LFW does."""
    for name, count in PEOPLE.items():
        (tmp_path / "in" / name).mkdir(parents=True)
        for n in range(1, count + 1):
            Image.new("RGB", (4, 4)).save(tmp_path / "in" / name / f"{name}_{n:04d}.jpg")
    return tmp_path / "in"


def manifest(in_dir: Path, missed: set[str] = frozenset(), **options) -> pd.DataFrame:
    """What a run would write of it; OUT/images is filled with the files."""
    sources = sorted(path.relative_to(in_dir).as_posix() for path in in_dir.rglob("*.jpg"))
    rows = []
    for task in name_tasks(sources, **options):
        written = [f"images/{task.original}"] if task.original else []
        for variant, (output, _) in task.variants.items():
            masked = task.source not in missed
            written += [output] if masked else []
            rows.append({"source": task.source, "variant": variant, "output": output if masked else "",
                         "status": "masked" if masked else "failed",
                         "original": f"images/{task.original}" if task.original else ""})  # fmt: skip
        for path in written:
            (in_dir.parent / "out" / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(in_dir.parent / "out" / path)
    return pd.DataFrame(rows)


def pairs_file(in_dir: Path, text: str) -> Path:
    path = in_dir.parent / "pairs.txt"
    path.write_text(text)
    return path


MFR2 = "Ann_Lee 1 2\nAnn_Lee 1 Bo 2\nCy\t1\t2\n"


def test_every_pair_is_extended_twice_and_read_back_by_name_and_number(lfw):
    out = lfw.parent / "out"
    table = manifest(lfw, originals=True, per_image=2)
    paths, counts = write_pairs(out, lfw, pairs_file(lfw, MFR2), table)
    assert counts == {"unmasked-masked": 3, "masked-masked": 3}
    assert [path.name for path in paths] == ["pairs.csv", "pairs_unmasked_masked.txt", "pairs_masked_masked.txt"]
    rows = pd.read_csv(paths[0])
    assert rows["same"].tolist() == [True, True, False, False, True, True]
    assert all((out / path).is_file() for name in ("path1", "path2") for path in rows[name])
    for path, first in zip(paths[1:], (1, 1001)):
        read = read_pairs(path, out / "images", "lfw")
        assert (read["reason"] == "").all()
        assert read["same"].tolist() == [True, False, True]
        assert read["image1"][0] == f"Ann_Lee/Ann_Lee_{first:04d}.png"
        assert read["image2"][1] == "Bo/Bo_1002.png"
        kind = path.stem.removeprefix("pairs_").replace("_", "-")
        told = rows[rows["kind"] == kind]
        assert [f"images/{image}" for image in read["image1"]] == told["path1"].tolist()
        assert [f"images/{image}" for image in read["image2"]] == told["path2"].tolist()


def test_with_one_mask_each_the_numbers_stay_and_the_unmasked_are_those_of_in(lfw):
    out = lfw.parent / "out"
    paths, _ = write_pairs(out, lfw, pairs_file(lfw, MFR2), manifest(lfw))
    assert [path.name for path in paths] == ["pairs.csv", "pairs_masked_masked.txt"]
    assert paths[1].read_text() == "Ann_Lee\t1\t2\nAnn_Lee\t1\tBo\t2\nCy\t1\t2\n"
    rows = pd.read_csv(paths[0])
    bare = rows.loc[rows["kind"] == "unmasked-masked", "path1"]
    assert bare[0] == "../in/Ann_Lee/Ann_Lee_0001.jpg"
    assert all((out / path).is_file() for path in bare)


def test_pairs_of_missed_faces_are_left_out_and_counted(lfw):
    text = MFR2 + "Bo 1 9\nBo 1 ../Bo 1\n"
    table = manifest(lfw, {"Ann_Lee/Ann_Lee_0001.jpg", "Cy/Cy_0002.jpg"}, originals=True)
    paths, counts = write_pairs(lfw.parent / "out", lfw, pairs_file(lfw, text), table)
    assert counts == {
        "unmasked-masked": 2,
        "masked-masked": 0,
        "left out (masked-masked, no mask)": 3,
        "left out (unmasked-masked, no mask)": 1,
        "left out (picture missing)": 1,
        "left out (path leaves the data set)": 1,
    }
    assert set(pd.read_csv(paths[0])["source2"]) == {"Ann_Lee/Ann_Lee_0002.jpg", "Bo/Bo_0002.jpg"}
    assert [path.name for path in paths] == ["pairs.csv", "pairs_unmasked_masked.txt"]


@pytest.mark.parametrize("header", ["2\t2", "4"])
def test_folds_stay_even_so_that_the_header_holds(lfw, header):
    same, other = ["Ann_Lee 1 2", "Ann_Lee 1 3"], ["Ann_Lee 1 Bo 1", "Ann_Lee 1 Bo 2"]
    folds = [*same, *other] * 2 if header == "2\t2" else [*same, *same, *other, *other]
    path = pairs_file(lfw, "\n".join([header, *folds]))
    paths, counts = write_pairs(
        lfw.parent / "out", lfw, path, manifest(lfw, {"Ann_Lee/Ann_Lee_0003.jpg"}, originals=True)
    )
    assert counts["masked-masked"] == 6
    assert len(pd.read_csv(paths[0])) == 12
    read = read_pairs(paths[2], lfw.parent / "out" / "images", "lfw")  # it raises where the header is wrong
    expected = [1, 1, 2, 2] if header == "2\t2" else [1, 1, 1, 1]
    assert read["fold"].tolist() == expected
    assert read["same"].sum() == 2


def test_pairs_named_by_their_files_stay_so(lfw):
    text = "Ann_Lee_0001.jpg\tAnn_Lee_0002.jpg\t1\nAnn_Lee_0001.jpg\tBo_0001.jpg\t0\n"
    paths, _ = write_pairs(lfw.parent / "out", lfw, pairs_file(lfw, text), manifest(lfw, originals=True))
    lines = paths[2].read_text().splitlines()
    assert lines[1] == "Ann_Lee/Ann_Lee_1001.png\tBo/Bo_1001.png\t0"
    read = read_pairs(paths[1], lfw.parent / "out" / "images", "mlfw")
    assert (read["reason"] == "").all()
    assert read["same"].tolist() == [True, False]


def test_files_without_numbers_are_named_whatever_the_source_s_style(lfw):
    table = manifest(lfw, originals=True)
    table["output"] = table["output"].str.replace("_1", "_mask1_")
    paths, _ = write_pairs(lfw.parent / "out", lfw, pairs_file(lfw, MFR2), table)
    assert paths[2].read_text().startswith("Ann_Lee/Ann_Lee_mask1_001.png\tAnn_Lee/Ann_Lee_mask1_002.png\t1\n")


def test_an_archive_is_no_pairs_file(lfw):
    path = lfw.parent / "pairs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pairs.txt", MFR2)
    with pytest.raises(AugmentError, match=r"pairs\.zip: is no text; give") as caught:
        read_any(path, lfw)
    assert str(caught.value).isprintable()


def test_a_damaged_pairs_file_is_refused_in_one_line(lfw):
    for text, words in (("Ann_Lee 1\tx y z w\n", "line 1"), ("10 300\nAnn_Lee 1 2\n", "6000 pairs")):
        with pytest.raises(AugmentError, match=words) as caught:
            read_any(pairs_file(lfw, text), lfw)
        assert "\n" not in str(caught.value)
