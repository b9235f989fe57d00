import json

import numpy as np

from lib.warp import bench


def test_rows_and_ratios(tmp_path, capsys):
    assert (
        bench.main(["--size", "96", "--faces", "2", "--rounds", "1", "--no-detect", "--json", str(tmp_path / "b.json")])
        == 0
    )
    kept = json.loads((tmp_path / "b.json").read_text())
    rows = {row["what"]: row for row in kept["rows"]}
    assert rows["plain OpenCV loop"]["ratio"] == 1
    assert all(row["low"] <= row["ms"] <= row["high"] for row in kept["rows"])
    assert "preset ours" in capsys.readouterr().out


def test_the_yardstick_does_put_a_mask_on():
    pictures, landmarks = bench.faces(2, 96)
    for plain, picture, points in zip(bench.plain_loop(pictures, landmarks), pictures, landmarks):
        x, y = np.rint(points[57]).astype(int)
        assert (plain[y, x].astype(int)[2] - plain[y, x][0]) > 30, "blue on the mouth"
        assert np.array_equal(plain[:15], picture[:15])


def test_larger_faces_are_enlarged_with_their_landmarks():
    (small, big), (a, b) = zip(*[(p[0], points[0]) for p, points in (bench.faces(1, 256), bench.faces(1, 512))])
    assert big.shape == (512, 512, 3)
    np.testing.assert_allclose((a + 0.5) * 2 - 0.5, b, atol=1e-3)
    assert small.shape == (256, 256, 3)


def test_senseless_numbers_are_refused(capsys):
    assert bench.main(["--faces", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
