"""The report: one safe file whose numbers are the manifest's."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.augment.manifest import Summary
from lib.augment.report import MISSES, SHOWN, write_report

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>.png'


class Page(HTMLParser):
    """Tags with their attributes, and the cells of all rows."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.rows, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        self.inside = tag in ("td", "th", "i")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


@pytest.fixture
def run(tmp_path):
    """IN and OUT with forty faces of thirty pictures, one with a name that would be a script, and their tables."""
    rng = np.random.default_rng(0)
    rows, failures = [], []
    for folder in ("in", "out/images"):
        (tmp_path / folder).mkdir(parents=True)
    for k in range(40):
        source = EVIL.replace("/", "_") if k == 0 else f"{k % 30:02}.png"
        for path in (tmp_path / "in" / source, tmp_path / "out" / "images" / source):
            Image.fromarray(rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)).save(path)
        masked = k % 4 != 3
        rows.append({"source": source, "identity": source[:1], "output": f"images/{source}", "face": k // 30,
                     "variant": 1, "status": "masked" if masked else "left", "kind": "" if masked else "not chosen",
                     "reason": "" if masked else "--share 0.7", "x": 10.5, "y": 5, "w": 40, "h": 50,
                     "template": "cloth" if k % 3 else "n95", "colour": "", "texture": "", "wear": "Mask"})  # fmt: skip
    for k in range(30):
        failures.append({"file": f"{k:02}.png", "face": -1, "kind": "no face" if k % 2 else "a<b", "reason": "x & y"})
    summary = Summary(tmp_path / "out", "none, masks drawn by <rule>", pictures=61, pairs={"masked-masked": 12})
    return tmp_path, pd.DataFrame(rows), pd.DataFrame(failures), summary


def test_the_numbers_are_those_of_the_tables(run):
    root, manifest, failures, summary = run
    page = Page(write_report(root / "out", root / "in", manifest, failures, summary, 0).read_text())
    told = {row[0]: row[-1] for row in page.rows}
    masked = manifest[manifest["status"] == "masked"]
    assert told["pictures looked at"] == "61"
    assert told["faces found or labelled"] == "40"
    assert told["faces masked"] == str(len(masked)) == told["masks, over all variants"]
    assert told["pictures with a masked face"] == str(masked["source"].nunique())
    assert told["pictures and faces missed"] == "30" == str(int(told["no face"]) + int(told["a<b"]))
    assert told["not chosen"] == "10"
    assert told["pairs, masked-masked"] == "12"
    assert {name: int(told[name]) for name in ("cloth", "n95")} == masked["template"].value_counts().to_dict()


def test_it_needs_nothing_else_and_runs_nothing(run):
    root, manifest, failures, summary = run
    text = write_report(root / "out", root / "in", manifest, failures, summary, 0).read_text()
    assert len(text) < 2 * 2**20
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "table",
                                             "tr", "td", "th", "i", "div", "figure", "img", "figcaption"}  # fmt: skip
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "srcset")]
        assert attributes.get("src", "data:image/jpeg").startswith("data:image/jpeg"), tag
    assert "url(" not in text
    assert re.search(r"default-src 'none'", text)
    images = [tag for tag, _ in page.tags if tag == "img"]
    assert len(images) == 2 * SHOWN + MISSES
    assert "prefers-color-scheme: dark" in text


def test_the_same_tables_give_the_same_file_and_another_seed_other_faces(run):
    root, *rest = run

    def report(seed: int) -> bytes:
        return write_report(root / "out", root / "in", *rest, seed).read_bytes()

    assert report(0) == report(0) != report(1)


def test_a_picture_that_is_gone_costs_its_thumbnail_only(run):
    root, manifest, failures, summary = run
    for path in (root / "in").iterdir():
        path.unlink()
    page = Page(write_report(root / "out", root / "in", manifest, failures, summary, 0).read_text())
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == SHOWN
    assert all(len(source) > 100 for source in sources)


def test_a_run_without_anything_has_a_report_too(run):
    root, manifest, failures, _ = run
    text = write_report(root / "out", root / "in", manifest[:0], failures[:0], Summary(root / "out"), 0).read_text()
    assert "<h1>Masks on in</h1>" in text
    assert "<figure>" not in text


def test_each_reason_of_a_kind_is_told_once(run):
    root, manifest, _, summary = run
    reasons = [f"the box is {k}.5 px" for k in range(5)] + ["hidden <b>"] * 2 + ["no face found in the box"]
    reasons += [f"{word} is strange" for word in ("one", "two", "three")]
    failures = pd.DataFrame([{"file": "01.png", "face": 0, "kind": "odd", "reason": reason} for reason in reasons])
    page = Page(write_report(root / "out", root / "in", manifest, failures, summary, 0).read_text())
    (row,) = [row for row in page.rows if row[0] == "odd"]
    told = "the box is 0.5 px (5); hidden <b> (2); no face found in the box (1); one is strange (1); and 2 more"
    assert row == ["odd", told, "11"]


def test_an_original_that_left_is_told(run):
    root, manifest, failures, summary = run
    write = lambda: write_report(root / "out", root / "in", manifest, failures, summary, 0).read_text()  # noqa: E731
    assert "no longer in IN" not in write()
    for path in (root / "in").iterdir():
        path.unlink()
    assert write().count("; the original is no longer in IN</figcaption>") == SHOWN


def test_the_box_of_a_labelled_face_is_drawn_in(tmp_path):
    from lib.augment.report import BOX_COLOUR, _tile

    Image.fromarray(np.zeros((200, 300, 3), np.uint8)).save(tmp_path / "a.png")
    for box in ((100, 50, 40, 60), (-10, -10, 60, 60), (280, 150, 90, 90)):
        for boxed in (False, True):
            with Image.open(io.BytesIO(base64.b64decode(_tile(tmp_path / "a.png", box, boxed)))) as tile:
                pixels = np.asarray(tile.convert("RGB")).astype(int)
            found = (np.abs(pixels - BOX_COLOUR).max(2) < 120).sum()
            assert (found > 25) if boxed else (pixels.max() == 0)
