"""The RMFD family: people by folder, masked or not."""

import pytest

from lib.data.rmfd import CLAIMED_MASKED, PUBLISHED, read_rmfd
from lib.data.table import validate

OUTER = "self-built-masked-face-recognition-dataset"


@pytest.fixture
def rmfrd(tmp_path, touch_picture):
    for name in (
        "face_dataset/aidai/0_0_aidai_0014.jpg",
        "face_dataset/bao/1.jpg",
        "masked_face_dataset/aidai/0_0_1.jpg",
    ):
        touch_picture(f"{OUTER}/AFDB_{name}")
    return tmp_path


def test_a_person_is_the_same_with_and_without_mask(rmfrd):
    table = validate(read_rmfd(rmfrd))
    assert table[["identity", "masked"]].to_numpy().tolist() == [["aidai", 0], ["bao", 0], ["aidai", 1]]
    assert table["image"][2] == f"{OUTER}/AFDB_masked_face_dataset/aidai/0_0_1.jpg"
    assert (table["reason"] == "").all()
    assert read_rmfd(rmfrd / OUTER)["identity"].tolist() == ["aidai", "bao", "aidai"]


def test_pictures_of_nobody_keep_their_row(rmfrd, touch_picture):
    touch_picture(f"{OUTER}/AFDB_face_dataset/loose.jpg")
    touch_picture(f"{OUTER}/AFDB_face_dataset/a/b/deep.jpg")
    table = read_rmfd(rmfrd)
    assert len(table) == 5
    assert table.loc[table["reason"] != "", "identity"].tolist() == ["", ""]
    assert set(table["reason"]) == {"", "not in a person's folder"}


def test_rwmfd_numbers_mean_another_person_in_another_part(tmp_path, touch_picture):
    for part in (1, 2):
        touch_picture(f"RWMFD_part_{part}/0000/0001.jpg")
    touch_picture("RWMFD_part_1/loose.jpg")
    table = validate(read_rmfd(tmp_path, "RWMFD"))
    assert table["identity"].tolist() == ["RWMFD_part_1/0000", "", "RWMFD_part_2/0000"]
    assert read_rmfd(tmp_path / "RWMFD_part_2", "RWMFD")["identity"].tolist() == ["RWMFD_part_2/0000"]
    assert table["masked"].eq(-1).all()


def test_smfrd_is_masked(tmp_path, touch_picture):
    touch_picture("SMFRD/webface/0000045/001.jpg")
    table = read_rmfd(tmp_path, "SMFRD")
    assert table[["identity", "masked"]].to_numpy().tolist() == [["SMFRD/webface/0000045", 1]]
    assert read_rmfd(tmp_path / "SMFRD", "SMFRD")["identity"].tolist() == ["SMFRD/webface/0000045"]


def test_errors_name_the_folder(tmp_path):
    with pytest.raises(ValueError, match="expected RMFRD, RWMFD, SMFRD, got 'RMFD'"):
        read_rmfd(tmp_path, "RMFD")
    for kind, folder in (("RMFRD", f"{OUTER}/AFDB_face_dataset"), ("RWMFD", "RWMFD_part_1"), ("SMFRD", "SMFRD")):
        with pytest.raises(FileNotFoundError, match=f"no {folder} in it"):
            read_rmfd(tmp_path, kind)
    (tmp_path / "SMFRD").mkdir()
    with pytest.raises(ValueError, match="no pictures in SMFRD"):
        read_rmfd(tmp_path, "SMFRD")
    assert (PUBLISHED["RMFRD"]["masked"], CLAIMED_MASKED) == (2_203, 5_000)
