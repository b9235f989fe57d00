"""A figure's four files: never too large, always the same bytes, with the caption ready to paste and the runs named."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from lib.data.files import read_json, sha256
from lib.study import printed
from lib.study.config import StudyError
from lib.study.display import use_style
from lib.study.printed import (
    LARGEST,
    checkpoint,
    checkpoint_record,
    latex_float,
    latex_text,
    markdown_text,
    save_figure,
    study_sentence,
    told,
)
from lib.study.sheet import COLUMN, TEXT, Panel, Row, sheet


def photographs(count, size):
    """As hard to compress as photographs: soft shapes with grain. uint8 [count, size, size, 3]."""
    rng = np.random.default_rng(0)
    soft = ndimage.gaussian_filter(rng.normal(size=(count, size, size, 3)), (0, size / 12, size / 12, 0))
    grain = rng.normal(0, 4, (count, size, size, 3))
    return (128 + 60 * soft / soft.std() + grain).clip(0, 255).astype(np.uint8)


def test_pictures_of_256_px_stay_below_a_megabyte_in_both_files(empty):
    faces = list(photographs(16, 256))
    rows = [Row(f"row {k}", faces[4 * (k % 4) : 4 * (k % 4) + 4]) for k in range(7)]
    made = save_figure(empty, sheet([Panel(rows), Panel(rows)]), "figure_9", "Large.")
    for kind in ("pdf", "png"):
        assert LARGEST / 3 < made.path.with_suffix(f".{kind}").stat().st_size <= LARGEST
        assert 60 < made.record["dpi"][kind] < printed.DPI
    with Image.open(made.path) as image:
        assert abs(image.width - TEXT * made.record["dpi"]["png"]) <= 1


def test_the_files_tell_what_they_are_and_hold_their_letters(empty):
    face = photographs(1, 16)[0]
    made = save_figure(empty, sheet(Panel([Row("rule-based", [face])]), COLUMN), "figure_1", "One face.", answer=42)
    pdf = made.path.with_suffix(".pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert set(re.findall(rb"/BaseFont /(?:[A-Z]{6}\+)?(\S+)", pdf)) == {b"DejaVuSans"}
    record = read_json(made.path.with_suffix(".json"))
    assert record["caption"] == made.caption == f"One face. {study_sentence(empty)}"
    assert record["made_for"] == "one column"
    assert record["answer"] == 42
    assert record["dpi"] == {"pdf": printed.DPI, "png": printed.DPI}
    assert made.path.with_suffix(".tex").read_text(encoding="utf-8").startswith("\\begin{figure}[t]")
    assert sorted(p.suffix for p in empty.figures_dir.iterdir()) == [".json", ".pdf", ".png", ".tex"]


def test_the_same_picture_gives_the_same_bytes(empty):
    def files():
        save_figure(empty, sheet(Panel([Row("a", list(photographs(2, 32)))])), "figure_1", "Two.")
        return {p.name: sha256(p) for p in empty.figures_dir.iterdir()}

    first = files()
    with plt.rc_context():
        use_style()  # as in a notebook
        assert files() == first


def test_a_notebook_shows_the_file_and_the_caption(empty, monkeypatch):
    shown = []
    monkeypatch.setattr(printed, "display", lambda *things: shown.extend(things))
    made = save_figure(empty, sheet(Panel([Row("a", list(photographs(1, 16)))]), COLUMN), "figure_1", "ΔL* of a_b.")
    made.show()
    picture, caption = shown
    assert picture.data == made.path.read_bytes()
    assert picture.width == 420
    assert caption.data.startswith(r"*ΔL\* of a\_b. Study empty:")


def test_a_caption_becomes_latex():
    assert latex_text("100 % of a_b & σ = 0.2²: ΔE, 64 × 64 → 1–60") == (
        r"100 \% of a\_b \& $\sigma$ = 0.2$^2$: $\Delta$E, 64 $\times$ 64 $\to$ 1--60"
    )
    assert latex_text("a\\b{c}") == r"a\textbackslash{}b\{c\}"
    assert r"\includegraphics[width=\textwidth]{figure_6}" in latex_float("figure_6", "x", TEXT)
    assert r"\begin{figure}[t]" in latex_float("figure_1", "x", COLUMN)


def test_a_caption_becomes_markdown():
    assert markdown_text("ΔL* of maskthe_face") == r"ΔL\* of maskthe\_face"


def test_a_checkpoint_is_told_with_its_weights_and_its_steps(trained):
    run = checkpoint_record(trained, "stage5", 313)
    folder = trained.root / run["path"]
    assert run["sha256"] == sha256(folder / "net_G_AB.safetensors")
    meta = read_json(folder / "meta.json")
    earlier = ("pretraining", "stage1", "stage2", "stage3", "stage4")
    before = sum(read_json(trained.stage_dir(stage) / "manifest.json")["steps"] for stage in earlier)
    assert run["steps_in_stage"] == meta["step"]
    assert run["steps_in_all"] == before + meta["step"]
    assert told(run) == f"checkpoint 313 of stage 5, trained for {before + meta['step']} steps in all"


def test_a_checkpoint_that_was_not_kept_lists_those_that_were(trained, empty):
    with pytest.raises(StudyError, match=r"kept no checkpoint 400; it has .*313"):
        checkpoint(trained, "stage5", 400)
    with pytest.raises(StudyError, match="run notebook 09_stage5"):
        checkpoint(empty, "stage5")
