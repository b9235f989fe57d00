"""MAFA's label files, made in the layout of the real ones, trap by trap (FORMATS: relative boxes, int16, nesting)."""

import warnings

import numpy as np
import pytest
from scipy.io import savemat

from lib.data.filters import funnel, paper_steps
from lib.data.mafa import PUBLISHED, read_mafa
from lib.data.table import validate

# The example row of the data set's documentation, train_00000003.
EXAMPLE = [56, 170, 185, 185, 140, 198, 196, 208, 41, 56, 147, 182, 1, 3, 1, 1, 4, -1, -1, -1, -1]
UNKNOWN = [10, 20, 70, 70, 20, 40, 50, 40, 5, 30, 60, 35, -1, -1, 1, 1, 3, -1, -1, -1, -1]
GLASSES = [100, 50, 80, 80, 120, 70, 150, 70, 10, 40, 60, 40, 2, 2, 2, 1, 1, 8, 12, 60, 20]
FAR = [32_000, 32_100, 90, 90, 32_010, 32_120, 32_050, 32_120, 700, 700, 50, 40, 3, 1, 1, 1, 5, -1, -1, -1, -1]


def train_mat(path, entries):
    """[(picture, rows)] as LabelTrainAll.mat: a 1 × N struct array; savemat nests each value in an array."""
    kinds = [("orgImgName", object), ("imgName", object), ("label", object)]
    array = np.empty((1, len(entries)), kinds)
    for k, (name, rows) in enumerate(entries):
        array[0, k] = (f"org {k}.jpg", name, np.array(rows, np.int16).reshape(-1, 21))
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"label_train": array})


def write_test_mat(path, entries):
    array = np.empty((1, len(entries)), [("name", object), ("label", object)])
    for k, (name, rows) in enumerate(entries):
        array[0, k] = (name, np.array(rows, np.int16).reshape(-1, 18))
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"LabelTest": array})


@pytest.fixture
def train(tmp_path, touch_picture):
    entries = [(f"train_{k:08d}.jpg", rows) for k, rows in enumerate([[EXAMPLE], [UNKNOWN, GLASSES], [FAR], []], 1)]
    train_mat(tmp_path / "MAFA-Label-Train" / "LabelTrainAll.mat", entries)
    for k in (1, 2, 4):
        touch_picture(f"train-images/images/train_{k:08d}.jpg")
    return tmp_path


def test_rows_read_are_rows_in_the_file_in_their_order(train):
    table = validate(read_mafa(train))
    assert len(table) == 4
    assert table["image"].str[-6:-4].tolist() == ["01", "02", "02", "03"]
    assert table["face"].tolist() == [0, 0, 1, 0]
    assert (table["split"] == "train").all()
    assert (train / table["image"][0]).is_file()


def test_the_documented_example_row(train):
    row = read_mafa(train).iloc[0]
    assert row[["x", "y", "w", "h"]].tolist() == [56, 170, 185, 185]
    assert row[["eye1_x", "eye1_y", "eye2_x", "eye2_y"]].tolist() == [
        140,
        198,
        196,
        208,
    ]  # already in the picture's frame
    assert row[["occ_x", "occ_y", "occ_w", "occ_h"]].tolist() == [56 + 41, 170 + 56, 147, 182]
    codes = row[["occluder_type", "occlusion_degree", "gender", "race", "orientation"]]
    assert codes.tolist() == [1, 3, 1, 1, 4]
    assert row[["glasses_x", "glasses_y", "glasses_w", "glasses_h"]].tolist() == [-1] * 4
    assert row["reason"] == ""


def test_glasses_become_absolute_and_unknown_codes_stay(train):
    table = read_mafa(train)
    assert table.loc[2, ["glasses_x", "glasses_y", "glasses_w", "glasses_h"]].tolist() == [108, 62, 60, 20]
    assert table.loc[2, ["gender", "race"]].tolist() == [2, 1]
    assert table.loc[1, ["occluder_type", "occlusion_degree"]].tolist() == [-1, -1]
    assert table["reason"][1] == ""  # unknown codes do not make a face unusable


def test_int16_sums_do_not_overflow(train):
    row = read_mafa(train).iloc[3]
    assert (row["occ_x"], row["occ_y"]) == (32_700, 32_800)  # 32,800 does not fit into int16
    assert row["x"] + row["w"] == 32_090


def test_a_missing_picture_keeps_its_row_with_a_reason(train):
    assert read_mafa(train)["reason"].tolist() == ["", "", "", "picture missing"]


@pytest.mark.parametrize("folder", ["train-images/images", "train-images", "images", "."])
def test_folders_may_be_flat(tmp_path, touch_picture, folder):
    where = tmp_path if folder == "." else tmp_path / "MAFA-Label-Train"
    train_mat(where / "LabelTrainAll.mat", [("train_00000001.jpg", [EXAMPLE])])
    path = touch_picture(f"{folder}/train_00000001.jpg")
    row = read_mafa(tmp_path).iloc[0]
    assert (tmp_path / row["image"], row["reason"]) == (path, "")
    assert not row["image"].startswith("./")


def test_the_test_split_has_other_columns_and_boxes_that_leave_the_picture(tmp_path, touch_picture):
    rows = [
        [5, -7, 60, 60, 1, 6, 20, 40, 30, 1, 3, 1, 1, 3, -1, -1, -1, -1],
        [500, 10, 0, 60, 2, -1, -1, -1, -1, -1, -1, 1, 1, 3, -1, -1, -1, -1],
        [9, 9, 30, 30, 3, -1, -1, -1, -1, -1, -1, 1, 1, 5, 2, 3, 10, 5],
    ]
    write_test_mat(tmp_path / "MAFA-Label-Test" / "LabelTestAll.mat", [("test_00000001.jpg", rows)])
    touch_picture("test-images/images/test_00000001.jpg")
    table = validate(read_mafa(tmp_path, "test"))
    assert table["face_type"].tolist() == [1, 2, 3]
    assert table.loc[0, ["x", "y", "w", "h", "occ_x", "occ_y", "occ_w", "occ_h"]].tolist() == [
        5,
        -7,
        60,
        60,
        11,
        13,
        40,
        30,
    ]
    assert table.loc[2, ["glasses_x", "glasses_y", "glasses_w", "glasses_h"]].tolist() == [11, 12, 10, 5]
    assert table["orientation"].tolist() == [3, 3, 5]
    assert table["reason"].tolist() == ["", "empty box", "marked invalid"]
    assert "eye1_x" not in table


def test_a_picture_listed_twice_goes_on_counting(tmp_path):
    train_mat(tmp_path / "LabelTrainAll.mat", [("a.jpg", [EXAMPLE]), ("b.jpg", [EXAMPLE]), ("a.jpg", [GLASSES])])
    assert validate(read_mafa(tmp_path))["face"].tolist() == [0, 0, 1]


def test_errors_name_the_file_and_what_was_expected(tmp_path, train):
    with pytest.raises(ValueError, match="expected 'train' or 'test', got 'val'"):
        read_mafa(train, "val")
    with pytest.raises(FileNotFoundError, match=r"no MAFA-Label-Test/LabelTestAll\.mat in it"):
        read_mafa(train, "test")
    path = tmp_path / "flat" / "LabelTrainAll.mat"
    write_test_mat(path, [("test_00000001.jpg", [[0] * 18])])
    with pytest.raises(ValueError, match=r"LabelTrainAll.mat: has no array 'label_train'; it holds 'LabelTest'"):
        read_mafa(path.parent)
    savemat(path, {"label_train": np.zeros((1, 3))})
    with pytest.raises(ValueError, match=r"LabelTrainAll.mat: label_train is no list of names"):
        read_mafa(path.parent)
    array = np.empty((1, 1), [("orgImgName", object), ("imgName", object), ("label", object)])
    array[0, 0] = ("o", "train_00000001.jpg", np.zeros((2, 18), np.int16))
    savemat(path, {"label_train": array})
    with pytest.raises(ValueError, match=r"train_00000001\.jpg has rows of 18 numbers, expected 21"):
        read_mafa(path.parent)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_a_damaged_label_file_is_refused_by_name(train, share):
    path = train / "MAFA-Label-Train" / "LabelTrainAll.mat"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"LabelTrainAll\.mat"):
        read_mafa(train)


def test_published_counts():
    assert PUBLISHED["train"] == {"images": 25_876, "faces": 29_452, "under_60px": 4_802}
    assert PUBLISHED["test"] == {"images": 4_935, "faces": 10_005}


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_names_may_be_nested_deeper(tmp_path, touch_picture, depth):
    name = "train_00000001.jpg"
    for _ in range(depth):  # a cell in a cell
        cell = np.empty((1, 1), object)
        cell[0, 0] = name
        name = cell
    train_mat(tmp_path / "LabelTrainAll.mat", [(name, [EXAMPLE])])
    touch_picture("images/train_00000001.jpg")
    assert read_mafa(tmp_path)[["image", "reason"]].to_numpy().tolist() == [["images/train_00000001.jpg", ""]]


def test_nan_in_labels_saved_as_floats_is_unknown(tmp_path):
    rows = np.array([EXAMPLE, EXAMPLE], float)
    rows[0, 12] = np.nan  # occluder type
    array = np.empty((1, 1), [("orgImgName", object), ("imgName", object), ("label", object)])
    array[0, 0] = ("o.jpg", "a.jpg", rows)
    savemat(tmp_path / "LabelTrainAll.mat", {"label_train": array})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = read_mafa(tmp_path)
    assert table["occluder_type"].tolist() == [-1, 1]
    assert funnel(table, paper_steps())[0]["stage2"].sum() == 1


def test_the_papers_funnel_on_a_small_release(tmp_path):
    """Oracle: counted by hand. Columns 12, 13 and 16 are type, degree and orientation."""

    def changed(**values):
        row = list(EXAMPLE)
        for column, value in values.items():
            row[int(column[1:])] = value
        return row

    entries = [
        ("1.jpg", [EXAMPLE, changed(c2=59, c3=59), changed(c2=60, c3=60), changed(c2=60, c3=59)]),
        ("2.jpg", [changed(c12=2), changed(c12=3), changed(c12=-1), changed(c13=2), changed(c13=4), changed(c13=-1)]),
        ("3.jpg", [changed(c16=k) for k in (1, 2, 3, 4, 5, -1)]),
    ]
    train_mat(tmp_path / "LabelTrainAll.mat", entries)
    table = read_mafa(tmp_path)
    assert (table["image"].nunique(), len(table), int((table["h"] < 60).sum())) == (3, 16, 2)
    marked, counts = funnel(table, paper_steps())
    assert counts["kept"].tolist() == [16, 13, 11, 9, 6]
    assert marked.loc[marked["stage2"], ["occluder_type", "occlusion_degree", "orientation"]].to_numpy().min(
        0
    ).tolist() == [1, 3, 2]


def test_names_that_leave_the_root_are_not_followed(tmp_path, touch_picture):
    root = tmp_path / "root"
    outside = touch_picture("outside.jpg")
    names = ["../../../outside.jpg", str(outside), "a/../../../../outside.jpg", "C:\\x.jpg", "x" * 300, "a\0b.jpg"]
    train_mat(root / "LabelTrainAll.mat", [(name, [EXAMPLE]) for name in names])
    (root / "train-images" / "images" / "a").mkdir(parents=True)
    reasons = read_mafa(root, sizes=True)["reason"].tolist()
    assert reasons == ["path leaves the data set"] * 4 + ["picture missing"] * 2


def test_boxes_beyond_the_picture_are_known_with_its_size(tmp_path, touch_picture):
    beyond, partly, before = list(EXAMPLE), list(EXAMPLE), list(EXAMPLE)
    beyond[:2], partly[:2], before[:2] = (300, 5), (299, 5), (-185, 5)
    train_mat(tmp_path / "LabelTrainAll.mat", [("a.jpg", [beyond, partly, before]), ("b.jpg", [EXAMPLE])])
    touch_picture("train-images/a.jpg", (300, 200))
    touch_picture("train-images/b.jpg").write_bytes(b"no picture")
    outside = "box outside the picture"
    assert read_mafa(tmp_path)["reason"].tolist() == ["", "", outside, ""]
    assert read_mafa(tmp_path, sizes=True)["reason"].tolist() == [
        outside, "", outside, "picture is no picture that can be read"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "reason"),
    [(np.inf, "box out of range"), (-np.inf, "box out of range"), (1e300, "box out of range"), (np.nan, "empty box")],
)
def test_numbers_that_are_no_pixels_have_a_reason(tmp_path, touch_picture, value, reason):
    rows = np.array([EXAMPLE], float)
    rows[0, 2] = value
    array = np.empty((1, 1), [("orgImgName", object), ("imgName", object), ("label", object)])
    array[0, 0] = ("o.jpg", "a.jpg", rows)
    savemat(tmp_path / "LabelTrainAll.mat", {"label_train": array})
    touch_picture("a.jpg")
    assert read_mafa(tmp_path)["reason"].tolist() == [reason]


@pytest.mark.parametrize("label", ["text", np.ones((1, 21), complex), np.zeros((2, 3, 21)), np.zeros((1, 20))])
def test_labels_that_are_no_rows_are_refused_by_name(tmp_path, label):
    array = np.empty((1, 1), [("orgImgName", object), ("imgName", object), ("label", object)])
    array[0, 0] = ("o.jpg", "a.jpg", label)
    savemat(tmp_path / "LabelTrainAll.mat", {"label_train": array})
    with pytest.raises(ValueError, match=r"LabelTrainAll\.mat: (entry 1 of label_train|a\.jpg has rows of|.*complex)"):
        read_mafa(tmp_path)
