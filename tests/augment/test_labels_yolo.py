"""What YOLO texts of augmented sets hold, and where they lie."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from lib.augment.labels import write_labels
from lib.augment.polygons import signed_area
from lib.data.boxes import box_table
from lib.data.detection import read_detection

REGION = np.zeros((30, 40), np.uint8)
REGION[5:9, 6:12] = 255
REGION[20:25, 30:33] = 255
MASK = {"mask_x": 6, "mask_y": 5, "mask_w": 27, "mask_h": 20}


def yolo_set(root, texts, **files):
    for name, text in texts.items():
        for place, content in ((root / "labels" / f"{name}.txt", text), *((root / n, c) for n, c in files.items())):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
        (root / "images").mkdir(exist_ok=True)
        Image.new("L", (40, 30)).save(root / "images" / f"{name}.png")
    return root


def test_only_the_class_changes_and_masks_stand_beside(tmp_path):
    text = "0 0.50 .5 1e-1 0.2 0.875\n1 .5 .5 .1 .1\n\n0 0 0 0.5 0 0.25 0.5"
    names = "nc: 2\nnames:\n- without_mask\n- dog\ntrain: ../train\n"
    root = yolo_set(tmp_path / "in", {"a": text, "b": ""}, **{"data.yaml": names})
    table, _ = read_detection(root)
    table.loc[0, "label"] = "face_mask"
    table.loc[0, list(MASK)] = list(MASK.values())
    paths = write_labels("yolo", tmp_path / "out", table, lambda row: REGION, root)
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in paths) == [
        "data.yaml", "labels/a.txt", "labels/b.txt", "labels_seg/a.txt", "train.txt"]  # fmt: skip
    lines = (tmp_path / "out" / "labels" / "a.txt").read_text().splitlines()
    assert lines == ["3 0.50 .5 1e-1 0.2 0.875", "1 .5 .5 .1 .1", "0 0 0 0.5 0 0.25 0.5"]
    assert (tmp_path / "out" / "labels" / "b.txt").read_text() == ""
    assert yaml.safe_load((tmp_path / "out" / "data.yaml").read_text()) == {
        "nc": 4,
        "names": ["without_mask", "dog", "face", "face_mask"],
        "train": "train.txt",
        "val": "train.txt",
    }
    number, *shares = (tmp_path / "out" / "labels_seg" / "a.txt").read_text().split()
    assert number == "3"
    ring = np.array(shares, float).reshape(-1, 2) * (40, 30)
    assert abs(signed_area(ring)) == pytest.approx((REGION > 0).sum())
    assert (ring.min(0).round(9).tolist(), ring.max(0).round(9).tolist()) == ([6, 5], [33, 25])
    assert len((tmp_path / "out" / "labels_seg" / "a.txt").read_text().splitlines()) == 1


def test_a_set_without_names_gets_them(tmp_path):
    root = yolo_set(tmp_path / "in", {"a": "0 .5 .5 .1 .1\n0 .2 .2 .1 .1"})
    table, _ = read_detection(root)
    write_labels("yolo", tmp_path / "same", table, lambda row: None, root)
    told = {"train": "train.txt", "val": "train.txt"}
    assert yaml.safe_load((tmp_path / "same" / "data.yaml").read_text()) == told | {"names": {0: "0"}}
    write_labels("yolo", tmp_path / "new", table.assign(label=["face_mask", "face"]), lambda row: None, root)
    assert (tmp_path / "new" / "labels" / "a.txt").read_text().split("\n")[0][0] == "1"
    assert yaml.safe_load((tmp_path / "new" / "data.yaml").read_text()) == told | {"names": {0: "face", 1: "face_mask"}}


def test_classes_txt_grows(tmp_path):
    root = yolo_set(tmp_path / "in", {"a": "0 .5 .5 .1 .1"}, **{"labels/classes.txt": "no_mask\n"})
    table = read_detection(root)[0].assign(label="face_mask")
    write_labels("yolo", tmp_path / "out", table, lambda row: None, root)
    assert (tmp_path / "out" / "labels" / "classes.txt").read_text() == "no_mask\nface\nface_mask\n"
    assert (tmp_path / "out" / "labels" / "a.txt").read_text()[0] == "2"


def test_files_of_its_own(tmp_path):
    box = {"x": 10, "y": 3, "w": 20, "h": 6, "label": "face", "width": 40, "height": 30}
    rows = [{"image": "s/a.png", "split": "val"} | box, {"image": "images/c.png", "split": "val", "label": ""},
            {"image": "s/a.png", "split": "val", "face": 1, "reason": "marked invalid"} | box]  # fmt: skip
    paths = write_labels("yolo", tmp_path, box_table(rows), lambda row: None)
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
    assert names == ["labels/s/a.txt", "labels/c.txt", "val.txt", "data.yaml"]
    assert (tmp_path / "labels" / "s" / "a.txt").read_text() == "0 0.5 0.2 0.5 0.2\n"
    assert (tmp_path / "labels" / "c.txt").read_text() == ""
    assert (tmp_path / "val.txt").read_text() == "./images/s/a.png\n./images/c.png\n"
    assert yaml.safe_load((tmp_path / "data.yaml").read_text()) == {
        "train": "val.txt", "val": "val.txt", "names": {0: "face", 1: "face_mask"}}  # fmt: skip


def test_a_box_beyond_the_picture_is_cut_or_left_out(tmp_path):
    """A trainer passes over a whole picture for one number outside of 0 to 1."""
    size = {"image": "a.png", "label": "face", "width": 40, "height": 20}
    boxes = [(30, 10, 40, 20), (-30, 0, 40, 20), (50, 0, 9, 9), (1e19, 0, 5, 5), (-10, -5, 100, 50)]
    rows = [size | dict(zip("xywh", map(float, box)), face=k) for k, box in enumerate(boxes)]
    write_labels("yolo", tmp_path, box_table(rows), lambda row: None)
    lines = (tmp_path / "labels" / "a.txt").read_text().splitlines()
    assert lines == ["0 0.875 0.75 0.25 0.5", "0 0.125 0.5 0.25 1.0", "0 0.5 0.5 1.0 1.0"]


def trained_on(root) -> dict[str, dict[str, str]]:
    """What a trainer finds by data.yaml alone: of train and val each picture's text, by its rule for paths."""
    content, found = yaml.safe_load((root / "data.yaml").read_text()), {}
    assert "path" not in content, "data.yaml's own folder"
    names = content["names"]
    assert isinstance(names, list) or sorted(names) == list(range(len(names))), "every number has a name"
    for split in ("train", "val"):
        found[split] = {}
        entries = content[split] if isinstance(content[split], list) else [content[split]]
        for path in [root / entry for entry in entries]:
            listed = [root / line for line in path.read_text().splitlines()] if path.suffix == ".txt" else None
            for picture in listed or path.rglob("*.png"):
                assert picture.is_file()
                text = Path("/labels/".join(str(picture.absolute()).rsplit("/images/", 1))).with_suffix(".txt")
                name = picture.relative_to(root).as_posix()
                found[split][name] = text.read_text()[:1] if text.exists() else ""
    return found


@pytest.mark.parametrize("layout", ["root", "images", "roboflow", "beside", "list", "coco", "flat"])
def test_what_is_written_can_be_trained_on_as_it_is(tmp_path, layout):
    source, out, images = tmp_path / "set", tmp_path / "out", tmp_path / "out" / "images"
    where = {"roboflow": "{}/images", "beside": "{}", "flat": "images"}.get(layout, "images/{}")
    given = source / ("images" if layout == "images" else ".")
    yaml_text = {
        "root": "path: ../elsewhere\ntrain: images/train\nval: images/val\ndownload: print(1)\nnames: [face]\n",
        "images": "path: .\ntrain: images/train\nval: images/val\nnames: {0: face}\n",
        "roboflow": "train: ../train/images\nval: ../val/images\nnc: 1\nnames: ['face']\n",
        "list": "train: one.txt\nval: two.txt\nnames: [face]\n",
    }.get(layout)
    for name, split in (("a", "train"), ("b", "train"), ("c", "val")):
        place = source / where.format(split) / f"{name}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 30)).save(place)
        text = Path(str(place).replace("/images/", "/labels/")).with_suffix(".txt")
        if layout != "coco" and name != "b":  # a picture without a text has no face
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text("0 .5 .5 .1 .1\n")
        if layout == "list":
            list_path = source / ("two.txt" if name == "c" else "one.txt")
            with list_path.open("a") as file:
                file.write(f"/old/place/{place.relative_to(source)}\n")
        written = (images / place.relative_to(given)).with_suffix(".png")
        written.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 30)).save(written)
    if yaml_text:
        (source / "data.yaml").write_text(yaml_text)
    if layout == "coco":
        box = {"x": 10, "y": 3, "w": 20, "h": 6, "label": "face", "width": 40, "height": 30}
        names = {"images/train/a.png": box, "images/train/b.png": {}, "images/val/c.png": box}
        rows = [{"image": name, "split": name.split("/")[1], "label": "face"} | row for name, row in names.items()]
        table = box_table(rows)
        more = ()
    else:
        table, _ = read_detection(source, "yolo", given)
        table["image"] = table["image"].str.replace(".jpg", ".png")
        more = (source, "yolo")
    root = out / "labels" / "yolo"
    paths = write_labels("yolo", root, table, lambda row: None, *more, images=images)
    found = trained_on(root)
    texts = {split: {Path(name).stem: text for name, text in own.items()} for split, own in found.items()}
    everything = {"a": "0", "b": "", "c": "0"}
    if layout == "flat":
        assert texts == {"train": everything, "val": everything}
    else:
        assert texts == {"train": {"a": "0", "b": ""}, "val": {"c": "0"}}
    back, _ = read_detection(root)
    assert back["image"].nunique() == 3
    assert (back["label_entry"] > 0).sum() == 2
    assert sum(path.suffix == ".png" for path in paths) == 3
    assert sorted(p.stat().st_ino for p in root.rglob("*.png")) == sorted(
        p.stat().st_ino for p in images.rglob("*.png")
    )
    first = {path: path.read_bytes() for path in paths}
    Image.new("L", (41, 30)).save(next(images.rglob("a.png")))  # in place: the other name follows
    new = next(images.rglob("c.png"))
    new.unlink()
    Image.new("L", (42, 30)).save(new)  # a new file of that name: written again
    write_labels("yolo", root, table, lambda row: None, *more, images=images)
    assert {path for path, content in first.items() if content != path.read_bytes()} == {
        path for path in paths if path.name in ("a.png", "c.png")}  # fmt: skip
    assert not list(out.rglob("*.tmp"))


def test_without_hard_links_pictures_are_copied(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError("not on this disk")

    monkeypatch.setattr("os.link", refused)
    (tmp_path / "images").mkdir()
    Image.new("L", (40, 30)).save(tmp_path / "images" / "a.png")
    table = box_table([{"image": "a.png", "label": ""}])
    write_labels("yolo", tmp_path / "yolo", table, lambda row: None, images=tmp_path / "images")
    copy = tmp_path / "yolo" / "images" / "a.png"
    assert copy.read_bytes() == (tmp_path / "images" / "a.png").read_bytes()
