"""Where pictures come from: folders of the user and the paper's sets, in exactly their published layout."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat, savemat
from scipy.ndimage import binary_dilation

from lib.data import curation, faceworld
from lib.data.images import read_image, resize
from lib.data.prepare import crop_box
from lib.study.config import STAGES, StudyError
from lib.study.datasets import (
    candidates_B,
    load_test_set,
    pool_B,
    pool_crop,
    pool_pictures,
    prepare_A,
    prepare_B,
    prepare_scenes,
    straddlers,
    train_data,
    train_rows,
)
from lib.study.rule_based import warp_A
from lib.study.runs import open_study, read_failures
from lib.study.sources import (
    _hold_out,
    collect_A,
    collect_B,
    collect_scenes,
    identities_of,
    landmarks_of,
    picking_file,
)
from lib.warp import landmarks_table, load_non_mask, write_landmarks


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def noise(seed, size=40):
    """A soft, colourful picture without any face."""
    small = np.random.default_rng(seed).integers(40, 216, (5, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))


# ------------------------------------------------------------------------------------------------- the face world
def test_face_world_b_is_two_pools_with_mafas_columns(trained):
    table = prepare_B(trained)
    assert set(table["pool"]) == {"wide", "tidy"}
    picked = table[table["stage3"]]
    assert (picked["mask_kind"] == "surgical").all()
    assert picked["light"].all()
    assert picked["pitch"].abs().max() <= 7
    assert picked["roll"].abs().max() <= 6
    assert table.loc[table["stage2"], "orientation"].isin([2, 3, 4]).all()


# ------------------------------------------------------------------------------------------------- folders
@pytest.fixture(scope="module")
def faces():
    out = faceworld.render(range(8), range(8), size=128, what=("full",), supersample=1.0, yaw=8.0, pitch=4.0, roll=3.0)
    return (out.full * 255).round().byte().permute(0, 2, 3, 1).numpy()


@pytest.fixture
def folders(tmp_path, faces):
    """Full faces in nested folders (names repeat), among them a broken file and a picture without a face."""
    a, b = tmp_path / "a", tmp_path / "b"
    for n, face in enumerate(faces):
        save(a / f"person{n // 2}" / f"{n % 2}.JPG", face, format="JPEG", quality=95)
    (a / "broken.png").write_bytes(b"\x89PNG no more")
    save(a / "nobody.png", noise(99, 128))
    for n in range(10):
        save(b / f"shoot{n % 2}" / f"{n:02d}.png", noise(n))
    return a, b


def open_folders(folders, tmp_path, name="mine"):
    roots = {"a": str(folders[0]), "b": str(folders[1])}
    return open_study(name, "tiny", "folders", roots=roots, runs_dir=tmp_path / "runs")


def test_folders_from_pictures_to_training_data(folders, tmp_path):
    study = open_folders(folders, tmp_path)
    table_B, (_, funnel) = prepare_B(study, progress=False), pool_B(study)
    assert len(table_B) == 10
    assert table_B["image"].is_unique
    assert funnel["kept"].tolist()[-1] == 10
    table = warp_A(study, progress=False)
    assert len(table) == 8
    reasons = {row.file.split("/")[-1]: row.reason for row in read_failures(study).itertuples()}
    assert set(reasons) == {"broken.png", "nobody.png"}
    assert reasons["nobody.png"] == "no face found"
    assert (table["split"] == "test").sum() >= 1
    test = load_test_set(study)
    assert test.truth is None
    assert test.region is None
    assert np.array_equal(test.full[test.non_mask], test.rule[test.non_mask])
    data, _ = train_data(study, STAGES["stage4"], 1)
    assert len(data.non_mask) == len(data.A) <= len(data.B)
    assert prepare_scenes(study, progress=False) == {"A": 2, "B": 2}  # single faces stand in for scenes


def test_landmarks_beside_the_pictures_are_used(folders, tmp_path):
    points = np.random.default_rng(0).uniform(10, 110, (4, 68, 2))
    rows = [(f"person{n // 2}/{n % 2}.JPG", 0, p) for n, p in enumerate(points)]
    write_landmarks(folders[0] / "landmarks.csv", landmarks_table(rows))
    study = open_folders(folders, tmp_path)
    table = collect_A(study, 8, progress=False)
    assert len(table) == 4
    found, scale = landmarks_of(study), study.profile.size / 128
    for row in table.itertuples():
        expected = (points[[r[0] for r in rows].index(row.original)] + 0.5) * scale - 0.5
        np.testing.assert_allclose(found[row.image], expected, atol=1e-3)
    assert set(read_failures(study)["reason"]) >= {"no landmarks for it in landmarks.csv"}


def test_what_dlib_found_is_kept_for_the_next_study(folders, tmp_path, monkeypatch):
    first = collect_A(open_folders(folders, tmp_path, "first"), 8, progress=False)
    monkeypatch.setattr("lib.warp.DlibLandmarks.find", None)
    second = collect_A(open_folders(folders, tmp_path, "second"), 8, progress=False)
    assert second["source"].tolist() == first["source"].tolist()


def test_a_manifest_beside_the_pictures_gives_yaw_tier_and_groups(folders, tmp_path):
    names = [p.relative_to(folders[1]).as_posix() for p in sorted(folders[1].rglob("*.png"))]
    rows = pd.DataFrame({"name": names, "yaw_estimate": [0, 10, 35, -40, 5, 0, 0, 0, 0, 0], "tier": "strict"})
    rows.loc[4, "tier"] = "loose"
    rows["group"] = [f"g{k // 2}" for k in range(10)]
    rows.to_csv(folders[1] / "manifest.csv", index=False)
    table, funnel = collect_B(open_folders(folders, tmp_path), progress=False)
    assert table["stage2"].tolist() == [True, True, False, False] + [True] * 6
    assert table["stage3"].tolist() == [True, True, False, False, False] + [True] * 5
    assert funnel["removed"].sum() == 3
    held_out = table[table["split"] == "test"]
    assert not set(held_out["identity"]) & set(table.loc[table["split"] == "train", "identity"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b'name,group\n"shoot0/00.png,1\n', r"manifest\.csv: cannot be read as CSV in UTF-8"),
        (b"name,group\n\xff\xfe,1\n", r"manifest\.csv: cannot be read as CSV in UTF-8"),
        (b"name,yaw_estimate\nshoot0/00.png,0\nshoot0/02.png,left\n", r"manifest\.csv, line 3: yaw_estimate is 'left'"),
        (
            b"name,group,identity\nshoot0/00.png,1,2\n",
            r"manifest\.csv: has both a column `group` and a column `identity`",
        ),
        (
            b"name,group\nshoot0/00.png,1\nshoot0/00.png,2\n",
            r"manifest\.csv, line 3: 'shoot0/00\.png' is listed before",
        ),
        (
            b"name,group\n./00.png,1\n",
            r"manifest\.csv: none of its 1 rows .* names '\./00\.png', expected .*shoot0/00\.png",
        ),
        (b"", r"manifest\.csv: needs a column"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_where_and_why(folders, tmp_path, text, told):
    (folders[1] / "manifest.csv").write_bytes(text)
    with pytest.raises(StudyError, match=told):
        collect_B(open_folders(folders, tmp_path), progress=False)


def test_a_manifest_that_fits_partly_is_told(folders, tmp_path):
    (folders[1] / "manifest.csv").write_text("name,group\nshoot0/00.png,007\ngone.png,8\n")
    study = open_folders(folders, tmp_path)
    table = prepare_B(study, progress=False)
    assert table["identity"].tolist().count("007") == 1  # text stays text
    reason = read_failures(study).query("step == 'manifest'")["reason"].item()
    assert reason.startswith("1 of 2 rows are of no picture here, the first: gone.png; 9 of 10 pictures are not in it")


def test_who_is_in_both_folders_is_on_one_side_of_both(tmp_path):
    """The same people in A and B: held out in one, they are not trained on in the other."""
    for side in "ab":
        for n in range(30):
            save(tmp_path / side / f"{n:02d}.png", noise(n))
        groups = [f"{n // 3}" for n in range(30)]
        if side == "a":
            groups[-6:] = [""] * 6  # not everybody is known
        table = pd.DataFrame({"name": [f"{n:02d}.png" for n in range(30)], "group": groups})
        table.to_csv(tmp_path / side / "manifest.csv", index=False)
    points = np.random.default_rng(0).uniform(4, 36, (30, 68, 2))
    rows = landmarks_table((f"{n:02d}.png", 0, p) for n, p in enumerate(points))
    write_landmarks(tmp_path / "a" / "landmarks.csv", rows)
    for seed in range(4):
        roots = {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")}
        study = open_study(f"s{seed}", "tiny", "folders", seed, roots=roots, runs_dir=tmp_path / "runs")
        table_B, table_A = prepare_B(study, progress=False), prepare_A(study, progress=False)
        sets = {"A": table_A, "B": table_B}
        train, test = ({side: set(table.loc[table["split"] == split, "identity"]) - {""}
                        for side, table in sets.items()} for split in ("train", "test"))  # fmt: skip
        assert test["B"]
        assert not test["A"] & train["B"]
        assert not test["B"] & train["A"]
        assert not straddlers(table_A, table_B)
        assert len(table_A) == study.profile.count_A + study.profile.count_test


def test_a_manifest_without_names_is_refused(folders, tmp_path):
    pd.DataFrame({"picture": ["00.png"]}).to_csv(folders[1] / "manifest.csv", index=False)
    with pytest.raises(StudyError, match=r"manifest\.csv: needs a column `name` or `image`"):
        collect_B(open_folders(folders, tmp_path), progress=False)


def test_a_selection_in_the_folder_is_the_hand_picking(folders, tmp_path):
    chosen = [{"image": "shoot0/00.png", "decision": "accept"}, {"image": "shoot0/02.png", "decision": "reject"}]
    curation.write_selection(folders[1] / "selection.csv", curation.make_selection(chosen))
    table, _ = collect_B(open_folders(folders, tmp_path), progress=False)
    assert [name for name, kept in zip(table["source"], table["stage3"]) if kept] == [
        str(folders[1] / "shoot0" / "00.png")
    ]


def test_an_empty_folder_says_so(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no pictures in it"):
        collect_B(open_folders((folders[0], tmp_path / "empty"), tmp_path), progress=False)


# ------------------------------------------------------------------------------------------------- the paper's sets
MAFA = [  # x y w h, occ_type, occ_degree, orientation; the last column: accepted by hand
    (2, 2, 70, 70, 1, 3, 3, True),
    (90, 20, 80, 80, 1, 3, 2, True),
    (-5, -6, 75, 75, 1, 4, 4, True),  # leaves the picture
    (0, 0, 100, 100, 1, 3, 5, False),  # profile: stage 1 only
    (5, 5, 90, 90, 2, 3, 3, False),  # complex mask
    (5, 5, 90, 90, 1, 2, 3, False),  # not fully occluded
    (5, 5, 59, 59, 1, 3, 3, False),  # too small
    (5, 5, 90, 90, -1, -1, 3, False),  # unknown
    (10, 10, 100, 100, 1, 3, 3, False),  # passes, but was not picked
    (30, 30, 64, 64, 1, 3, 3, True),
    (20, 20, 66, 66, 1, 3, 4, True),
    (500, 500, 64, 64, 1, 3, 3, True),  # outside its picture
]


def write_mafa_test(root, count=6):
    """LabelTestAll.mat: LabelTest[0][i] = (name, label int16 [N, 18]): in each picture a face that passes the filters,
    one that does not, and one that is invalid."""
    (root / "MAFA-Label-Test").mkdir(parents=True)
    entries = np.zeros((1, count), dtype=[("name", "O"), ("label", "O")])
    for picture in range(count):
        name = f"test_{picture + 1:08d}.jpg"
        save(root / "test-images" / "images" / name, noise(500 + picture, 180), quality=90)
        rows = [[5, 5, 90, 90, face, 5, 30, 40, 30, 1, degree, 1, 1, 3, -1, -1, -1, -1]
                for face, degree in ((1, 3), (1, 2), (3, 3))]  # fmt: skip
        entries[0, picture] = (np.array([name]), np.array(rows, np.int16))
    savemat(root / "MAFA-Label-Test" / "LabelTestAll.mat", {"LabelTest": entries})


def write_mafa(root):
    """LabelTrainAll.mat: label_train[0][i] = (orgImgName, imgName, label int16 [N, 21]), names nested in arrays."""
    (root / "MAFA-Label-Train").mkdir(parents=True)
    entries = np.zeros((1, 6), dtype=[("orgImgName", "O"), ("imgName", "O"), ("label", "O")])
    for picture in range(6):
        name = f"train_{picture + 1:08d}.jpg"
        save(root / "train-images" / "images" / name, noise(picture, 180), quality=90)
        rows = []
        for x, y, w, h, kind, degree, turn, _ in MAFA[2 * picture : 2 * picture + 2]:
            rows.append([x, y, w, h, 20, 20, 50, 20, 5, 30, 40, 30, kind, degree, 1, 1, turn, -1, -1, -1, -1])
        entries[0, picture] = (np.array([name]), np.array([name]), np.array(rows, np.int16))
    savemat(root / "MAFA-Label-Train" / "LabelTrainAll.mat", {"label_train": entries})


def write_cmfd_and_ffhq(root, count=9):
    """CMFD/41000/41192_Mask.jpg beside images1024x1024/41000/41192.png: a blue patch, and JPEG noise on one side."""
    for n in range(count):
        identity = 41_190 + n
        full = noise(100 + n, 128)
        masked = full.copy()
        masked[64:112, 30:98] = (120, 190, 230)
        save(root / "ffhq" / "images1024x1024" / "41000" / f"{identity}.png", full)
        save(root / "cmfd" / "CMFD" / "41000" / f"{identity}_Mask.jpg", masked, quality=75)
    save(root / "cmfd" / "CMFD" / "47000" / "47855_Mask.jpg", noise(7))  # its full face is not there


def write_fddb(root):
    """Folds with paths without suffix, ellipses split on any white space, the picture archive by year."""
    names = [f"2002/07/19/big/img_{k}" for k in range(3)] + ["2003/01/02/big/img_7"]
    for k, name in enumerate(names):
        save(root / f"{name}.jpg", noise(200 + k, 60))
    (root / "FDDB-folds").mkdir()
    (root / "FDDB-folds" / "FDDB-fold-01.txt").write_text("\n".join(names[:2]) + "\n")
    ellipses = "\n".join(f"{name}\n1\n20.0 15.0  1.2 30.0 30.0  1" for name in names[:2])
    (root / "FDDB-folds" / "FDDB-fold-01-ellipseList.txt").write_text(ellipses + "\n")


@pytest.fixture
def paper(tmp_path):
    root = tmp_path / "sets"
    write_mafa(root / "mafa")
    write_cmfd_and_ffhq(root)
    write_fddb(root / "fddb")
    for n in range(2):
        save(root / "stock" / f"{n}.jpg", noise(300 + n, 90))
    rows = [
        {"image": f"train-images/images/train_{k // 2 + 1:08d}.jpg", "face": k % 2, "decision": "accept"}
        for k, face in enumerate(MAFA)
        if face[-1]
    ]
    curation.write_selection(root / "selection.csv", curation.make_selection(rows))
    roots = {key: str(root / key) for key in ("mafa", "cmfd", "ffhq", "fddb", "stock")}
    roots["selection"] = str(root / "selection.csv")
    return open_study("paper", "tiny", "paper", roots=roots, runs_dir=tmp_path / "runs")


def test_mafa_goes_through_the_papers_funnel(paper):
    table, (_, funnel) = prepare_B(paper, progress=False), pool_B(paper)
    assert funnel["step"].tolist() == [
        "all faces", "stage1: usable", "stage1: simple mask", "stage1: fully occluded", "stage1: at least 60 px",
        "stage2: front facing", "stage3: hand-picked", "stage3: + crops of stock photographs", "held out of set B",
    ]  # fmt: skip
    assert funnel["kept"].tolist()[:-1] == [12, 12, 10, 9, 8, 7, 6, 8]
    # The box outside its picture passes by its numbers, cannot be cropped, and is listed.
    assert len(table) == 8 + 2 - 1
    assert "outside a picture" in read_failures(paper)["reason"].item()
    assert table["stage3"].sum() == 7
    assert not table.loc[table["image"].str.startswith("stock_"), ["stage1", "stage2"]].any().any()


def test_with_mafas_test_part_all_of_set_b_is_trained_on(paper):
    """The paper's training sets, to the image: what is held out comes from elsewhere."""
    write_mafa_test(paper.source("mafa"))
    table, (pool, funnel) = prepare_B(paper, progress=False), pool_B(paper)
    assert funnel["step"].iloc[-1] == "stage3: + crops of stock photographs"
    assert (pool["split"] == "train").all()
    held = table[table["split"] == "test"]
    assert len(held) == paper.profile.count_test
    assert held["source"].str.contains("test-images").all()
    assert held["face"].eq(0).all()  # the ones that pass the filters
    assert not held[["stage1", "stage2", "stage3"]].any().any()
    warp_A(paper, progress=False)
    in_set = pool["image"] != "train_00000006_1.png"  # its box lies outside its picture
    for stage in ("stage1", "stage2", "stage3"):
        assert len(train_rows(paper, stage)[1]) == (pool[stage] & in_set).sum() == table[stage].sum()
    assert len(load_test_set(paper).B) == paper.profile.count_test
    assert not straddlers(prepare_A(paper), table)


def test_without_mafas_test_part_the_funnel_tells_what_is_left(paper):
    pool, funnel = pool_B(paper)
    held = pool["split"] == "test"
    left = [int((pool[stage] & ~held).sum()) for stage in ("stage1", "stage2", "stage3")]
    last = funnel.iloc[-1]
    assert (last["kept"], last["removed"]) == (left[2], (pool["stage3"] & held).sum())
    assert last["removed"] > 0
    assert "MAFA's test part" in last["why"]
    assert f"{left[0]}, {left[1]} and {left[2]} are left" in last["why"]


def test_before_anybody_has_picked_the_funnel_says_so(paper):
    study = open_study("new", "tiny", "paper", runs_dir=paper.root.parent,
                       roots={k: v for k, v in paper.roots.items() if k not in ("selection", "stock")})  # fmt: skip
    pool, funnel = pool_B(study)
    assert funnel["step"].iloc[-1] == "stage3: not yet picked by hand"
    assert funnel["removed"].iloc[-1] == 0
    assert f"{pool['stage2'].sum()} faces wait" in funnel["why"].iloc[-1]
    assert not pool["stage3"].any()
    assert pool.loc[pool["stage2"], "removed_by"].eq("").all()
    with pytest.raises(StudyError, match=r"wait for hand-picking"):
        prepare_B(study, progress=False)


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/secret.jpg"])
def test_a_name_that_leads_out_of_mafa_is_never_opened(paper, monkeypatch, name):
    secret = paper.source("mafa") / "train-images" / "images" / ".." / ".." / "secret.jpg"
    save(secret, noise(1, 180))
    entries = loadmat(paper.source("mafa") / "MAFA-Label-Train" / "LabelTrainAll.mat")["label_train"]
    entries[0, 0]["imgName"] = np.array([name])
    savemat(paper.source("mafa") / "MAFA-Label-Train" / "LabelTrainAll.mat", {"label_train": entries})
    assert not collect_scenes(paper, "B", False)["source"].str.contains("secret").any()
    pool, _ = pool_B(paper)
    bad = pool[pool["source"].str.contains("secret")]
    assert len(bad) == 2
    assert pool_pictures(paper, bad) == [None, None]
    with pytest.raises(ValueError, match="path leaves the data set"):
        pool_crop(next(bad.itertuples()))


def test_accepted_faces_that_find_no_place_are_counted(paper):
    path = paper.source("selection")
    more = [("train-images/images/none.jpg", 0), ("train-images/images/train_00000003.jpg", 0)]  # the second: complex
    rows = curation.make_selection([{"image": i, "face": f, "decision": "accept"} for i, f in more])
    curation.write_selection(path, pd.concat([curation.read_selection(path), rows]))
    _, funnel = pool_B(paper)
    told = "of the accepted faces 1 are not in the table and 1 fail stage 1 or 2"
    assert funnel.set_index("step").loc["stage3: hand-picked", "why"] == f"{told}: see failures.csv"
    assert read_failures(paper).query("step == 'hand-picking'")["reason"].item() == (
        f"{told}; the first that are not in the table: {more[0][0]}, face 0; "
        f"the first that fail stage 1 or 2: {more[1][0]}, face 0"
    )


def test_set_a_is_filled_up_where_pictures_cannot_be_read(paper):
    whole = collect_A(open_study("w", "tiny", "paper", roots=paper.roots, runs_dir=paper.root.parent), 4, False)
    assert len(whole) == 4 + paper.profile.count_test  # of nine
    for path in (whole["source"][0], whole["rule_source"][1]):
        Path(path).write_bytes(b"no picture")
    table = collect_A(paper, 4, progress=False)
    assert table["split"].value_counts().to_dict() == whole["split"].value_counts().to_dict()
    assert not set(table["image"]) & set(whole["image"][:2])
    assert len(read_failures(paper).query("step.str.startswith('set A')")) == 2


def test_squares_drawn_on_stock_photographs_become_faces_of_set_b(paper):
    prepare_B(paper, progress=False)
    root = paper.source("stock")
    rows = [("0.jpg", 0, 10, 20, 40, 40), ("0.jpg", 1, 50, 5, 30, 30), ("1.jpg", 0, 0, 0, 90, 90)]
    crops = pd.DataFrame(rows, columns=["image", "crop", "x", "y", "w", "h"])
    crops = crops.assign(credit="A", source="B", licence="CC0", by="me", time="2026-01-01T00:00:00", sha256="0" * 64)
    crops.to_csv(paper.data_dir / "B" / "crops.csv", index=False)
    table = prepare_B(paper, progress=False)  # made anew
    stock = table[table["image"].str.startswith("stock_")]
    assert stock["image"].tolist() == ["stock_000000_0.png", "stock_000001_0.png", "stock_000002_1.png"]
    assert stock["stage3"].all()
    assert not stock["stage2"].any()
    shown = read_image(paper.data_dir / "B" / "images" / "stock_000001_0.png").pixels
    assert np.array_equal(shown, resize(read_image(root / "0.jpg").pixels[5:35, 50:80], paper.profile.size))
    assert stock.groupby("identity")["split"].nunique().max() == 1


def test_candidates_are_named_as_a_selection_names_them_and_ranked(paper, trained):
    table = candidates_B(paper, progress=False)
    pool, _ = pool_B(paper)
    assert len(table) == pool["stage2"].sum()
    assert table["image"].str.startswith("train-images/").all()
    readable = table["reason"].eq("") & table["score"].notna()
    assert readable.sum() >= len(table) - 1  # the box outside its picture
    crop = pool_crop(next(table[readable].itertuples()))
    assert crop.shape[0] >= 60  # at its own size, not the study's
    accepted = curation.accepted(table, curation.read_selection(paper.source("selection")))
    assert accepted.sum() == pool["stage3"].sum() - 2  # two are stock photographs
    face = candidates_B(trained, progress=False)
    assert face["score"].between(0, 1).all()
    assert picking_file(trained).name == "practice.csv"  # the face world's sets do not depend on it
    assert picking_file(paper) == paper.source("selection")


def test_faces_are_cropped_to_their_box_and_not_beyond_the_picture(paper):
    prepare_B(paper, progress=False)
    whole = read_image(paper.source("mafa") / "train-images" / "images" / "train_00000002.jpg").pixels
    crop = crop_box(whole, -5, -6, 75, 75)
    assert crop.shape == (69, 70, 3)
    assert np.array_equal(crop, whole[:69, :70])
    shown = read_image(paper.data_dir / "B" / "images" / "train_00000002_0.png").pixels
    assert np.abs(shown.mean((0, 1)) - crop.mean((0, 1))).max() < 4


def test_faces_of_one_picture_stay_on_one_side(paper):
    table = prepare_B(paper, progress=False)
    for _, rows in table[~table["image"].str.startswith("stock_")].groupby("source"):
        assert rows["split"].nunique() == 1


def test_cmfd_meets_its_full_face_and_the_region_is_found_through_jpeg_noise(paper):
    table = warp_A(paper, progress=False)
    assert len(table) == min(9, len(prepare_A(paper)))
    assert "47855_Mask.png" not in set(table["image"])
    true = np.zeros((32, 32), bool)
    true[16:28, 8:24] = True  # the patch of 128 px, four times smaller
    for name in table["image"]:
        region = ~load_non_mask((paper.data_dir / "A" / "rule" / name).with_suffix(".safetensors"))
        assert region[true].all()
        assert not (region & ~binary_dilation(true, iterations=3)).any()  # the edge is softened twice and grown once
    assert load_test_set(paper).truth is None


def test_the_pretraining_takes_fddbs_archive_and_mafas_pictures(paper):
    assert prepare_scenes(paper, progress=False) == {"A": 2, "B": 2}


def test_cmfd_without_any_full_face_says_so(paper):
    for path in paper.source("ffhq").rglob("*.png"):
        path.rename(path.with_name(f"9{path.name[1:]}"))
    prepare_B(paper, progress=False)
    with pytest.raises(StudyError, match="none of its 10 images has its full face"):
        prepare_A(paper, progress=False)


def test_an_unreadable_masked_face_is_counted_listed_and_does_not_stop_the_study(folders, tmp_path):
    (folders[1] / "text.jpg").write_text("no picture")
    study = open_folders(folders, tmp_path)
    table, (pool, funnel) = prepare_B(study, progress=False), pool_B(study)
    assert len(table) == 10
    assert funnel.set_index("step")["removed"]["stage1: readable pictures"] == 1
    assert read_failures(study)["file"].str.endswith("text.jpg").any()
    shown = pool_pictures(study, pool)
    assert [picture is None for picture in shown] == pool["removed_by"].ne("").tolist()
    (folders[1] / "text.jpg").unlink()
    assert pool_pictures(study, pool)[pool["removed_by"].ne("").argmax()] is None


def test_too_few_faces_are_refused_with_the_number_needed(tmp_path):
    for side in "ab":
        for n in range(3):
            save(tmp_path / side / f"{n}.png", noise(n))
    with pytest.raises(
        StudyError, match=r"too few masked faces .* 3; a fifth is held out, so at least five are needed"
    ):
        prepare_B(open_folders((tmp_path / "a", tmp_path / "b"), tmp_path), progress=False)


# ---------------------------------------------------------------------------------------------------------- splits
@given(
    st.lists(st.sampled_from(["", "ann", "ben", "cem", "dot", "eva", "fay"]), min_size=1, max_size=60),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_identities_never_straddle_a_split_and_it_repeats(identities, seed):
    with TemporaryDirectory() as folder:
        study = open_study("s", "tiny", seed=seed, runs_dir=folder)
    table = pd.DataFrame({"image": [f"{k}.png" for k in range(len(identities))], "identity": identities})
    marked = _hold_out(table, None, study)
    assert set(marked["split"]) <= {"train", "test"}
    assert marked.groupby(identities_of(marked))["split"].nunique().max() == 1
    assert (marked["split"] == "test").sum() <= min(study.profile.count_test, len(table) // 5)
    assert marked.equals(_hold_out(table, None, study))
