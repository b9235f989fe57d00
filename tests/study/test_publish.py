"""Figures of the face world are copied to figures/; photographs never are."""

from dataclasses import replace

import pytest

from lib.data.files import write_json
from lib.study import publish as module
from lib.study.config import StudyError
from lib.study.publish import main, publish


@pytest.fixture
def with_figures(empty):
    empty.figures_dir.mkdir(parents=True)
    for name in ("figure_1.png", "figure_1.tex", "table_1.csv", ".figure_2.png.tmp", "notes.txt"):
        (empty.figures_dir / name).write_bytes(b"x" * 10)
    write_json(empty.figures_dir / "figure_1.json", {"caption": "Set B.", "width_inches": 3.5})
    return empty


def test_finished_figures_are_copied_and_nothing_else(with_figures, tmp_path):
    copies = publish(with_figures, tmp_path / "figures")
    expected = ["README.md", "figure_1.json", "figure_1.png", "figure_1.tex", "table_1.csv"]
    assert sorted(p.name for p in copies) == expected
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == sorted(p.name for p in copies)
    assert (tmp_path / "figures" / "figure_1.png").read_bytes() == b"x" * 10


def test_a_page_shows_each_figure_at_its_width_with_its_caption(with_figures, tmp_path):
    page = publish(with_figures, tmp_path / "figures")[-1].read_text(encoding="utf-8")
    assert '<img src="figure_1.png" width="420"' in page
    assert "Set B. ([json](figure_1.json), [tex](figure_1.tex))" in page


def test_figures_of_an_older_version_are_to_be_made_anew(with_figures, tmp_path):
    write_json(with_figures.figures_dir / "figure_1.json", {"caption": "Set B."})
    with pytest.raises(StudyError, match=r"figure_1\.json: made by an older version"):
        publish(with_figures, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_photographs_stay_where_they_are(with_figures, tmp_path):
    with pytest.raises(StudyError, match="shows photographs"):
        publish(replace(with_figures, data="folders"), tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_no_figures_names_the_notebook(empty, tmp_path):
    with pytest.raises(StudyError, match="run notebook 11_figures"):
        publish(empty, tmp_path)


def test_a_large_file_is_refused_before_anything_is_copied(with_figures, tmp_path):
    (with_figures.figures_dir / "figure_9.png").write_bytes(b"0" * (module.LARGEST + 1))
    with pytest.raises(StudyError, match=r"figure_9\.png: 600,001 bytes"):
        publish(with_figures, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_the_command_tells_what_is_missing(capsys, monkeypatch):
    def nothing(name):
        raise StudyError("no study there; found: none")

    monkeypatch.setattr(module, "find_study", nothing)
    assert main(["--name", "missing"]) == 2
    assert capsys.readouterr().err == "error: no study there; found: none\n"
