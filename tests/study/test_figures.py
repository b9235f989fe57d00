"""Every figure is made from a study's runs, tells which, and shows what it says."""

import shutil
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from lib.data.files import write_table
from lib.study.config import StudyError
from lib.study.datasets import load_test_set
from lib.study.figure_parts import held_out, translate
from lib.study.figures import FIGURES, figure_2, figure_6, figure_7, figure_9, overview, table_1
from lib.study.figures_method import noise_by_layer
from lib.study.figures_results import composited
from lib.study.plans import PLANS
from lib.study.printed import LARGEST, latex_text
from lib.study.selection import write_picks
from lib.study.sheet import COLUMN, TEXT

CHECKPOINTS = {1: 0, 2: 1, 3: 1, 4: 2, 5: 2, 6: 1, 7: 1, 8: 1, 9: 5}


@pytest.fixture(scope="module", autouse=True)
def _another_default(trained):
    """The released model works at 256 px: too slow to stand in every Figure 9."""
    folder = trained.root / "stage5" / "checkpoints" / "epoch_0510"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lib.study.figures_results.default_released", lambda: folder)
        yield


def words(made):
    return [text.get_text() for text in made.figure.axes[0].texts]


def test_there_is_one_of_each():
    assert [make.__name__ for make in FIGURES.values()] == [f"figure_{k}" for k in range(1, 10)]


@pytest.fixture(scope="module")
def every(trained, _another_default):
    """Figures 1 to 9, the overview (10) and Table 1 (11) of the trained study, made once."""
    return {k: make(trained) for k, make in enumerate((*FIGURES.values(), overview, table_1), 1)}


@pytest.mark.parametrize("k", FIGURES)
def test_a_figure_is_saved_shown_and_tells_its_runs(trained, every, k):
    made = every[k]
    assert made.path == trained.figures_dir / f"figure_{k}.png"
    with Image.open(made.path) as image:
        assert np.asarray(image.convert("L")).std() > 5  # something is drawn
    assert made.figure.get_figwidth() in (COLUMN, TEXT)
    assert made.figure.get_figheight() < 9
    for kind in ("pdf", "png"):
        assert made.path.with_suffix(f".{kind}").stat().st_size <= LARGEST
    assert "tiny" in made.caption
    assert "32 × 32 px" in made.caption
    assert len(made.record["runs"]) == CHECKPOINTS[k]
    for run in made.record["runs"]:
        assert len(run["sha256"]) == 64
        assert "path" not in run or (trained.root / run["path"]).exists()
    pictures = made.record.get("pictures", [])
    assert pictures or k == 8  # whose pictures stand with their squares
    assert set(pictures) <= {p.name for p in trained.data_dir.rglob("*.png")}


def test_no_text_meets_another_or_leaves_the_page(every):
    for made in every.values():
        fig = made.figure
        FigureCanvasAgg(fig).draw()
        boxes = [text.get_window_extent() for text in fig.axes[0].texts]
        for box in boxes:
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= fig.bbox.x1
            assert box.y1 <= fig.bbox.y1
        assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
        assert all(text.get_fontsize() >= 7 for text in fig.axes[0].texts)


def test_every_letter_of_the_captions_is_known_to_latex(every):
    for made in every.values():
        assert latex_text(made.caption).isascii(), made.caption


def test_the_same_runs_give_the_same_bytes(trained, every, copy_of):
    study = copy_of(trained)
    for k in (2, 6, 8):
        again = FIGURES[k](study)
        for kind in (".pdf", ".png", ".json", ".tex"):
            assert again.path.with_suffix(kind).read_bytes() == every[k].path.with_suffix(kind).read_bytes()


@pytest.fixture
def no_pictures(monkeypatch):
    """Figures are drawn and told, not written as PDF and PNG: that takes most of the time."""
    monkeypatch.setattr("lib.study.printed._write", lambda *_: 0)


@pytest.mark.parametrize("data", ["folders", "paper"])
def test_photographs_have_no_truth_and_the_same_figures(trained, copy_of, no_pictures, data):
    study = replace(copy_of(trained), data=data)
    if data == "paper":  # CMFD's own masks: no landmarks were needed for them
        (study.data_dir / "A" / "landmarks.csv").unlink()
    shutil.rmtree(study.data_dir / "A" / "truth")
    for make in (*FIGURES.values(), overview):
        made = make(study)
        assert "truth" not in made.caption
        assert "face world" not in made.caption
        assert "truth" not in words(made)


def test_a_face_that_a_rule_refuses_leaves_a_place_empty(trained, copy_of, no_pictures, monkeypatch):
    monkeypatch.setattr("lib.study.comparison.find_landmarks", lambda _, test: [None] * len(test.names))
    made = figure_9(copy_of(trained))
    assert "empty place" in made.caption
    assert set(made.record["refused"]["ours"].values()) == {"no face found"}
    assert made.record["scores"]["ours"]["faces"] == 0


def test_one_held_out_face_is_enough(trained, copy_of, no_pictures):
    study = copy_of(trained)
    table = study.data_dir / "A" / "rule" / "faces.csv"
    rows = pd.read_csv(table)
    write_table(table, rows.drop(rows.index[rows["split"] == "test"][1:]))
    for make in (*FIGURES.values(), overview):
        assert make(study).figure.get_figwidth() in (COLUMN, TEXT)
    assert held_out(study)[1] == "Held-out faces, not chosen: all 1."


def test_figures_6_and_7_follow_the_selection(trained, copy_of, no_pictures):
    study = copy_of(trained)
    write_picks(study, (476, 510), "me")
    for make, epoch in ((figure_6, 476), (figure_7, 510)):
        made = make(study)
        assert f"checkpoint {epoch} of stage 5, trained for" in made.caption
        assert made.record["runs"][0]["path"] == f"stage5/checkpoints/epoch_{epoch:04d}"


def test_numbers_in_a_caption_are_those_of_the_record(every):
    made = every[6]
    assert f"ΔE is {made.record['noise_diversity']:.1f}" in made.caption
    for value in made.record["colour_spread_output"]:
        assert f"ΔE {value:.1f}" in words(made)
    made = every[5]
    assert f"{made.record['outside_change']:.3f}" in made.caption


def test_figure_4_compares_checkpoints_without_noise(every):
    made = every[4]
    assert list(made.record["colour_spread"]) == [str(run["epoch"]) for run in made.record["runs"]]
    assert {run["stage"] for run in made.record["runs"]} == {"stage4"}


def test_figure_5_shows_the_worst_pass(trained, every):
    stages = [pd.read_csv(trained.stage_dir(f"stage{k}") / "samples.csv") for k in (1, 2, 3)]
    assert every[5].record["outside_change"] == pytest.approx(
        max(stage["outside_change"].max() for stage in stages), abs=1e-4
    )


def test_figure_8_names_the_worst_faces_in_order(trained, every):
    record = every[8].record
    names = load_test_set(trained).names
    for part in ("away_from_the_mask", "patterns_on_the_mask"):
        values = [place["value"] for place in record[part]]
        assert values == sorted(values, reverse=True)
        assert {place["picture"] for place in record[part]} <= set(names)
        assert {place["box"][2] for place in record[part]} == {8}


def test_figure_9_has_every_way_and_other_weights_where_named(trained, every, no_pictures):
    made = every[9]
    assert {"cmfd", "mlfw", "ours", "AttentionGAN", "+ NMC", "truth", "epoch 510"} <= set(words(made))
    assert made.record["scores"]["truth"]["truth_distance"] == 0
    assert made.record["runs"][-1]["generator"] == "tiny, 510"
    assert len(figure_9(trained, others=[]).record["runs"]) == 4
    assert "other generators" not in " ".join(words(made))


def test_figure_9_has_other_generators_where_they_were_trained(trained, copy_of, no_pictures, monkeypatch):
    monkeypatch.setitem(PLANS, "tiny", PLANS["smoke"])
    study = copy_of(trained)
    kept = study.root / "experiments" / "generators" / "cut+nmc-seed0" / "checkpoints" / "epoch_0510"
    shutil.copytree(trained.root / "stage5" / "checkpoints" / "epoch_0510", kept)
    made = figure_9(study, others=[])
    assert {"(c) other generators", "CUT + NMC"} <= set(words(made))
    record = made.record["runs"][-1]
    assert (record["generator"], record["path"]) == ("CUT + NMC", kept.relative_to(study.root).as_posix())
    assert "(c) Other generators" in made.caption
    assert f"{record['steps_in_all']} steps from random weights at 32 px (study tiny)" in made.caption
    assert made.record["scores"]["CUT + NMC"]["faces"] == len(made.record["pictures"])
    elsewhere = figure_9(trained, others=[], generators=study)
    assert elsewhere.record["scores"]["CUT + NMC"] == made.record["scores"]["CUT + NMC"]


def test_noise_by_layer_starts_from_the_same_picture(trained):
    outputs = noise_by_layer(trained, load_test_set(trained).rule[:2], (0.0, 8.0))
    assert outputs.shape == (2, 3, 2, 32, 32, 3)
    assert (outputs[:, :, 0] == outputs[:, :1, 0]).all()
    assert (outputs[:, 2, 1] != outputs[:, 2, 0]).any()


def test_translation_repeats_and_noise_seeds_matter(trained):
    rule = load_test_set(trained).rule
    a, b, c = (translate(trained, "stage5", 313, rule, seed) for seed in (0, 0, 1000))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("k", [1, 3, 4, 5, 6, 8, 9])
def test_without_runs_a_figure_names_the_notebook_to_run(empty, k):
    with pytest.raises(StudyError, match="run notebook"):
        FIGURES[k](empty)


def test_the_generator_can_be_drawn_before_any_training(empty):
    made = figure_2(empty)
    assert "checkpoint" not in made.caption
    assert made.record["runs"] == []


def test_the_overview_changes_nothing_outside_the_mask(trained, every):
    test = load_test_set(trained)
    outputs = translate(trained, "stage5", 476, test.rule)
    pasted = composited(test, outputs)
    assert (pasted[test.non_mask] == test.full[test.non_mask]).all()
    assert (pasted[~test.non_mask] == outputs[~test.non_mask]).all()
    assert every[10].path.name == "overview.png"
    assert "truth" in every[10].caption
