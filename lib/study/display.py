"""Pictures and curves for the notebooks: grids of faces with one look everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from matplotlib.figure import Figure
from PIL import Image

PALETTE = "colorblind"  # seaborn's colour-blind safe palette, everywhere
HEAT = "magma"  # equal steps of value look like equal steps of brightness, to every eye


def use_style() -> None:
    """One look for every notebook: fonts that survive a PDF, a light grid, colour-blind safe colours."""
    shell = get_ipython()
    if shell is not None and hasattr(shell, "kernel"):
        # A box with MPLBACKEND=agg in its environment would otherwise run notebooks without a single picture.
        shell.run_line_magic("matplotlib", "inline")
    sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE)
    plt.rcParams.update(
        {
            "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: every machine draws the same letters
            "pdf.fonttype": 42,  # TrueType: text stays text in the PDF
            "figure.dpi": 90,
            "savefig.dpi": 160,
            "axes.titlesize": 10,
            "axes.labelsize": 10,
            "font.size": 10,
            "image.interpolation": "nearest",
        }
    )


def as_pixels(image) -> np.ndarray:
    """A path, a uint8 or boolean array [H, W(, 3)], or a float map [H, W] in [0, 1], as uint8 for showing."""
    if isinstance(image, str | Path):
        with Image.open(image) as opened:
            return np.asarray(opened.convert("RGB"))
    array = np.asarray(image)
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype != np.uint8:
        return (np.clip(array, 0, 1) * 255).round().astype(np.uint8)
    return array


def grid(
    images: Sequence,
    columns: int | None = None,
    titles: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    cell: float = 1.25,
    title: str | None = None,
) -> Figure:
    """Draw pictures in a grid, row by row.

    Args:
        images: paths or arrays (see `as_pixels`); None leaves a cell empty.
        columns: pictures per row; default all in one row, at most eight.
        titles: one per column (over the first row) or one per picture.
        rows: a label left of each row.
        cell: edge of a picture, inches.
    """
    if not len(images):
        raise ValueError("grid: no pictures to draw")
    columns = columns or min(len(images), 8)
    count = -(-len(images) // columns)
    per_cell = titles is not None and len(titles) == len(images) and count > 1
    height = cell + (0.22 if per_cell else 0)
    fig, axes = plt.subplots(count, columns, figsize=(columns * cell + (0.9 if rows else 0), count * height + 0.45),
                             squeeze=False, layout="compressed")  # fmt: skip
    for k, ax in enumerate(axes.flat):
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        sns.despine(ax=ax, left=True, bottom=True)
        if k < len(images) and images[k] is not None:
            pixels = as_pixels(images[k])
            ax.imshow(pixels, cmap="gray" if pixels.ndim == 2 else None, vmin=0, vmax=255)
        if titles is not None and (per_cell or k < columns) and k < len(titles):
            ax.set_title(titles[k], fontsize=8, pad=3)
        if rows is not None and k % columns == 0:
            ax.set_ylabel(rows[k // columns], rotation=0, ha="right", va="center", fontsize=8)
    if title:
        fig.suptitle(title, fontsize=11)
    return _shown_once(fig)


def picture_rows(groups: dict[str, Sequence], columns: int = 8, cell: float = 1.1) -> Figure:
    """One labelled row per group, its first `columns` pictures each; a group that has fewer leaves cells empty."""
    padded = [[*group[:columns], *[None] * (columns - len(group))] for group in groups.values()]
    return grid([picture for row in padded for picture in row], columns=columns, rows=list(groups), cell=cell)


def marked(image: np.ndarray, points: np.ndarray, labels: Sequence[str], cell: float = 5.5) -> Figure:
    """One picture with labelled points on it.

    Args:
        image: uint8 [H, W, 3] or, with transparency, [H, W, 4].
        points: [N, 2], (x, y) px; they may lie outside the picture.
        labels: N texts, written beside their points; an empty one leaves its point bare.
        cell: width of the picture, inches.
    """
    fig, ax = plt.subplots(figsize=(cell, cell * image.shape[0] / image.shape[1]), layout="constrained")
    ax.imshow(image, interpolation="bicubic")
    ax.plot(*np.asarray(points).T, "o", ms=3.5, color="#ffd400", mec="black", mew=0.5)
    box = {"boxstyle": "square,pad=0.08", "fc": "black", "ec": "none", "alpha": 0.5}
    for label, at in zip(labels, points, strict=True):
        if label:
            ax.annotate(label, at, (3, 3), textcoords="offset points", fontsize=7, color="white", bbox=box)
    ax.set_axis_off()
    return _shown_once(fig)


def heat(change: np.ndarray, limit: float | None = None) -> np.ndarray:
    """A map of changes [H, W] as colours, uint8 [H, W, 3]; `limit` is the value drawn brightest."""
    limit = limit or max(float(change.max()), 1e-6)
    return (plt.get_cmap(HEAT)(np.clip(change / limit, 0, 1))[..., :3] * 255).astype(np.uint8)


def loss_curves(metrics: pd.DataFrame, columns: Sequence[str], title: str = "", x: str = "step") -> Figure:
    """Losses against steps, with seaborn; a column that is zero throughout (a loss that is off) is left out.

    With a column `stage` (see `lib.study.timeline.joined`), a line marks where each later stage begins.
    """
    used = [c for c in columns if c in metrics and metrics[c].abs().sum() > 0]
    long = metrics.melt(id_vars=[x], value_vars=used, var_name="loss", value_name="value")
    fig, ax = plt.subplots(figsize=(7.5, 3.0), layout="constrained")
    sns.lineplot(long, x=x, y="value", hue="loss", ax=ax, errorbar=None, marker=_marker(metrics))
    if "stage" in metrics:
        ends = metrics.groupby("stage", sort=False)[x].max()
        for end, begins in zip(ends[:-1], ends.index[1:]):
            ax.axvline(end, color="0.35", lw=0.9, ls="--")
            ax.text(end, 0.97, f" {begins}", transform=ax.get_xaxis_transform(), va="top", fontsize=8, color="0.35")
    ax.set(title=title, ylabel="loss before its λ")
    ax.xaxis.get_major_locator().set_params(integer=True)
    _from_zero(ax, long["value"])
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), frameon=False, title=None)
    return _shown_once(fig)


def score_curves(metrics: pd.DataFrame, title: str = "") -> Figure:
    """Mean scores of both discriminators on real pictures and on fakes; 1 is what they should say of a real one."""
    columns = [f"score_D_{side}_{kind}" for side in "AB" for kind in ("real", "fake")]
    long = metrics.melt(id_vars=["step"], value_vars=columns, value_name="score")
    long["discriminator"] = long["variable"].str.slice(6, 9)
    long["shown"] = long["variable"].str.slice(10)
    fig, ax = plt.subplots(figsize=(7.5, 2.6), layout="constrained")
    for level in (0, 1):
        ax.axhline(level, color="0.6", lw=0.8, ls=":")
    sns.lineplot(long, x="step", y="score", hue="discriminator", style="shown", ax=ax, errorbar=None)
    ax.set(title=title, ylabel="mean score")
    ax.xaxis.get_major_locator().set_params(integer=True)
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), frameon=False)
    return _shown_once(fig)


def change_curves(samples: pd.DataFrame, threshold: float, title: str = "") -> Figure:
    """How far the fixed sample faces are changed outside and inside their masks, pass by pass.

    Args:
        samples: columns epoch, outside_change, inside_change; with a column `stage`, several stages in one picture.
        threshold: the change outside above which a face counts as redrawn (`metrics.REDRAWN_ABOVE`), drawn as a line.
    """
    keys = ["epoch", "stage"] if "stage" in samples else ["epoch"]
    long = samples.melt(
        id_vars=keys, value_vars=["outside_change", "inside_change"], var_name="where", value_name="change"
    )
    long["where"] = long["where"].str.removesuffix("_change") + " the mask"
    fig, ax = plt.subplots(figsize=(7.5, 2.8), layout="constrained")
    sns.lineplot(long, x="epoch", y="change", hue="where", style="stage" if "stage" in keys else None, ax=ax,
                 marker=_marker(samples), errorbar=None)  # fmt: skip
    ax.axhline(threshold, color="0.35", lw=0.9, ls="--", label="redrawn above")
    ax.set(title=title, ylabel="mean |output − input|", xlabel="epoch (the paper's numbering)")
    _from_zero(ax, long["change"])
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return _shown_once(fig)


def histograms(tables: dict[str, pd.DataFrame], columns: Sequence[str], xlabel: str = "degrees") -> Figure:
    """Compare how values are spread in several sets: one panel per column, densities of equal area.

    Args:
        tables: name of the set → its table.
        columns: which columns; a set that does not know one (missing, or all NaN) is left out of that panel.

    Raises ValueError where no set knows any of them.
    """
    parts = [t[[c for c in columns if c in t]].melt().assign(set=name) for name, t in tables.items()]
    long = pd.concat(parts, ignore_index=True)
    long = long.dropna(subset=["value"]) if "value" in long else long
    if long.empty:
        raise ValueError(f"histograms: none of {', '.join(tables)} has a column {' or '.join(columns)}")
    known = [c for c in columns if (long["variable"] == c).any()]
    fig, axes = plt.subplots(1, len(known), figsize=(4.2 * len(known) + 1.2, 2.8), squeeze=False, layout="constrained")
    for ax, column in zip(axes.flat, known):
        sns.histplot(long[long["variable"] == column], x="value", hue="set", hue_order=list(tables), ax=ax, bins=14,
                     stat="density", common_norm=False, element="step",
                     fill=False, legend=ax is axes.flat[-1])  # fmt: skip
        ax.set(title=column, xlabel=xlabel, ylabel="density" if ax is axes.flat[0] else "")
    if axes.flat[-1].get_legend():
        sns.move_legend(axes.flat[-1], "upper left", bbox_to_anchor=(1, 1), frameon=False, title=None)
    return _shown_once(fig)


def pose_histograms(tables: dict[str, pd.DataFrame], angles: Sequence[str] = ("yaw",)) -> Figure | str:
    """`histograms` of what a data source knows about poses: angles (face world), a yaw estimate, or MAFA's orientation.

    Gives a sentence instead of a figure where nothing is known.
    """
    units = {**dict.fromkeys([*angles, "yaw_estimate"], "degrees"), "orientation": "1 (left) … 3 (front) … 5 (right)"}
    for columns in (list(angles), ["yaw_estimate"], ["orientation"]):
        if any(c in t and t[c].notna().any() for t in tables.values() for c in columns):
            return histograms(tables, columns, units[columns[0]])
    return "this data source says nothing about poses"


def strips(images: dict[str, Path], rows: Sequence[str] = ("input", "output", "kept"), cell: float = 0.8) -> Figure:
    """Sample strips as the trainer writes them, each under its title: side by side where few faces leave room.

    Args:
        images: title → picture of `len(rows)` rows of square tiles.
        rows: what the rows of a strip show, from the top.
        cell: edge of a tile, inches.
    """
    pixels = [as_pixels(path) for path in images.values()]
    tiles = round(len(rows) * pixels[0].shape[1] / pixels[0].shape[0])
    columns = min(len(pixels), max(1, 12 // tiles))
    count = -(-len(pixels) // columns)
    fig, axes = plt.subplots(count, columns, figsize=(columns * tiles * cell + 0.6, count * (len(rows) * cell + 0.3)),
                             squeeze=False, layout="compressed")  # fmt: skip
    for k, ax in enumerate(axes.flat):
        ax.grid(False)
        ax.set(xticks=[], yticks=[])
        sns.despine(ax=ax, left=True, bottom=True)
        if k < len(pixels):
            ax.imshow(pixels[k], interpolation="auto")
            ax.set_title(list(images)[k], fontsize=8, pad=3)
            if k % columns == 0:
                height = pixels[k].shape[0] / len(rows)
                ax.set_yticks([height * (r + 0.5) for r in range(len(rows))], rows, fontsize=8)
                ax.tick_params(length=0)
    return _shown_once(fig)


def funnel_chart(funnel: pd.DataFrame, pictures: dict[str, Sequence] | None = None, shown: int = 6) -> Figure:
    """The paper's funnel, drawn: a bar per step of what is left, hatched what the step took out and its share, beside
    it why, and examples of what was taken out.

    Args:
        funnel: step, kept, removed, why, as `filters.funnel` counts it.
        pictures: step → pictures it removed (see `as_pixels`); None and missing steps leave the place empty.
        shown: pictures per step, at most.
    """
    pictures, count = pictures or {}, len(funnel)
    columns = shown if any(len(p) for p in pictures.values()) else 0
    fig, axes = plt.subplots(count, 1 + columns, figsize=(6.4 + 0.74 * columns, 0.78 * count + 0.2), squeeze=False,
                             layout="constrained", width_ratios=[6.2, *[0.74] * columns])  # fmt: skip
    fig.get_layout_engine().set(w_pad=0.01, h_pad=0.01, hspace=0.02, wspace=0.01)
    top = max(int(funnel["kept"].max()), 1)
    kept_colour, gone_colour = sns.color_palette(PALETTE)[0], "0.8"
    for row, (ax, *cells) in zip(funnel.itertuples(), axes):
        ax.barh(0, row.kept, height=0.42, color=kept_colour)
        if row.removed:
            ax.barh(0, row.removed, left=row.kept, height=0.42, color=gone_colour, hatch="////", edgecolor="white")
            share = f" · −{row.removed:,} ({row.removed / (row.kept + row.removed):.0%})"
        else:
            share = ""
        ax.text(0, 0.34, f"{row.step}", fontsize=8.5, weight="bold", va="bottom")
        ax.text(top * 1.02, 0, f"{row.kept:,}{share}", fontsize=8.5, va="center")
        ax.text(0, -0.32, row.why if isinstance(row.why, str) else "", fontsize=7.5, color="0.35", va="top")
        ax.set(xlim=(0, 1.42 * top), ylim=(-0.85, 0.85))
        examples = [p for p in pictures.get(row.step, ()) if p is not None][:shown]
        for cell, picture in zip(cells, examples):
            cell.imshow(as_pixels(picture), interpolation="auto")
    for ax in axes.flat:
        ax.set_axis_off()
    return _shown_once(fig)


def _from_zero(ax, values: pd.Series) -> None:
    """A y axis that starts at zero and leaves room above the highest value."""
    top = values.max()
    ax.set_ylim(0, 1.1 * top if top > 0 else 1.0)


def _marker(table: pd.DataFrame) -> str | None:
    """Points on a curve of few values: a line between two of them would be all there is to see."""
    return "o" if len(table) <= 40 else None


def _shown_once(fig: Figure) -> Figure:
    """Take a figure out of pyplot's hands: as the last value of a cell it is drawn once, not twice."""
    plt.close(fig)
    return fig
