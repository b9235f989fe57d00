"""The pages of the hand-picking and of the crops in a real browser, from the key press to the file and back.

The widget's own code runs on a bare page; its model is wired to the Python widget, as a kernel would (`open_page`).
"""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.data import curation, faceworld
from lib.data.images import to_pixels
from lib.study.crop_stock import crop_stock, export_crops, read_crops
from lib.study.pick_faces import pick_faces


@pytest.fixture(scope="module")
def faces():
    """Twelve masked faces of the face world, uint8 [12, 128, 128, 3]."""
    return to_pixels(faceworld.render(range(12), range(12), 128, ("masked",), 1.0, yaw=30.0).masked * 2 - 1)


def test_three_faces_are_picked_by_keyboard_one_is_undone_and_another_day_it_goes_on(open_page, faces, tmp_path):
    table = pd.DataFrame({"image": [f"{k:02d}.png" for k in range(12)], "face": 0, "score": np.linspace(1, 0, 12)})
    path = tmp_path / "selection.csv"

    def page(by):
        opened = open_page(pick_faces(table, lambda row: faces[row.Index], path, by=by, page_size=8))
        opened.page.locator(".cu-grid").focus()
        return opened

    def on_disk():
        rows = curation.merge([curation.read_selection(path)])[0]
        return {r.image[:2]: f"{r.decision} {r.reason}".strip() for r in rows.itertuples()}

    one = page("ann")
    one.keys("a", "4", "ArrowRight", "r")
    assert on_disk() == {"00": "accept", "01": "reject dark mask", "03": "reject"}
    one.keys("z")
    assert on_disk() == {"00": "accept", "01": "reject dark mask"}
    assert one.page.locator(".cu-cursor").get_attribute("aria-label") == "03.png, undecided"  # back where it was
    one.screenshot("pick_faces", tmp_path)
    one.page.close()

    two = page("ann")
    names = [label.split(",")[0] for label in two.page.locator(".cu-tile").evaluate_all("t => t.map(x => x.ariaLabel)")]
    assert names == [f"{k:02d}.png" for k in (2, 3, 4, 5, 6, 7, 8, 9)]
    two.keys("u", " ", "Shift+ArrowRight", "5", "t")
    two.page.keyboard.type("azr12")  # words are words, no keys
    two.keys("Enter")
    assert on_disk() | {"00": "", "01": ""} == {
        "00": "", "01": "", "02": "unsure", "03": "accept", "04": "reject another kind", "05": "reject another kind",
        "06": "reject azr12",
    }  # fmt: skip
    two.keys("Shift+A", "n")
    assert on_disk()["09"] == "accept"
    assert two.page.locator(".cu-tile").count() == 2
    shown = two.page.locator(".cu-tile img").evaluate_all("t => t.map(x => x.src)")
    assert shown == [tile["src"] for tile in two.widget.tiles]
    assert two.page.locator(".cu-cursor").get_attribute("aria-label") == "10.png, undecided"
    tile = two.page.locator(".cu-tile").nth(0).bounding_box()
    last = two.page.locator(".cu-tile").nth(1).bounding_box()
    two.page.mouse.move(tile["x"] + 20, tile["y"] + 20)
    two.page.mouse.down()
    two.page.mouse.move(last["x"] + 20, last["y"] + 20, steps=4)
    two.page.mouse.up()
    assert two.page.locator("[aria-selected=true]").count() == 2
    two.page.get_by_role("button", name="✗ reject").click()
    two.settle()
    assert on_disk()["10"] == on_disk()["11"] == "reject"
    assert two.page.locator(".cu-pending").count() == 0
    assert two.page.locator(".cu-told strong").inner_text() == "12 of 12 decided"
    two.page.get_by_label("show").select_option("unsure")
    two.settle()
    assert two.page.locator(".cu-tile").count() == 1
    two.page.close()


def test_a_mark_is_no_promise_before_it_is_on_disk(open_page, faces, tmp_path):
    """While Python has not answered the mark is dotted; where it fails, the mark goes and the page says why."""
    table = pd.DataFrame({"image": ["0.png", "1.png"], "face": 0})
    widget = pick_faces(table, lambda row: faces[row.Index], tmp_path / "s.csv", by="ann")
    page = open_page(widget)
    page.page.locator(".cu-grid").focus()

    def full(changes):
        raise OSError(28, "No space left on device")

    widget.file.add = full
    page.keys("a")
    assert page.page.locator(".cu-accept.cu-tile").count() == 0
    assert "No space left" in page.page.locator(".cu-note").inner_text()
    assert not (tmp_path / "s.csv").exists()
    page.page.close()


def test_a_square_is_drawn_moved_resized_credited_and_exported(open_page, faces, tmp_path):
    scene = np.full((300, 500, 3), 120, np.uint8)
    scene[60:188, 50:178], scene[100:228, 300:428] = faces[0], faces[1]
    (tmp_path / "photos").mkdir()
    for name in ("street.png", "train.png"):
        Image.fromarray(scene).save(tmp_path / "photos" / name)
    widget = crop_stock(tmp_path / "photos", tmp_path / "crops.csv", by="ann")
    page = open_page(widget)
    box = page.page.locator(".st-box").bounding_box()

    def drag(*points):
        for k, (x, y) in enumerate(points):
            page.page.mouse.move(box["x"] + x / 500 * box["width"], box["y"] + y / 300 * box["height"])
            if k == 0:
                page.page.mouse.down()
        page.page.mouse.up()
        page.settle()

    drag((300, 100), (360, 150), (428, 220))
    assert widget.squares == [[0, 300, 100, 128]]
    drag((360, 160), (370, 180))
    assert widget.squares == [[0, 310, 120, 128]]
    drag((438, 248), (448, 240))  # by the corner
    assert widget.squares == [[0, 310, 120, 138]]
    page.page.locator(".st-box").focus()
    page.keys("ArrowLeft", "Shift+ArrowUp", "-")
    page.page.wait_for_timeout(500)  # a held key is one change
    page.settle()
    assert widget.squares == [[0, 312, 113, 132]]
    page.keys("z")
    assert widget.squares == [[0, 310, 120, 138]]
    page.page.get_by_role("button", name="export the crops").click()
    page.settle()
    assert "credits are missing" in page.page.locator(".cu-note").inner_text()
    for label, text in (("author", "Jane Doe"), ("source", "https://example.org/7"), ("licence", "CC BY 4.0")):
        page.page.get_by_label(label).fill(text)
    page.page.get_by_role("button", name="export the crops").click()
    page.settle()
    assert "1 crop written" in page.page.locator(".cu-note").inner_text()
    page.screenshot("crop_stock", tmp_path)
    page.page.close()

    again = open_page(crop_stock(tmp_path / "photos", tmp_path / "crops.csv", by="ann"))
    assert "picture 2 of 2" in again.page.locator(".cu-place").inner_text()
    again.page.locator(".st-box").focus()
    again.keys("p", "c", "Delete", "s")
    assert again.widget.squares == [[0, 310, 120, 138]]
    again.page.close()
    table = read_crops(tmp_path / "crops.csv")
    export_crops(tmp_path / "crops.csv", tmp_path / "photos", tmp_path / "again")
    name = f"street_{table['sha256'][0][:8]}_0.png"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "crops" / name).read_bytes()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "again" / name)), scene[120:258, 310:448])
