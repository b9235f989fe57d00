"""The tables made of records, and the summary."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lib.augment import manifest as tables_module
from lib.augment.manifest import COLUMNS, FRACTIONS, WHOLE, Summary, read_table, write_tables
from lib.data.files import write_table

FINGERPRINT = {"seed": 2**62 + 1, "checkpoint": "rule-only", "checkpoint_sha256": ""}
PARAMS = {"template": "cloth", "colour": "#334455", "texture": "dots", "wear": "Mask_Chin", "scale": 1.0}


def face(index: int, variant: int = 1, status: str = "masked", **changes) -> dict:
    row = {"face": index, "variant": variant, "status": status, "kind": "", "reason": "", "box": [1, 2, 30, 40],
           "score": 1.5, "landmarks": [[1.0, 2.0]] * 68 if variant == 1 else None, "params": PARAMS, "order": 0,
           "mask_box": [3, 4, 5, 6], "warp_seed": 2**62 + 3, "noise_seed": 7}  # fmt: skip
    return row | changes


def record(source: str, faces: list[dict], count: int = 1, **changes) -> dict:
    names = {str(v): [f"images/{source}_{v}.png", f"regions/{source}_{v}.png"] for v in range(1, count + 1)}
    row = {"source": source, "name": "", "identity": source.split("/")[0], "source_sha256": "aa", "size": [80, 90],
           "notes": ["a", "b"], "files": {path: f"hash of {path}" for paths in names.values() for path in paths},
           "original": "", "variants": names, "faces": faces, "failures": [], "seconds": 0.5}  # fmt: skip
    return row | changes


def written(value: object) -> str:
    """A number as the CSV has it."""
    return "" if pd.isna(value) else str(value)


@pytest.fixture
def tables(tmp_path):
    records = [
        record("Ann/1.jpg", [face(0), face(1, status="left", kind="not chosen", reason="--share 0.5", params=None)]),
        record("Ann/2.jpg", [face(0), face(0, 2)], count=2, original="images/Ann/2.jpg.png"),
        record("Bo/1.jpg", [], failures=[{"face": -1, "kind": "no face", "reason": "no face found"}]),
        record("Bo/2.jpg", [face(3, status="failed", kind="warp", reason="odd")], count=0,
               failures=[{"face": 3, "kind": "warp", "reason": "odd"}]),
    ]  # fmt: skip
    summary = Summary(tmp_path)
    extra = [{"file": "Az.jpg", "face": -1, "kind": "missing", "reason": "gone"}]
    failures = write_tables(tmp_path, records, {"fingerprint": FINGERPRINT}, summary, extra)
    return tmp_path, read_table(tmp_path, COLUMNS), failures, summary


def test_a_row_for_each_face_and_variant_and_for_copies(tables):
    manifest = tables[1]
    assert list(manifest) == list(COLUMNS)
    assert manifest[["source", "face", "variant", "status"]].values.tolist() == [
        ["Ann/1.jpg", 0, 1, "masked"], ["Ann/1.jpg", 1, 1, "left"], ["Ann/2.jpg", 0, 1, "masked"],
        ["Ann/2.jpg", 0, 2, "masked"], ["Bo/1.jpg", -1, 1, "copied"], ["Bo/2.jpg", 3, 1, "failed"],
    ]  # fmt: skip
    assert manifest["identity"].tolist() == ["Ann"] * 4 + ["Bo"] * 2


def test_the_drawn_mask_stands_in_columns_beside_its_parameters(tables):
    manifest = tables[1]
    drawn = manifest[manifest["status"] == "masked"]
    for name in ("template", "colour", "texture", "wear"):
        assert set(drawn[name]) == {PARAMS[name]}
    assert {json.dumps(json.loads(text)) for text in drawn["params"]} == {json.dumps(PARAMS, sort_keys=True)}
    left = manifest[manifest["status"] == "left"].iloc[0]
    assert (left["template"], left["params"], left["kind"], left["reason"]) == ("", "", "not chosen", "--share 0.5")


def test_outputs_stand_with_their_hashes(tables):
    manifest = tables[1]
    second = manifest.iloc[3]
    assert (second["output"], second["region"]) == ("images/Ann/2.jpg_2.png", "regions/Ann/2.jpg_2.png")
    for name in ("output", "region"):
        assert second[f"{name}_sha256"] == f"hash of {second[name]}"
    assert second["tensor"] == second["tensor_sha256"] == "", "written with --tensors alone"
    assert second["original"] == "images/Ann/2.jpg.png"
    assert manifest.iloc[5]["output"] == ""


def test_csv_and_parquet_say_the_same_to_the_last_digit(tables):
    parquet, numbers = tables[1], [*WHOLE, *FRACTIONS]
    csv = pd.read_csv(tables[0] / "manifest.csv", dtype=str, keep_default_na=False)
    text = [name for name in COLUMNS if name not in numbers]
    assert csv[text].values.tolist() == parquet[text].values.tolist()
    assert csv[numbers].values.tolist() == parquet[numbers].astype(object).map(written).values.tolist()
    assert csv["warp_seed"].tolist()[:4] == [str(2**62 + 3)] * 4
    assert set(csv["seed"]) == {str(2**62 + 1)}


def test_boxes_are_of_one_type_whatever_labels_say(tmp_path):
    for boxes in ([[1.25, 2, 30.5, 40], [1, 2, 30, 40]], [[1, 2, 30, 40]], [[1e19, 1, 2, 3], [298, 58, 1e30, 156]]):
        rows = [record("a.jpg", [face(k, box=box) for k, box in enumerate(boxes)])]
        write_tables(tmp_path, rows, {"fingerprint": FINGERPRINT}, Summary(tmp_path))
        manifest = read_table(tmp_path, ["x", "y", "w", "h"])
        assert set(manifest.dtypes) == {np.dtype("float64")}
        assert manifest.values.tolist() == boxes


def test_tables_in_parts_say_what_one_part_says(tmp_path, monkeypatch):
    records = [record(f"a/{k:02}.jpg", [face(0), face(1)] if k % 3 else []) for k in range(20)]
    for name, rows in {"whole": 5_000, "parts": 7}.items():
        (tmp_path / name).mkdir()
        monkeypatch.setattr(tables_module, "ROWS", rows)
        write_tables(tmp_path / name, records, {"fingerprint": FINGERPRINT}, Summary(tmp_path))
    for name in ("manifest.csv", "landmarks.csv", "failures.csv"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    parquets = [tmp_path / name / "manifest.parquet" for name in ("parts", "whole")]
    assert [pq.ParquetFile(path).num_row_groups for path in parquets] == [5, 1]
    pd.testing.assert_frame_equal(*map(pd.read_parquet, parquets))
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "failures.csv", "landmarks.csv", "manifest.csv", "manifest.parquet",
    ]  # fmt: skip


def test_a_table_of_one_part_has_the_bytes_of_any_other(tables, tmp_path):
    for name in ("manifest.csv", "manifest.parquet"):
        write_table(tmp_path / "again" / name, tables[1])
        assert (tmp_path / "again" / name).read_bytes() == (tables[0] / name).read_bytes()


def test_what_failed_is_listed_and_counted_with_what_never_was_there(tables):
    _, _, failures, summary = tables
    assert failures.values.tolist() == [
        ["Az.jpg", -1, "missing", "gone"], ["Bo/1.jpg", -1, "no face", "no face found"], ["Bo/2.jpg", 3, "warp", "odd"],
    ]  # fmt: skip
    assert summary.failures == {"missing": 1, "no face": 1, "warp": 1}
    assert (summary.pictures, summary.pictures_with_faces, summary.pictures_masked) == (4, 3, 2)
    assert (summary.faces_found, summary.faces_masked, summary.faces_left, summary.masks) == (4, 2, 1, 3)
    assert (summary.pictures_copied, summary.done_now) == (1, 0)


def test_landmarks_are_listed_once_for_each_face(tables):
    points = pd.read_csv(tables[0] / "landmarks.csv")
    assert points[["image", "face"]].values.tolist() == [
        ["Ann/1.jpg", 0], ["Ann/1.jpg", 1], ["Ann/2.jpg", 0], ["Bo/2.jpg", 3],
    ]  # fmt: skip


def test_the_summary_tells_labelled_faces_and_those_found_of_them(tmp_path):
    rows = [record("a.jpg", [face(0), face(1, status="left", landmarks=None), face(2)])]
    summary = Summary(tmp_path, faces_labelled=0)
    write_tables(tmp_path, rows, {"fingerprint": FINGERPRINT}, summary)
    assert "faces      3 labelled, 2 found, 2 masked\n" in str(summary)


def test_a_picture_too_narrow_for_a_face_is_no_reason_to_search_it_larger(tmp_path):
    note = ["faces looked for at 10% of the size"]
    for size, words in (
        ([20000, 2], ""),
        ([20000, 3000], "1 large picture was searched at reduced size: --detect-side"),
    ):
        summary = Summary(tmp_path)
        write_tables(tmp_path, [record("a.jpg", [], size=size, notes=note)], {"fingerprint": FINGERPRINT}, summary)
        assert "large" not in str(summary) if not words else f"note       {words}" in str(summary)
    assert "note       2 large pictures were" in str(Summary(tmp_path, pictures_reduced=2))


def test_the_summary_tells_shares_variants_and_pairs(tmp_path):
    plain = str(Summary(tmp_path, pictures=2, faces_found=3, faces_masked=3, masks=3))
    assert "faces      3 found, 3 masked\n" in plain
    assert "pairs" not in plain
    counts = {"pictures": 2, "faces_found": 9, "faces_masked": 3, "faces_left": 4, "masks": 6}
    full = str(Summary(tmp_path, **counts, pairs={"masked-masked": 5, "left out (no mask)": 1}))
    assert "faces      9 found, 3 masked, 4 left without by --share, 6 masks in all variants" in full
    assert "pairs      masked-masked 5, left out (no mask) 1" in full


def test_a_tensor_stands_beside_its_picture(tmp_path):
    paths = ["images/a.png", "regions/a.png", "tensors/a.safetensors"]
    row = record("a.jpg", [face(0)], variants={"1": paths}, files={path: f"hash of {path}" for path in paths})
    write_tables(tmp_path, [row], {"fingerprint": FINGERPRINT}, Summary(tmp_path))
    assert read_table(tmp_path, ["tensor", "tensor_sha256"]).values.tolist() == [[paths[2], f"hash of {paths[2]}"]]
