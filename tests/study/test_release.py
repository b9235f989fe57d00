"""A study's generator becomes a released model: the card's numbers are the run's, and no path gets in."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.data.files import read_json, write_json
from lib.gan import CheckpointError, Translator, list_released, load_generator, load_released
from lib.gan.checkpoints import write_checkpoint
from lib.study import release as module
from lib.study.config import StudyError
from lib.study.release import facts_of, main, release, rounding_effect, stage_of, timeline_of
from lib.study.timeline import load_stage


def command(study, tmp_path, *more):
    call = ["--name", study.name, "--runs-dir", study.root.parent, "--weights-dir", tmp_path / "weights"]
    return [str(part) for part in (*call, "--epoch", 476, "--as", "tiny", "--trained-on", "Rendered faces.", *more)]


def whole_card(folder):
    return (folder / "README.md").read_text(encoding="utf-8"), (folder / "model.json").read_text(encoding="utf-8")


def test_the_command_makes_a_model_that_translates(trained, tmp_path, capsys):
    assert main(command(trained, tmp_path, "--default", "--note", "Picked by eye.")) == 0
    told = capsys.readouterr().out
    root = tmp_path / "weights"
    assert [(row["name"], row["default"]) for row in list_released(root)] == [("tiny", True)]
    assert list_released(root)[0]["trained_on"] == "Rendered faces."
    assert "tiny: " in told
    assert str(root / "tiny" / "README.md") in told
    net = load_released(root=root)
    exact = load_generator(load_stage(trained, "stage5").checkpoints[476])
    assert net.config() == exact.config()
    assert all((a - b).abs().max() <= 0.01 * b.abs().max() for a, b in zip(net.parameters(), exact.parameters()))
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    assert Translator(root / "tiny", "cpu").translate(pictures, [1, 2]).images.shape == pictures.shape


def test_the_running_mean_can_be_released(trained, copy_of, tmp_path):
    study = copy_of(trained)
    folder = load_stage(study, "stage5").checkpoints[476]
    mean = load_generator(folder)
    for parameter in mean.parameters():
        parameter.copy_(parameter * 2)
    meta = {key: value for key, value in read_json(folder / "meta.json").items() if key not in ("files", "sha256")}
    networks = {"net_G_AB": load_generator(folder), "net_G_AB_average": mean}
    write_checkpoint(folder.parent, 476, networks, {}, meta)
    manifest = read_json(study.stage_dir("stage5") / "manifest.json")
    manifest["config"]["average"] = 0.9
    write_json(study.stage_dir("stage5") / "manifest.json", manifest)

    assert main(command(study, tmp_path, "--average")) == 0
    released = load_released("tiny", root=tmp_path / "weights")
    assert all((a - b).abs().max() <= 0.01 * b.abs().max() for a, b in zip(released.parameters(), mean.parameters()))
    assert "running mean of the generator's, decay 0.9" in whole_card(tmp_path / "weights" / "tiny")[0]


def test_the_card_tells_the_runs_numbers_and_no_path(trained, tmp_path):
    measured, limits = tmp_path / "measured.json", tmp_path / "limits.txt"
    measured.write_text(json.dumps({"seconds per face, CPU": 0.8125, "faces": {"n": 48}}))
    limits.write_text("- Beards were rare.\n\nGlasses too.\n")
    Image.new("RGB", (9, 9)).save(tmp_path / "shown.png")
    more = ("--measured", measured, "--limits", limits, "--figure", tmp_path / "shown.png", "--caption", "Two faces")
    assert main(command(trained, tmp_path, *more)) == 0
    folder = tmp_path / "weights" / "tiny"
    card, model_text = whole_card(folder)
    model = json.loads(model_text)

    run = load_stage(trained, "stage5")
    row = run.samples.set_index("epoch").loc[476]
    change = next(value for key, value in model["measured"].items() if "rule-based picture" in key)
    assert change == {"outside the mask": row["outside_change"], "inside the mask": row["inside_change"]}
    for words in (
        f"outside the mask | {row['outside_change']:.4g} |",
        f"inside the mask | {row['inside_change']:.4g} |",
        "bfloat16, in levels of 255, 3 held-out faces |",
        "| seconds per face, CPU | 0.8125 |",
        "| **faces** |  |\n| n | 48 |",
        "- Beards were rare.\n- Glasses too.\n",
        "![Two faces](figure.png)",
        "ngf 4",
        "32 × 32 px",
        run.manifest["config_hash"],
        run.manifest["device"],
        "no photograph of a person",
    ):
        assert words in card, words
    assert (folder / "figure.png").read_bytes() == (tmp_path / "shown.png").read_bytes()
    for text in (card, model_text, (folder.parent / "registry.json").read_text()):
        assert str(tmp_path) not in text
        assert str(trained.root.parent) not in text
        assert not re.search(r"(?<![\w.:/])/(?:tmp|home|root|work|Users)\b", text)


def test_the_timeline_ends_at_the_released_epoch(trained):
    rows = timeline_of(trained.root, "stage5", 476)
    assert [row["stage"] for row in rows] == ["pretraining", "stage1", "stage2", "stage3", "stage4", "stage5"]
    last, before = rows[-1], rows[-2]
    labels = load_stage(trained, "stage5").manifest["config"]["epochs"]
    assert last["epochs"] == [labels[0], 476]
    assert last["passes"] == labels.index(476) + 1 < len(labels)
    assert last["steps"] == 2 * last["passes"], "two steps a pass"
    assert (before["epochs"], before["steps"]) == ([141, 298], load_stage(trained, "stage4").manifest["steps"])
    assert (before["noise"], last["noise"]) == ([0, 0, 0], [0, 1, 0.2])
    assert (rows[3]["lambda_nmc"], before["lambda_nmc"]) == (0, 10)
    metrics = load_stage(trained, "stage5").metrics
    assert last["seconds"] == pytest.approx(metrics[metrics["step"] <= last["steps"]]["seconds"].sum(), abs=0.06)
    assert last["images"] == {side: load_stage(trained, "stage5").manifest["data"][side] for side in "AB"}
    assert last["starts_from"] == "stage4/checkpoints/epoch_0298"


def test_a_stage_still_in_training_and_lost_side_files_are_said_not_refused(trained, copy_of):
    study = copy_of(trained)
    path = study.stage_dir("stage5") / "manifest.json"
    path.write_text(path.read_text().replace('"finished"', '"running"'))
    for lost in ("samples.csv", "metrics.csv"):
        (study.stage_dir("stage5") / lost).unlink()
    shutil.rmtree(study.stage_dir("stage3") / "checkpoints")  # an older stage may be gone but for its manifest
    facts = facts_of(study.root, "stage5", 313)
    assert facts["run"]["status"] == "not trained to its end"
    assert facts["measured"] == {}
    assert facts["timeline"][-1]["seconds"] is None
    shutil.rmtree(study.data_dir)
    folder = release(study.root, 313, "part", "Rendered faces.", weights=study.root / "weights")
    assert "Nothing was measured." in whole_card(folder)[0]


def test_releasing_again_gives_the_same_weights_and_other_words(trained, tmp_path):
    first = release(trained.root, 476, "m", "Rendered faces.", default=True, weights=tmp_path)
    before = read_json(first / "model.json")
    release(trained.root, 476, "m", "Faces, rendered.", weights=tmp_path)
    after = read_json(first / "model.json")
    assert (after["sha256"], after["parts"]) == (before["sha256"], before["parts"])
    assert list_released(tmp_path)[0]["trained_on"] == "Faces, rendered."
    assert list_released(tmp_path)[0]["default"], "it stays the default"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from /srv/me/pictures", "'/srv/me/pictures'"),
        ("/data", "'/data'"),
        ("in ~/pictures", "'~/pictures'"),
        (r"of C:\faces", r"'C:\\faces'"),
        ("faces and/or masks, A / B, 1/2, https://a.org/b, data/A, ./x, 3²/4²", None),
    ],
)
def test_a_path_of_one_machine_is_refused(trained, tmp_path, text, found):
    if found is None:
        assert release(trained.root, 476, "m", text, weights=tmp_path).is_dir()
        return
    for words in ({"trained_on": text}, {"trained_on": "x", "measured": {"a": {text: 1}}}):
        with pytest.raises(StudyError, match=re.escape(found) + " looks like a path"):
            release(trained.root, 476, "m", weights=tmp_path, **words)
    assert not (tmp_path / "m").exists()


def test_mistakes_end_in_one_line(trained, tmp_path, capsys):
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "large.png").write_bytes(b"\x89PNG")
    for more, words in (
        (("--epoch", 477), "epoch_0477: no such checkpoint; kept are: epoch_0"),
        (("--epoch", 600), "epoch 600: Table 1 goes from 1 to 510"),
        (("--as", "../x"), "name '../x': a folder's name"),
        (("--as", "a b"), "name 'a b'"),
        (("--name", "none"), "no study there"),
        (("--measured", tmp_path / "list.json"), "got a list"),
        (("--measured", tmp_path / "none.json"), "none.json"),
        (("--figure", tmp_path / "large.png"), "large.png"),
        (("--note", "see /srv/x/y"), "'/srv/x/y' looks like a path"),
        (("--average",), "trained without a running mean"),
    ):
        assert main(command(trained, tmp_path, *map(str, more))) == 2
        told = capsys.readouterr()
        assert words in told.err
        assert len(told.err.splitlines()) == 1
        assert not told.out
    assert not list((tmp_path / "weights").glob("*"))


def test_a_figure_is_a_small_png(tmp_path, monkeypatch):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(StudyError, match="a card takes a PNG"):
        module._figure(tmp_path / "a.jpg", "")
    monkeypatch.setattr(module, "LARGEST_FIGURE", 20)
    with pytest.raises(StudyError, match="at most 20"):
        module._figure(tmp_path / "a.png", "")


def test_a_damaged_checkpoint_is_refused(trained, copy_of, tmp_path):
    study = copy_of(trained)
    path = study.stage_dir("stage5") / "checkpoints" / "epoch_0476" / "net_G_AB.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"1234")
    with pytest.raises(CheckpointError, match=r"net_G_AB\.safetensors: damaged"):
        release(study.root, 476, "m", "Rendered faces.", weights=tmp_path / "w")


def test_a_missing_stage_before_names_its_notebook(trained, copy_of):
    study = copy_of(trained)
    shutil.rmtree(study.stage_dir("stage2"))
    with pytest.raises(StudyError, match="run notebook 06_stage2"):
        timeline_of(study.root, "stage5", 476)


def test_epochs_belong_to_rows_of_table_1():
    assert [stage_of(epoch) for epoch in (1, 60, 61, 140, 141, 298, 299, 510)] == [
        *("stage1", "stage1", "stage2", "stage3", "stage4", "stage4", "stage5", "stage5")
    ]


def test_the_pretraining_can_be_released_by_name_of_its_stage(trained, tmp_path):
    folder = release(trained.root, 60, "m", "Rendered scenes.", stage="pretraining", weights=tmp_path)
    assert [row["stage"] for row in read_json(folder / "model.json")["timeline"]] == ["pretraining"]


def test_rounding_is_measured_as_the_released_model_computes(trained, tmp_path):
    checkpoint = load_stage(trained, "stage5").checkpoints[476]
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    folder = release(trained.root, 476, "m", "Rendered faces.", weights=tmp_path)
    exact = Translator(checkpoint, "cpu", 1).translate(pictures, range(3)).images.astype(float)
    rounded = Translator(folder, "cpu", 1).translate(pictures, range(3)).images
    assert rounding_effect(checkpoint, pictures) == pytest.approx(np.abs(exact - rounded).mean())
    table = pd.read_csv(trained.data_dir / "A" / "rule" / "faces.csv")
    told = next(key for key in read_json(folder / "model.json")["measured"] if "bfloat16" in key)
    assert f"{(table['split'] == 'test').sum()} held-out faces" in told
