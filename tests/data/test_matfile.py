"""MATLAB files: what SciPy writes is read as SciPy reads it; what is damaged raises, and nothing worse."""

import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from lib.data import matfile
from lib.data.matfile import read_mat


def cells(*values):
    array = np.empty((1, len(values)), object)
    array[0] = values
    return array


def records(**fields):
    array = np.empty((1, 2), [(name, object) for name in fields])
    for k in range(2):
        array[0, k] = tuple(values[k] for values in fields.values())
    return array


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_numbers_of_every_kind_keep_their_place(tmp_path, kind, packed):
    values = (np.random.default_rng(0).standard_normal((3, 4, 2)) * 100).astype(kind)
    savemat(tmp_path / "x.mat", {"other": 1, "x": values}, do_compression=packed)
    np.testing.assert_array_equal(read_mat(tmp_path / "x.mat", "x"), loadmat(tmp_path / "x.mat")["x"])


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_records_cells_and_text(tmp_path, packed):
    content = {
        "x": records(
            name=["a.jpg", "名前 ñ.jpg"], label=[np.zeros((0, 21), np.int16), np.arange(21, dtype=np.int16)[None]]
        ),
        "c": cells("one", cells("two", np.eye(2))),
        "rows": np.array(["abc", "def"]),
        "empty": "",
    }
    savemat(tmp_path / "x.mat", content, do_compression=packed)
    (name0, label0), (name1, label1) = read_mat(tmp_path / "x.mat", "x")
    assert (name0, name1, label0.shape, label1.tolist()) == ("a.jpg", "名前 ñ.jpg", (0, 21), [list(range(21))])
    one, (two, eye) = read_mat(tmp_path / "x.mat", "c")
    assert (one, two, eye.tolist()) == ("one", "two", [[1, 0], [0, 1]])
    assert read_mat(tmp_path / "x.mat", "rows") == ["abc", "def"]
    assert read_mat(tmp_path / "x.mat", "empty") == ""


def element(kind, body, order="<"):
    return struct.pack(order + "II", kind, len(body)) + body + bytes(-len(body) % 8)


def matrix(kind, dims, *content, order="<", flags=0):
    head = element(6, struct.pack(order + "II", kind | flags, 0), order)
    head += element(5, struct.pack(f"{order}{len(dims)}i", *dims), order) + element(1, b"x", order)
    return element(14, head + b"".join(content), order)


def write(path, *elements, order="<"):
    path.write_bytes(
        b" " * 124 + struct.pack(order + "H", 0x0100) + (b"IM" if order == "<" else b"MI") + b"".join(elements)
    )
    return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_order_of_bytes_and_text_as_matlab_writes_it(tmp_path, order):
    """MATLAB stores text as 16-bit units and small numbers in fewer bytes than their class has."""
    coding = "utf-16-le" if order == "<" else "utf-16-be"
    text = matrix(4, [1, 3], element(17, "né人".encode(coding), order), order=order)
    path = write(tmp_path / "x.mat", text, order=order)
    assert read_mat(path, "x") == "né人"
    numbers = matrix(6, [1, 3], element(3, struct.pack(order + "3h", -1, 2, 300), order), order=order)
    path = write(tmp_path / "y.mat", numbers, order=order)
    assert read_mat(path, "x").tolist() == [[-1, 2, 300]]
    assert loadmat(path)["x"].tolist() == [[-1, 2, 300]]


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ([matrix(6, [1, 4], element(9, bytes(8)))], r"1 numbers for the dimensions \[1, 4\]"),
        ([matrix(6, [1, 1], element(99, bytes(8)))], "numbers of kind 99"),
        ([matrix(6, [-1, 1], element(9, bytes(8)))], r"dimensions \[-1, 1\]"),
        ([matrix(6, [1, 1], element(9, bytes(8)), flags=0x800)], "complex"),
        ([matrix(3, [1, 1], element(9, bytes(8)))], "class 3"),
        ([matrix(1, [2**31 - 1, 2**31 - 1])], "it breaks off"),
        ([matrix(2, [1, 1], element(5, bytes(4)), element(1, b"name"))], "names of fields"),
        ([matrix(4, [2, 2], element(2, b"abc"))], "text of 3 characters"),
        ([element(14, b"")], "it breaks off"),
        ([element(9, bytes(8))], "an element of kind 9 where an array belongs"),
        ([matrix(6, [1, 1], element(9, bytes(8)))[:-4]], "it breaks off"),
    ],
)
def test_damage_is_named(tmp_path, elements, message):
    path = write(tmp_path / "x.mat", *elements)
    with pytest.raises(ValueError, match=rf"x\.mat: cannot be read as a MATLAB label file \(.*{message}"):
        read_mat(path, "x")


def test_cells_in_cells_without_end_are_refused(tmp_path):
    inner = matrix(6, [1, 1], element(9, bytes(8)))
    for _ in range(2_000):
        inner = matrix(1, [1, 1], inner)
    with pytest.raises(ValueError, match="more than 8 deep"):
        read_mat(write(tmp_path / "x.mat", inner), "x")


def test_what_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    bomb = zlib.compress(bytes(10_000_000))  # 10 kB
    path = write(tmp_path / "x.mat", struct.pack("<II", 15, len(bomb)) + bomb)
    monkeypatch.setattr(matfile, "LIMIT", 1_000_000)
    with pytest.raises(ValueError, match="unpacks to more than 1,000,000 bytes"):
        read_mat(path, "x")
    (tmp_path / "y.mat").write_bytes(bytes(1_000_001))
    with pytest.raises(ValueError, match="larger than 1,000,000 bytes"):
        read_mat(tmp_path / "y.mat", "x")


def test_other_files_and_versions_are_refused(tmp_path):
    (tmp_path / "x.mat").write_bytes(b"\x89HDF\r\n" + bytes(600))
    with pytest.raises(ValueError, match="does not begin like a MATLAB file"):
        read_mat(tmp_path / "x.mat", "x")
    (tmp_path / "x.mat").write_bytes(b" " * 124 + b"\0\2IM" + bytes(600))  # 7.3
    with pytest.raises(ValueError, match="another version; save it with -v7"):
        read_mat(tmp_path / "x.mat", "x")
    savemat(tmp_path / "x.mat", {"a": 1, "b": 2})
    with pytest.raises(ValueError, match="has no array 'x'; it holds 'a', 'b'"):
        read_mat(tmp_path / "x.mat", "x")
    with pytest.raises(FileNotFoundError):
        read_mat(tmp_path / "gone.mat", "x")


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_every_cut_raises(tmp_path, packed):
    savemat(tmp_path / "x.mat", {"x": records(name=["a", "b"], label=[np.eye(3), np.eye(2)])}, do_compression=packed)
    whole = (tmp_path / "x.mat").read_bytes()
    for end in range(len(whole)):
        (tmp_path / "x.mat").write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"x\.mat"):
            read_mat(tmp_path / "x.mat", "x")
