"""What notebook 15 draws: trainings with masks against trainings without, their curves, and what a detector finds."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.study.claims import interval
from lib.study.detector import FACE, Detector
from lib.study.display import PALETTE
from lib.study.downstream import cases_of, folder_of
from lib.study.downstream_real import SETS
from lib.study.downstream_sets import COLOURS, FLY
from lib.study.evidence_views import NOTHING
from lib.study.recogniser import FARS, LEAST_FALSE
from lib.study.runner import read_result
from lib.study.runs import Study
from lib.study.tool_demo import outline

COUNTS = ("people", "true_pairs", "false_pairs", "pictures", "masked_faces", "bare_faces")
BOXES = ("#ffd400", "#2a7fff")  # told to be a bare face, a masked one
_LINES = {  # of a variant: number of a colour of the palette, dashes
    "none": (7, (1, 1.5)), "rule": (1, ""), COLOURS: (4, (4, 1.5)), "two-step": (0, ""), "truth": (2, ""),
    FLY: (9, (4, 1.5)),
}  # fmt: skip


def line_style() -> dict:
    """What `seaborn.lineplot` takes to draw a thin line per variant and seed, told apart by colour and by dashes."""
    colours = sns.color_palette(PALETTE)
    palette = {variant: colours[k] for variant, (k, _) in _LINES.items()}
    dashes = {variant: pattern for variant, (_, pattern) in _LINES.items()}
    order = {"hue_order": list(_LINES), "style_order": list(_LINES)}
    same = {"hue": "variant", "style": "variant", "units": "seed", "estimator": None, "lw": 1.4}
    return same | order | {"palette": palette, "dashes": dashes}


def compare(study: Study, experiment: str, metric: str, against: str = "none", tested: str = "") -> pd.DataFrame:
    """Each variant's measure, and how far it lies from that of another variant, paired by seed.

    metric: as in the results, without "bare". tested: a set of photographs; "" for the face world's, "bare" for its
    faces without masks.

    Returns a row per variant: value (mean over seeds), low and high (95 % of bootstrap samples of the people or scenes
    tested with, mean over seeds), seeds, gain (mean difference to `against`), seeds_low and seeds_high (its 95 %
    t-interval over seeds), people_low and people_high (of the difference, as low and high; the same samples for both).
    """
    values, samples = {}, {}
    for case in cases_of(study):
        folder = folder_of(study, case, tested if tested in SETS else "")
        kept, found = folder / f"bootstrap-{tested or 'faceworld'}.parquet", read_result(folder)
        if case.experiment == experiment and found.get("status") == "finished" and kept.exists():
            measured = {row["metric"]: row["value"] for row in found["values"]}
            if (value := measured.get(f"bare_{metric}" if tested == "bare" else metric)) is not None:
                values.setdefault(case.variant, {})[case.seed] = value
                samples.setdefault(case.variant, {})[case.seed] = pd.read_parquet(kept)[metric].to_numpy()
    rows = []
    for variant, own in values.items():
        both = sorted(own.keys() & values.get(against, {}).keys())
        gain, low, high = interval(np.array([own[k] - values[against][k] for k in both]))
        people = _middle([samples[variant][k] - samples[against][k] for k in both])
        drawn = _middle([*samples[variant].values()])
        rows.append((variant, np.mean([*own.values()]), *drawn, len(own), gain, low, high, *people))
    columns = ["variant", "value", "low", "high", "seeds", "gain", "seeds_low", "seeds_high"]
    return pd.DataFrame(rows, columns=[*columns, "people_low", "people_high"])


def _middle(samples: Sequence[np.ndarray]) -> tuple[float, float]:
    """Where 95 % of the samples, averaged over seeds, lie; NaN without any."""
    mean = np.mean(samples, axis=0) if len(samples) else np.empty(0)
    mean = mean[np.isfinite(mean)]
    return tuple(np.quantile(mean, (0.025, 0.975))) if len(mean) else (np.nan, np.nan)


def with_intervals(study: Study, experiment: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Measures on the face world as text, a row per variant, a column each: value [low, high] of `compare`."""
    found = {}
    for metric in metrics:
        for row in compare(study, experiment, metric).itertuples():
            found.setdefault(metric, {})[row.variant] = f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
    return pd.DataFrame(found, _LINES).dropna(how="all").fillna("–")


def photographs(study: Study) -> pd.DataFrame:
    """Every set of photographs that was tested on, a row each: what it consists of, what of it could not be used, how
    many tests are finished and how many failed (and why the first did), and which measures it is too small for."""
    rows = []
    for kind, experiment in SETS.items():
        cases = [case for case in cases_of(study) if case.experiment == experiment]
        every = [found for case in cases if (found := read_result(folder_of(study, case, kind)))]
        done = [found for found in every if found["status"] == "finished"]
        failed = [found["status"] for found in every if found["status"].startswith("failed")]
        told = {row["metric"]: row for found in done[:1] for row in found["values"]}
        values = {name: int(told[name]["value"]) for name in COUNTS if name in told}
        small = [
            f"tar_{far:g} needs {LEAST_FALSE / far:,.0f} false pairs"
            for far in FARS
            if far * values.get("false_pairs", np.inf) < LEAST_FALSE
        ]
        if every:
            rows.append(
                {
                    "set": kind,
                    "tested with": ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in values.items()),
                    "unusable": f"{told['unusable']['value']:,.0f} of {told['unusable']['n']:,}" if told else "",
                    "finished": len(done),
                    "failed": f"{len(failed)}; {failed[0]}" if failed else "0",
                    "not told": "; ".join(small),
                }
            )
    return pd.DataFrame(rows)


def curves(study: Study, experiment: str, tested: str = "") -> pd.DataFrame:
    """The curves of all finished cases, a column each for variant and seed: far and tar of a recogniser, recall and
    precision of each view of a detector."""
    found = [pd.DataFrame()]
    for case in cases_of(study):
        path = folder_of(study, case, tested if tested in SETS else "") / f"curve-{tested or 'faceworld'}.parquet"
        if case.experiment == experiment and path.exists():
            found.append(pd.read_parquet(path).assign(variant=case.variant, seed=case.seed))
    return pd.concat(found, ignore_index=True)


def gains(study: Study, panels: Sequence[tuple[str, str]], against: str, without: Sequence[str] = ()) -> Figure | str:
    """A panel per (experiment, measure): each variant's gain over another one, with both intervals of `compare`.
    An arrow: the interval goes on beyond the panel. without: variants that are left out, which lie so far away that the
    others could not be told apart."""
    tables = [compare(study, *panel, against) for panel in panels]
    tables = [table[~table["variant"].isin([against, *without])] for table in tables]
    if not any(len(table) for table in tables):
        return NOTHING
    fig, axes = plt.subplots(1, len(panels), figsize=(4.3 * len(panels), 2.6), squeeze=False, layout="constrained")
    for ax, (experiment, metric), table in zip(axes.flat, panels, tables):
        # The scale is that of the gains and of people: over two seeds a t-interval would crush both.
        near = np.append(table[["gain", "people_low", "people_high"]].to_numpy(float).ravel(), 0.0)
        room = max(0.3 * np.ptp(near[np.isfinite(near)]), 0.005)
        left, right = np.nanmin(near) - room, np.nanmax(near) + room
        for kind, colour, shift in (("seeds", "C0", -0.14), ("people", "C1", 0.14)):
            label = f"95 % over {kind}"
            for place, low, high in zip(np.arange(len(table)) + shift, table[f"{kind}_low"], table[f"{kind}_high"]):
                ax.hlines(place, max(low, left), min(high, right), color=colour, lw=2, label=label)
                for end, inside, arrow in ((low, low >= left, "<"), (high, high <= right, ">")):
                    mark = "|" if inside else arrow  # a bar, seen where the interval has no width; or: it goes on
                    ax.plot(np.clip(end, left, right), place, mark, color=colour, ms=7, mew=2 if inside else 0)
                label = None
        ax.plot(table["gain"], np.arange(len(table)), "ko", ms=5)
        ax.axvline(0, color="0.4", lw=0.9)
        again = ax is not axes.flat[0] and table["variant"].tolist() == tables[0]["variant"].tolist()
        ax.set_yticks(np.arange(len(table)), [""] * len(table) if again else table["variant"])
        ax.set(title=f"{experiment}: {metric}", xlabel=f"gain over {against}", ylim=(len(table) - 0.5, -0.5))
        ax.margins(x=0.03)
    axes.flat[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    plt.close(fig)  # shown by the notebook as a cell's value, not a second time by pyplot
    return fig


def detections(models: dict[str, Detector], images: np.ndarray, share: float = 0.5) -> Figure | str:
    """What detectors find on pictures uint8 [N, S, S, 3], a row for each: at most six boxes that score above `share` of
    the best of their picture, yellow where told to be a bare face, blue where a masked one."""
    if not models:
        return NOTHING
    size = (1.9 * len(images), 1.9 * len(models))
    fig, axes = plt.subplots(len(models), len(images), figsize=size, squeeze=False, layout="compressed")
    for row, (name, model) in zip(axes, models.items()):
        row[0].set_ylabel(name)
        for ax, image, found in zip(row, images, model.detect(images)):
            ax.imshow(image)
            ax.set(xticks=[], yticks=[])
            best = np.argsort(-found["scores"])[:6]
            for (x0, y0, x1, y1), score, label in zip(*(found[key][best] for key in ("boxes", "scores", "labels"))):
                if score > share * found["scores"].max():
                    outline(ax, (x0, y0, x1 - x0, y1 - y0), BOXES[int(label != FACE)])
    plt.close(fig)  # as above
    return fig
