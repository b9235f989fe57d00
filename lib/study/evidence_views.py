"""What the experiments left, as pictures: what their generators paint, and measures over seeds.

For notebooks 12 and 13; the numbers are those of `lib.study.experiments.collect`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.gan import Translation, Translator, list_checkpoints
from lib.study.claims import FAILS, HOLDS, PARTS, Side, noise_rows, number, values_of
from lib.study.config import PAPER_NOISE_SIGMA
from lib.study.evidence import structure_by_epoch
from lib.study.experiments import Case, folder_of
from lib.study.metrics import EQUAL_DB
from lib.study.runs import Study

CORNERS = ("plain", "nmc", "noise", "nmc+noise")
TITLES = {
    "outside_l1": "change outside, L1",
    "outside_psnr": "PSNR outside, dB",
    "outside_ssim": "SSIM outside",
    "outside_l1_composited": "change outside, composited",
    "composited_psnr": "PSNR outside, composited, dB",
    "composited_ssim": "SSIM outside, composited",
    "inside_l1": "change inside, L1",
    "attention_ratio": "attention inside ÷ outside",
    "attention_iou": "attention: IoU with the rule's mask",
    "attention_iou_true": "attention: IoU with the true mask",
    "identity_cosine": "same person, cosine",
    "redrawn_share": "share of redrawn epochs",
    "redrawn_worst": "most structure lost in an epoch",
    "critic_pass": "taken for real by the critics",
    "critic_grey_pass": "… by critics without colour",
    "feature_fd": "Fréchet distance to B, our features",
    "feature_kid": "kernel distance to B, our features",
    "truth_l1": "to all truths, L1",
    "truth_nearest_l1": "to the nearest truth, L1",
    "truth_ssim": "SSIM with the truths",
    "truth_perceptual": "to the truths, our features",
    "lightness_error": "error of lightness, ΔL*",
    "seam_error": "error of the seam",
    "noise_delta_e": "colours over draws of a face, ΔE",
    "noise_pixel_std": "pixels over draws of a face",
    "colour_spread": "colours over faces, ΔE",
    "colour_wasserstein": "colours: distance to B's, ΔE",
    "blotches": "tints within a mask, ΔE",
    "grain": "grain of a mask, ΔL*",
}
# What must come out where the answer is known, or the measure is worth nothing: every one of the former below every one
# of the latter, as far as they were measured.
_FAKE, _REAL = ("rule-based", "bare", "flat", "blurred"), ("truth", "real B")
ORDERS = (
    ("outside_l1", ("rule-based", "truth"), ("other",)),
    ("outside_psnr", ("other",), ("truth", "rule-based")),
    ("outside_ssim", ("other",), ("truth", "rule-based")),
    ("outside_l1_composited", ("rule-based", "truth"), ("other",)),
    ("composited_psnr", ("other",), ("truth", "rule-based")),
    ("composited_ssim", ("other",), ("truth", "rule-based")),
    ("identity_cosine", ("other",), ("truth", "rule-based")),
    ("noise_delta_e", ("rule-based",), ("truth",)),
    ("noise_pixel_std", ("rule-based",), ("truth",)),
    ("colour_spread", ("flat",), _REAL),
    ("colour_wasserstein", _REAL, ("rule-based", "flat", "bare")),
    ("blotches", ("flat",), ("truth",)),
    ("grain", ("flat", "blurred"), ("truth",)),
    ("critic_pass", _FAKE, _REAL),
    ("critic_grey_pass", _FAKE, _REAL),
    ("feature_fd", _REAL, _FAKE),
    ("feature_kid", _REAL, _FAKE),
    ("truth_nearest_l1", ("truth",), _FAKE),
    ("truth_l1", ("truth",), _FAKE),
    ("truth_ssim", _FAKE, ("truth",)),
    ("truth_perceptual", ("truth",), _FAKE),
    ("lightness_error", ("truth",), ("rule-based", "bare", "flat")),
    ("seam_error", ("truth",), ("rule-based", "bare", "flat")),
)
# A map's colours reach at least so far, so that what nobody sees does not shine: 1 ΔE, and about as much in lightness.
LEAST_TOP = {"noise_delta_e": 1.0, "noise_pixel_std": 0.01}
NOTHING = "none of this was measured yet"  # what is drawn where there is nothing to draw
LINES = {"rule-based": ("C1", "--"), "truth": ("C2", "-"), "real B": ("C4", ":")}  # references: colour and dashes


def translate(
    study: Study, case: Case, images: np.ndarray, epoch: int | None = None, draw: int = 0, sigma=None
) -> Translation | None:
    """What a case's generator makes of uint8 [N, S, S, 3]; None where its weights are not there (it diverged).

    epoch: None for the last one kept. draw: of the noise, face n gets the seed 1000 · draw + n. sigma: of the noise at
    the three content layers, instead of what it was trained with.
    """
    folder = folder_of(study, case)
    kept = {int(path.name.removeprefix("epoch_")): path for path in list_checkpoints(folder / "checkpoints")}
    if not kept or (epoch or max(kept)) not in kept:
        return None
    seeds = [1000 * draw + n for n in range(len(images))]
    return Translator(kept[epoch or max(kept)]).translate(images, seeds, sigma)


def changes(study: Study, cases: Sequence[Case]) -> pd.DataFrame:
    """How far every epoch's sample faces were changed, a row each: variant, seed, epoch, outside_change,
    inside_change, structure_lost (`metrics`); none for a case that has not been trained."""
    found = [pd.DataFrame(columns=["variant", "seed", "epoch", "outside_change", "inside_change", "structure_lost"])]
    for case in cases:
        folder = folder_of(study, case)
        if (folder / "samples.csv").exists():
            rows = pd.read_csv(folder / "samples.csv").assign(variant=case.variant, seed=case.seed)
            found.append(rows.merge(structure_by_epoch(study, folder), on="epoch"))
    return pd.concat(found[1:] or found, ignore_index=True)


def known_orders(known: pd.DataFrame) -> pd.DataFrame:
    """Whether the measures of pictures whose answer is known are in the `ORDERS` they must be in.

    known: value of each measure (index) for some of `evidence.SOURCES`.
    Gives a row per order of which both sides are known: measure, lower, higher (with values), as it must be (yes, no).
    """
    rows = []
    for metric, *sides in ORDERS:
        sides = [known.loc[metric].reindex(names).dropna() if metric in known.index else () for names in sides]
        if all(map(len, sides)):
            told = [", ".join(f"{name} {number(value)}" for name, value in side.items()) for side in sides]
            rows.append((metric, *told, "yes" if sides[0].max() < sides[1].min() else "no"))
    return pd.DataFrame(rows, columns=["measure", "lower", "higher", "as it must be"])


def over_seeds(
    results: pd.DataFrame, metrics: Sequence[str], sides: dict[str, Side] | None = None, columns: int = 4
) -> Figure | str:
    """One small panel per measure: a point per seed, a bar at their mean, and lines at the rule-based input, the truth
    and real pictures, where they were measured. One that lies far away is told in words at the panel's edge.

    sides: label → kind of runs; the four corners by default. A measure that nobody took is left out.
    """
    sides = sides or {variant.replace("+", " +\n"): Side(variant) for variant in CORNERS}
    tables = {m: pd.DataFrame({kind: values_of(results, side, m) for kind, side in sides.items()}) for m in metrics}
    shown = [metric for metric in metrics if tables[metric].notna().any(axis=None)]
    if not shown:
        return NOTHING
    count = -(-len(shown) // columns)
    fig, axes = plt.subplots(count, columns, figsize=(2.6 * columns, 2.5 * count), squeeze=False,
                             layout="constrained")  # fmt: skip
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for ax, metric in zip(axes.flat, shown):
        away, mine = [], tables[metric].T  # a row per kind, a column per seed
        ax.plot(range(len(sides)), mine, "o-", color="C0", alpha=0.6, ms=4.5, lw=0.7)  # a thin line joins each seed
        for place, mean in enumerate(mine.mean(axis=1)):
            ax.hlines(mean, place - 0.3, place + 0.3, color="0.2", lw=1.6)
        for name, (colour, dashes) in LINES.items():
            level = values_of(results, Side(name, "reference"), metric).mean()
            if np.isfinite(level) and not _far(level, mine):
                ax.axhline(level, color=colour, ls=dashes, lw=1.3, label=name)
            elif np.isfinite(level):
                away.append(f"{name}: {number(level)} {'↑' if level > np.nanmax(mine) else '↓'}")
        ax.set_title(textwrap.fill(TITLES.get(metric, metric), 27), fontsize=9)
        ax.ticklabel_format(axis="y", useOffset=False)
        ax.set_xlim(-0.5, len(sides) - 0.5)
        ax.set_xlabel("\n".join(away), fontsize=8, loc="right")
        ax.set_xticks(range(len(sides)), list(sides))
        ax.tick_params(labelsize=8)
        ax.grid(visible=False, axis="x")
    legend_below(fig)
    plt.close(fig)  # shown by the notebook as a cell's value, not a second time by pyplot
    return fig


def legend_below(fig: Figure) -> None:
    """One legend below all panels, a line for each label; none where no panel has any."""
    handles = {label: line for ax in fig.axes for line, label in zip(*ax.get_legend_handles_labels())}
    if handles:
        fig.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9
        )


def _far(level: float, mine: pd.DataFrame) -> bool:
    """Whether a line there would press the points together: twice their range, 0 included, away from them, or no level
    at all, as the PSNR of equal pictures."""
    low, high = np.nanmin(mine), np.nanmax(mine)
    reach = 2 * max(abs(low), abs(high))
    return not low - reach <= level <= high + reach or level == EQUAL_DB


def margins(judged: pd.DataFrame) -> Figure | str:
    """How far each part of a claim lies from its bar in half-widths of its 95 % interval, claimed side to the right.

    judged: from `claims.table`, of one profile. Beyond 1 a part holds, beyond −1 it does not; drawn up to ±6.
    """
    rows = judged.assign(bar=[p.bar for p in PARTS], claimed=[p.claimed for p in PARTS], log=[p.ratio for p in PARTS])
    rows = rows.dropna(subset=["low", "high"]).reset_index(drop=True)
    if rows.empty:
        return NOTHING
    scale = rows["log"].map({True: np.log, False: float})
    values, low, high, bar = ([f(v) for f, v in zip(scale, rows[c])] for c in ("value", "low", "high", "bar"))
    away = rows["claimed"] * np.subtract(values, bar) / (np.subtract(high, low) / 2).clip(min=1e-9)
    fig, ax = plt.subplots(figsize=(8.5, 0.27 * len(rows) + 0.9), layout="constrained")
    ax.axvspan(-1, 1, color="0.5", alpha=0.15, lw=0)
    for verdict, colour in ((HOLDS, "C2"), (FAILS, "C3"), ("undecided", "0.45")):
        mine = away[rows["verdict"] == verdict]
        ax.plot(mine.clip(-6, 6), mine.index, "o", color=colour, label=verdict)
    labels = [f"{row.claim}  {row.part}: {row.metric}" for row in rows.itertuples()]
    ax.set_yticks(rows.index, labels, fontsize=8)
    ax.set(xlim=(-6.5, 6.5), ylim=(len(rows) - 0.5, -0.5), xlabel="away from the bar, half-widths of the interval")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    plt.close(fig)  # as above
    return fig


def noise_map(results: pd.DataFrame, metrics: Sequence[str]) -> Figure | str:
    """Measures of the runs with noise at one layer: a map per measure, layers × σ, means over seeds.

    σ 0 is the corner with NMC and without noise. Colours go from 0 to the largest value, `LEAST_TOP` at least. Framed:
    what the paper sets its two layers to (§4.2); it uses both at once, which is the corner "nmc+noise", in the title.
    """
    if all(noise_rows(results, metric).empty for metric in metrics):
        return NOTHING
    fig, axes = plt.subplots(1, len(metrics), figsize=(3.9 * len(metrics), 2.5), squeeze=False, layout="constrained")
    for ax, metric in zip(axes.flat, metrics):
        cells = noise_rows(results, metric).pivot_table(index="layer", columns="sigma", values="value")
        none, both = (values_of(results, Side(variant), metric).mean() for variant in ("nmc", "nmc+noise"))
        cells.insert(0, 0.0, none)
        top = max(np.nanmax(cells), LEAST_TOP.get(metric, 0.0))
        sns.heatmap(cells, vmin=0, vmax=top, ax=ax, annot=True, fmt=".2g", cmap="viridis", linewidths=0.5)
        for layer, sigma in enumerate(PAPER_NOISE_SIGMA, 1):
            if sigma in cells.columns[1:] and layer in cells.index:
                corner = (cells.columns.get_loc(sigma), cells.index.get_loc(layer))
                ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="C3", lw=3))
        ax.set(
            title=f"{TITLES.get(metric, metric)}\nboth layers at once: {both:.2g}", xlabel="σ", ylabel="noise at layer"
        )
        ax.set_xticks(np.arange(len(cells.columns)) + 0.5, [f"{sigma:g}" for sigma in cells.columns])
    plt.close(fig)  # as above
    return fig


def forced_rows(results: pd.DataFrame) -> pd.DataFrame:
    """What noise forced on weights trained without it does (`evidence.forced_noise`): a row per seed, layer and sigma,
    with noise_delta_e and noise_pixel_std; empty where it was not measured."""
    key, columns = ["seed", "layer", "sigma"], []
    for name in ("delta_e", "pixel_std"):
        columns.append(noise_rows(results, f"forced_{name}").set_index(key)["value"].rename(f"noise_{name}"))
    return pd.concat(columns, axis=1).reset_index()


def stand_out(traits: pd.DataFrame, picks: Sequence[int], draws: int = 2000) -> tuple[pd.DataFrame, float]:
    """What some faces have in common: by trait (a number per face; those that do not vary left out) the mean of the
    picks, of all, and their distance in standard deviations of a face, farthest first.

    And how far the farthest trait lies in one of twenty random picks of as many faces: less is no finding.
    """
    known = traits.loc[:, traits.std(ddof=0) > 0].dropna(axis=1)
    scaled = ((known - known.mean()) / known.std(ddof=0)).to_numpy()
    table = pd.DataFrame({"these": known.iloc[list(picks)].mean(), "all": known.mean()})
    table["apart"] = scaled[list(picks)].mean(0)
    rng = np.random.default_rng(0)
    chance = [
        np.abs(scaled[rng.choice(len(scaled), len(picks), replace=False)].mean(0)).max(initial=0) for _ in range(draws)
    ]
    return table.sort_values("apart", key=abs, ascending=False), float(np.quantile(chance, 0.95))
