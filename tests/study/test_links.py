"""Prev and next come from the sorted list of notebooks, and nothing but the last cell is written."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lib.study.config import StudyError
from lib.study.driver import list_notebooks
from lib.study.links import main, write_links


@pytest.fixture
def folder(tmp_path):
    for k, name in enumerate(("00_first", "01_second", "02_third")):
        cells = [new_markdown_cell(f"# {k}", id="a"), new_code_cell("1", id="b")]
        nbformat.write(new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
    (tmp_path / "notes.ipynb").write_text("not one of them")
    return tmp_path


def last(path):
    return nbformat.read(path, 4).cells[-1]


def test_each_leads_to_its_neighbours_and_a_second_run_changes_nothing(folder):
    assert len(write_links(folder)) == 3
    leads = [re.findall(r"\]\((.*?)\)", last(path).source) for path in list_notebooks(folder)]
    assert leads == [["01_second.ipynb"], ["00_first.ipynb", "02_third.ipynb"], ["01_second.ipynb"]]
    assert write_links(folder) == []


def test_a_new_notebook_is_tied_in_and_other_cells_stay(folder):
    write_links(folder)
    before = [nbformat.read(path, 4).cells[:-1] for path in list_notebooks(folder)]
    (folder / "02_third.ipynb").rename(folder / "03_third.ipynb")
    cells = [new_markdown_cell("# new", id="c")]
    nbformat.write(new_notebook(cells=cells), folder / "02_new.ipynb")
    assert [path.name for path in write_links(folder)] == ["01_second.ipynb", "02_new.ipynb", "03_third.ipynb"]
    after = [nbformat.read(path, 4).cells[:-1] for path in list_notebooks(folder)]
    assert after == [*before[:2], cells, before[2]]
    assert last(folder / "03_third.ipynb").id == "03-links"


def test_a_file_that_is_no_notebook_is_named(folder, monkeypatch, capsys):
    (folder / "01_second.ipynb").write_text("{")
    with pytest.raises(StudyError, match=r"01_second\.ipynb: not a notebook"):
        write_links(folder)
    monkeypatch.setattr("lib.study.links.write_links.__defaults__", (folder,))
    assert main() == 2
    assert "not a notebook" in capsys.readouterr().err
