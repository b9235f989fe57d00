"""Table 1 of the paper with this study's counts beside it: CSV, Markdown, LaTeX, PDF and PNG."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.figure import Figure

from lib.data.files import write_table, write_text
from lib.study.config import TABLE_1, table_1_rows
from lib.study.printed import Made, checkpoint_record, latex_text, markdown_text, save_figure
from lib.study.runs import Study
from lib.study.sheet import NORMAL, TEXT, blank, printing, text_size, write
from lib.study.timeline import compressed, load_stage

_NUMBERS = {"Epochs", "LambdaA/LambdaB", "Dataset Size", "Passes here", "Steps here", "Images here (A/B)"}
_SHORT = {
    "LambdaA/LambdaB": "λA/λB",
    "Noise Input": "Noise\ninput",
    "Non-Mask Change Loss": "NMC\nloss",
    "Dataset Size": "Dataset\nsize",
    "Restrictions Added to B": "Restrictions\nadded to B",
    "Passes here": "Passes\nhere",
    "Steps here": "Steps\nhere",
    "Images here (A/B)": "Images\nhere (A/B)",
}
_WRAP = 22  # letters in a line of the widest column


def timeline_table(study: Study) -> pd.DataFrame:
    """The paper's five rows and columns, then what this study did: passes, steps, images per set.

    Raises StudyError where a stage has not been trained.
    """
    ours, rows = compressed(study).set_index("stage"), []
    for stage, row in zip(TABLE_1, table_1_rows()):
        manifest = load_stage(study, stage.name).manifest
        here = {
            "Passes here": int(ours.loc[stage.name, "passes here"]),
            "Steps here": manifest.get("steps"),
            "Images here (A/B)": "{A:,}/{B:,}".format(**manifest["data"]),
        }
        rows.append(row | here)
    return pd.DataFrame(rows)


def table_1(study: Study) -> Made:
    """Table 1 (paper §4.3), written as `table_1.csv`, `.md`, `.tex`, `.pdf`, `.png` and `.json`."""
    table = timeline_table(study)
    p = study.profile
    caption = (
        "The training timeline: the paper's rows, and in the last three columns what was trained here. Every stage "
        f"starts from the last weights of the one before; batch size {study.training.get('batch_size', p.batch_size)}."
    )
    runs = [checkpoint_record(study, stage.name) for stage in TABLE_1]
    made = save_figure(study, table_figure(table), "table_1", caption, runs, rows=table.to_dict("records"))
    write_table(study.figures_dir / "table_1.csv", table)
    write_text(study.figures_dir / "table_1.md", markdown(table) + f"\n{markdown_text(made.caption)}\n")
    write_text(study.figures_dir / "table_1.tex", latex(table, made.caption))
    return made


def markdown(table: pd.DataFrame) -> str:
    """A table as GitHub and Jupyter show it."""
    lines = [table.columns, ["---"] * len(table.columns), *table.astype(str).to_numpy()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(table: pd.DataFrame, caption: str) -> str:
    """A table over the width of the text; needs the package booktabs."""
    kinds = "".join("r" if name in _NUMBERS else "l" for name in table.columns)
    rows = [" & ".join(latex_text(str(cell)) for cell in row) + r" \\" for row in (table.columns, *table.to_numpy())]
    body = "\n    ".join([r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule"])
    return (
        "\\begin{table*}[t]\n  \\centering\n  \\small\n"
        f"  \\caption{{{latex_text(caption)}}}\n  \\label{{tab:table_1}}\n"
        f"  \\begin{{tabular}}{{{kinds}}}\n    {body}\n  \\end{{tabular}}\n\\end{{table*}}\n"
    )


def table_figure(table: pd.DataFrame) -> Figure:
    """The table drawn at the width of the text, three rules and no lines between columns."""
    cells = [[_SHORT.get(name, name) for name in table.columns], *table.astype(str).to_numpy().tolist()]
    cells = [["\n".join(textwrap.wrap(text, _WRAP)) if "\n" not in text else text for text in row] for row in cells]
    wide = [max(text_size(row[k], NORMAL)[0] for row in cells) for k in range(len(table.columns))]
    gap = (TEXT - 0.06 - sum(wide)) / (len(wide) - 1)
    high = [max(text_size(text, NORMAL)[1] for text in row) + 0.06 for row in cells]
    with printing():
        fig, ax = blank(TEXT, sum(high) + 0.16)
        y = sum(high) + 0.1
        ax.plot([0.03, TEXT - 0.03], [y + 0.02] * 2, color="black", lw=1.0)
        for k, (row, height) in enumerate(zip(cells, high)):
            x = 0.03
            for name, text, width in zip(table.columns, row, wide):
                right = name in _NUMBERS
                write(ax, x + width * right, y - height / 2, text, ha="right" if right else "left",
                      weight="bold" if k == 0 else "normal")  # fmt: skip
                x += width + gap
            y -= height
            if k in (0, len(cells) - 1):
                ax.plot([0.03, TEXT - 0.03], [y - 0.02 * (k > 0)] * 2, color="black", lw=0.6 if k == 0 else 1.0)
    return fig
