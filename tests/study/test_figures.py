"""Every figure is made from a study's runs, saved thrice, and says what it was made from."""

import numpy as np
import pytest
from PIL import Image

from lib.data.files import read_json
from lib.study.config import StudyError
from lib.study.datasets import load_test_set
from lib.study.figures import (
    FIGURES,
    checkpoint,
    composited,
    figure_6,
    figure_7,
    noise_by_layer,
    overview,
    table_1,
    translate,
)
from lib.study.selection import write_picks


@pytest.mark.parametrize("k", FIGURES)
def test_a_figure_is_saved_as_pdf_png_and_record(trained, k):
    made = FIGURES[k](trained)
    assert made.path == trained.figures_dir / f"figure_{k}.png"
    with Image.open(made.path) as image:
        assert min(image.size) > 100
        assert np.asarray(image.convert("L")).std() > 5  # something is drawn
    assert made.path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    record = read_json(made.path.with_suffix(".json"))
    assert record["caption"] == made.caption
    assert record["study"]["name"] == trained.name
    assert len(record["runs"]) == {1: 0, 9: 4}.get(k, 1)
    for run in record["runs"]:
        assert (trained.root / run).exists()
    assert not list(trained.figures_dir.glob(".*"))


def test_the_same_runs_give_the_same_pictures(trained, copy_of):
    study = copy_of(trained)
    first = {k: FIGURES[k](study).path.read_bytes() for k in (2, 6)}
    pdf = (study.figures_dir / "figure_6.pdf").read_bytes()
    assert {k: FIGURES[k](study).path.read_bytes() for k in (2, 6)} == first
    assert (study.figures_dir / "figure_6.pdf").read_bytes() == pdf


def test_figures_6_and_7_follow_the_selection(trained, copy_of):
    study = copy_of(trained)
    write_picks(study, (476, 510), "me")
    for make, epoch in ((figure_6, 476), (figure_7, 510)):
        made = make(study)
        assert f"Checkpoint {epoch}" in made.caption
        assert read_json(made.path.with_suffix(".json"))["runs"] == [f"stage5/checkpoints/epoch_{epoch:04d}"]


def test_noise_by_layer_starts_from_the_same_picture(trained):
    outputs = noise_by_layer(trained, load_test_set(trained).rule[0], (0.0, 8.0))
    assert outputs.shape == (3, 2, 32, 32, 3)
    assert (outputs[:, 0] == outputs[0, 0]).all()
    assert (outputs[2, 1] != outputs[2, 0]).any()


def test_a_checkpoint_that_was_not_kept_lists_those_that_were(trained):
    with pytest.raises(StudyError, match=r"kept no checkpoint 400; it has .*313"):
        checkpoint(trained, "stage5", 400)


def test_translation_repeats_and_noise_seeds_matter(trained):
    rule = load_test_set(trained).rule
    a, b, c = (translate(trained, "stage5", 313, rule, seed) for seed in (0, 0, 1000))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_table_1_has_the_papers_rows_and_our_counts(trained):
    table = table_1(trained)
    assert table["Epochs"].tolist() == ["1–60", "61–90", "91–140", "141–298", "299–510"]
    assert table["Passes here"].tolist() == [2, 1, 1, 2, 4]
    assert table["Steps here"].tolist() == [4, 2, 2, 4, 8]
    assert (trained.figures_dir / "table_1.csv").is_file()


@pytest.mark.parametrize("k", [1, 3, 4, 5, 6, 8, 9])
def test_without_runs_a_figure_names_the_notebook_to_run(empty, k):
    with pytest.raises(StudyError, match="run notebook"):
        FIGURES[k](empty)


def test_the_generator_can_be_drawn_before_any_training(empty):
    assert "Tensors" not in FIGURES[2](empty).caption


def test_the_overview_changes_nothing_outside_the_mask(trained):
    test = load_test_set(trained)
    outputs = translate(trained, "stage5", 476, test.rule)
    pasted = composited(test, outputs)
    assert (pasted[test.non_mask] == test.full[test.non_mask]).all()
    assert (pasted[~test.non_mask] == outputs[~test.non_mask]).all()
    made = overview(trained)
    assert made.path.name == "overview.png"
    assert "truth" in made.caption
