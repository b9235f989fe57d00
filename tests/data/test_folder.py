"""A plain folder is a data set too."""

import pytest

from lib.data.folder import read_folder
from lib.data.table import validate


@pytest.fixture
def root(tmp_path, touch_picture):
    for name in ("anna/1.jpg", "anna/2.JPG", "deep/bo b.x/3.png", "0.png", ".trash/4.png"):
        touch_picture(name)
    (tmp_path / "anna" / "notes.txt").write_text("")
    return tmp_path


def test_one_row_per_picture_without_boxes(root):
    table = validate(read_folder(root))
    assert table["image"].tolist() == ["0.png", "anna/1.jpg", "anna/2.JPG", "deep/bo b.x/3.png"]
    assert table["face"].eq(0).all()
    assert table[["x", "y", "w", "h"]].isna().all(axis=None)
    assert table["identity"].eq("").all()


def test_identity_from_the_parent_but_not_from_the_root(root, monkeypatch):
    assert read_folder(root, "parent")["identity"].tolist() == ["", "anna", "anna", "bo b.x"]
    monkeypatch.chdir(root)
    assert read_folder(".", "parent")["identity"].tolist() == ["", "anna", "anna", "bo b.x"]


def test_errors_name_the_folder(tmp_path, root):
    with pytest.raises(ValueError, match="expected None or 'parent', got 'name'"):
        read_folder(root, "name")
    with pytest.raises(FileNotFoundError, match="gone: no such folder"):
        read_folder(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no pictures in it"):
        read_folder(tmp_path / "empty")
