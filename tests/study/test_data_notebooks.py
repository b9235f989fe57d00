"""Cells of notebooks 01 and 02 about the data: what they show, and what they say where nothing can be shown."""

from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest

from lib.study.driver import list_notebooks


def cell(notebook, cell_id):
    path = next(path for path in list_notebooks() if path.stem.startswith(notebook))
    return next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.id == cell_id)


def test_the_funnel_is_shown_as_picture_and_as_table():
    assert cell("01", "01-10").splitlines()[-1] == "funnel_chart(funnel, gone)"
    funnel = pd.DataFrame([{"step": "all faces", "kept": 29_452, "removed": 0, "why": "before any"}])
    html = eval(cell("01", "01-49"), {"funnel": funnel}).to_html()
    for text in ("all faces", "29,452", "before any"):
        assert text in html


def test_where_dlib_finds_nobody_the_notebook_says_so():
    names = {
        "prepare_A": lambda study: pd.DataFrame({"image": ["a.png", "b.png"]}),
        "read_image": lambda path: SimpleNamespace(pixels=path.name),
        "study": SimpleNamespace(data="paper", data_dir=Path("data")),
        "DlibLandmarks": lambda: SimpleNamespace(find=lambda face: []),
    }
    with pytest.raises(AssertionError, match="dlib finds no face in the first 8 pictures of set A"):
        exec(cell("02", "02-04"), names)
