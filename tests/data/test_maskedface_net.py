"""CMFD and IMFD: ids, suffixes that name what is covered, folders of a thousand or flat."""

import pytest

from lib.data.maskedface_net import PUBLISHED, WEAR_TYPES, read_maskedface_net
from lib.data.table import validate


@pytest.mark.parametrize("root", ["", "CMFD"])
def test_cmfd_in_folders_of_a_thousand(tmp_path, touch_picture, root):
    paths = [touch_picture(f"CMFD/{name}_Mask.jpg") for name in ("00000/00001", "41000/41192")]
    touch_picture("IMFD/47000/47855_Mask_Chin.jpg")
    table = validate(read_maskedface_net(tmp_path / root))
    assert [tmp_path / root / image for image in table["image"]] == paths
    assert table["identity"].tolist() == ["00001", "41192"]
    assert (table["wear_type"] == "Mask").all()
    assert (table["reason"] == "").all()


def test_imfd_suffixes_tell_what_stays_uncovered(tmp_path, touch_picture):
    for k, suffix in enumerate(("Mask_Chin", "Mask_Mouth_Chin", "Mask_Nose_Mouth")):
        touch_picture(f"IMFD/47000/4700{k}_{suffix}.jpg")
    table = read_maskedface_net(tmp_path, "IMFD")
    assert [WEAR_TYPES[wear] for wear in table["wear_type"]] == ["nose and mouth", "nose", "chin"]
    assert (table["reason"] == "").all()


def test_flat_copies_are_read(tmp_path, touch_picture):
    touch_picture("41192_Mask.jpg")
    touch_picture("00003_Mask.JPG")
    assert read_maskedface_net(tmp_path)["identity"].tolist() == ["00003", "41192"]


def test_what_does_not_belong_keeps_its_row_with_a_reason(tmp_path, touch_picture):
    names = [
        "00001_Mask",
        "00002_Mask_Chin",
        "1234_Mask",
        "00004",
        "00005_Mask_Ear",
        "00006_mask",
        "000071_Mask",
        "IMG_2",
    ]
    for name in names:
        touch_picture(f"CMFD/00000/{name}.jpg")
    table = validate(read_maskedface_net(tmp_path))
    reasons = {image.split("/")[-1][:-4]: reason for image, reason in zip(table["image"], table["reason"])}
    assert set(reasons) == set(names)
    assert reasons.pop("00001_Mask") == ""
    assert reasons.pop("00002_Mask_Chin") == "Mask_Chin does not belong into CMFD"
    assert set(reasons.values()) == {"name is not like 41192_Mask.jpg"}


def test_a_second_copy_of_a_picture_is_not_used_twice(tmp_path, touch_picture):
    touch_picture("CMFD/00001_Mask.jpg")
    touch_picture("CMFD/00000/00001_Mask.jpg")
    assert sorted(reason != "" for reason in read_maskedface_net(tmp_path)["reason"]) == [False, True]


def test_errors_name_the_folder(tmp_path):
    with pytest.raises(ValueError, match="expected 'CMFD' or 'IMFD', got 'XMFD'"):
        read_maskedface_net(tmp_path, "XMFD")
    with pytest.raises(FileNotFoundError, match="gone"):
        read_maskedface_net(tmp_path / "gone")
    (tmp_path / "CMFD").mkdir()
    with pytest.raises(ValueError, match="CMFD: no pictures in it"):
        read_maskedface_net(tmp_path)
    assert PUBLISHED == {"CMFD": 67_049, "IMFD": 66_734}


def test_ids_beyond_ffhqs_have_a_reason(tmp_path, touch_picture):
    for name in ("69999_Mask.jpg", "70000_Mask.jpg", "٠٠٠٠١_Mask.jpg"):
        touch_picture(f"CMFD/{name}")
    assert read_maskedface_net(tmp_path)["reason"].tolist() == [
        "", "FFHQ has no face 70000", "name is not like 41192_Mask.jpg"
    ]  # fmt: skip
