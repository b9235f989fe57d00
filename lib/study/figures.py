"""Figures 1 to 9 and Table 1 of the paper, one function each, from the runs of a study: `figure_1(study)` …

`lib.study.figures_method` and `lib.study.figures_results` make them, `lib.study.sheet` draws them at the width they are
printed at, `lib.study.printed` writes them.
"""

from lib.study.figures_method import figure_1, figure_2, figure_3, figure_4, figure_5
from lib.study.figures_results import figure_6, figure_7, figure_8, figure_9, overview
from lib.study.table_1 import table_1

FIGURES = {
    1: figure_1,
    2: figure_2,
    3: figure_3,
    4: figure_4,
    5: figure_5,
    6: figure_6,
    7: figure_7,
    8: figure_8,
    9: figure_9,
}

__all__ = ["FIGURES", *(f"figure_{k}" for k in FIGURES), "overview", "table_1"]
