"""What COCO files of augmented sets hold."""

import json
import math

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from lib.augment.labels import write_labels
from lib.data.boxes import box_table
from lib.data.detection import read_detection

REGION = np.zeros((30, 40), np.uint8)
REGION[5:9, 6:12] = 255
MASK = {"mask_x": 6, "mask_y": 5, "mask_w": 6, "mask_h": 4}


@pytest.fixture
def source(tmp_path):
    """A file with what must survive: other fields, classes, ids that come twice."""
    content = {
        "info": {"description": "é"},
        "licenses": [{"id": 1}],
        "images": [{"id": 8, "file_name": "a.jpg", "license": 1, "width": 40, "height": 30},
                   {"id": 5, "file_name": "b.jpg", "flickr_url": "x"}],
        "annotations": [
            {"id": 70, "image_id": 5, "category_id": 3, "bbox": [1, 2.5, 3, 4], "area": 11, "iscrowd": 1},
            {"id": 70, "image_id": 8, "category_id": 3, "bbox": ["1", 2, 30, 20], "keypoints": [1, 2, 2]},
            {"image_id": 8, "category_id": 9, "bbox": [0, 0, 5, 5], "segmentation": [[0, 0, 5, 0, 5, 5]]},
            {"id": 71, "image_id": 99, "category_id": 3, "bbox": [0, 0, 1, 1]},
        ],
        "categories": [{"id": 3, "name": "without_mask"}, {"id": 9, "name": "person", "supercategory": "animal"}],
    }  # fmt: skip
    for name in ("a", "b"):
        (tmp_path / "in" / "images").mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 30)).save(tmp_path / "in" / "images" / f"{name}.jpg")
    path = tmp_path / "in" / "annotations" / "a.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return path


def test_only_class_name_and_mask_change(source, tmp_path):
    before = json.loads(source.read_text())
    table, _ = read_detection(source)
    table["image"] = table["image"].str.replace("jpg", "png")
    first = table["label_entry"] == 1
    table.loc[first, "label"] = "face_mask"
    table = table.assign(**{name: np.where(first, value, math.nan) for name, value in MASK.items()})
    (path,) = write_labels("coco", tmp_path / "out", table, lambda row: REGION, source)
    after = json.loads(path.read_text())
    assert after["info"] == before["info"]
    assert after["licenses"] == before["licenses"]
    assert after["categories"] == [*before["categories"], {"id": 10, "name": "face_mask", "supercategory": "face"}]
    images = [image | {"file_name": f"images/{image['file_name'][0]}.png"} for image in before["images"]]
    images[1] |= {"width": 40, "height": 30}  # were missing
    assert after["images"] == images
    crowd, masked, person = after["annotations"]  # the one without a picture is not written
    assert crowd == before["annotations"][0]
    assert person == before["annotations"][2] | {"id": 73}
    rle = masked.pop("mask_segmentation")
    assert masked == before["annotations"][1] | {"id": 72, "category_id": 10, "mask_bbox": [6, 5, 6, 4]}
    assert rle["size"] == [30, 40]


def test_a_file_of_its_own_is_read_by_pycocotools(tmp_path, capsys):
    row = {"image": "s/a.png", "width": 40, "height": 30, "y": 2, "w": 9.25, "h": 8, "label": "face"}
    rows = [row | {"x": 1, "reason": "marked as a crowd"}, row | {"x": 2.5, "label": "face_mask"} | MASK,
            {"image": "b.png", "width": 5, "height": 6, "reason": "no face in the picture"}]  # fmt: skip
    (path,) = write_labels("coco", tmp_path, box_table(rows), lambda row: REGION)
    assert path == tmp_path / "annotations" / "instances.json"
    coco = COCO(path)
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["s/a.png", "b.png"]
    first, second = coco.loadAnns(coco.getAnnIds())
    assert (first["iscrowd"], second["iscrowd"], second["bbox"], second["area"]) == (1, 0, [2.5, 2, 9.25, 8], 74)
    assert [coco.cats[a["category_id"]]["name"] for a in (first, second)] == ["face", "face_mask"]
    np.testing.assert_array_equal(
        coco.annToMask({"segmentation": second["mask_segmentation"], "image_id": 1}), REGION > 0
    )
    assert "mask_bbox" not in first
    capsys.readouterr()


def test_a_file_for_each_split(tmp_path):
    rows = [{"image": f"{k}.png", "split": split} for k, split in enumerate(("train", "val", "../x"))]
    paths = write_labels("coco", tmp_path, box_table(rows).assign(label=""), lambda row: None)
    assert [path.name for path in paths] == ["instances_train.json", "instances_val.json", "instances_.._x.json"]
