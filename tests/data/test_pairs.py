"""Recognition sets: numbers of file names, folds of LFW's header, files named by MLFW."""

import pytest

from lib.data.pairs import PUBLISHED, read_lfw, read_mfr2, read_pairs
from lib.data.table import validate


@pytest.fixture
def mfr2(tmp_path, touch_picture):
    for name in ("Ann_Bee/Ann_Bee_0002.png", "Ann_Bee/Ann_Bee_0004.jpg", "Cy/Cy_0001.png"):  # not 1, 2, 3: a gap
        touch_picture(f"mfr2/{name}")
    (tmp_path / "mfr2" / "mfr2_labels.txt").write_text("Ann_Bee, 2, no-mask\nAnn_Bee, 3, cloth\nCy, 1, surgical_blue\n")
    (tmp_path / "mfr2" / "pairs.txt").write_text("Ann_Bee 2 4\nAnn_Bee\t2\tCy\t1\nAnn_Bee 2 3\n")
    return tmp_path


def test_mfr2_takes_the_number_of_the_file_name(mfr2):
    table = validate(read_mfr2(mfr2))
    assert table["image"].tolist() == [
        "mfr2/Ann_Bee/Ann_Bee_0002.png", "mfr2/Ann_Bee/Ann_Bee_0003.png", "mfr2/Cy/Cy_0001.png",
        "mfr2/Ann_Bee/Ann_Bee_0004.jpg",
    ]  # fmt: skip
    assert table["identity"].tolist() == ["Ann_Bee", "Ann_Bee", "Cy", "Ann_Bee"]
    assert table["masktype"].tolist() == ["no-mask", "cloth", "surgical_blue", ""]  # the last is in no label
    assert table["reason"].tolist() == ["", "picture missing", "", ""]
    assert read_mfr2(mfr2 / "mfr2")["image"][0] == "Ann_Bee/Ann_Bee_0002.png"


def test_mfr2_pairs_have_no_header_and_no_fold(mfr2):
    table = read_pairs(mfr2 / "mfr2" / "pairs.txt", mfr2, "mfr2")
    assert table["same"].tolist() == [True, False, True]
    assert table["fold"].eq(0).all()
    assert table[["image1", "image2"]].to_numpy().tolist()[:2] == [
        ["mfr2/Ann_Bee/Ann_Bee_0002.png", "mfr2/Ann_Bee/Ann_Bee_0004.jpg"],
        ["mfr2/Ann_Bee/Ann_Bee_0002.png", "mfr2/Cy/Cy_0001.png"],
    ]
    assert table["reason"].tolist() == ["", "", "picture missing"]


def test_a_label_listed_again_and_names_that_leave(mfr2):
    path = mfr2 / "mfr2" / "mfr2_labels.txt"
    path.write_text("Cy, 1, cloth\nCy, 1, no-mask\n../Cy, 1, cloth\n/Cy, 1, cloth\n")
    table = validate(read_mfr2(mfr2)).head(4)
    assert table["reason"].tolist() == ["", "picture listed again", *["path leaves the data set"] * 2]
    (mfr2 / "p.txt").write_text("../mfr2/Cy 1 1\n")
    assert read_pairs(mfr2 / "p.txt", mfr2, "mfr2")["reason"].tolist() == ["path leaves the data set"]


@pytest.mark.parametrize(
    "line", ["Cy, 1", "Cy, one, cloth", ", 1, cloth", "Cy 1 cloth", "Cy, -1, cloth", "Cy, ١, cloth"]
)
def test_bad_labels_are_refused_by_file_and_line(mfr2, line):
    (mfr2 / "mfr2" / "mfr2_labels.txt").write_text(f"Cy, 1, cloth\n\n{line}\n")
    with pytest.raises(ValueError, match=r"mfr2_labels.txt, line 3: .* is not like 'Name, 1, surgical_blue'"):
        read_mfr2(mfr2)


@pytest.fixture
def lfw(tmp_path, touch_picture):
    for name in ("A_B", "C"):
        for number in (1, 2):
            touch_picture(f"lfw_funneled/{name}/{name}_{number:04d}.jpg")
    return tmp_path


def test_lfw_table(lfw, touch_picture):
    touch_picture("lfw_funneled/C/notes.jpg")
    table = validate(read_lfw(lfw))
    assert table["identity"].tolist() == ["A_B", "A_B", "C", "C", ""]
    assert table["number"].tolist() == [1, 2, 1, 2, -1]
    assert table["reason"].tolist() == [""] * 4 + ["name is not like C_0001.jpg"]
    assert read_lfw(lfw / "lfw_funneled")["image"][0] == "A_B/A_B_0001.jpg"


def test_lfw_folds_follow_the_header(lfw):
    fold = "A_B\t1\t2\nC\t1\t2\nA_B\t1\tC\t1\nC\t2\tA_B\t2\n"
    (lfw / "pairs.txt").write_text("2\t2\n" + 2 * fold)
    table = read_pairs(lfw / "pairs.txt", lfw, "lfw")
    assert table["fold"].tolist() == [1] * 4 + [2] * 4
    assert table["same"].tolist() == [True, True, False, False] * 2
    assert table["image2"][3] == "lfw_funneled/A_B/A_B_0002.jpg"
    (lfw / "pairsDevTrain.txt").write_text("2\n" + fold)
    assert read_pairs(lfw / "pairsDevTrain.txt", lfw, "lfw")["fold"].tolist() == [1] * 4


def test_a_header_that_tells_another_number_is_refused(lfw):
    (lfw / "pairs.txt").write_text("10\t300\nA_B\t1\t2\n")
    with pytest.raises(ValueError, match=r"pairs.txt, line 1: the header tells 6000 pairs, the file has 1"):
        read_pairs(lfw / "pairs.txt", lfw, "lfw")


@pytest.mark.parametrize("where", ["aligned/", "origin/", "", "Al_Bo/"])
def test_mlfw_names_files(tmp_path, touch_picture, where):
    names = [f"Al_Bo_000{k}_0000.jpg" for k in (1, 2)]
    for name in names:
        touch_picture(where + name)
    for lines in (f"{names[0]}\t{names[1]}\t1\n", f"{names[0]} {names[1]}\n", "Al_Bo 1 2\n"):
        (tmp_path / "pairs.txt").write_text(lines)
        table = read_pairs(tmp_path / "pairs.txt", tmp_path, "mlfw")
        assert table.to_numpy().tolist() == [[0, where + names[0], where + names[1], True, ""]]


def test_what_contradicts_the_names_has_a_reason(lfw):
    lines = ["A_B/A_B_0001.jpg C/C_0001.jpg 1", "A_B/A_B_0001.jpg A_B/A_B_0002.jpg 0", "C 1 C 2"]
    (lfw / "p.txt").write_text("\n".join(lines))
    table = read_pairs(lfw / "p.txt", lfw, "lfw")
    assert table["same"].tolist() == [True, False, False]
    assert set(table["reason"]) == {"the names tell otherwise"}


@pytest.mark.parametrize(
    "line", ["C 1", "C one 2", "C 1 2 3 4", "x.jpg y.jpg maybe", "x.jpg y.jpg", "C 1 A_B two", "C -1 2"]
)
def test_what_is_no_pair_is_refused_by_file_and_line(lfw, line):
    (lfw / "p.txt").write_text(f"C 1 2\n{line}\n")
    with pytest.raises(ValueError, match=r"p.txt, line 2: .* is no pair"):
        read_pairs(lfw / "p.txt", lfw, "lfw")


def test_errors_name_the_file(tmp_path):
    with pytest.raises(ValueError, match="expected mfr2, lfw, mlfw, got 'cfp'"):
        read_pairs(tmp_path / "pairs.txt", tmp_path, "cfp")
    with pytest.raises(FileNotFoundError, match=r"pairs.txt: no such file; name the pairs file of LFW"):
        read_pairs(tmp_path / "pairs.txt", tmp_path, "lfw")
    with pytest.raises(FileNotFoundError, match=r"no mfr2/mfr2_labels.txt in it"):
        read_mfr2(tmp_path)
    with pytest.raises(ValueError, match="no pictures in it; name the folder that holds LFW"):
        read_lfw(tmp_path)
    assert PUBLISHED["mfr2"] == {"images": 269, "people": 53, "pairs": 848}
