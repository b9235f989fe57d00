"""Table 1 has the paper's rows and our counts, in every form."""

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lib.study.config import StudyError
from lib.study.sheet import TEXT
from lib.study.table_1 import latex, markdown, table_1, table_figure, timeline_table


def test_the_papers_rows_and_our_counts(trained):
    table = timeline_table(trained)
    assert table["Epochs"].tolist() == ["1–60", "61–90", "91–140", "141–298", "299–510"]
    assert table["Dataset Size"].tolist() == ["9,517", "8,938", "1,695", "1,695", "1,695"]
    assert table["Passes here"].tolist() == [2, 1, 1, 2, 4]
    assert table["Steps here"].tolist() == [4, 2, 2, 4, 8]


def test_every_form_is_written_and_says_the_same(trained):
    made = table_1(trained)
    table = timeline_table(trained)
    for kind in ("csv", "md", "tex", "pdf", "png", "json"):
        assert made.path.with_suffix(f".{kind}").stat().st_size > 0
    written = pd.read_csv(made.path.with_suffix(".csv"), keep_default_na=False)
    assert written.to_dict("records") == table.to_dict("records")
    assert made.record["rows"] == table.to_dict("records")
    assert [run["stage"] for run in made.record["runs"]] == [f"stage{k}" for k in range(1, 6)]
    text = made.path.with_suffix(".tex").read_text(encoding="utf-8")
    assert text.startswith(r"\begin{table*}")
    assert r"299--510 & 8/8 & Yes & Yes & 1,695 & None & 4 & 8 &" in text


def test_markdown_and_latex_have_a_line_per_row(trained):
    table = timeline_table(trained)
    lines = markdown(table).splitlines()
    assert len(lines) == 2 + 5
    assert {line.count("|") for line in lines} == {len(table.columns) + 1}
    assert latex(table, "50 %").count(r"\\") == 6
    assert r"50 \%" in latex(table, "50 %")


def test_the_drawn_table_fits_the_text_and_its_cells_do_not_meet(trained):
    fig = table_figure(timeline_table(trained))
    FigureCanvasAgg(fig).draw()
    boxes = [text.get_window_extent() for text in fig.axes[0].texts]
    assert fig.get_figwidth() == TEXT
    for k, box in enumerate(boxes):
        assert fig.bbox.x0 <= box.x0
        assert box.x1 <= fig.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])


def test_without_runs_it_names_the_notebook(empty):
    with pytest.raises(StudyError, match="run notebook 05_stage1"):
        table_1(empty)
