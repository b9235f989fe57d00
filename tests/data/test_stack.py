"""Stacks: the right pixels in the right order, up to date or packed anew, damaged ones refused by name."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.data import stack as module
from lib.data.files import sha256
from lib.data.images import read_image, resize
from lib.data.stack import ImageStack, StackError, pack, pack_tensors

ROOT = Path(__file__).parents[2]
SIZE = 16


@pytest.fixture
def pictures(tmp_path, noise):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(70):  # more than one chunk
        Image.fromarray(noise(20 + k % 3, 24, seed=k)).save(folder / f"{k:03d}.png")
    return sorted(folder.iterdir())


def test_pixels_names_and_order(tmp_path, pictures):
    stack = pack(pictures, SIZE, tmp_path / "out" / "A", progress=False)
    assert len(stack) == 70
    assert stack.images.shape == (70, 3, SIZE, SIZE)
    assert stack.images.dtype == np.uint8
    assert stack.names == tuple(path.name for path in pictures)
    assert stack.failures == ()
    for k in (0, 63, 64, 69):
        np.testing.assert_array_equal(stack.images[k].transpose(1, 2, 0), resize(read_image(pictures[k]).pixels, SIZE))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["A.json", "A.u8"]
    assert stack.sha256 == sha256(tmp_path / "out" / "A.u8")
    again = ImageStack.open(tmp_path / "out" / "A", verify=True)
    np.testing.assert_array_equal(again.images, stack.images)
    assert (again.names, again.sha256) == (stack.names, stack.sha256)


def test_the_map_is_read_only(tmp_path, pictures):
    with pytest.raises(ValueError, match="read-only"):
        pack(pictures[:2], SIZE, tmp_path / "A", progress=False).images[0] = 0


def test_equal_names_in_two_folders_stay_apart(tmp_path, touch_picture):
    paths = [
        touch_picture("a/1.png", value=10),
        touch_picture("b/1.png", value=20),
        touch_picture("b/c/1.png", value=30),
    ]
    stack = pack(paths, SIZE, tmp_path / "A", progress=False)
    assert stack.names == ("a/1.png", "b/1.png", "b/c/1.png")
    assert stack.images[:, 0, 0, 0].tolist() == [10, 20, 30]


def test_unreadable_pictures_are_left_out_and_listed(tmp_path, pictures):
    pictures[1].write_bytes(b"")
    pictures[65].write_text("no picture")
    pictures.insert(3, tmp_path / "gone.png")
    stack = pack(pictures, SIZE, tmp_path / "A", progress=False)
    assert len(stack) == 68
    assert dict(stack.failures) == {
        str(tmp_path / "gone.png"): "no such file",
        str(pictures[1]): "file is empty",
        str(pictures[66]): "is no picture that can be read",
    }
    assert not any("gone" in name for name in stack.names)
    assert ImageStack.open(tmp_path / "A").failures == stack.failures


def test_nothing_to_pack_is_an_error_and_leaves_nothing(tmp_path, pictures):
    with pytest.raises(ValueError, match="no pictures to pack"):
        pack([], SIZE, tmp_path / "A", progress=False)
    pictures[0].write_bytes(b"")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"none of 1 pictures can be read; the first: .*000.png: file is empty"):
            pack(pictures[:1], SIZE, tmp_path / "A", progress=False)
    assert not list(tmp_path.glob("*A*"))


@pytest.fixture
def decodes(monkeypatch):
    seen = []
    real = module.read_image
    monkeypatch.setattr(module, "read_image", lambda path: seen.append(path) or real(path))
    return seen


def test_an_up_to_date_stack_is_not_packed_again(tmp_path, pictures, decodes):
    pack(pictures, SIZE, tmp_path / "A", progress=False)
    assert len(decodes) == 70
    pack(pictures, SIZE, tmp_path / "A", progress=False)
    assert len(decodes) == 70


def test_any_change_of_the_sources_packs_again(tmp_path, pictures, decodes, noise):
    changes = {
        "content": lambda: Image.fromarray(noise(30, 30, 99)).save(pictures[0]),
        "time": lambda: os.utime(pictures[1], (1, 1)),
        "order": pictures.reverse,
        "list": pictures.pop,
        "mended": lambda: pictures[2].write_bytes(pictures[3].read_bytes()),
    }
    pack(pictures, SIZE, tmp_path / "A", progress=False)
    for name, change in changes.items():
        decodes.clear()
        change()
        stack = pack(pictures, SIZE, tmp_path / "A", progress=False)
        assert len(decodes) == len(pictures), name
        np.testing.assert_array_equal(stack.images[0], resize(read_image(pictures[0]).pixels, SIZE).transpose(2, 0, 1))
    decodes.clear()
    assert pack(pictures, SIZE * 2, tmp_path / "A", progress=False).images.shape[2:] == (SIZE * 2, SIZE * 2)
    assert decodes


def test_a_stop_between_pixels_and_description_never_mixes_two_packings(tmp_path, pictures, monkeypatch):
    pack(pictures[:3], SIZE, tmp_path / "A", progress=False)
    monkeypatch.setattr(module, "write_json", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        pack(pictures[3:6], SIZE, tmp_path / "A", progress=False)  # as many, other pictures
    with pytest.raises(StackError):
        ImageStack.open(tmp_path / "A")


def damage(path, what):
    data, meta = path.with_suffix(".u8"), path.with_suffix(".json")
    note = json.loads(meta.read_text())
    if what == "short":
        data.write_bytes(data.read_bytes()[:-1])
    elif what == "no data":
        data.unlink()
    elif what == "no json":
        meta.unlink()
    elif what == "half json":
        meta.write_text(meta.read_text()[:40])
    elif what == "names":
        meta.write_text(json.dumps({**note, "names": note["names"][1:]}))
    elif what == "shape":
        meta.write_text(json.dumps({**note, "shape": [1, "x"]}))
    elif what == "other json":
        meta.write_text("[1, 2, 3]")


@pytest.mark.parametrize("what", ["short", "no data", "no json", "half json", "names", "shape", "other json"])
def test_a_damaged_stack_is_refused_by_name_and_packed_again(tmp_path, pictures, what):
    pixels = np.array(pack(pictures[:3], SIZE, tmp_path / "A", progress=False).images)
    damage(tmp_path / "A", what)
    with pytest.raises(StackError, match=rf"{tmp_path}/A\.(u8|json): .*delete it and pack again"):
        ImageStack.open(tmp_path / "A")
    np.testing.assert_array_equal(pack(pictures[:3], SIZE, tmp_path / "A", progress=False).images, pixels)


def test_changed_content_is_found_when_asked_for(tmp_path, pictures):
    pack(pictures[:3], SIZE, tmp_path / "A", progress=False)
    content = bytearray((tmp_path / "A.u8").read_bytes())
    content[100] ^= 1
    (tmp_path / "A.u8").write_bytes(content)
    ImageStack.open(tmp_path / "A")
    with pytest.raises(StackError, match=r"A\.u8: its content has changed"):
        ImageStack.open(tmp_path / "A", verify=True)


def test_names_with_dots_and_other_signs(tmp_path, pictures):
    assert len(pack(pictures[:2], SIZE, tmp_path / "A_1.5 [x] 名", progress=False)) == 2
    assert (tmp_path / "A_1.5 [x] 名.u8").is_file()


def test_memory_stays_flat(tmp_path, pictures, monkeypatch):
    """No more than one chunk is decoded before it is written."""
    monkeypatch.setattr(module, "_CHUNK", 8)
    waiting, most = [], []
    real_image, real_array = module.read_image, np.ascontiguousarray
    monkeypatch.setattr(module, "read_image", lambda path: waiting.append(path) or real_image(path))

    def written(array):
        most.append(len(waiting))
        waiting.pop()
        return real_array(array)

    monkeypatch.setattr(module.np, "ascontiguousarray", written)
    pack(pictures, SIZE, tmp_path / "A", progress=False)
    assert max(most) <= 8


def test_a_killed_packing_leaves_no_stack_and_is_made_good(tmp_path, noise):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(4):
        Image.fromarray(noise(seed=k)).save(folder / f"{k}.png")
    code = """
        import sys, time
        from pathlib import Path
        from lib.data import stack
        real, stack._CHUNK = stack.read_image, 1
        def slow(path):
            if path.name == "2.png":
                print("half way", flush=True)
                time.sleep(60)
            return real(path)
        stack.read_image = slow
        stack.pack(sorted(Path(sys.argv[1]).iterdir()), 16, sys.argv[2], progress=False)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder), str(tmp_path / "A")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"half way\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    left = list(tmp_path.glob(".A.u8.*.tmp"))
    assert len(left) == 1
    assert not list(tmp_path.glob("A.*"))
    os.utime(left[0], (time.time() - 7200,) * 2)  # left alone for two hours: nobody writes it any more
    assert len(pack(sorted(folder.iterdir()), SIZE, tmp_path / "A", progress=False)) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["A.json", "A.u8", "pictures"]


def load_npy(path):
    return np.load(path, allow_pickle=False)


def test_tensors_are_packed_as_0_and_1(tmp_path):
    regions = np.random.default_rng(0).random((3, SIZE, SIZE)) > 0.5
    for k, region in enumerate(regions):
        np.save(tmp_path / f"{k}.npy", region)
    paths = [tmp_path / f"{k}.npy" for k in range(3)]
    stack = pack_tensors(paths, SIZE, tmp_path / "non_mask", load_npy, progress=False)
    assert stack.images.shape == (3, 1, SIZE, SIZE)
    assert stack.images.dtype == np.uint8
    np.testing.assert_array_equal(stack.images[:, 0], regions)
    assert set(np.unique(stack.images)) == {0, 1}


def test_tensors_of_another_kind_are_failures(tmp_path):
    arrays = [np.ones((SIZE, SIZE), bool), np.ones((SIZE, SIZE)), np.ones((SIZE, 8), bool)]
    for k, array in enumerate(arrays):
        np.save(tmp_path / f"{k}.npy", array)
    paths = [tmp_path / f"{k}.npy" for k in range(4)]
    stack = pack_tensors(paths, SIZE, tmp_path / "A", load_npy, progress=False)
    assert stack.names == ("0.npy",)
    reasons = [reason for _, reason in stack.failures]
    assert reasons[0] == f"expected bool [{SIZE}, {SIZE}], got float64 [{SIZE}, {SIZE}]"
    assert reasons[1] == f"expected bool [{SIZE}, {SIZE}], got bool [{SIZE}, 8]"
    assert "3.npy" in reasons[2]


def test_a_stack_of_pictures_is_not_taken_for_one_of_tensors(tmp_path, pictures):
    pack(pictures[:2], SIZE, tmp_path / "A", progress=False)
    stack = pack_tensors(pictures[:2], SIZE, tmp_path / "A", lambda path: np.ones((SIZE, SIZE), bool), progress=False)
    assert stack.images.shape == (2, 1, SIZE, SIZE)


def test_a_packing_that_fails_keeps_the_older_stack(tmp_path, pictures, monkeypatch):
    old = pack(pictures[:5], SIZE, tmp_path / "out" / "A", progress=False)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "read_image", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack(pictures[:2], SIZE, tmp_path / "out" / "A", progress=False)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="none of 1 pictures can be read"):
        pack([tmp_path / "gone.png"], SIZE, tmp_path / "out" / "A", progress=False)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["A.json", "A.u8"]
    assert ImageStack.open(tmp_path / "out" / "A", verify=True).sha256 == old.sha256


def test_an_up_to_date_file_is_not_touched_and_a_repaired_picture_is_packed(tmp_path, pictures):
    content = pictures[1].read_bytes()
    pictures[1].write_bytes(b"")
    assert len(pack(pictures[:5], SIZE, tmp_path / "A", progress=False)) == 4
    before = (tmp_path / "A.u8").stat().st_mtime_ns
    pack(pictures[:5], SIZE, tmp_path / "A", progress=False)
    assert (tmp_path / "A.u8").stat().st_mtime_ns == before
    pictures[1].write_bytes(content)
    stack = pack(pictures[:5], SIZE, tmp_path / "A", progress=False)
    assert (len(stack), stack.failures) == (5, ())
    assert (tmp_path / "A.u8").stat().st_mtime_ns != before


def test_a_stack_still_open_keeps_its_pixels_when_packed_again(tmp_path, pictures):
    old = pack(pictures[:3], SIZE, tmp_path / "A", progress=False)
    pixels = np.array(old.images)
    pack(pictures[3:9], SIZE, tmp_path / "A", progress=False)
    np.testing.assert_array_equal(old.images, pixels)


def test_temporary_files_of_others_are_left_alone(tmp_path, pictures):
    running, other = tmp_path / ".A.u8.1.tmp", tmp_path / ".B.u8.1.tmp"
    running.touch()
    other.touch()
    os.utime(other, (1, 1))
    pack(pictures[:2], SIZE, tmp_path / "A", progress=False)
    assert running.exists()
    assert other.exists()
