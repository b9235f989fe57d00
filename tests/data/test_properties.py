"""Every parser of the room: what a valid file says comes back exactly, a spoiled one gives reasons or one clear error.

20 cases per test, always the same; HYPOTHESIS_PROFILE=thorough draws 1,000 (see conftest.py).
"""

import contextlib
import json
import struct
import tempfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat, savemat

from lib.data.coco import coco_root, find_coco, read_coco
from lib.data.curation import DECISIONS, make_selection, merge, read_selection, write_selection
from lib.data.detection import FORMATS, guess_format, read_detection
from lib.data.fddb import ellipse_box, read_fddb
from lib.data.ffhq import ffhq_landmarks, read_ffhq
from lib.data.files import leaves_root, write_table
from lib.data.folder import read_folder
from lib.data.images import image_size, read_image
from lib.data.mafa import read_mafa
from lib.data.maskedface_net import WEAR_TYPES, read_maskedface_net
from lib.data.pairs import read_lfw, read_mfr2, read_pairs
from lib.data.rmfd import read_rmfd
from lib.data.table import make_table, read_table, validate
from lib.data.voc import read_voc
from lib.data.wider import read_wider
from lib.data.yolo import read_yolo
from lib.study.manifest import StudyError, read_manifest
from lib.warp import landmarks_table, read_landmarks, write_landmarks

pytestmark = pytest.mark.filterwarnings("error")  # a spoiled file must not make numpy or pandas complain either


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def put(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ------------------------------------------------------------------------------------------------ strategies
LETTERS = "abcXYZ019_-é人ñ. "
words = st.text(LETTERS, min_size=1, max_size=12).map(str.strip).filter(lambda s: s.strip(" ."))
people = st.text("abcXYZé人-_", min_size=1, max_size=8)
anything = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)
int16 = st.integers(-32_768, 32_767)
numbers = st.integers(1, 9_999)
pixels = st.floats(-1_000, 5_000, allow_nan=False).map(lambda v: round(v, 6))
WILD = ["nan", "inf", "-inf", "-1", "0", "1e400", "-1e308", "9" * 30, "9" * 5000, "", "٣", "0x10", "1_0", "½", "1,5",
        "\0", "\x85", "\u2028", "\ufeff", "\r", "\t", '"', "../../x", "/etc/x", "C:\\x", "a" * 5000,
        "\ud83d\ude37", "[" * 50, "NaN", "null", "{}", "true"]  # fmt: skip


@st.composite
def spoiled(draw, content):
    """A file's bytes after one to three accidents."""
    for _ in range(draw(st.integers(1, 3))):
        size, lines = len(content), content.split(b"\n")
        accident = draw(st.sampled_from(["cut", "flip", "bytes", "drop", "double", "swap", "wild", "wild", "wild"]))
        at = draw(st.integers(0, max(size - 1, 0)))
        one, two = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        if accident == "cut":
            content = content[:at]
        elif accident == "flip" and size:
            content = content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
        elif accident == "bytes":
            content = content[:at] + draw(st.binary(max_size=12)) + content[at + draw(st.integers(0, 12)) :]
        elif accident == "drop":
            content = b"\n".join(lines[:one] + lines[one + 1 :])
        elif accident == "double":
            content = b"\n".join([*lines[: one + 1], *lines[one:]])
        elif accident == "swap":
            lines[one], lines[two] = lines[two], lines[one]
            content = b"\n".join(lines)
        elif accident == "wild":  # another value in place of one between separators
            separator = draw(st.sampled_from([b" ", b"\t", b",", b"\n", b"/", b"_", b'"']))
            parts = content.split(separator)
            parts[draw(st.integers(0, len(parts) - 1))] = draw(st.sampled_from(WILD)).encode(errors="surrogatepass")
            content = separator.join(parts)
    return content


def survives(read, path, check=validate):
    """A table that keeps the contract, or an error that names the file."""
    try:
        table = read()
    except (ValueError, OSError) as error:
        text = str(error)
    else:
        check(table)
        return table
    assert str(path) in text or str(path.parent) in text
    text.encode()  # it can be printed
    return None


# ------------------------------------------------------------------------------------------------------ MAFA
def mafa_file(path, split, entries):
    train = split == "train"
    fields = [("orgImgName", object)] * train + [("imgName" if train else "name", object), ("label", object)]
    array = np.empty((1, len(entries)), fields)
    for k, (name, rows) in enumerate(entries):
        label = np.array(rows, np.int16).reshape(-1, 21 if train else 18)
        array[0, k] = ("o.jpg", name, label) if train else (name, label)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"label_train" if train else "LabelTest": array})
    return path


def mafa_entries(width):
    rows = st.lists(st.lists(int16, min_size=width, max_size=width), max_size=3)
    return st.lists(st.tuples(words, rows), min_size=1, max_size=4)


MAFA = {"train": ("MAFA-Label-Train/LabelTrainAll.mat", 21), "test": ("MAFA-Label-Test/LabelTestAll.mat", 18)}


@pytest.mark.parametrize("split", MAFA)
@given(data=st.data())
def test_mafa_round_trip(split, data):
    label, width = MAFA[split]
    entries = data.draw(mafa_entries(width))
    there = {name for name, _ in entries if data.draw(st.booleans())}
    with folder() as root:
        mafa_file(root / label, split, entries)
        for name in there:
            put(root / f"{split}-images" / "images" / name)
        table = validate(read_mafa(root, split))
    rows = [(name, row) for name, faces in entries for row in faces]
    assert table["image"].tolist() == [f"{split}-images/images/{name}" for name, _ in rows]
    for (name, row), got in zip(rows, table.itertuples()):
        assert (got.x, got.y, got.w, got.h) == tuple(row[:4])
        occluder = 8 if split == "train" else 5
        x, y, w, h = row[occluder : occluder + 4]
        expected = (row[0] + x, row[1] + y, w, h) if min(w, h) > 0 else (-1, -1, -1, -1)
        assert (got.occ_x, got.occ_y, got.occ_w, got.occ_h) == expected
        assert [got.occluder_type, got.occlusion_degree, got.gender, got.race, got.orientation] == row[
            occluder + 4 : occluder + 9
        ]
        if name not in there:
            assert got.reason == "picture missing"
        elif min(row[2:4]) <= 0:
            assert got.reason == "empty box"
        elif row[0] + row[2] <= 0 or row[1] + row[3] <= 0:
            assert got.reason == "box outside the picture"
        else:
            assert got.reason == ("marked invalid" if split == "test" and row[4] == 3 else "")
    counts = Counter()
    for (name, _), face in zip(rows, table["face"]):
        assert face == counts[name]
        counts[name] += 1


@pytest.mark.parametrize("split", MAFA)
@pytest.mark.parametrize("packed", [False, True])
@given(data=st.data())
def test_mafa_spoiled(split, packed, data):
    label, width = MAFA[split]
    with folder() as root:
        path = mafa_file(root / label, split, data.draw(mafa_entries(width)))
        if packed:
            savemat(path, {k: v for k, v in loadmat(path).items() if k[0] != "_"}, do_compression=True)
        path.write_bytes(data.draw(spoiled(path.read_bytes())))
        survives(lambda: read_mafa(root, split), path)


@given(entries=mafa_entries(21), data=st.data())
def test_mafa_spoiled_inside_its_packing(entries, data):
    with folder() as root:
        path = mafa_file(root / "LabelTrainAll.mat", "train", entries)
        content = path.read_bytes()
        inner = zlib.compress(data.draw(spoiled(content[128:])))
        path.write_bytes(content[:128] + struct.pack("<II", 15, len(inner)) + inner)
        survives(lambda: read_mafa(root), path)


@given(
    name=st.one_of(words, st.sampled_from(WILD)),
    rows=st.one_of(
        st.lists(st.lists(st.floats(width=64), min_size=21, max_size=21), max_size=2),
        st.sampled_from(["text", 5, [[1, 2], [3, 4]], np.zeros((2, 3, 21)), np.ones(21, complex), [[]], {"a": 1}]),
    ),
    key=st.sampled_from(["label_train", "labels"]),
)
def test_mafa_with_values_that_are_none(name, rows, key):
    array = np.empty((1, 1), [("orgImgName", object), ("imgName", object), ("label", object)])
    array[0, 0] = ("o", name, rows if isinstance(rows, (str, dict, int)) else np.array(rows))
    with folder() as root:
        path = root / "LabelTrainAll.mat"
        try:
            savemat(path, {key: array})
        except Exception:
            assume(False)
        table = survives(lambda: read_mafa(root), path)
        if table is not None and leaves_root(name):
            assert (table["reason"] == "path leaves the data set").all()


# ------------------------------------------------------------------------------------------------------ FDDB
angles = st.floats(-4, 4).map(lambda v: round(v, 6))
axes = st.floats(0.5, 300).map(lambda v: round(v, 6))
ellipses = st.lists(st.tuples(axes, axes, angles, pixels, pixels), max_size=3)
space = st.sampled_from([" ", "  ", "\t", " \t"])


@st.composite
def fddb_list(draw):
    entries = draw(st.lists(st.tuples(words, ellipses), min_size=1, max_size=4))
    lines = []
    for name, faces in entries:
        lines += [name, str(len(faces))] + [draw(space).join([*map(repr, face), "1"]) for face in faces]
        lines += [""] * draw(st.integers(0, 1))
    return entries, draw(st.sampled_from(["\n", "\r\n"])).join(lines) + draw(st.sampled_from(["", "\n"]))


@given(listed=fddb_list(), size=st.tuples(st.integers(1, 400), st.integers(1, 400)), data=st.data())
def test_fddb_round_trip(listed, size, data):
    entries, text = listed
    there = {name for name, _ in entries if data.draw(st.booleans())}
    with folder() as root:
        put(root / "FDDB-folds" / "FDDB-fold-07-ellipseList.txt", text.encode())
        for name in there:
            Image.new("L", size).save(root / f"{name}.jpg")
        table = validate(read_fddb(root))
    rows = [(name, face, k) for k, (name, faces) in enumerate(entries) for face in faces]
    assert table["image"].tolist() == [f"{name}.jpg" for name, _, _ in rows]
    if not rows:
        return
    marked = table[["ellipse_major", "ellipse_minor", "ellipse_angle_rad", "ellipse_cx", "ellipse_cy"]]
    assert [tuple(row) for row in marked.to_numpy().tolist()] == [face for _, face, _ in rows]
    for (name, face, k), got in zip(rows, table.itertuples()):
        x, y, w, h = ellipse_box(*face)
        again = any(name == entries[j][0] and entries[j][1] for j in range(k))
        inside = x + w > 0 and y + h > 0 and x < size[0] and y < size[1]
        expected = ("picture missing" if name not in there else "picture listed again" if again
                    else "" if inside else "box outside the picture")  # fmt: skip
        assert got.reason == expected
        if not expected:
            assert 0 <= got.x <= got.x + got.w <= size[0] + 1e-9
            assert 0 <= got.y <= got.y + got.h <= size[1] + 1e-9


@given(data=st.data())
def test_fddb_spoiled(data):
    _, text = data.draw(fddb_list())
    with folder() as root:
        path = put(root / "FDDB-folds" / "FDDB-fold-07-ellipseList.txt", data.draw(spoiled(text.encode())))
        survives(lambda: read_fddb(root), path)


# ----------------------------------------------------------------------------------------------------- WIDER
codes = st.tuples(*[st.integers(0, 2)] * 3, st.integers(0, 1), *[st.integers(0, 2)] * 2)
wider_faces = st.lists(st.tuples(*[st.integers(-50, 2_000)] * 4, codes).map(lambda t: (*t[:4], *t[4])), max_size=3)


@st.composite
def wider_list(draw):
    entries = draw(st.lists(st.tuples(words.map(lambda w: f"0--Parade/{w}.jpg"), wider_faces), min_size=1, max_size=4,
                            unique_by=lambda entry: entry[0]))  # fmt: skip
    lines = []
    for name, faces in entries:
        lines += [name, str(len(faces)), *(" ".join(map(str, face)) + " " for face in faces or [(0,) * 10])]
    return entries, "\n".join(lines) + "\n"


@pytest.mark.parametrize("split", ["train", "val"])
@given(listed=wider_list(), data=st.data())
def test_wider_round_trip(split, listed, data):
    entries, text = listed
    there = {name for name, _ in entries if data.draw(st.booleans())}
    with folder() as root:
        put(root / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt", text.encode())
        for name in there:
            put(root / f"WIDER_{split}" / "images" / name)
        table = validate(read_wider(root, split))
    rows = [(name, face) for name, faces in entries for face in (faces or [None])]
    assert table["image"].tolist() == [f"WIDER_{split}/images/{name}" for name, _ in rows]
    for (name, face), got in zip(rows, table.itertuples()):
        if face is None:
            assert got.reason == ("no face in the picture" if name in there else "picture missing")
            continue
        x, y, w, h, *rest = face
        assert (got.x, got.y, got.w, got.h) == (x, y, w, h)
        assert [got.blur, got.expression, got.illumination, got.invalid, got.occlusion, got.pose] == rest
        expected = ("picture missing" if name not in there else "empty box" if min(w, h) <= 0
                    else "box outside the picture" if x + w <= 0 or y + h <= 0
                    else "marked invalid" if rest[3] else "")  # fmt: skip
        assert got.reason == expected


@given(data=st.data())
def test_wider_spoiled(data):
    _, text = data.draw(wider_list())
    with folder() as root:
        path = put(root / "wider_face_train_bbx_gt.txt", data.draw(spoiled(text.encode())))
        survives(lambda: read_wider(root), path)
        path = put(root / "wider_face_test_filelist.txt", path.read_bytes())
        survives(lambda: read_wider(root, "test"), path)


# ------------------------------------------------------------------------------------------------------ FFHQ
points = st.lists(st.tuples(pixels, pixels), min_size=68, max_size=68)


@given(seed=st.integers(0, 2**32 - 1), ids=st.lists(st.integers(0, 69_999), min_size=1, max_size=4, unique=True))
def test_ffhq_json_round_trip(seed, ids):
    rng = np.random.default_rng(seed)
    faces = {k: rng.uniform(-100, 1200, (68, 2)).round(int(rng.integers(0, 9))) for k in ids}
    content = {str(k): {"category": "training", "image": {"face_landmarks": p.tolist()}} for k, p in faces.items()}
    with folder() as root:
        found = ffhq_landmarks(put(root / "ffhq-dataset-v2.json", json.dumps(content).encode()))
    assert list(found) == [f"{k:05d}" for k in ids]
    for k, expected in faces.items():
        np.testing.assert_array_equal(found[f"{k:05d}"], expected.astype(np.float32))


@given(data=st.data(), seed=st.integers(0, 9))
def test_ffhq_json_spoiled(data, seed):
    landmarks = np.random.default_rng(seed).uniform(0, 1024, (68, 2)).round(1).tolist()
    text = json.dumps({"7": {"image": {"face_landmarks": landmarks}}, "12": {"image": {"face_landmarks": landmarks}}})
    with folder() as root:
        path = put(root / "ffhq-dataset-v2.json", data.draw(spoiled(text.encode())))

        def check(found):
            assert all(np.isfinite(p).all() and p.shape == (68, 2) for p in found.values())

        survives(lambda: ffhq_landmarks(path), path, check)
        survives(lambda: ffhq_landmarks(path, ["00007"]), path, check)


# ------------------------------------------------------------------------------------------- trees of pictures
@given(
    names=st.lists(st.tuples(st.integers(0, 70_500), st.sampled_from([*WEAR_TYPES, "Mask_Ear"]),
                             st.sampled_from(["jpg", "JPG", "png"])), min_size=1, max_size=6, unique=True),
    kind=st.sampled_from(["CMFD", "IMFD"]),
    flat=st.booleans(),
)  # fmt: skip
def test_maskedface_net_round_trip(names, kind, flat):
    with folder() as root:
        paths = [root / kind / ("" if flat else f"{k // 1000 * 1000:05d}") / f"{k:05d}_{wear}.{suffix}"
                 for k, wear, suffix in names]  # fmt: skip
        for path in paths:
            put(path)
        table = validate(read_maskedface_net(root, kind)).set_index("image")
        assert sorted(table.index) == sorted(path.relative_to(root).as_posix() for path in paths)
        used = Counter()
        for path, (k, wear, _) in zip(paths, names):
            row = table.loc[path.relative_to(root).as_posix()]
            assert (row["identity"], row["wear_type"]) == (f"{k:05d}", wear)
            fits = wear in WEAR_TYPES and (wear == "Mask") == (kind == "CMFD") and k < 70_000
            assert not row["reason"] or not fits or row["reason"].startswith("second picture")
            used[path.stem] += row["reason"] == ""
            assert fits or row["reason"]
        assert max(used.values()) <= 1


@given(
    ids=st.lists(st.integers(0, 70_500), min_size=1, max_size=6, unique=True),
    layout=st.sampled_from(["images1024x1024/{t:05d}/", "thumbnails128x128/{t:05d}/", "images1024x1024/", ""]),
)
def test_ffhq_names_round_trip(ids, layout):
    with folder() as root:
        for k in ids:
            put(root / layout.format(t=k // 1000 * 1000) / f"{k:05d}.png")
        table = validate(read_ffhq(root))
    assert table["identity"].tolist() == [f"{k:05d}" for k in sorted(ids)]
    assert (table["reason"] == "").tolist() == [k < 70_000 for k in sorted(ids)]


READERS = {
    "folder": read_folder,
    "parent": lambda root: read_folder(root, "parent"),
    "CMFD": read_maskedface_net,
    "IMFD": lambda root: read_maskedface_net(root, "IMFD"),
    "FFHQ": read_ffhq,
    "LFW": read_lfw,
    "RWMFD": lambda root: read_rmfd(root, "RWMFD"),
    "RMFRD": read_rmfd,
}
odd_names = st.one_of(
    words,
    st.sampled_from(["41192_Mask", "٤١١٩٢_Mask", "41192_Mask_Chin", "00007", "x_0001", "AFDB_face_dataset", "CMFD",
                     "RWMFD_part_1", "images1024x1024", "in-the-wild-images", "a\nb", "a\\..\\b", "-", "\udcff\udc80"]),
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="/\0"), min_size=1, max_size=8)
    .filter(lambda name: name not in (".", "..")),
)  # fmt: skip
trees = st.lists(
    st.tuples(st.lists(odd_names, max_size=3), odd_names, st.sampled_from([".jpg", ".PNG", ".webp", ".txt"])),
    min_size=1, max_size=6,
)  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@given(tree=trees)
def test_trees_of_any_names(reader, tree):
    with folder() as root:
        expected = set()
        for parts, stem, suffix in tree:
            relative = Path(*parts, stem + suffix)
            try:
                put(root / relative)
            except OSError:  # too long, `.`, or a file where a folder should be
                continue
            hidden = any(part.startswith(".") for part in relative.parts)
            if suffix != ".txt" and not hidden and ".." not in relative.parts:
                expected.add(relative.as_posix())
        table = survives(lambda: READERS[reader](root), root / "x")
        if table is None:
            assert reader not in ("folder", "parent") or not expected
            return
        decoded = {name if name.isprintable() or "\udcff" not in name else None for name in expected}
        assert len(table) <= len(expected)
        assert set(table.loc[table["reason"] == "", "image"]) <= decoded
        if reader in ("folder", "parent"):
            assert len(table) == len(expected)


@given(
    normal=st.lists(st.tuples(people, st.text("ab01", min_size=1, max_size=5)), max_size=5, unique=True),
    masked=st.lists(st.tuples(people, st.text("ab01", min_size=1, max_size=5)), min_size=1, max_size=5, unique=True),
    outer=st.sampled_from(["self-built-masked-face-recognition-dataset/", ""]),
)
def test_rmfrd_round_trip(normal, masked, outer):
    with folder() as root:
        expected = []
        for sub, flag, files in (("AFDB_face_dataset", 0, normal), ("AFDB_masked_face_dataset", 1, masked)):
            for name, stem in files:
                put(root / f"{outer}{sub}/{name}/{stem}.jpg")
                expected.append((f"{outer}{sub}/{name}/{stem}.jpg", name, flag, ""))
        table = validate(read_rmfd(root))
    got = table[["image", "identity", "masked", "reason"]].itertuples(index=False, name=None)
    assert sorted(got) == sorted(expected)


# --------------------------------------------------------------------------------------------------- MFR2, LFW
@st.composite
def mfr2_labels(draw):
    rows = draw(st.lists(st.tuples(people, numbers, st.sampled_from(["no-mask", "surgical_blue", "cloth", ""])),
                         min_size=1, max_size=6, unique_by=lambda row: row[:2]))  # fmt: skip
    return rows, "".join(f"{name}, {number}, {mask}\n" for name, number, mask in rows)


@given(labels=mfr2_labels(), data=st.data())
def test_mfr2_round_trip(labels, data):
    rows, text = labels
    suffixes = [data.draw(st.sampled_from([".png", ".jpg", ".jpeg", None])) for _ in rows]
    with folder() as root:
        put(root / "mfr2" / "mfr2_labels.txt", text.encode())
        for (name, number, _), suffix in zip(rows, suffixes):
            if suffix:
                put(root / f"mfr2/{name}/{name}_{number:04d}{suffix}")
        extra = put(root / "mfr2/Nobody/Nobody_0001.png")
        table = validate(read_mfr2(root))
    assert table["image"].iloc[-1] == extra.relative_to(root).as_posix()
    table = table.iloc[:-1]
    assert table["image"].tolist() == [f"mfr2/{n}/{n}_{k:04d}{s or '.png'}" for (n, k, _), s in zip(rows, suffixes)]
    assert list(table[["identity", "number", "masktype"]].itertuples(index=False, name=None)) == rows
    assert table["reason"].tolist() == ["" if s else "picture missing" for s in suffixes]


@given(data=st.data())
def test_mfr2_spoiled(data):
    _, text = data.draw(mfr2_labels())
    with folder() as root:
        path = put(root / "mfr2_labels.txt", data.draw(spoiled(text.encode())))
        survives(lambda: read_mfr2(root), path)


@st.composite
def pair_file(draw):
    """(expected rows of name1, n1, name2, n2, same, fold), text; with one of LFW's two headers or none."""
    header = draw(st.sampled_from(["none", "folds", "count"]))
    size, folds = draw(st.integers(1, 3)), draw(st.integers(1, 3)) if header == "folds" else 1
    rows, lines = [], {"none": [], "folds": [f"{folds}\t{size}"], "count": [str(size)]}[header]
    for fold in range(folds):
        for k in range(2 * size):
            name, one, two = draw(people), draw(numbers), draw(numbers)
            fold_told = fold + 1 if header != "none" else 0
            if k < size:
                rows.append((name, one, name, two, True, fold_told))
                lines.append(f"{name}\t{one}\t{two}")
            else:
                other = draw(people.filter(lambda other, name=name: other != name))
                rows.append((name, one, other, two, False, fold_told))
                lines.append(f"{name}\t{one}\t{other}\t{two}")
    return rows, draw(st.sampled_from(["\n", "\r\n"])).join(lines) + "\n"


@pytest.mark.parametrize(("kind", "sub"), [("lfw", "lfw/"), ("lfw", ""), ("mfr2", "mfr2/"), ("mlfw", "")])
@given(pairs=pair_file(), data=st.data())
def test_pairs_round_trip(kind, sub, pairs, data):
    rows, text = pairs
    end, published = "_0000" if kind == "mlfw" else "", ".png" if kind == "mfr2" else ".jpg"

    def image(name, number, suffix):
        return f"{sub}{name}/{name}_{number:04d}{end}{suffix}"

    there = {}
    with folder() as root:
        (root / sub).mkdir(exist_ok=True)
        for name, number in {(r[j], r[j + 1]) for r in rows for j in (0, 2)}:
            if suffix := data.draw(st.sampled_from([".jpg", ".png", ".jpeg", ""])):
                there[name, number] = put(root / image(name, number, suffix)).suffix
        table = read_pairs(put(root / "pairs.txt", text.encode()), root, kind)
    expected = [
        (fold, image(a, m, there.get((a, m), published)), image(b, n, there.get((b, n), published)), same,
         "" if (a, m) in there and (b, n) in there else "picture missing")
        for a, m, b, n, same, fold in rows
    ]  # fmt: skip
    assert list(table.itertuples(index=False, name=None)) == expected


@given(rows=st.lists(st.tuples(people, numbers, people, numbers), min_size=1, max_size=5),
       told=st.booleans(), flat=st.booleans())  # fmt: skip
def test_pairs_of_files_round_trip(rows, told, flat):
    with folder() as root:
        lines, expected = [], []
        for a, m, b, n in rows:
            files = [f"{name}_{number:04d}_0000.jpg" for name, number in ((a, m), (b, n))]
            images = files if flat else [f"{name}/{file}" for name, file in zip((a, b), files)]
            for image in images:
                put(root / image)
            lines.append(" ".join([*files, str(int(a == b))][: 3 if told else 2]))
            expected.append((0, *images, a == b, ""))
        table = read_pairs(put(root / "pairs.txt", "\n".join(lines).encode()), root, "mlfw")
    assert list(table.itertuples(index=False, name=None)) == expected


@pytest.mark.parametrize("kind", ["lfw", "mfr2", "mlfw"])
@given(data=st.data())
def test_pairs_spoiled(kind, data):
    _, text = data.draw(pair_file())

    def check(table):
        assert table.dtypes[["same", "fold"]].tolist() == [bool, int]
        assert (table["reason"] != "").all()  # there are no pictures

    with folder() as root:
        path = put(root / "pairs.txt", data.draw(spoiled(text.encode())))
        survives(lambda: read_pairs(path, root, kind), path, check)


# ------------------------------------------------------------------------------------------------ the face table
box = st.one_of(st.floats(allow_infinity=False, allow_nan=False), st.just(np.nan), pixels)


@st.composite
def face_rows(draw):
    rows = draw(st.lists(st.fixed_dictionaries({
        "image": anything.filter(bool), "face": st.integers(0, 2**31 - 1), "x": box, "y": box,
        "w": box, "h": box, "identity": anything, "split": anything, "reason": anything,
        "orientation": st.integers(-1, 5), "measure": st.floats(allow_nan=True, allow_infinity=False),
    }), max_size=6, unique_by=lambda row: (row["image"], row["face"])))  # fmt: skip
    for row in rows:
        if row["w"] <= 0 or row["h"] <= 0:
            row["reason"] = row["reason"] or "empty box"
    return rows


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@given(rows=face_rows())
def test_face_table_round_trip(suffix, rows):
    table = validate(make_table(rows))
    with folder() as root:
        back = read_table(write_table(root / f"faces.{suffix}", table))
    pd.testing.assert_frame_equal(back, table, check_exact=True, check_dtype=bool(rows))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@given(rows=face_rows(), data=st.data())
def test_face_table_spoiled(suffix, rows, data):
    with folder() as root:
        path = write_table(root / f"faces.{suffix}", make_table(rows))
        path.write_bytes(data.draw(spoiled(path.read_bytes())))
        survives(lambda: read_table(path), path)


# -------------------------------------------------------------------------------------------------- selections
times = st.one_of(
    st.just(""), st.datetimes(timezones=st.one_of(st.none(), st.timezones())).map(lambda t: t.isoformat())
)
decisions = st.lists(st.fixed_dictionaries({
    "image": anything.filter(bool), "face": st.integers(0, 999), "decision": st.sampled_from(DECISIONS),
    "reason": anything, "by": anything, "time": times,
}), max_size=6)  # fmt: skip


@given(rows=decisions)
def test_selection_round_trip(rows):
    selection = make_selection(rows)
    with folder() as root:
        write_selection(root / "s.csv", selection)
        back = read_selection(root / "s.csv")
    pd.testing.assert_frame_equal(back, selection, check_dtype=bool(rows))
    merged, conflicts = merge([back, selection])
    assert len(merged) == selection.drop_duplicates(["image", "face"]).shape[0]
    assert len(conflicts) <= 2 * len(rows)


@given(rows=decisions, data=st.data())
def test_selection_spoiled(rows, data):
    with folder() as root:
        write_selection(root / "s.csv", make_selection(rows))
        path = root / "s.csv"
        path.write_bytes(data.draw(spoiled(path.read_bytes())))
        survives(lambda: read_selection(path), path, lambda selection: merge([selection]))


# ---------------------------------------------------------------------------------------------------- pictures
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif", "gif"])
@given(data=st.data())
def test_pictures_spoiled(suffix, data):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    with folder() as root:
        path = root / f"x.{suffix}"
        Image.fromarray(pixels).save(path)
        path.write_bytes(data.draw(spoiled(path.read_bytes())))
        for use in (read_image, image_size):
            survives(lambda use=use: use(path), path, lambda _: None)


# ---------------------------------------------------------------------------------------------- COCO, VOC, YOLO
labels = st.sampled_from(["face", "with_mask", "without_mask", "person", "人"])
boxes = st.lists(st.tuples(pixels, pixels, pixels, pixels, labels), max_size=3)
file_names = words.filter(lambda name: name[0] != ".")  # hidden files are not listed
scenes = st.lists(st.tuples(file_names, boxes), min_size=1, max_size=4, unique_by=lambda scene: scene[0].casefold())


def expected_reason(x, y, w, h, size):
    if min(w, h) <= 0:
        return "empty box"
    return "box outside the picture" if x + w <= 0 or y + h <= 0 or x >= size[0] or y >= size[1] else ""


def coco_file(path, content, size, rng):
    names = ["face", "with_mask", "without_mask", "person", "人"]
    images, annotations = [], []
    for k, (name, faces) in enumerate(content):
        images.append({"id": k * 7, "file_name": f"{name}.png", "width": size[0], "height": size[1]})
        annotations += [
            {"image_id": k * 7, "bbox": list(face[:4]), "category_id": names.index(face[4])} for face in faces
        ]
    rng.shuffle(annotations)
    annotations = [{"id": k, **annotation} for k, annotation in enumerate(annotations)]
    categories = [{"id": k, "name": name} for k, name in enumerate(names)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories}, indent=1)
    return annotations, put(path, text.encode())


@given(content=scenes, size=st.tuples(st.integers(1, 400), st.integers(1, 400)), data=st.data())
def test_coco_round_trip(content, size, data):
    there = {name for name, _ in content if data.draw(st.booleans())}
    with folder() as root:
        annotations, path = coco_file(root / "annotations" / "val.json", content, size, data.draw(st.randoms()))
        for name in there:
            Image.new("L", size).save(put(root / "images" / f"{name}.png"))
        table = validate(read_coco(path))
        assert coco_root(path) == root
    names = ["face", "with_mask", "without_mask", "person", "人"]
    assert table["image"].unique().tolist() == [f"images/{n}.png" if n in there else f"{n}.png" for n, _ in content]
    assert (table["label_entry"] >= 0).sum() == len(annotations)
    assert set(table["split"]) == {"val"}
    for row in table.itertuples():
        name, faces = content[row.label_record]
        if not faces:
            assert row.label_entry == -1
            assert row.reason == ("no face in the picture" if name in there else "picture missing")
            continue
        entry = annotations[row.label_entry]
        assert [row.x, row.y, row.w, row.h] == entry["bbox"]
        assert row.label == names[entry["category_id"]]
        assert row.reason == (expected_reason(*entry["bbox"], size) if name in there else "picture missing")


@given(content=scenes, data=st.data())
def test_coco_spoiled(content, data):
    with folder() as root:
        _, path = coco_file(root / "annotations" / "val.json", content, (30, 20), data.draw(st.randoms()))
        path.write_bytes(data.draw(spoiled(path.read_bytes())))
        survives(lambda: read_coco(path), path)
        survives(lambda: read_detection(root, "coco")[0], root)


def voc_file(path, faces, size, name):
    items = [
        f"\t<object>\n\t\t<name>{label}</name>\n\t\t<bndbox>\n\t\t\t<xmin>{x}</xmin>\n\t\t\t<ymin>{y}</ymin>\n"
        f"\t\t\t<xmax>{w}</xmax>\n\t\t\t<ymax>{h}</ymax>\n\t\t</bndbox>\n\t</object>\n" for x, y, w, h, label in faces
    ]  # fmt: skip
    told = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    head = f"<annotation>\n\t<filename>{name}</filename>\n\t{told}\n"
    return put(path, f"{head}{''.join(items)}</annotation>\n".encode())


@given(content=scenes, size=st.tuples(st.integers(1, 400), st.integers(1, 400)), data=st.data())
def test_voc_round_trip(content, size, data):
    there = {name for name, _ in content if data.draw(st.booleans())}
    with folder() as root:
        for name, faces in content:
            voc_file(root / "Annotations" / f"{name}.xml", faces, size, f"{name}.png")
            (root / "JPEGImages").mkdir(exist_ok=True)
            if name in there:
                Image.new("L", size).save(root / "JPEGImages" / f"{name}.png")
        table = validate(read_voc(root))
    assert table["label_file"].unique().tolist() == sorted(f"Annotations/{name}.xml" for name, _ in content)
    for name, faces in content:
        rows = table[table["label_file"] == f"Annotations/{name}.xml"]
        assert set(rows["image"]) == {f"JPEGImages/{name}.png"}
        if not faces:
            assert rows["reason"].tolist() == ["no face in the picture" if name in there else "picture missing"]
            continue
        for (x0, y0, x1, y1, label), row in zip(faces, rows.itertuples(), strict=True):
            box = (x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1)
            assert (row.x, row.y, row.w, row.h) == box
            assert row.label == label
            assert row.reason == (expected_reason(*box, size) if name in there else "picture missing")


@given(content=scenes, data=st.data())
def test_voc_spoiled(content, data):
    with folder() as root:
        for name, faces in content:
            path = voc_file(root / f"{name}.xml", faces, (30, 20), f"{name}.png")
            Image.new("L", (30, 20)).save(root / f"{name}.png")
        path.write_bytes(data.draw(spoiled(path.read_bytes())))
        table = survives(lambda: read_voc(root), root)
        if table is not None:
            assert table["label_file"].nunique() in (len(content), len(content) - 1)  # another root element is no label


shares = st.floats(-0.5, 1.5).map(lambda v: round(v, 6))
yolo_lines = st.lists(st.tuples(st.integers(0, 4), shares, shares, shares, shares), max_size=3)

yolo_scenes = st.lists(
    st.tuples(file_names, yolo_lines), min_size=1, max_size=4, unique_by=lambda scene: scene[0].casefold()
)


def yolo_file(path, faces):
    return put(path, "\n".join(" ".join(map(str, face)) for face in faces).encode())


@given(
    content=st.lists(
        st.tuples(file_names, yolo_lines), min_size=1, max_size=4, unique_by=lambda scene: scene[0].casefold()
    ),
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    named=st.sampled_from(["", "names: [face, with_mask, 'no', person, '1']", "names: {0: face, 2: 'no'}"]),
)
def test_yolo_round_trip(content, size, named):
    names = {0: "face", 1: "with_mask", 2: "no", 3: "person", 4: "1"} if "[" in named else {0: "face", 2: "no"}
    names = names if named else {}
    with folder() as root:
        put(root / "data.yaml", named.encode())
        for name, faces in content:
            put(
                root / "labels" / "train" / f"{name}.txt",
                "\n".join(" ".join(map(str, face)) for face in faces).encode(),
            )
            put(root / "images" / "train" / f"{name}.png")
            Image.new("L", size).save(root / "images" / "train" / f"{name}.png")
        table = validate(read_yolo(root))
    assert table["image"].unique().tolist() == sorted(f"images/train/{name}.png" for name, _ in content)
    assert set(table["split"]) == {"train"}
    for name, faces in content:
        rows = table[table["image"] == f"images/train/{name}.png"]
        if not faces:
            assert rows["reason"].tolist() == ["no face in the picture"]
            continue
        for (number, cx, cy, w, h), row in zip(faces, rows.itertuples(), strict=True):
            box = (cx * size[0] - w * size[0] / 2, cy * size[1] - h * size[1] / 2, w * size[0], h * size[1])
            assert (row.x, row.y, row.w, row.h) == box
            assert row.label == names.get(number, str(number))
            assert row.reason == expected_reason(*box, size)


@given(
    faces=st.lists(yolo_lines, min_size=1, max_size=3),
    which=st.sampled_from(["txt", "yaml", "classes"]),
    data=st.data(),
)
def test_yolo_spoiled(faces, which, data):
    with folder() as root:
        for k, lines in enumerate(faces):
            text = yolo_file(root / "labels" / f"{k}.txt", lines)
            Image.new("L", (30, 20)).save(put(root / "images" / f"{k}.png"))
        yaml = put(root / "data.yaml", b"path: .\nnc: 2\nnames:\n  0: face\n  1: mask\n")
        classes = put(root / "labels" / "classes.txt", b"face\nmask\n")
        if which == "classes":
            yaml.unlink()
        path = {"txt": text, "yaml": yaml, "classes": classes}[which]
        path.write_bytes(data.draw(spoiled(path.read_bytes())))
        table = survives(lambda: read_yolo(root), root)
        if table is not None:
            assert table["image"].nunique() == len(faces)


@pytest.mark.parametrize("format", FORMATS)
@given(data=st.data())
def test_any_file_in_any_format(format, data):
    """Also the guess, and the lists with the lines they stand in."""
    names = {"coco": "annotations/a.json", "voc": "a.xml", "yolo": "data.yaml", "wider": "wider_face_val_bbx_gt.txt",
             "fddb": "FDDB-folds/FDDB-fold-01-ellipseList.txt"}  # fmt: skip
    texts = {"coco": '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}', "voc": "<annotation/>",
             "yolo": "names: [a]"}  # fmt: skip
    text = texts.get(format) or data.draw(wider_list() if format == "wider" else fddb_list())[1]
    with folder() as root:
        path = put(root / names[format], data.draw(spoiled(text.encode())))
        Image.new("L", (30, 20)).save(put(root / "images" / "a.jpg"))
        survives(lambda: read_detection(root, format)[0], root)
        survives(lambda: read_detection(path, format, root / "images")[0], root)
        with contextlib.suppress(ValueError):
            assert guess_format(root) in FORMATS
        find_coco(root)


# ------------------------------------------------------------------------- tables that people write beside pictures
groups = st.text('ab07é人-_ ,"', max_size=6).filter(lambda text: text == text.strip())


@st.composite
def manifests(draw):
    names = draw(st.lists(words, min_size=1, max_size=6, unique=True))
    rows = [(name, draw(groups), draw(st.one_of(st.none(), st.integers(-90, 90)))) for name in names]
    return pd.DataFrame(rows, columns=["name", "group", "yaw_estimate"]).astype({"yaw_estimate": float})


@given(rows=manifests(), mark=st.booleans())
def test_manifest_round_trip(rows, mark):
    with folder() as root:
        text = rows.to_csv(index=False).encode("utf-8-sig" if mark else "utf-8")
        table = read_manifest(put(root / "manifest.csv", text))
    assert table["image"].tolist() == rows["name"].tolist()
    assert table["identity"].tolist() == rows["group"].tolist()  # text stays text: 007 is no number
    np.testing.assert_array_equal(table["yaw_estimate"].to_numpy(float), rows["yaw_estimate"].to_numpy())


@given(data=st.data())
def test_manifest_spoiled(data):
    with folder() as root:
        path = put(root / "manifest.csv", data.draw(spoiled(data.draw(manifests()).to_csv(index=False).encode())))

        def read():
            try:
                return read_manifest(path)
            except StudyError as error:  # what the user can mend
                raise ValueError(str(error)) from error

        def check(table):
            assert table["image"].is_unique
            assert "yaw_estimate" not in table or table["yaw_estimate"].dtype.kind in "if"

        survives(read, path, check)


@given(data=st.data(), names=st.lists(words, min_size=1, max_size=3, unique=True))
def test_landmarks_spoiled(data, names):
    points = np.arange(136, dtype=np.float32).reshape(68, 2)
    table = landmarks_table((name, 0, points) for name in names)
    with folder() as root:
        path = root / "landmarks.csv"
        write_landmarks(path, table)
        assert read_landmarks(path)["image"].tolist() == names
        put(path, data.draw(spoiled(path.read_bytes())))
        with contextlib.suppress(ValueError):  # one clear error
            assert not read_landmarks(path).duplicated(["image", "face"]).any()
