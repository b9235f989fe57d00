"""Rendered people and scenes are laid out as their readers expect, and a changed pixel outside a region is found."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.data.detection import read_detection
from lib.data.faceworld import SetSpec, render_set
from lib.data.files import write_png
from lib.data.pairs import read_lfw, read_pairs
from lib.study.tool_demo import kept, labelled, mask_views, tree, write_people, write_scenes
from lib.warp.landmarks import read_landmarks


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    rendered = render_set(SetSpec("A", 6, 16, per_identity=2), folder / "cache", progress=False)
    return folder / "lfw", *write_people(rendered, folder / "lfw")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    rendered = render_set(SetSpec("scenes_A", 2, 32), folder / "cache", progress=False)
    return rendered, write_scenes(rendered, folder / "coco")


def test_people_are_read_as_lfw(people):
    root, pairs, _ = people
    table = read_lfw(root)
    assert not table["reason"].any()
    assert table["identity"].value_counts().to_dict() == {"Person_01": 2, "Person_02": 2, "Person_03": 2}
    told = read_pairs(pairs, root, "lfw")
    assert not told["reason"].any()
    assert told["same"].tolist() == [True] * 3 + [False] * 3


def test_every_picture_of_people_has_its_landmarks(people):
    root, _, landmarks = people
    table = read_landmarks(landmarks)
    assert sorted(table["image"]) == sorted(path.relative_to(root).as_posix() for path in root.glob("*/*.jpg"))
    assert table.notna().all(axis=None)


def test_scenes_are_read_as_coco_with_the_boxes_that_were_rendered(scenes):
    rendered, root = scenes
    table, pictures = read_detection(root)
    known = pd.read_csv(rendered / "faces.csv")
    assert pictures == root
    assert (table["label"] == "face").all()
    assert (table[["width", "height"]] == 32).all(axis=None)
    assert table["image"].tolist() == known["image"].str.replace("scenes/", "images/").tolist()
    np.testing.assert_array_equal(table[list("xywh")], known[list("xywh")])


def test_a_tree_tells_how_many_files_it_leaves_out(tmp_path):
    for name in ("a/1.txt", "a/2.txt", "a/3.txt", "b/4.txt", "5.txt", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert tree(tmp_path, shown=2) == "a/\n  1.txt\n  2.txt\n  … 1 more\nb/\n  4.txt\n5.txt"


def test_changes_outside_a_region_are_counted(tmp_path):
    before = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
    region, after = np.zeros((8, 9), np.uint8), before.copy()
    region[2:5, 3:6] = 7
    after[2:4, 3:6] += 1
    after[0, 0, 2] += 1
    for name, pixels in (("in/a.png", before), ("out/images/a.png", after), ("out/regions/a.png", region)):
        write_png(tmp_path / name, pixels)
    row = {"source": "a.png", "output": "images/a.png", "region": "regions/a.png"}
    manifest = pd.DataFrame([row, row, {"source": "b.png", "output": None, "region": None}])
    counted = kept(tmp_path / "in", tmp_path / "out", manifest)
    assert counted.to_numpy().tolist() == [["a.png", 63, 1, 6]]


def test_labels_are_drawn_where_the_boxes_are(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    boxes = {"image": ["a.png", "a.png", "b.png"], "x": 3.0, "y": 4.0, "w": 10.0, "h": 12.0}
    tables = {"one": pd.DataFrame(boxes | {"label": "face"}), "two": pd.DataFrame(boxes | {"label": "face_mask"})}
    fig = labelled(dict.fromkeys(tables, tmp_path), tables, ["a.png"])
    one, two = fig.axes
    assert [patch.get_bbox().bounds for patch in one.patches] == [(2.5, 3.5, 10.0, 12.0)] * 2
    assert one.patches[0].get_edgecolor() != two.patches[0].get_edgecolor()
    assert [text.get_text() for text in two.texts] == ["face_mask"] * 2


def test_the_views_of_a_mask_share_its_place():
    ring = np.array([[2, 3], [6, 3], [6, 8], [2, 8]])
    fig = mask_views(np.zeros((12, 12, 3), np.uint8), (1, 1, 8, 9), (2, 3, 4, 5), np.ones((12, 12)), ring)
    (polygon,) = fig.axes[2].patches
    assert polygon.get_xy()[:-1].tolist() == (ring - 0.5).tolist()
    assert "4 corners" in fig.axes[2].get_title()
