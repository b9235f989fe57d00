"""`python -m lib.data check` on small data sets laid out like the real ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lib.data import __main__ as command
from lib.data import check, maskedface_net, rmfd


def counts(report):
    return {row["what"]: (row["found"], row["verdict"]) for row in report.counts}


def test_a_folder_of_all_is_told_part_by_part(sets):
    reports = {report.name: report for report in check.check([sets])}
    assert list(reports) == [
        "FDDB", "FFHQ", "LFW", "MAFA, train", "MAFA, test", "MFR2", "MLFW", "CMFD", "IMFD", "RMFRD", "RWMFD", "SMFRD",
        "WIDER FACE, train", "WIDER FACE, val", "WIDER FACE, test",
    ]  # fmt: skip
    assert counts(reports["MAFA, train"]) == {
        "pictures": (2, "differs by -25,874"), "faces": (2, "differs by -29,450"), "usable": (1, ""),
        "faces under 60 px": (0, "differs by -4,802"), "paper's stage1": (2, "differs by -9,515"),
        "paper's stage2": (2, "differs by -8,936"),
    }  # fmt: skip
    missing = sets / "MAFA" / "train-images" / "images" / "train_00000002.jpg"
    assert f"1 pictures are missing; the first is expected at {missing}" in reports["MAFA, train"].problems
    assert not reports["MAFA, test"].problems  # the study needs only the other part
    assert "MAFA-Label-Test/LabelTestAll.mat" in reports["MAFA, test"].notes[0]
    assert "1 of 2 have their full face in FFHQ, by id" in reports["CMFD"].problems
    assert counts(reports["RMFRD"])["masked"] == (1, "differs by -2,202")
    assert "1 of 1 pairs cannot be used: picture missing" in reports["MFR2"].problems[-1]
    assert "no pairs" in reports["LFW"].problems[-1]
    assert counts(reports["FDDB"])["pictures of the archive"] == (1, "differs by -28,203")


def test_what_is_as_published_is_all_right(sets, monkeypatch, capsys):
    monkeypatch.setitem(maskedface_net.PUBLISHED, "CMFD", 2)
    root = str(sets / "MaskedFace-Net" / "CMFD")
    assert command.main(["check", root]) == 0
    out = capsys.readouterr().out
    assert "published       2   OK" in out
    assert "1 part, all right" in out


def test_rmfrds_claim_is_explained(sets, monkeypatch, capsys):
    monkeypatch.setitem(rmfd.PUBLISHED, "RMFRD", dict.fromkeys(rmfd.PUBLISHED["RMFRD"], 0) | {"masked": 1})
    command.main(["check", str(sets / "RMFD")])
    assert "OK   (5,000 are claimed, but no more are published)" in capsys.readouterr().out


def test_a_damaged_label_file_is_one_line(sets, capsys):
    (sets / "MAFA" / "MAFA-Label-Train" / "LabelTrainAll.mat").write_bytes(b"no")
    assert command.main(["check", str(sets / "MAFA")]) == 1
    assert "LabelTrainAll.mat: cannot be read as a MATLAB label file" in capsys.readouterr().out


def test_an_asked_for_kind_that_is_not_there_says_what_was_expected(sets, capsys):
    for kind, expected in (("mafa", "MAFA-Label-Train/LabelTrainAll.mat"), ("rmfd", "AFDB_face_dataset"),
                           ("fddb", "FDDB-folds"), ("wider", "wider_face_train_bbx_gt.txt"), ("lfw", "pairs.txt"),
                           ("mfr2", "mfr2_labels.txt"), ("cmfd", "name is not like")):  # fmt: skip
        assert command.main(["check", str(sets / "photos"), "--kind", kind]) == 1
        assert expected in capsys.readouterr().out


def test_deep_finds_damaged_pictures_and_boxes_outside(sets, touch_picture, capsys, tmp_path):
    bad = touch_picture("MAFA/train-images/images/train_00000002.jpg", (100, 100))
    bad.write_bytes(bad.read_bytes()[:-20])
    small = touch_picture("WIDER/WIDER_train/images/0--Parade/a.jpg", (1, 1))
    assert command.main(["check", str(sets), "--deep", "--json", str(tmp_path / "found.json")]) == 1
    assert f"! {bad}: is truncated" in capsys.readouterr().out
    content = json.loads((tmp_path / "found.json").read_text())
    reports = {report["name"]: report for report in content["reports"]}
    assert not content["all_right"]
    assert [row["image"] for row in reports["MAFA, train"]["damaged"]] == [str(bad)]
    assert reports["WIDER FACE, train"]["reasons"] == [
        {"reason": "box outside the picture", "count": 1, "first": small.relative_to(sets / "WIDER").as_posix()}
    ]


def test_names_that_leave_the_data_set_are_told(tmp_path, mafa_labels, capsys):
    mafa_labels(tmp_path, ["../../secret.jpg"])
    assert command.main(["check", str(tmp_path)]) == 1
    assert "1 names lead out of the data set and are not followed" in capsys.readouterr().out


def test_wrong_usage_is_one_line_and_status_2(tmp_path, capsys):
    assert command.main(["check", str(tmp_path / "gone")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'gone'}: no such folder\n"
    for argv in (["check"], ["chek", "."], [], ["check", ".", "--kind", "pascal"]):
        with pytest.raises(SystemExit) as caught:
            command.main(argv)
        assert caught.value.code == 2
    assert command.main(["check", str(tmp_path)]) == 1  # an empty folder
    assert "no pictures in it" in capsys.readouterr().out


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main([name, "--help"])
    assert caught.value.code == 0
    assert name in capsys.readouterr().out


def test_it_runs_as_a_module(tmp_path, touch_picture):
    touch_picture("1.jpg")
    done = subprocess.run(
        [sys.executable, "-m", "lib.data", "check", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "folder of pictures" in done.stdout
