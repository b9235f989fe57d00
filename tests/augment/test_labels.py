"""Labels out as they came in: read, write, read again, for every format, and from each into the others."""

import contextlib
import json
import math
import os
import random
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib.augment.labels import write_labels
from lib.data.boxes import box_table
from lib.data.detection import FORMATS, face_classes, guess_format, labels_root, read_detection
from lib.data.table import BOX, validate

SIZE = (37, 23)  # width, height


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk():
    """Thousands of small files are written here; whether they outlive a power cut is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)
        yield


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", SIZE).save(path)


# ------------------------------------------------------------------------------- sets as people have them, with extras
value = st.one_of(st.integers(-9, 60), st.floats(-9, 60).map(lambda v: round(v, 5)), st.floats(-9, 60))
side = st.one_of(st.integers(0, 40), st.floats(0.001, 40))
label = st.sampled_from(["face", "without_mask", "with_mask", "person", "é人"])
faces = st.lists(st.tuples(value, value, side, side, label), max_size=3)
sets = st.lists(faces, min_size=1, max_size=4)


def coco_set(root, scenes, rng):
    names = ["person", "without_mask", "é人", "with_mask", "face"]
    annotations = [
        {"image_id": k, "bbox": list(box), "category_id": names.index(label), "keypoints": [1, 2, 2], "area": 7.5}
        for k, scene in enumerate(scenes) for *box, label in scene
    ]  # fmt: skip
    rng.shuffle(annotations)
    content = {
        "info": {"year": 2020}, "licenses": [{"id": 1, "name": "CC"}],
        "images": [{"id": k, "file_name": f"s/{k}.jpg", "license": 1} for k in range(len(scenes))],
        "annotations": [annotation | {"id": k} for k, annotation in enumerate(annotations)],
        "categories": [{"id": k, "name": name, "skeleton": [[1, 2]]} for k, name in enumerate(names)],
        "more": [None, 1e-7],
    }  # fmt: skip
    put(root / "annotations" / "instances_val.json", json.dumps(content))
    return [f"images/s/{k}.jpg" for k in range(len(scenes))]


def voc_set(root, scenes, rng):
    for k, scene in enumerate(scenes):
        items = "".join(
            f"<object><name>{label}</name><pose>Left</pose><truncated>1</truncated><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
            f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox><part><name>eye</name></part></object>"
            for x, y, w, h, label in scene
        )  # fmt: skip
        head = f"<folder>x</folder><filename>s{k}.jpg</filename><source><database>D &amp; é</database></source>"
        put(root / "Annotations" / f"s{k}.xml", f"<annotation>{head}{items}<!-- seen --></annotation>")
    return [f"JPEGImages/s{k}.jpg" for k in range(len(scenes))]


def yolo_set(root, scenes, rng):
    names = ["person", "without_mask", "é人", "with_mask", "face"]
    put(
        root / "data.yaml",
        f"path: ../x\nnc: 5\nnames: {json.dumps(names, ensure_ascii=False)}\nroboflow: {{version: 3}}\n",
    )
    for k, scene in enumerate(scenes):
        if scene or rng.random() < 0.5:
            lines = [f"{names.index(label)} {x / 37} {y / 23}  {w / 37} {h / 23} " for x, y, w, h, label in scene]
            put(root / "labels" / "train" / f"s{k}.txt", "\n".join(lines))
    return [f"images/train/s{k}.jpg" for k in range(len(scenes))]


def wider_set(root, scenes, rng):
    lines = []
    for k, scene in enumerate(scenes):
        rows = [f"{x} {y} {w} {h} 2 1 0 {rng.randrange(2)} 2 1 " for x, y, w, h, _ in scene]
        lines += [f"0--Parade/s{k}.jpg", str(len(scene)), *(rows or ["0 0 0 0 0 0 0 0 0 0 "])]
    put(root / "wider_face_split" / "wider_face_val_bbx_gt.txt", "".join(f"{line}\n" for line in lines))
    return [f"WIDER_val/images/0--Parade/s{k}.jpg" for k in range(len(scenes))]


def fddb_set(root, scenes, rng):
    for fold in (1, 2):
        lines = []
        for k, scene in list(enumerate(scenes))[fold - 1 :: 2]:
            rows = [f"{w + 0.5} {h + 0.5} {rng.uniform(-3, 3):.6f} {x} {y}  1" for x, y, w, h, _ in scene]
            lines += [f"2002/07/s{k}", str(len(scene)), *rows]
        put(root / "FDDB-folds" / f"FDDB-fold-{fold:02}-ellipseList.txt", "".join(f"{line}\n" for line in lines))
    # fold by fold
    return [f"2002/07/s{k}.jpg" for k in range(len(scenes))]


SETS = {"coco": coco_set, "voc": voc_set, "yolo": yolo_set, "wider": wider_set, "fddb": fddb_set}


@contextlib.contextmanager
def read_set(format, scenes, rng):
    """(root, its table, its pictures' root), pictures on disk."""
    with folder() as root:
        for name in SETS[format](root / "in", scenes, rng):
            picture(root / "in" / name)
        table, pictures = read_detection(root / "in", format)
        assert guess_format(root / "in") == format
        assert pictures == root / "in"
        validate(table)
        yield root, table


def as_png(root, table):
    """The pictures as an augmented set has them, and the table that names them."""
    table = table.copy()
    table["image"] = table["image"].str.replace(r"\.jpg$", ".png", regex=True)
    for name in table["image"].unique():
        picture(root / "out" / "images" / name)
    return table


def masked(table, rng):
    """Some faces get a mask: the export table and its regions."""
    table = table.assign(mask_x=math.nan, mask_y=math.nan, mask_w=math.nan, mask_h=math.nan)
    regions = {}
    classes = face_classes(table)
    table["label"] = classes.where(classes != "", table["label"])
    for k in table.index[(classes == "face") & (table["reason"] == "")]:
        if rng.random() < 0.6:
            x, y = rng.randrange(0, 20), rng.randrange(0, 12)
            region = np.zeros(SIZE[::-1], np.uint8)
            region[y : y + 9, x : x + 11] = 200
            region[y + 3, x + 3] = 100
            table.loc[k, ["mask_x", "mask_y", "mask_w", "mask_h"]] = [x, y, 11, 9]
            table.loc[k, "label"] = "face_mask"
            regions[table.loc[k, "image"], table.loc[k, "face"]] = region
    return table, lambda row: regions.get((row.image, row.face))


def write(format, root, table, region_of=lambda row: None, source=True, name="labels"):
    return write_labels(format, root / "out" / name / format, table, region_of, root / "in" if source else None)


def read_back(format, root, name="labels"):
    return read_detection(root / "out" / name / format, format, root / "out" / "images")[0]


SAME = [*BOX, "face", "label", "split", "reason", "label_file", "width", "height"]


@pytest.mark.parametrize("format", FORMATS)
@given(scenes=sets, rng=st.randoms(use_true_random=False))
def test_the_same_format_gives_the_same_boxes(format, scenes, rng):
    with read_set(format, scenes, rng) as (root, table):
        export = as_png(root, table)
        paths = write(format, root, export)
        back = validate(read_back(format, root))
        assert back["image"].tolist() == export["image"].tolist()
        columns = SAME
        if format == "fddb":  # its reader clips to the picture where it finds it beside the lists
            columns = [name for name in SAME if name not in BOX] + [
                name for name in table if name.startswith("ellipse")
            ]
        for name in columns:
            if name == "label_file" and format == "yolo":
                continue
            assert back[name].equals(table[name]), name
        before = {path: path.read_bytes() for path in paths}
        assert write(format, root, export) == paths
        assert {path: path.read_bytes() for path in paths} == before
        assert not list(root.rglob("*.tmp"))


@pytest.mark.parametrize("format", FORMATS)
@given(scenes=sets, rng=st.randoms(use_true_random=False))
def test_masks_leave_boxes_alone(format, scenes, rng):
    with read_set(format, scenes, rng) as (root, table):
        export, region_of = masked(as_png(root, table), rng)
        write(format, root, export, region_of)
        back = validate(read_back(format, root))
        for name in BOX if format != "fddb" else ["ellipse_major"] if "ellipse_major" in table else []:
            assert back[name].equals(table[name])
        if format in ("wider", "fddb"):  # line for line
            for path in (root / "in").rglob("*.txt"):
                copy = root / "out" / "labels" / format / path.relative_to(root / "in")
                assert not path.stat().st_size or copy.read_text() == path.read_text().replace(".jpg", ".png")
        else:
            assert back["label"].tolist() == export["label"].tolist()


def on_the_picture(table):
    """Boxes as YOLO can hold them: cut to the picture where the middle lies outside or the box is larger than it."""
    table = table.copy()
    low, sides, most = table[["x", "y"]].to_numpy(float), table[["w", "h"]].to_numpy(float), np.array(SIZE, float)
    middle, share = (low + sides / 2) / most, sides / most
    fits = ((middle >= 0) & (middle <= 1) & (share <= 1)).all(1)[:, None]
    start, end = low.clip(0, most), (low + sides).clip(0, most)
    table[["x", "y"]], table[["w", "h"]] = np.where(fits, low, start), np.where(fits, sides, end - start)
    return table[fits[:, 0] | ((end > start).all(1))]


@pytest.mark.parametrize("source", FORMATS)
@given(scenes=sets, rng=st.randoms(use_true_random=False), data=st.data())
def test_another_format_gives_the_boxes_within_its_rounding(source, scenes, rng, data):
    format = data.draw(st.sampled_from([format for format in FORMATS if format != source]))
    with read_set(source, scenes, rng) as (root, table):
        export, region_of = masked(as_png(root, table), rng)
        write(format, root, export, region_of)
        back = validate(read_back(format, root))
    # the table's faces as they were
    sized = (export["w"] > 0) & (export["h"] > 0)
    marked = export["reason"] == "marked invalid"
    kept = export[sized & ~(marked if format in ("yolo", "fddb") else False)]
    if format in ("wider", "fddb"):
        kept = kept[face_classes(kept) != ""]
    if format == "yolo":
        kept = on_the_picture(kept)
    found = back[back["label_entry"] >= 0]
    if kept.empty:
        assert found.empty
        return
    keys = ["image", "x", "y", "w", "h"]
    kept, found = (t.assign(order=range(len(t))).sort_values(["image", "order"], kind="stable") for t in (kept, found))
    assert kept["image"].tolist() == found["image"].tolist()
    # FDDB's half axes and centre, YOLO's shares, VOC's count from 1: a few units in the last place
    atol = {"coco": 0, "wider": 0}.get(format, 1e-11)
    np.testing.assert_allclose(found[keys[1:]], kept[keys[1:]], rtol=0, atol=atol)
    if format not in ("wider", "fddb"):
        assert found["label"].tolist() == kept["label"].replace("", "face").tolist()


# --------------------------------------------------------------------------------------------------- what is refused
def test_what_cannot_be_written_is_told(tmp_path):
    table = box_table(
        [{"image": "a.png", "x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0, "label": "face", "width": 9, "height": 8}]
    )
    nothing = lambda row: None  # noqa: E731
    with pytest.raises(ValueError, match="format: expected one of coco"):
        write_labels("csv", tmp_path, table, nothing)
    with pytest.raises(ValueError, match="lacks label"):
        write_labels("coco", tmp_path, table.drop(columns="label"), nothing)
    with pytest.raises(ValueError, match="leads out"):
        write_labels("voc", tmp_path, table.assign(image="../a.png"), nothing)
    with pytest.raises(ValueError, match="leads out"):
        write_labels("voc", tmp_path, table.assign(label_file="/etc/passwd"), nothing)
    put(tmp_path / "in" / "labels" / "a.txt", "0 1 1 1 1")
    with pytest.raises(ValueError, match="has no label_file"):
        write_labels("yolo", tmp_path / "out", table, nothing, tmp_path / "in")
    with pytest.raises(FileNotFoundError, match=r"gone\.txt"):
        write_labels(
            "yolo", tmp_path / "out", table.assign(label_file="gone.txt", label_entry=1), nothing, tmp_path / "in"
        )
    box = {"mask_x": 1, "mask_y": 1, "mask_w": 2, "mask_h": 2}
    for format in FORMATS:
        with pytest.raises(ValueError, match=r"a\.png, face 0: expected a region \[8, 9\], got \[9, 8\]"):
            write_labels(format, tmp_path / format, table.assign(**box), lambda row: np.zeros((9, 8), np.uint8))
    both = box_table([{"image": name, "label": ""} for name in ("a.png", "a.jpg")])
    for format in ("voc", "yolo"):
        with pytest.raises(ValueError, match=r"labels of a\.png and of a\.jpg would be one file"):
            write_labels(format, tmp_path / "two", both, nothing)


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_without_rows(tmp_path, format):
    write_labels(format, tmp_path, box_table([]), lambda row: None)


@pytest.mark.parametrize("format", FORMATS)
def test_variants_of_a_picture(format):
    """Three pictures from one: each has its boxes."""
    scenes = [[(1, 2, 9, 8, "face"), (12, 3, 5, 6, "person")], [(3, 4, 5, 6, "face")]]
    with read_set(format, scenes, random.Random(0)) as (root, table):
        stems = table["image"].str.removesuffix(".jpg")
        export = pd.concat([table.assign(image=stems + f"_{k}.jpg") for k in range(3)], ignore_index=True)
        export = as_png(root, export)
        write(format, root, export)
        back = validate(read_back(format, root))
    assert sorted(back["image"]) == sorted(export["image"])
    assert set(back["reason"]) <= {"", "marked invalid"}
    if format != "fddb":
        for image, rows in back.groupby("image"):
            expected = export[export["image"] == image]
            assert rows[list(BOX)].to_numpy().tolist() == expected[list(BOX)].to_numpy().tolist()


def test_the_source_may_be_its_file():
    with read_set("coco", [[(1, 2, 9, 8, "face")]], random.Random(0)) as (root, table):
        path = root / "in" / "annotations" / "instances_val.json"
        assert labels_root(path, "coco") == root / "in"
        (written,) = write_labels("coco", root / "out", table, lambda row: None, path)
        assert written == root / "out" / "annotations" / "instances_val.json"
        assert json.loads(written.read_text())["info"] == {"year": 2020}
