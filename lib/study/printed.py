"""A finished figure on disk: vector PDF and PNG, the caption ready for LaTeX, and a JSON that names its runs.

    figures/figure_6.pdf  .png  .tex  .json

The same runs give the same bytes, all four. Nothing but the runs, the code's commit and the versions of the libraries
goes into them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure

from lib.data.files import read_json, sha256, write_bytes, write_json, write_text
from lib.study.config import STAGES, StudyError
from lib.study.runs import Study, git_state
from lib.study.sheet import COLUMN, printing
from lib.study.timeline import load_stage

LARGEST = 600_000  # bytes: a figure in git stays below; about 130 dpi in the fullest ones
DPI = 200  # of the pictures; less where a file would grow too large
ON_SCREEN = 120  # px per inch of printed width, in notebooks and pages
SHOWN = {
    "faceworld": "rendered heads of the face world",
    "folders": "photographs from the folders given",
    "paper": "the paper's data sets",
}
_LATEX = {
    **{c: f"\\{c}" for c in "&%#_{}"},
    "$": r"\$",
    "σ": r"$\sigma$",
    "λ": r"$\lambda$",
    "Δ": r"$\Delta$",
    "×": r"$\times$",
    "→": r"$\to$",
    "−": "$-$",
    "·": r"$\cdot$",
    "²": "$^2$",
    "–": "--",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


@dataclass(frozen=True)
class Made:
    """A finished figure: what to show, what it says, where its PNG lies."""

    figure: Figure
    caption: str
    path: Path

    @property
    def record(self) -> dict:
        """What the JSON beside it holds."""
        return read_json(self.path.with_suffix(".json"))

    def show(self) -> None:
        """In a notebook: the file that was written, and its caption."""
        width = round(self.figure.get_figwidth() * ON_SCREEN)
        display(Image(self.path, width=width), Markdown(f"*{markdown_text(self.caption)}*"))


def save_figure(study: Study, fig: Figure, name: str, caption: str, runs: Sequence[dict] = (), **facts) -> Made:
    """Write a figure to the study's figures, no file larger than `LARGEST`.

    Args:
        fig: as wide as it will be printed (`sheet.COLUMN`, `sheet.TEXT`); nothing is cut off or scaled.
        caption: plain text; a sentence on the study follows it.
        runs: from `checkpoint_record`. facts: further entries of the JSON.
    """
    plt.close(fig)  # shown by the notebook when it wants to, not a second time by pyplot
    caption = f"{caption} {study_sentence(study)}"
    path = study.figures_dir / f"{name}.png"
    dpi = {kind: _write(fig, path.with_suffix(f".{kind}"), kind) for kind in ("pdf", "png")}
    write_text(path.with_suffix(".tex"), latex_float(name, caption, fig.get_figwidth()))
    record = {
        "figure": name,
        "caption": caption,
        "width_inches": fig.get_figwidth(),
        "made_for": "one column" if fig.get_figwidth() <= COLUMN else "the width of the text",
        "dpi": dpi,
        "study": study.to_dict(),
        "runs": list(runs),
        "git": git_state(),
    }
    write_json(path.with_suffix(".json"), record | facts)
    return Made(fig, caption, path)


def _write(fig: Figure, path: Path, kind: str) -> int:
    """Save in the highest resolution that fits, and say which. Text and lines of a PDF have none."""
    dpi = DPI
    # no creation date inside: the same runs give the same bytes
    dateless = {"CreationDate": None} if kind == "pdf" else None
    while True:
        buffer = io.BytesIO()
        with printing():
            fig.savefig(buffer, format=kind, dpi=dpi, metadata=dateless)
        if buffer.tell() <= LARGEST or dpi <= 50:
            write_bytes(path, buffer.getvalue())
            return dpi
        dpi = int(dpi * min(0.95, 0.98 * (LARGEST / buffer.tell()) ** 0.5))


def study_sentence(study: Study) -> str:
    """What a reader must know of the study to weigh a figure."""
    p = study.profile
    return (
        f"Study {study.name}: profile {p.name}, {p.size} × {p.size} px, generator width {p.ngf}, seed {study.seed}, "
        f"{SHOWN[study.data]}."
    )


def checkpoint(study: Study, stage: str, epoch: int | None = None) -> Path:
    """Folder of a kept checkpoint (the stage's last where `epoch` is None). StudyError lists what there is."""
    found = load_stage(study, stage).checkpoints
    if not found:
        raise StudyError(f"{stage} of {study.name} kept no checkpoint yet; run notebook {STAGES[stage].notebook}")
    label = max(found) if epoch is None else epoch
    if label not in found:
        raise StudyError(f"{stage} of {study.name} kept no checkpoint {label}; it has {', '.join(map(str, found))}")
    return found[label]


def checkpoint_record(study: Study, stage: str, epoch: int | None = None) -> dict:
    """A checkpoint for a figure's JSON: path under the study, stage, epoch, steps in the stage and from the random
    start on, SHA-256 of the weights A → B."""
    folder = checkpoint(study, stage, epoch)
    meta = read_json(folder / "meta.json")
    before, name = 0, STAGES[stage].parent
    while name:
        before += load_stage(study, name).manifest.get("steps", 0)
        name = STAGES[name].parent
    return {
        "path": f"{stage}/checkpoints/{folder.name}",
        "stage": stage,
        "epoch": meta["epoch"],
        "steps_in_stage": meta["step"],
        "steps_in_all": before + meta["step"],
        "sha256": meta["files"]["net_G_AB.safetensors"],
    }


def file_record(study: Study, path: Path) -> dict:
    """Another file of the study for a figure's JSON."""
    return {"path": path.relative_to(study.root).as_posix(), "sha256": sha256(path)}


def told(run: dict) -> str:
    """A checkpoint in a caption's words."""
    stage = run["stage"].replace("stage", "stage ")
    return f"checkpoint {run['epoch']} of {stage}, trained for {run['steps_in_all']:,} steps in all"


def latex_float(name: str, caption: str, width: float) -> str:
    """A LaTeX figure to \\input beside its PDF: as wide as it was made for."""
    kind, line = ("figure", "columnwidth") if width <= COLUMN else ("figure*", "textwidth")
    return (
        f"\\begin{{{kind}}}[t]\n  \\centering\n  \\includegraphics[width=\\{line}]{{{name}}}\n"
        f"  \\caption{{{latex_text(caption)}}}\n  \\label{{fig:{name}}}\n\\end{{{kind}}}\n"
    )


def latex_text(text: str) -> str:
    """Plain text as LaTeX prints it, with any engine."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def markdown_text(text: str) -> str:
    """Plain text as Markdown shows it."""
    return "".join(f"\\{letter}" if letter in "*_`$|<>[]\\" else letter for letter in text)
