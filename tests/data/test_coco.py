"""COCO's JSON and what exports make of it."""

import json
import time

import pytest
from PIL import Image

from lib.data.coco import coco_root, find_coco, read_coco
from lib.data.table import validate


@pytest.fixture
def coco(tmp_path):
    """coco(images, annotations, categories, name): the file under tmp_path."""

    def write(images, annotations=(), categories=({"id": 1, "name": "face"},), name="annotations/a.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"images": images, "annotations": list(annotations), "categories": list(categories)}
        path.write_text(json.dumps(content))
        return path

    return write


def image(identity=1, name="a.png", **more):
    return {"id": identity, "file_name": name, "width": 40, "height": 30} | more


def box(identity=1, picture=1, bbox=(1, 2, 3, 4), category=1, **more):
    return {"id": identity, "image_id": picture, "bbox": list(bbox), "category_id": category} | more


def test_pictures_with_and_without_annotations(coco, touch_picture):
    for name in ("a.png", "b.png"):
        touch_picture(f"images/{name}", (40, 30))
    path = coco([image(), image(2, "b.png"), image(3, "c.png")], [box(9), box(5, 9), box(7, 1, (5.5, 6, 7, 8.25))])
    table = validate(read_coco(path))
    assert table["image"].tolist() == ["images/a.png", "images/a.png", "images/b.png", "c.png", "(id 9)"]
    assert table["reason"].tolist() == ["", "", "no face in the picture", "picture missing",
                                        "annotation of a picture that is not listed"]  # fmt: skip
    assert table["label_entry"].tolist() == [0, 2, -1, -1, 1]
    assert table.loc[1, ["x", "y", "w", "h", "face"]].tolist() == [5.5, 6, 7, 8.25, 1]


def test_ids_may_be_texts_or_come_twice(coco, touch_picture):
    touch_picture("a.png", (40, 30))
    touch_picture("b.png", (40, 30))
    path = coco([image("1"), image(1.0, "b.png")], [box(3, 1, category="1"), box(3, "1")])
    table = validate(read_coco(path))
    assert table["reason"].tolist() == ["", "", "image id listed again"]
    assert table["label"].tolist() == ["face", "face", ""]


def test_boxes_that_are_none_keep_their_row(coco, touch_picture):
    touch_picture("a.png", (40, 30))
    bad = [["1", "2", "3", "4"], [1, 2, 3], None, [1, 2, 3, "x"], [1, 2, 0, 4], [100, 2, 3, 4], [1, 2, float("nan"), 4]]
    annotations = [box(k, 1, ()) | {"bbox": value} for k, value in enumerate(bad)] + [
        box(20, iscrowd=1),
        {"image_id": 1},
    ]
    table = validate(read_coco(coco([image()], annotations)))
    none = "box is no four numbers"
    assert table["reason"].tolist() == ["", none, none, none, "empty box", "box outside the picture", none,
                                        "marked as a crowd", none]  # fmt: skip
    assert table["crowd"].tolist() == [0] * 7 + [1, 0]
    assert table["label"].iloc[-1] == ""


def test_a_category_nobody_names_is_its_number(coco, touch_picture):
    touch_picture("a.png", (40, 30))
    assert read_coco(coco([image()], [box(), box(2, category=8)]))["label"].tolist() == ["face", "8"]


@pytest.mark.parametrize("told", [{}, {"width": None}, {"width": 0, "height": 0}, {"width": "40", "height": "30"}])
def test_missing_sizes_come_from_the_picture(coco, touch_picture, told):
    touch_picture("a.png", (40, 30))
    table = read_coco(coco([{"id": 1, "file_name": "a.png"} | told], [box()]))
    assert table[["width", "height"]].to_numpy().tolist() == [[40, 30]]


def test_names_with_folders_and_backslashes(coco, touch_picture, tmp_path):
    touch_picture("deep/er/a.png")
    touch_picture("images/deep/b.png")
    touch_picture("train2017/c.png")
    outside = tmp_path.parent / "outside.png"
    outside.touch()
    names = ["deep\\er\\a.png", "deep/b.png", "c.png", "../outside.png", str(outside), "C:\\x.png"]
    path = coco([image(k, name) for k, name in enumerate(names)], name="annotations/instances_train2017.json")
    table = read_coco(path)
    assert table["image"].tolist()[:3] == ["deep/er/a.png", "images/deep/b.png", "train2017/c.png"]
    assert set(table["reason"][3:]) == {"path leaves the data set"}
    assert set(table["split"]) == {"train"}


def test_the_root_may_be_named(coco, touch_picture, tmp_path):
    touch_picture("elsewhere/a.png", (40, 30))
    path = coco([image()], [box()])
    assert read_coco(path, tmp_path / "elsewhere")["reason"].tolist() == [""]
    assert read_coco(path)["reason"].tolist() == ["picture missing"]
    assert (coco_root(path), coco_root(path, "x").name) == (tmp_path, "x")


def test_a_picture_without_a_name_costs_its_row_only(tmp_path):
    Image.new("L", (40, 30)).save(tmp_path / "a.png")
    images = [{"id": 1, "file_name": ""}, {"id": 2, "file_name": "a.png"}, {"id": 3, "file_name": " "}]
    entries = [{"image_id": k, "bbox": [1, 2, 3, 4]} for k in (1, 2)]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": entries}))
    table = read_coco(tmp_path / "a.json")
    empty = "its file_name is empty"
    assert table[["image", "reason"]].values.tolist() == [["(id 1)", empty], ["a.png", ""], ["(id 3)", empty]]


@pytest.mark.parametrize(
    ("content", "words"),
    [("[]", "not laid out like COCO"), ("{", "not valid JSON"), ('{"images": {}}', "images must be a list"),
     ('{"images": [{"id": 1}]}', r"images\[0\] needs file_name"), ('{"images": [5]}', r"images\[0\] needs id"),
     ('{"images": [], "annotations": [{"id": 1}]}', r"annotations\[0\] needs image_id"),
     ('{"images": [], "categories": [{"id": 1, "name": 3}]}', "needs name, a text"),
     ('{"images": [], "annotations": [{"image_id": 1, "category_id": []}]}', "has the category_id")],
)  # fmt: skip
def test_another_layout_is_told_by_file_and_entry(tmp_path, content, words):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_coco(path)
    assert str(path) in str(caught.value)
    with pytest.raises(FileNotFoundError, match="gone"):
        read_coco(tmp_path / "gone.json")


def test_coco_files_are_found_among_others(coco, tmp_path):
    (tmp_path / "package.json").write_text('{"name": "x"}')
    mine = [coco([image()], name=name) for name in ("annotations/a.json", "top.json", "train/_annotations.coco.json")]
    assert find_coco(tmp_path) == sorted(mine)
    instances = coco([image()], name="annotations/instances_val2017.json")
    assert find_coco(tmp_path) == [instances]


def test_a_large_file_takes_linear_time(coco):
    """20,000 pictures and 100,000 boxes; a search for each picture would take hours."""
    annotations = [box(k, k % 20_000) for k in range(100_000)]
    path = coco([image(k, f"{k}.png") for k in range(20_000)], annotations)
    start = time.process_time()
    assert len(read_coco(path)) == 100_000
    assert time.process_time() - start < 20  # it takes 1.5
