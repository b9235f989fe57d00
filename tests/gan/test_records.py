"""Tables that survive a kill, and the sample strip."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from lib.gan import Model
from lib.gan.batches import to_float
from lib.gan.records import CsvLog, snapshot, strip, translate_samples


def log(tmp_path) -> CsvLog:
    table = CsvLog(tmp_path / "m.csv", ("epoch", "step", "loss"))
    for step in (2, 4, 6):
        table.append({"epoch": 313, "step": step, "loss": step / 3 if step != 4 else None})
    return table


def test_rows_are_readable_and_exact_to_float32(tmp_path):
    with log(tmp_path).path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert rows[1]["loss"] == ""
    assert np.float32(rows[0]["loss"]) == np.float32(2 / 3)


@pytest.mark.parametrize(("step", "left"), [(6, 3), (5, 2), (2, 1)])
def test_cut_drops_what_came_after(tmp_path, step, left):
    table = log(tmp_path)
    lines = table.path.read_text().splitlines(keepends=True)
    table.cut(step)
    assert table.path.read_text() == "".join(lines[: 1 + left])


def test_cut_drops_a_half_written_row_even_where_it_parses(tmp_path):
    table = log(tmp_path)
    whole = table.path.read_text()
    with table.path.open("a") as file:
        file.write("313,5,0.1")
    table.cut(6)
    assert table.path.read_text() == whole


def test_cut_drops_what_a_kill_left(tmp_path):
    table = log(tmp_path)
    (tmp_path / ".m.csv.0a1b2c3d.tmp").write_text("epoch,st")
    (tmp_path / ".other.csv.0a1b2c3d.tmp").write_text("not ours")
    table.cut(6)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.csv.0a1b2c3d.tmp", "m.csv"]


def test_half_a_header_is_no_table(tmp_path):
    table = CsvLog(tmp_path / "m.csv", ("epoch", "step", "loss"))
    table.path.write_text("epoch,st")
    table.cut(6)
    assert not table.path.exists()


def test_cut_to_the_start_and_of_nothing(tmp_path):
    table = log(tmp_path)
    table.cut(0)
    assert not table.path.exists()
    table.cut(4)
    assert not table.path.exists()


def test_strip_lays_rows_under_each_other():
    picture = strip([torch.full((3, 3, 4, 4), v) for v in (-1.0, 0.0, 1.0)], gap_px=2)
    assert picture.shape == (3 * 4 + 2 * 2, 3 * 4 + 2 * 2, 3)
    assert (picture[:4, :4] == 0).all()
    assert (picture[6:10, 6:10] == 128).all()
    assert (picture[4:6] == 255).all()


def test_snapshot_shows_and_measures_the_samples(tiny, toy_data, tmp_path):
    cfg = tiny(batch_size=1)
    net = Model(cfg).net_G_AB
    measured = snapshot(net, toy_data, cfg, tmp_path / "s.png")

    inputs = to_float(torch.from_numpy(toy_data.samples))
    output = translate_samples(net, inputs, cfg).output
    change = (output - inputs).abs().numpy() / 2
    outside = np.broadcast_to(toy_data.samples_non_mask.astype(bool), change.shape)
    assert measured["outside_change"] == pytest.approx(change[outside].mean(), rel=1e-5)
    assert measured["inside_change"] == pytest.approx(change[~outside].mean(), rel=1e-5)

    with Image.open(tmp_path / "s.png") as file:
        picture = np.asarray(file)
    assert picture.shape == (3 * 34 - 2, 2 * 34 - 2, 3)
    assert np.array_equal(picture[:32, 34:], toy_data.samples[1].transpose(1, 2, 0))
    grey = picture[68:100, :32]
    assert (grey == grey[..., :1]).all()


def test_snapshots_share_their_noise(tiny, toy_data):
    inputs = to_float(torch.from_numpy(toy_data.samples))
    net = Model(tiny()).net_G_AB
    joined, single = (translate_samples(net, inputs, tiny(batch_size=n)).contents for n in (2, 1))
    assert torch.allclose(joined, single, atol=1e-6)
