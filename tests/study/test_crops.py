"""crops.csv: read strictly, exported the same way each time, never without a credit."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lib.data.files import sha256
from lib.data.images import read_image
from lib.study.crops import COLUMNS, export_crops, read_crops

CREDIT = {"credit": "Jane Doe", "source": "https://example.org/1, page 2", "licence": "CC BY 4.0"}


@pytest.fixture
def made(tmp_path):
    """Two pictures and a crops.csv with three crops: (csv, root, table)."""
    root, rng = tmp_path / "photos", np.random.default_rng(0)
    (root / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/a.png"):
        Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(root / name)
    rows = [("a.png", 0, 10, 5, 40), ("a.png", 2, 50, 20, 40), ("deep/a.png", 0, 0, 0, 60)]
    table = pd.DataFrame([
        {"image": image, "crop": crop, "x": x, "y": y, "w": side, "h": side, **CREDIT, "by": "ann",
         "time": "2024-05-31T18:00:00+00:00", "sha256": sha256(root / image)}
        for image, crop, x, y, side in rows
    ])  # fmt: skip
    table.to_csv(tmp_path / "crops.csv", index=False)
    return tmp_path / "crops.csv", root, table


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_crops_are_the_pixels_of_the_squares_under_stable_names(made, tmp_path):
    csv, root, table = made
    credits = export_crops(csv, root, tmp_path / "out")
    names = [f"a_{sha256(root / row.image)[:8]}_{row.crop}.png" for row in table.itertuples()]
    assert credits["file"].tolist() == names
    for name, row in zip(names, table.itertuples()):
        whole = read_image(root / row.image).pixels
        expected = whole[row.y : row.y + row.h, row.x : row.x + row.w]
        assert np.array_equal(read_image(tmp_path / "out" / name).pixels, expected)
    written = pd.read_csv(tmp_path / "out" / "CREDITS.csv")
    assert written["source"].tolist() == [CREDIT["source"]] * 3
    assert set(contents(tmp_path / "out")) == {*names, "CREDITS.csv"}


def test_a_second_export_is_equal_to_the_bit_and_drops_what_is_gone(made, tmp_path):
    csv, root, table = made
    export_crops(csv, root, tmp_path / "out")
    export_crops(csv, root, tmp_path / "again")
    first = contents(tmp_path / "out")
    assert contents(tmp_path / "again") == first
    (tmp_path / "out" / "mine.png").write_bytes(b"not ours")
    table.iloc[1:].to_csv(csv, index=False)
    export_crops(csv, root, tmp_path / "out")
    gone = f"a_{table['sha256'][0][:8]}_0.png"
    assert set(contents(tmp_path / "out")) == set(first) - {gone} | {"mine.png"}


def test_no_export_without_credit(made, tmp_path):
    csv, root, table = made
    table.loc[2, "licence"] = " "
    table.to_csv(csv, index=False)
    assert len(read_crops(csv)) == 3  # work in progress is fine
    with pytest.raises(ValueError, match=r"credits are missing.*deep/a\.png \(licence\)"):
        export_crops(csv, root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_that_are_gone_changed_or_too_small_are_refused_before_anything_is_written(made, tmp_path):
    csv, root, table = made
    table.assign(w=table["w"] + 60).to_csv(csv, index=False)
    with pytest.raises(ValueError, match="leaves its 90 × 60 px"):
        export_crops(csv, root, tmp_path / "out")
    table.to_csv(csv, index=False)
    Image.new("RGB", (90, 60)).save(root / "deep" / "a.png")
    with pytest.raises(ValueError, match="another file than the crop was drawn on"):
        export_crops(csv, root, tmp_path / "out")
    (root / "deep" / "a.png").unlink()
    with pytest.raises(ValueError, match="names it, but it cannot be read"):
        export_crops(csv, root, tmp_path / "out")
    table.head(0).to_csv(csv, index=False)
    with pytest.raises(ValueError, match="no crops in it yet"):
        export_crops(csv, root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("image", "../a.png", "no path inside"),
        ("image", "/a.png", "no path inside"),
        ("image", "", "no path inside"),
        ("x", "-1", "x is '-1', expected a whole number"),
        ("y", "1.5", "y is '1.5'"),
        ("w", "0", "empty"),
        ("crop", "two", "crop is 'two'"),
        ("sha256", "abc", "64 hex digits"),
    ],
)
def test_a_bad_row_is_named_by_its_line(made, column, value, said):
    csv, _, table = made
    table = table.astype(str)
    table.loc[1, column] = value
    table.to_csv(csv, index=False)
    with pytest.raises(ValueError, match=rf"crops\.csv, line 3: .*{said}"):
        read_crops(csv)


def test_what_is_no_crops_file(made, tmp_path):
    csv, _, table = made
    with pytest.raises(ValueError, match="no crops there"):
        read_crops(tmp_path / "none.csv")
    pd.concat([table, table.head(1)]).to_csv(csv, index=False)
    with pytest.raises(ValueError, match="line 5: this crop is listed twice"):
        read_crops(csv)
    table.drop(columns=["licence", "sha256"]).to_csv(csv, index=False)
    with pytest.raises(ValueError, match="lacks the column licence, sha256"):
        read_crops(csv)
    csv.write_text(f"{','.join(COLUMNS)}\na.png,0,1,2,3,3,c,s,l,by,t,{'0' * 64},more\n")
    with pytest.raises(ValueError, match="line 2 has other than 12 fields"):
        read_crops(csv)
    csv.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        read_crops(csv)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_spoiled_file_ends_in_anything_but_a_table_or_one_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "spoiled.csv"
    line = ",".join(["a.png", "0", "1", "2", "3", "3", "c", "s", "l", "by", "t", "0" * 64])
    text = bytearray(f"{','.join(COLUMNS)}\n{line}\n{line.replace('a.png', 'b.png')}\n".encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=6))
        if not text:
            break
    path.write_bytes(bytes(text))
    try:
        table = read_crops(path)
    except ValueError as error:
        said = str(error)
    else:
        said = path.name
        assert tuple(table.columns) == COLUMNS
    assert path.name in said
