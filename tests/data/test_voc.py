"""VOC's XML files in the layouts that are about, and what must not be believed in them."""

import pytest

from lib.data.table import validate
from lib.data.voc import parse_voc, read_voc


@pytest.fixture
def voc(tmp_path):
    """voc(name, objects, head): an XML file under tmp_path; objects are (label, xmin, ymin, xmax, ymax)."""

    def write(name, objects=(), head="<filename>a.png</filename><size><width>40</width><height>30</height></size>"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        corners = ("xmin", "ymin", "xmax", "ymax")
        items = []
        for label, *values in objects:
            box = "".join(f"<{corner}>{value}</{corner}>" for corner, value in zip(corners, values))
            items.append(f"<object><name>{label}</name><bndbox>{box}</bndbox></object>")
        path.write_text(f"<annotation>{head}{''.join(items)}</annotation>")
        return path

    return write


def test_pixels_count_from_1_and_the_last_belongs_to_the_box(voc, touch_picture, tmp_path):
    touch_picture("JPEGImages/a.jpg", (40, 30))
    voc("Annotations/a.xml", [("face", 1, 1, 1, 1), ("with_mask", "2.5", 3, 11.25, 30), ("x", 0, 0, 40, 30)])
    table = validate(read_voc(tmp_path))
    assert table[["x", "y", "w", "h"]].to_numpy().tolist() == [[0, 0, 1, 1], [1.5, 2, 9.75, 28], [-1, -1, 41, 31]]
    assert table["label"].tolist() == ["face", "with_mask", "x"]
    assert table["reason"].tolist() == ["", "", ""]
    assert table["face"].tolist() == table["label_entry"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("xml", "picture"),
    [("Annotations/a.xml", "JPEGImages/a.jpg"), ("annotations/a.xml", "images/a.png"), ("a.xml", "a.png"),
     ("annotations/train/a.xml", "images/train/a.PNG"), ("VOC2007/Annotations/a.xml", "VOC2007/JPEGImages/a.jpeg"),
     ("labels/a.xml", "a.bmp"), ("xml/sub/a.xml", "images/sub/a.jpg"), ("annotations/b.xml", "images/a.png"),
     ("train/annotations/a.xml", "train/images/a.png")],
)  # fmt: skip
def test_layouts(voc, touch_picture, tmp_path, xml, picture):
    voc(xml, [("face", 1, 2, 3, 4)])
    touch_picture(picture, (40, 30))
    table = read_voc(tmp_path)
    assert table["image"].tolist() == [picture]
    assert table["reason"].tolist() == [""]
    assert table["split"].tolist() == ["train" if "train" in xml else ""]


def test_folder_path_and_filename_are_not_believed(voc, touch_picture, tmp_path):
    for name in ("a", "b", "c"):
        touch_picture(f"images/{name}.png", (40, 30))
    (tmp_path.parent / "secret.png").touch()
    voc("annotations/a.xml", head="<folder>elsewhere</folder><path>/else/a.png</path><filename>b.png</filename>")
    voc("annotations/b.xml", head="")
    voc("annotations/z.xml", head="<filename>../../secret.png</filename>")
    voc("annotations/y.xml", head="<filename>..\\c.png</filename>")
    table = read_voc(tmp_path).set_index("label_file")
    assert table["image"].tolist()[:2] == ["images/a.png", "images/b.png"]
    assert table["reason"].tolist() == ["no face in the picture"] * 2 + ["path leaves the data set"] * 2


def test_two_files_of_one_picture(voc, touch_picture, tmp_path):
    touch_picture("images/a.png", (40, 30))
    voc("annotations/a.xml", [("face", 1, 2, 3, 4)])
    voc("annotations/b.xml", [("face", 1, 2, 3, 4)])
    table = validate(read_voc(tmp_path))
    assert table["reason"].tolist() == ["", "picture listed again"]
    assert table["face"].tolist() == [0, 1]


def test_what_is_missing_in_an_object(voc, touch_picture, tmp_path):
    touch_picture("a.png", (40, 30))
    inner = ("<object/>", "<object><bndbox><xmin>5</xmin></bndbox></object>",
             "<object><name> face </name><difficult>1</difficult><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>1</xmax>"
             "<ymax>9</ymax></bndbox></object>")  # fmt: skip
    voc("a.xml", head="".join(inner))
    table = validate(read_voc(tmp_path))
    assert table["reason"].tolist() == ["box is no four numbers"] * 2 + ["empty box"]
    assert table["label"].tolist() == ["", "", "face"]
    assert table["difficult"].tolist() == [0, 0, 1]
    assert table[["width", "height"]].to_numpy().tolist() == [[40, 30]] * 3  # of the picture


BOMB = """<?xml version="1.0"?>
<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&b;</filename></annotation>"""
FETCH = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'


@pytest.mark.parametrize(
    ("content", "words"),
    [(BOMB, "DOCTYPE"), (FETCH, "DOCTYPE"), ("<annotation>\n<object>", "line 2"), ("", "line 1"),
     ('<?xml version="1.0" encoding="klingon"?><annotation/>', "klingon"),
     ("<annotation>" + "<a>" * 100_000, "within one another"), ("<annotation>&x;</annotation>", "undefined entity")],
)  # fmt: skip
def test_a_damaged_file_costs_only_its_picture(voc, touch_picture, tmp_path, content, words):
    for name in ("a.png", "b.png"):
        touch_picture(name, (40, 30))
    (tmp_path / "a.xml").write_text(content)
    voc("b.xml", [("face", 1, 2, 3, 4)])
    table = validate(read_voc(tmp_path))
    assert table["image"].tolist() == ["a.png", "b.png"]
    assert table["reason"].iloc[0].startswith("label file is damaged, line ")
    (tmp_path / "a.png").unlink()
    assert read_voc(tmp_path)["reason"].iloc[0] == table["reason"].iloc[0], "not that no picture was found for it"
    assert words in table["reason"].iloc[0]
    assert table["reason"].iloc[1] == ""
    with pytest.raises(ValueError, match=words) as caught:
        parse_voc(tmp_path / "a.xml")
    assert f"{tmp_path / 'a.xml'}, line " in str(caught.value)


def test_splits_come_from_the_sets_lists(voc, touch_picture, tmp_path):
    for name in ("1", "2", "3"):
        voc(f"VOC2007/Annotations/{name}.xml")
    lists = tmp_path / "VOC2007" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("1\n")
    (lists / "val.txt").write_text("2 1\n")
    assert read_voc(tmp_path)["split"].tolist() == ["train", "val", ""]


def test_pictures_may_lie_elsewhere(voc, touch_picture, tmp_path):
    touch_picture("pictures/sub/a.png", (40, 30))
    voc("labels/voc/Annotations/sub/a.xml", [("face", 1, 2, 3, 4)])
    table = read_voc(tmp_path / "labels" / "voc", tmp_path / "pictures")
    assert table["image"].tolist() == ["sub/a.png"]
    assert table["reason"].tolist() == [""]


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \.xml files"):
        read_voc(tmp_path)
    (tmp_path / "pom.xml").write_text("<project/>")
    with pytest.raises(FileNotFoundError, match="none of its"):
        read_voc(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone"):
        read_voc(tmp_path / "gone")
