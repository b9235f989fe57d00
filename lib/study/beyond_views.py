"""What notebook 13 draws beside `evidence_views`: the paper's future work (§5.3), other generators, failures.

Figure 9 shows the generators, too. A `Side` is a kind of runs; what was not trained leaves neither row nor picture, and
`missing` says how to make it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.data.images import resize
from lib.gan import Translation, Translator
from lib.gan.checkpoints import folder_name
from lib.study.datasets import TestSet
from lib.study.display import grid
from lib.study.evidence_views import LINES, NOTHING, TITLES, legend_below
from lib.study.experiments import Case, cases_of, folder_of
from lib.study.failures import Failures
from lib.study.kinds import MEASURES, failing, in_words
from lib.study.metrics import REDRAWN_ABOVE, REDRAWN_BLUR
from lib.study.parts import Side, number, values_of
from lib.study.plans import BEYOND, EVIDENCE, FUTURE, case_config
from lib.study.runner import read_result
from lib.study.runs import Study
from lib.study.traits import SKIN

# Label → kind of runs. First what the others are held against.
FUTURE_WORK = {"nmc": Side("nmc"), **{variant: Side(variant, "future") for variant in FUTURE}}
GENERATORS = {
    "CycleGAN, direct": Side("cyclegan direct", "generators"),
    "AttentionGAN, direct": Side("attentiongan direct", "generators"),
    "IAMGAN-style, direct": Side("iamgan direct", "generators"),
    "CUT + NMC": Side("cut+nmc", "generators"),
    "two steps, NMC": Side("nmc"),
    "two steps, NMC + noise": Side("nmc+noise"),
}
KINDS = ("skin", "|yaw|", "pitch")  # of face: those that `rates_of` draws


def over_passes(changed: pd.DataFrame) -> Figure | str:
    """A line per training of the corners, pass by pass: what its sample faces lost outside the mask, as mean change and
    as structure. changed: of `evidence_views.changes`. Dashed: from where an epoch counts as redrawn."""
    if changed.empty:
        return NOTHING
    told = {True: "with", False: "without"}
    lines = changed.assign(
        run=changed["variant"] + changed["seed"].astype(str),
        NMC=changed["variant"].str.contains("nmc").map(told),
        noise=changed["variant"].str.contains("noise").map(told),
    )
    fig, axes = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
    bars = (
        ("outside_change", "change outside the mask", REDRAWN_ABOVE),
        ("structure_lost", "structure lost", REDRAWN_BLUR),
    )
    for ax, (column, label, bar) in zip(axes, bars):
        sns.lineplot(lines, x="epoch", y=column, hue="NMC", style="noise", units="run", estimator=None, ax=ax)
        ax.axhline(bar, color="0.35", lw=0.9, ls="--")
        ax.set(ylim=(0, None), xlabel="epoch (the paper's numbering)", ylabel=label)
    axes[0].legend().remove()
    sns.move_legend(axes[1], "upper left", bbox_to_anchor=(1, 1), frameon=False)
    plt.close(fig)  # shown by the notebook as a cell's value, not a second time by pyplot
    return fig


def forced_curves(forced: pd.DataFrame) -> Figure | str:
    """What noise does that is forced on weights trained without it, against σ: a line per content layer, the mean over
    seeds, in a band from the least to the most of them. forced: of `evidence_views.forced_rows`."""
    if forced.empty:
        return NOTHING
    fig, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
    for ax, metric in zip(axes, ("noise_pixel_std", "noise_delta_e")):
        sns.lineplot(forced, x="sigma", y=metric, hue="layer", style="layer", palette="colorblind", markers=True,
                     errorbar=("pi", 100), ax=ax)  # fmt: skip
        ax.set(xscale="log", title=TITLES[metric], xlabel="σ", ylabel="", ylim=(0, None))
        ticks = sorted(forced["sigma"].unique())
        ax.set_xticks(ticks, [f"{sigma:g}" for sigma in ticks])
        ax.minorticks_off()  # a logarithmic axis would label them, too
    plt.close(fig)  # as above
    return fig


def missing(study: Study, state: pd.DataFrame, experiment: str) -> str:
    """How much of an experiment is still to be made, and how, in a line. state: of `experiments.overview`."""
    mine = state[state["experiment"] == experiment]
    if not (left := int((~mine["finished"]).sum())):
        return f"{experiment}: all of its {len(mine)} cases are there"
    command = f"python -m lib.study.experiments --name {study.name} --only {experiment}"
    return f"{experiment}: {left} of {len(mine)} cases are not finished; this makes or measures them: {command}"


def case_of(study: Study, side: Side, seed: int = 0) -> Case:
    """The training of a kind of runs with a seed. Raises KeyError for one that is not planned."""
    known = {(c.experiment, c.variant, c.seed): c for c in cases_of(study, (*EVIDENCE, *BEYOND))}
    return known[side.experiment, side.variant, seed]


def weights(study: Study, side: Side, seed: int = 0) -> Path | None:
    """The checkpoint's folder at the end of a training; None where there is none (yet, or it diverged)."""
    case = case_of(study, side, seed)
    last = folder_name(case_config(study, case).epochs[-1])
    kept = folder_of(study, case) / "checkpoints" / last
    return kept if kept.is_dir() else None


def painted(study: Study, sides: dict[str, Side], test: TestSet, seed: int = 0) -> dict[str, Translation]:
    """What generators make of held-out faces: label → Translation; each is given what it was trained on, rule-based
    masks or bare faces, at the size it was trained at. One whose weights are not there is left out."""
    size, edge, made = study.profile.size, test.full.shape[1], {}
    given = {"rule": _sized(test.rule, size), "full": _sized(test.full, size)}
    for label, side in sides.items():
        if kept := weights(study, side, seed):
            images = given[case_of(study, side, seed).set_A]
            found = Translator(kept).translate(images, range(len(images)))
            made[label] = replace(found, images=_sized(found.images, edge))
    return made


def _sized(images: np.ndarray, size: int) -> np.ndarray:
    return np.stack([resize(image, size) for image in images])


def gallery(test: TestSet, made: dict[str, Translation], attention: bool = False, cell: float = 1.0) -> Figure | str:
    """The same faces under each generator, between what they were given and, where it is known, the truth.

    attention: beside the pictures what is drawn anew (white), and beside input and truth where their masks are.
    """
    if not made:
        return NOTHING
    rows = {"bare face": (test.full, [None] * len(test.full)), "rule-based": (test.rule, list(~test.non_mask))}
    rows |= {label: (each.images, each.attention) for label, each in made.items()}
    if test.truth is not None:
        rows["truth"] = (test.truth, list(test.region))
    pictures = [picture for both in rows.values() for part in both[: 1 + attention] for picture in part]
    labels = [label.replace(", ", ",\n") for label in rows]
    return grid(pictures, len(test.full) * (1 + attention), rows=labels, cell=cell)


def drawn_anew(test: TestSet, made: dict[str, Translation]) -> pd.DataFrame:
    """A row per generator: how much of the rule-based masks, and of all else, its attention draws anew (above ½)."""
    new = {label: each.attention > 0.5 for label, each in made.items()}
    rows = {label: (each[~test.non_mask].mean(), each[test.non_mask].mean()) for label, each in new.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["of the mask", "of all else"])


def beside(results: pd.DataFrame, sides: dict[str, Side], metrics: Sequence[str]) -> Figure | str:
    """A panel per measure, a row per kind of runs: a point per seed, a bar at their mean; dotted through all rows the
    first kind's mean; lines at rule-based input, truth and real pictures, where they were measured."""
    tables = {m: {label: values_of(results, side, m).dropna() for label, side in sides.items()} for m in metrics}
    shown = [metric for metric in metrics if any(len(values) for values in tables[metric].values())]
    if not shown:
        return NOTHING
    size = 2.5 * len(shown) + 1.2, 0.27 * len(sides) + 1.2
    fig, axes = plt.subplots(1, len(shown), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for ax, metric in zip(axes.flat, shown):
        for place, values in enumerate(tables[metric].values()):
            ax.plot(values, [place] * len(values), "o", color="C0", alpha=0.6, ms=4.5)
            ax.vlines(values.mean(), place - 0.3, place + 0.3, color="0.2", lw=1.6)
        if len(first := next(iter(tables[metric].values()))):
            ax.axvline(first.mean(), color="0.2", lw=0.9, ls=(0, (1, 2)))
        for name, (colour, dashes) in LINES.items():
            level = values_of(results, Side(name, "reference"), metric).mean()
            if np.isfinite(level):
                ax.axvline(level, color=colour, ls=dashes, lw=1.3, label=name)
        ax.set_title(TITLES.get(metric, metric), fontsize=8.5)
        ax.set_yticks(range(len(sides)), list(sides))
        ax.set_ylim(len(sides) - 0.5, -0.5)
        ax.locator_params(axis="x", nbins=4)  # more would run into those of the next panel
        ax.tick_params(labelsize=8)
        ax.grid(visible=False, axis="y")
    legend_below(fig)
    plt.close(fig)  # as above
    return fig


def measured(study: Study, results: pd.DataFrame, sides: dict[str, Side], metrics: Sequence[str]) -> pd.DataFrame:
    """A row per kind of runs that was measured, a column per measure, as text: mean ± standard deviation over seeds;
    before them the seeds, after them the minutes that one training took, without measuring."""
    rows = {}
    for label, side in sides.items():
        values = {metric: values_of(results, side, metric).dropna() for metric in metrics}
        seeds = max(map(len, values.values()))
        if not seeds:
            continue
        rows[label] = {"seeds": seeds if side.experiment != "reference" else "–"}
        rows[label] |= {TITLES.get(metric, metric): _spread(each) for metric, each in values.items()}
        rows[label]["minutes"] = number(_minutes(study, side))
    return pd.DataFrame.from_dict(rows, orient="index")


def _spread(values: pd.Series) -> str:
    return number(values.mean()) + (f" ± {number(values.std())}" if len(values) > 1 else "")


def _minutes(study: Study, side: Side) -> float:
    """Mean over the seeds that were trained; NaN for none."""
    folders = (study.root / "experiments" / side.experiment).glob("*/")
    found = [each for each in map(read_result, folders) if each.get("case", {}).get("variant") == side.variant]
    return float(np.mean([each["seconds"] / 60 for each in found if each.get("seconds")] or [np.nan]))


def who(found: Failures, count: int = 6) -> str:
    """Whether failures have something in common, as Markdown: the `count` plainest findings of `kinds.rates`."""
    tested, worse = int(found.rates["p"].notna().sum()), found.rates[found.rates["found"]]
    about = f"{tested} comparisons on {len(found.scores)} faces, {len(worse)} of them beyond chance"
    if not len(worse):
        return f"{about}: no kind of face was found to do worse than all others. That is no proof that none does."
    rows = [f"- `{row['metric']}` ({MEASURES[row['metric']][0]}), {in_words(row)}" for _, row in worse.iterrows()]
    more = [f"- and {len(rows) - count} more"] if len(rows) > count else []
    return "\n".join([f"{about}; these kinds of face do worse than all others:", "", *rows[:count], *more])


def rates_of(found: Failures, metrics: Sequence[str], traits: Sequence[str] = KINDS) -> Figure | str:
    """How many of each kind of face failed: a panel per measure, a row per kind, the rate with Wilson's 95 % interval;
    dotted the share of all faces that did; orange where the kind was found to be worse than chance makes one."""
    table = found.rates[found.rates["trait"].isin(traits) & found.rates["metric"].isin(metrics)]
    table = table[table["faces"] > 0]
    if table.empty:
        return NOTHING
    kinds = sorted(set(zip(table["trait"], table["kind"])), key=lambda kind: (traits.index(kind[0]), _place(kind[1])))
    shown = [metric for metric in metrics if (table["metric"] == metric).any()]
    faces, fails = table.groupby(["trait", "kind"])["faces"].max(), failing(found.scores)
    size = 2.1 * len(shown) + 2.0, 0.24 * len(kinds) + 1.0
    fig, axes = plt.subplots(1, len(shown), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for ax, metric in zip(axes.flat, shown):
        for row in table[table["metric"] == metric].itertuples():
            place, colour = kinds.index((row.trait, row.kind)), "C3" if row.found else "0.3"
            ax.hlines(place, row.low, row.high, color=colour, lw=1.8)
            ax.plot(row.rate, place, "o", color=colour, ms=4.5, clip_on=False, zorder=3)  # none may vanish at 0
        ax.axvline(fails[metric].sum() / found.scores[metric].count(), color="0.2", lw=1.1, ls=":")
        ax.set(title=metric, xlim=(0, 1), ylim=(len(kinds) - 0.5, -0.5))
        ax.set_yticks(range(len(kinds)), [f"{trait} {kind} ({faces[trait, kind]})" for trait, kind in kinds])
        ax.xaxis.set_major_formatter("{x:.0%}")
        ax.tick_params(labelsize=8)
        ax.grid(visible=False, axis="x")
        sns.despine(ax=ax, left=True)
    fig.supxlabel("share of these faces that failed; dotted: of all faces", fontsize=9)
    plt.close(fig)  # as above
    return fig


def _place(kind: str) -> float:
    """Skin from light to dark; thirds of numbers from low to high."""
    tones = [name for _, name in SKIN]
    if kind in tones:
        return -tones.index(kind)
    return {"below": 0, "above": 2}.get(kind.split()[0], 1)
