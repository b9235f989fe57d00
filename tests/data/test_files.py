"""Files are whole or not there; errors name the file."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.data import files

ROOT = Path(__file__).parents[2]


def only(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_writes_bytes_and_text_makes_folders_and_leaves_nothing_else(tmp_path):
    path = files.write_bytes(tmp_path / "a" / "b" / "x.bin", b"\0\1")
    assert path.read_bytes() == b"\0\1"
    assert files.write_text(str(path), "größer\n").read_bytes() == "größer\n".encode()
    assert only(path.parent) == ["x.bin"]


@pytest.mark.parametrize(
    "name",
    ["人" * 83 + ".json", "😷" * 62 + ".json", "x" * 250 + ".json", "a.b.c .json"],
    ids=("han", "emoji", "long", "dots"),
)
def test_any_name_the_disk_takes_can_be_written(tmp_path, name):
    assert files.read_json(files.write_json(tmp_path / name, [1])) == [1]


def test_a_failing_write_keeps_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = files.write_text(tmp_path / "x.txt", "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert only(tmp_path) == ["x.txt"]


WRITER = """
    import sys, numpy as np, pandas as pd
    from lib.data.files import write_bytes, write_json, write_table
    folder = sys.argv[1]
    print("ready", flush=True)
    n = 0
    while True:
        n += 1
        write_bytes(f"{folder}/whole.bin", bytes([n % 251]) * 3_000_000)
        write_json(f"{folder}/whole.json", [n] * 30_000)
        write_table(f"{folder}/whole.csv", pd.DataFrame({"n": np.full(20_000, n)}))
"""


def test_a_killed_writer_leaves_no_half_file_under_a_final_name(tmp_path):
    """Oracle: each file holds one value repeated a known number of times, whatever the moment of the kill."""
    seen = 0
    for pause_s in (0.07, 0.31):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
        )
        try:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(pause_s)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        for path in tmp_path.glob("whole.*"):
            seen += 1
            if path.suffix == ".bin":
                content = path.read_bytes()
                assert len(content) == 3_000_000
                assert content == content[:1] * len(content)
            else:
                values = files.read_json(path) if path.suffix == ".json" else pd.read_csv(path)["n"].tolist()
                assert len(values) == (30_000 if path.suffix == ".json" else 20_000)
                assert len(set(values)) == 1
        assert all(name.startswith((".", "whole.")) for name in only(tmp_path))
    assert seen, "no writer got far enough to be a test"


def test_a_reader_never_sees_a_file_being_written(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        path, sizes, inodes = tmp_path / "whole.bin", set(), set()
        deadline = time.monotonic() + 20
        while len(inodes) < 8 and time.monotonic() < deadline:  # until it has been replaced a few times
            if path.exists():
                state = path.stat()
                sizes.add(state.st_size)
                inodes.add((state.st_ino, state.st_mtime_ns))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert len(inodes) >= 8
    assert sizes == {3_000_000}


def test_tables_go_by_suffix(tmp_path):
    table = pd.DataFrame({"image": ["a,b.png", "ü.png"], "x": [1.5, np.nan]})
    pd.testing.assert_frame_equal(pd.read_csv(files.write_table(tmp_path / "t.csv", table)), table)
    pd.testing.assert_frame_equal(pd.read_parquet(files.write_table(tmp_path / "t.parquet", table)), table)
    for name in ("t.xlsx", "t", "t.pkl"):
        with pytest.raises(ValueError, match=rf"{name}: tables are written as .csv or .parquet"):
            files.write_table(tmp_path / name, table)
    assert only(tmp_path) == ["t.csv", "t.parquet"]


def test_a_table_parquet_cannot_hold_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"t\.parquet: cannot be written as Parquet"):
        files.write_table(tmp_path / "t.parquet", pd.DataFrame({"x": [1, "two", {3}]}, dtype=object))
    assert only(tmp_path) == []


def test_json_round_trip_and_errors_name_the_file(tmp_path):
    value = {"名": [1, 2.5, None, True], "b": {"c": "d"}}
    path = files.write_json(tmp_path / "x.json", value)
    assert files.read_json(path) == value
    assert "名" in path.read_text(encoding="utf-8")
    path.write_text('{"a": 1')
    with pytest.raises(ValueError, match=r"x\.json: not valid JSON"):
        files.read_json(path)
    path.write_bytes(b'"\xff\xfe"')
    with pytest.raises(ValueError, match=r"x\.json: not valid JSON"):
        files.read_json(path)
    with pytest.raises(FileNotFoundError, match=r"y\.json"):
        files.read_json(tmp_path / "y.json")
    with pytest.raises(TypeError, match=r"z\.json: .*float32"):
        files.write_json(tmp_path / "z.json", {"loss": np.float32(1)})
    assert not (tmp_path / "z.json").exists()


def test_json_keeps_a_file_name_that_is_not_utf8(tmp_path):
    name = os.fsdecode(b"\xc4\xe3.jpg")
    assert files.read_json(files.write_json(tmp_path / "x.json", {"name": name})) == {"name": name}


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_png_is_lossless(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with Image.open(files.write_png(tmp_path / "x.png", pixels)) as image:
        np.testing.assert_array_equal(np.array(image), pixels)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)]
)
def test_png_refuses_other_arrays(tmp_path, pixels):
    with pytest.raises(ValueError, match=r"x\.png: expected uint8"):
        files.write_png(tmp_path / "x.png", pixels)


def test_sha256_is_that_of_the_content(tmp_path):
    content = os.urandom(300_000)
    assert files.sha256(files.write_bytes(tmp_path / "x", content)) == hashlib.sha256(content).hexdigest()


def test_png_refuses_an_empty_picture(tmp_path):
    with pytest.raises(ValueError, match=r"x\.png: expected uint8 .* \[0, 4, 3\]"):
        files.write_png(tmp_path / "x.png", np.zeros((0, 4, 3), np.uint8))
    assert only(tmp_path) == []


def test_json_saved_by_an_editor_that_marks_the_byte_order_is_read(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert files.read_json(tmp_path / "x.json") == [1]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_json_that_no_parser_takes_is_refused_by_name(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json: not valid JSON"):
        files.read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("name", "leaves"),
    [
        ("a/b.jpg", False), ("..a/b..jpg", False), ("", False), ("a/./b", False), ("名/ñ.jpg", False),
        ("..", True), ("../a", True), ("a/../b", True), ("/a", True), ("\\a", True), ("C:a", True), ("C:\\a", True),
        ("\\\\host\\share\\a", True), ("a\\..\\b", True), ("//a", True),
    ],
)  # fmt: skip
def test_leaves_root(name, leaves):
    assert files.leaves_root(name) is leaves
