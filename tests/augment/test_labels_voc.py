"""What VOC files of augmented sets hold."""

import xml.etree.ElementTree as ET

import numpy as np
from PIL import Image

from lib.augment.labels import write_labels
from lib.data.boxes import box_table
from lib.data.detection import read_detection

REGION = np.zeros((30, 40), np.uint8)
REGION[5:9, 6:12] = 255
REGION[6, 8] = 0
MASK = {"mask_x": 6, "mask_y": 5, "mask_w": 6, "mask_h": 4}

SOURCE = """<?xml version="1.0" encoding="ISO-8859-1"?>
<annotation verified="yes"><folder>lies</folder><filename>old.jpg</filename><path>/else/old.jpg</path>
<source><database>M\xfcll &lt;&amp;</database></source><segmented>0</segmented><!-- by hand -->
<object><name>without_mask</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>007</xmin><ymin>2.50</ymin><xmax>20</xmax><ymax>1e1</ymax></bndbox><part><name>eye</name></part></object>
<object><bndbox><xmin>1</xmin></bndbox></object>
<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object>
</annotation>"""


def test_only_class_name_and_mask_change(tmp_path):
    (tmp_path / "in" / "Annotations").mkdir(parents=True)
    (tmp_path / "in" / "JPEGImages").mkdir()
    (tmp_path / "in" / "Annotations" / "a.xml").write_bytes(SOURCE.encode("latin-1"))
    Image.new("L", (40, 30)).save(tmp_path / "in" / "JPEGImages" / "a.jpg")
    table, _ = read_detection(tmp_path / "in")
    assert table["label"].tolist() == ["without_mask", "", "dog"]
    table = table.assign(image="JPEGImages/a.png", label=["face_mask", "", "dog"])
    for name, value in MASK.items():
        table[name] = [value, np.nan, np.nan]
    (path,) = write_labels("voc", tmp_path / "out", table, lambda row: REGION, tmp_path / "in")
    assert path == tmp_path / "out" / "Annotations" / "a.xml"
    root = ET.fromstring(path.read_text(encoding="utf-8"))
    assert root.attrib == {"verified": "yes"}
    assert "<!-- by hand -->" in path.read_text(encoding="utf-8")
    assert {name: root.findtext(name) for name in ("folder", "filename", "path", "source/database")} == {
        "folder": "lies", "filename": "a.png", "path": "/else/old.jpg", "source/database": "Müll <&"}  # fmt: skip
    assert [root.findtext(f"size/{side}") for side in ("width", "height")] == ["40", "30"]  # was missing
    face, none, dog = root.findall("object")
    assert [face.findtext(n) for n in ("name", "pose", "truncated", "part/name")] == ["face_mask", "Left", "1", "eye"]
    assert [corner.text for corner in face.find("bndbox")] == ["007", "2.50", "20", "1e1"]
    assert [corner.text for corner in face.find("mask/bndbox")] == ["7", "6", "12", "9"]
    outer, hole = face.findall("mask/polygon")
    assert hole.attrib == {"hole": "1"}
    corners = {(int(point.findtext("x")), int(point.findtext("y"))) for point in outer.findall("pt")}
    assert corners == {(6, 5), (12, 5), (12, 9), (6, 9)}
    assert none.find("name") is None
    assert dog.find("mask") is None


def test_files_of_its_own(tmp_path):
    rows = [{"image": "deep/ü\x01.png", "width": 40, "height": 30, "x": 0, "y": 1.25, "w": 9, "h": 8, "label": "<face>",
             "reason": "marked invalid"}, {"image": "deep/ü\x01.png", "label": "", "reason": "no face in the picture"},
            {"image": "b.png", "label": "", "reason": "no face in the picture"}]  # fmt: skip
    paths = write_labels("voc", tmp_path, box_table(rows), lambda row: None)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "Annotations/deep/ü\x01.xml",
        "Annotations/b.xml",
    ]
    root = ET.fromstring(paths[0].read_text(encoding="utf-8"))
    assert root.findtext("filename") == "ü\ufffd.png"  # XML has no place for the other
    (item,) = root.findall("object")
    assert [item.findtext(name) for name in ("name", "difficult")] == ["<face>", "1"]
    assert [corner.text for corner in item.find("bndbox")] == ["1", "2.25", "9", "9.25"]
    assert ET.fromstring(paths[1].read_text()).find("object") is None
