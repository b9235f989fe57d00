"""Names of outputs, seeds, and folders that are refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.augment.tasks import (
    AugmentError,
    Labelled,
    Task,
    check_folders,
    face_seed,
    hidden_folders,
    identity_of,
    list_sources,
    name_tasks,
    variant_seed,
    work_digest,
)


def names(sources: list[str], **options) -> list[tuple[str, ...]]:
    """Of each picture: its variants, then its original."""
    return [(t.name, *t.more, *[t.original] * bool(t.original)) for t in name_tasks(sources, **options)]


def test_seeds_are_fixed_numbers_of_seed_path_and_face():
    assert face_seed(0, "a/b.jpg", 0) == 7880539428490247621
    others = {
        face_seed(s, p, f, u) for s in (0, 1) for p in ("a.jpg", "b.jpg") for f in (0, 1) for u in ("warp", "noise")
    }
    assert len(others) == 16
    assert all(0 <= seed < 2**63 for seed in others)


def test_the_first_variant_has_the_face_s_own_seed():
    assert variant_seed(3, "a.jpg", 1, 1) == face_seed(3, "a.jpg", 1)
    assert len({variant_seed(3, "a.jpg", f, v, u) for f in (0, 1) for v in (1, 2, 3) for u in ("warp", "noise")}) == 12


def test_a_name_gives_the_same_seed_however_its_accents_are_spelled():
    assert face_seed(0, "Jose\u0301.jpg", 0) == face_seed(0, "Jos\u00e9.jpg", 0)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["a/img.01.JPG", "b.jpeg", "a/b.webp", "ü/фото.tiff"], ["a/img.01.png", "b.png", "a/b.png", "ü/фото.png"]),
        (["a.jpg", "a.png", "b.jpg"], ["a.jpg.png", "a.png.png", "b.png"]),
        (["a.jpg", "A.png"], ["a.jpg.png", "A.png.png"]),
        (["a.jpg", "a.png", "a.jpg.webp"], ["a.jpg.png", "a.png.png", "a.jpg.webp.png"]),
        (["x/a.jpg", "y/a.png"], ["x/a.png", "y/a.png"]),
    ],
)
def test_a_picture_keeps_its_name_and_where_two_would_collide_its_suffix(sources, expected):
    assert names(sources) == [(name,) for name in expected]


@pytest.mark.parametrize(
    ("sources", "options", "expected"),
    [
        (["Al/Al_0002.jpg"], {"per_image": 2}, [("Al/Al_1002.png", "Al/Al_2002.png")]),
        (["Al/Al_0002.jpg"], {"originals": True}, [("Al/Al_1002.png", "Al/Al_0002.png")]),
        (["Al/Al_0002.jpg", "B/B_1000.jpg"], {"originals": True},
         [("Al/Al_10002.png", "Al/Al_0002.png"), ("B/B_11000.png", "B/B_1000.png")]),
        (["17/003.jpg"], {"per_image": 2, "originals": True}, [("17/003_mask1.png", "17/003_mask2.png", "17/003.png")]),
        (["Al/Bo_0002.jpg"], {"originals": True}, [("Al/Bo_0002_mask1.png", "Al/Bo_0002.png")]),
        (["a.jpg", "a_mask1.png"], {"originals": True},
         [("a.jpg_mask1.png", "a.jpg.png"), ("a_mask1.png_mask1.png", "a_mask1.png.png")]),
    ],
)  # fmt: skip
def test_variants_and_originals_get_names_of_their_own(sources, options, expected):
    assert names(sources, **options) == expected


@given(
    st.lists(st.from_regex(r"([ab]/)?[aA](_mask[12]|_000[12]|_100[12])?\.(jpg|png)", fullmatch=True), unique=True),
    st.integers(1, 3),
    st.booleans(),
)
def test_no_two_outputs_share_a_file(sources, per_image, originals):
    sources = [s for s in sources if s.casefold() == s]  # on any system
    outputs = [path.casefold() for t in name_tasks(sources, per_image, originals) for path in t.outputs]
    assert len(outputs) == len(set(outputs))
    assert all(path.endswith(".png") for path in outputs)


def test_who_it_is_is_a_folder_of_the_path():
    deep = "train/n2/x/1.jpg"
    for level, expected in {1: "train", 2: "n2", 3: "x", 4: "", -1: "x", -2: "n2", -3: "train", -4: ""}.items():
        assert identity_of(deep, level) == expected
        assert [t.identity for t in name_tasks([deep, "1.jpg"], identity=level)] == [expected, ""]


def test_who_it_is_is_told_by_the_folder_that_holds_the_picture():
    assert [t.identity for t in name_tasks(["train/Al/1.jpg", "Bo/1.jpg", "1.jpg"])] == ["Al", "Bo", ""]


def test_outputs_name_every_file():
    task = Task("a.jpg", "a_mask1.png", ("a_mask2.png",), "a.png")
    assert task.variants == {v: (f"images/a_mask{v}.png", f"regions/a_mask{v}.png") for v in (1, 2)}
    assert set(task.outputs) == {*task.variants[1], *task.variants[2], "images/a.png"}


def test_folders_that_cannot_be_used_are_refused(tmp_path, faces):
    (tmp_path / "file").write_text("x")
    (tmp_path / "set").mkdir()
    for in_dir, out_dir, words in [
        (tmp_path / "none", tmp_path / "out", "no such folder"),
        (tmp_path / "file", tmp_path / "out", "is a file"),
        (faces, faces, "same folder"),
        (faces, faces / "deep" / ".." / "out", "inside IN"),
        (faces / "deep", faces, "inside OUT"),
        (faces, tmp_path / "file", "must be a folder"),
    ]:
        with pytest.raises(AugmentError, match=words):
            check_folders(in_dir, out_dir)
    for other, out_dir, words in [
        (tmp_path / "set" / "pairs.txt", tmp_path / "out", "no such file"),
        (tmp_path / "file", tmp_path, "--labels .*lies inside OUT"),
        (tmp_path / "set", tmp_path / "set" / "out", "inside the folder of --labels"),
    ]:
        with pytest.raises(AugmentError, match=words):
            check_folders(faces, out_dir, [("--labels", other)])
    check_folders(faces, tmp_path / "out", [("--labels", tmp_path / "set")])


def test_a_link_does_not_hide_that_out_lies_inside_in(tmp_path, faces):
    (tmp_path / "link").symlink_to(faces)
    with pytest.raises(AugmentError, match="inside IN"):
        check_folders(faces, tmp_path / "link" / "out")


def test_pictures_are_listed_and_nothing_else_is_opened(tmp_path):
    for name in ("a.jpg", "x/b.PNG", "set.zip", "set.tar.gz", "faces.pkl", ".hidden.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "x" / "back").symlink_to(tmp_path)
    assert list_sources(tmp_path) == ["a.jpg", "x/b.PNG"]
    assert hidden_folders(tmp_path) == []
    for name in (".git/x.txt", ".trash/er/c.jpg", "x/.thumbs/d.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x")
    assert hidden_folders(tmp_path) == [".trash", "x/.thumbs"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(AugmentError, match="no pictures found"):
        list_sources(tmp_path / "empty")


def test_a_run_s_fingerprint_knows_its_labels():
    plain = Task("a.jpg", "a.png")
    one, other = (Task("a.jpg", "a.png", labels=(Labelled(0, x, 1, 2, 3),)) for x in (1.0, 1.5))
    assert work_digest([plain]) == {}
    assert work_digest([one]) == work_digest([one]) != work_digest([other])
    assert Path(one.outputs[0]).name == "a.png"
