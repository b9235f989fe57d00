import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.data import prepare
from lib.data.__main__ import main
from lib.data.images import read_image, resize
from lib.data.prepare import JOURNAL, Job, crop_box, prepare_pictures, work_through


def copy(job: Job) -> str:
    """Upper-cases a text; refuses one that says no; counts its calls in a file."""
    with job.inputs[0].with_name("calls").open("a") as file:
        file.write(f"{job.name}\n")
    text = job.inputs[0].read_text()
    if text == "no":
        return "it says no"
    if text == "raise":
        raise OSError("disk full")
    job.outputs[0].write_text(text.upper() + "".join(job.options))
    return ""


def jobs(folder: Path, texts: dict[str, str], *options: str) -> list[Job]:
    for name, text in texts.items():
        if not (folder / name).exists() or (folder / name).read_text() != text:
            (folder / name).write_text(text)
    return [Job(name, (folder / name,), (folder / f"{name}.out",), options) for name in texts]


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    out = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return out


def test_only_what_is_not_done_is_done(tmp_path):
    def go(texts, *options):
        return work_through(copy, jobs(tmp_path, texts, *options), tmp_path / "journal", 0, False)

    texts = {"a": "x", "b": "no", "c": "yy"}
    assert go(texts) == {"a": "", "b": "it says no", "c": ""}
    assert calls(tmp_path) == ["a", "b", "c"]
    assert go(texts)["b"] == "it says no"
    assert calls(tmp_path) == ["b"]  # what failed is tried again
    (tmp_path / "c.out").unlink()
    assert go(texts | {"a": "changed"})["a"] == ""
    assert calls(tmp_path) == ["a", "b", "c"]  # a changed input, a lost output
    assert (tmp_path / "a.out").read_text() == "CHANGED"
    go(texts | {"a": "changed"}, "!")
    assert calls(tmp_path) == ["a", "b", "c"]  # another option
    assert (tmp_path / "c.out").read_text() == "YY!"


def test_an_exception_stops_the_run_and_keeps_what_was_done(tmp_path):
    texts = {"a": "x", "b": "raise", "c": "z"}
    with pytest.raises(OSError, match="disk full"):
        work_through(copy, jobs(tmp_path, texts), tmp_path / "journal", 0, False)
    calls(tmp_path)
    work_through(copy, jobs(tmp_path, texts | {"b": "y"}), tmp_path / "journal", 0, False)
    assert calls(tmp_path) == ["b", "c"]


def test_a_line_cut_short_and_a_damaged_one_cost_their_own_job_only(tmp_path):
    texts, journal = {name: name for name in "abcd"}, tmp_path / "journal"
    work_through(copy, jobs(tmp_path, texts), journal, 0, False)
    calls(tmp_path)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + b"\xff[1\n" + lines[2] + lines[3][:-4])
    work_through(copy, jobs(tmp_path, texts), journal, 0, False)
    assert calls(tmp_path) == ["b", "d"]
    work_through(copy, jobs(tmp_path, texts), journal, 0, False)
    assert calls(tmp_path) == []


def test_a_second_run_and_a_name_given_twice_are_refused(tmp_path):
    some = jobs(tmp_path, {"a": "x"})
    other = Job("a", (tmp_path / "b",), (tmp_path / "b.out",))
    with pytest.raises(ValueError, match=f"a is asked for twice, from {tmp_path / 'a'} and {tmp_path / 'b'}"):
        work_through(copy, [*some, other], tmp_path / "journal", 0, False)

    assert not calls(tmp_path)

    def nested(job: Job) -> str:
        with pytest.raises(BlockingIOError, match="another run is working there"):
            work_through(copy, some, tmp_path / "journal", 0, False)
        return copy(job)

    assert work_through(nested, some, tmp_path / "journal", 0, False) == {"a": ""}


@pytest.fixture
def pictures(tmp_path, noise):
    """Seven pictures of several kinds and one that is none; the table that asks for them."""
    folder, rows = tmp_path / "in" / "deep", []
    folder.mkdir(parents=True)
    for k in range(7):
        path = folder / f"{k}.{('png', 'jpg', 'webp')[k % 3]}"
        Image.fromarray(noise(40 + k, 50, k)).save(path)
        rows.append({"image": f"x/{k}.png", "source": str(path)})
    (folder / "7.jpg").write_bytes(b"no picture")
    rows += [{"image": "7.png", "source": str(folder / "7.jpg")}]
    return pd.DataFrame(rows, index=range(10, 18))


def content(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*.png"))}


def test_pictures_are_scaled_and_named_and_workers_change_nothing(pictures, tmp_path):
    reasons = prepare_pictures(pictures, tmp_path / "one", 16, 0, False)
    assert reasons.index.tolist() == pictures.index.tolist()
    assert reasons.iloc[:7].eq("").all()
    assert "no picture" in reasons.iloc[7]
    for row in pictures.iloc[:7].itertuples():
        expected = resize(read_image(row.source).pixels, 16)
        assert np.array_equal(read_image(tmp_path / "one" / row.image).pixels, expected)
    assert prepare_pictures(pictures, tmp_path / "two", 16, 2, False).tolist() == reasons.tolist()
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_boxes_are_cut_out_clipped_at_the_picture(pictures, tmp_path):
    table = pictures.iloc[:3].assign(x=[-5, 3, 60], y=[-5, 4, 0], w=20, h=10, crop=[True, False, True])
    reasons = prepare_pictures(table, tmp_path / "out", 12, 0, False)
    assert reasons.tolist()[:2] == ["", ""]
    assert "lies outside a picture of 50 × 42" in reasons.iloc[2]
    whole = [read_image(path).pixels for path in table["source"]]
    assert np.array_equal(read_image(tmp_path / "out/x/0.png").pixels, resize(whole[0][:5, :15], 12))
    assert np.array_equal(read_image(tmp_path / "out/x/1.png").pixels, resize(whole[1], 12))


@pytest.mark.parametrize("box", [(40, 0, 10, 10), (-20, -20, 10, 10), (5, 5, 0, 5)])
def test_a_box_outside_the_picture_is_refused(box):
    with pytest.raises(ValueError, match="lies outside a picture of 30 × 20"):
        crop_box(np.zeros((20, 30, 3), np.uint8), *box)


@pytest.mark.parametrize("box", [(np.nan, 0, 10, 10), (0, 0, np.inf, 10)])
def test_no_box_at_all(box):
    with pytest.raises(ValueError, match="is no box"):
        crop_box(np.zeros((20, 30, 3), np.uint8), *box)


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "a/../../b.png", "a.jpg"])
def test_nothing_is_written_elsewhere(pictures, tmp_path, name):
    table = pictures.iloc[:1].assign(image=name)
    with pytest.raises(ValueError, match="is no place for a picture"):
        prepare_pictures(table, tmp_path / "out", 16, 0, False)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_decoded_is_told_and_what_can_is_not_read_again(pictures, tmp_path, monkeypatch):
    paths = pictures["source"].tolist()
    first = prepare.unreadable(paths, tmp_path / "journal", 0, False)
    assert list(first) == paths[-1:]
    read = []
    monkeypatch.setattr(prepare, "_damage", lambda job: read.append(job.name) or "")
    assert prepare.unreadable(paths, tmp_path / "journal", 0, False) == {}
    assert read == paths[-1:]


def command(*args) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lib.data", "prepare", *map(str, args)], capture_output=True, text=True
    )


def test_a_killed_command_goes_on_to_the_same_bytes(tmp_path, noise):
    (tmp_path / "in").mkdir()
    for k in range(60):
        Image.fromarray(noise(300, 300, k)).save(tmp_path / "in" / f"{k:02}.png")
    assert command(tmp_path / "in", tmp_path / "whole", "--size", "64", "--workers", "0").returncode == 0
    args = [sys.executable, "-m", "lib.data", "prepare", tmp_path / "in", tmp_path / "out", "--size", "64"]
    running = subprocess.Popen([*map(str, args), "--workers", "1"], stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("*.png"))) < 5 and time.monotonic() < limit:
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    (tmp_path / "out" / ".left.png.1234.tmp").write_bytes(b"half")  # as a kill in the middle of a write leaves it
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.png")}
    assert 5 <= len(before) < 60
    done = command(tmp_path / "in", tmp_path / "out", "--size", "64", "--workers", "0")
    assert done.returncode == 0, done.stderr
    assert "60 pictures: 60 in" in done.stdout
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    redone = [p for p, t in before.items() if p.stat().st_mtime_ns != t]
    assert len(redone) <= 1 + 8  # at most what was in flight when it was killed
    assert not [name for name in os.listdir(tmp_path / "out") if name.endswith(".tmp")]


def test_the_command_on_a_folder_and_on_a_table(tmp_path, noise):
    folder = tmp_path / "in" / "who"
    folder.mkdir(parents=True)
    for name in ("a.jpg", "a.png", "b.png"):
        Image.fromarray(noise(40, 60)).save(folder / name)
    (folder / "c.png").write_bytes(b"")
    done = command(tmp_path / "in", tmp_path / "out", "--size", "32")
    assert done.returncode == 1
    assert "4 pictures: 3 in" in done.stdout
    table = pd.read_csv(tmp_path / "out" / "prepared.csv")
    assert table["image"].tolist() == ["who/a.jpg.png", "who/a.png.png", "who/b.png"]
    assert pd.read_csv(tmp_path / "out" / "failures.csv")["reason"].tolist() == ["file is empty"]

    faces = "image,face,x,y,w,h,identity,split,reason\n"
    faces += "who/b.png,0,1,2,20,20,,,\nwho/b.png,1,30,2,20,20,,,\n"
    faces += "../x.png,0,1,1,9,9,,,\nwho/b.png,2,0,0,0,0,,,empty\n"
    (tmp_path / "faces.csv").write_text(faces)
    done = command(tmp_path / "in", tmp_path / "cut", "--size", "20", "--table", tmp_path / "faces.csv")
    assert done.returncode == 1
    whole = read_image(folder / "b.png").pixels
    assert np.array_equal(read_image(tmp_path / "cut" / "who" / "b_0.png").pixels, whole[2:22, 1:21])
    listed = pd.read_csv(tmp_path / "cut" / "failures.csv")["reason"].tolist()
    assert listed == ["path leaves the data set", "empty"]
    assert json.loads((tmp_path / "cut" / JOURNAL).read_text().splitlines()[0])[2] == ""


def test_a_job_without_a_result_is_no_success(tmp_path, monkeypatch):
    some = jobs(tmp_path, {"a": "x"})
    with pytest.raises(ValueError, match="workers: expected 0 or more, got -3"):
        work_through(copy, some, tmp_path / "journal", -3, False)
    monkeypatch.setattr(prepare.Pool, "run", lambda self, tasks: iter(()))
    assert work_through(copy, some, tmp_path / "journal", 0, False) == {"a": "not done"}


def test_a_name_that_is_not_utf8_is_one_row_of_the_failures(tmp_path, touch_picture, capsys):
    touch_picture("in/a.jpg")
    (tmp_path / "in" / os.fsdecode(b"b\xff.jpg")).write_bytes((tmp_path / "in" / "a.jpg").read_bytes())
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "out"), "--size", "8"]) == 1
    failed = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert failed["reason"].tolist() == ["name is not UTF-8; rename it"]
    assert failed["source"].tolist() == [rf"{tmp_path}/in/b\xff.jpg"]
    assert pd.read_csv(tmp_path / "out" / "prepared.csv")["image"].tolist() == ["a.png"]


def test_names_that_would_meet_keep_their_suffix(tmp_path, touch_picture):
    for name in ("a.jpg", "a.png", "a.jpg.jpg", "b.jpg"):
        touch_picture(f"in/{name}")
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "out"), "--size", "8"]) == 0
    table = pd.read_csv(tmp_path / "out" / "prepared.csv").map(lambda path: Path(path).name)
    assert dict(zip(table["source"], table["image"])) == {
        "a.jpg": "a.jpg.png", "a.png": "a.png.png", "a.jpg.jpg": "a.jpg.jpg.png", "b.jpg": "b.png"
    }  # fmt: skip


def test_no_picture_is_overwritten_where_in_lies_inside_out(tmp_path, touch_picture):
    paths = [touch_picture(name) for name in ("ov/sub/x.png", "ov/sub/sub/x.png")]
    before = [path.read_bytes() for path in paths]
    done = command(tmp_path / "ov" / "sub", tmp_path / "ov", "--size", "16", "--workers", "0")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "whose pictures could be overwritten" in done.stderr
    assert [path.read_bytes() for path in paths] == before


def test_wrong_calls_end_in_one_line(tmp_path, touch_picture):
    touch_picture("in/a.png")
    for args, words in [
        ((tmp_path / "in", tmp_path / "out", "--workers", "-3"), "--workers: expected 0 or more, got -3"),
        ((tmp_path / "in", tmp_path / "in" / "out"), "lies inside"),
        ((tmp_path / "none", tmp_path / "out"), "no such folder"),
        ((tmp_path / "in", tmp_path / "out", "--size", "1"), "expected 8 to 4096"),
        ((tmp_path / "in", tmp_path / "out", "--table", tmp_path / "no.csv"), "no such file"),
    ]:
        done = command(*args)
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_few_pictures_start_no_process(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.Pool, "_submit", None)  # what would start one
    assert prepare_pictures(pictures.iloc[:2], tmp_path / "out", 16, progress=False).tolist() == ["", ""]
