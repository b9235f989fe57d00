"""What notebook 15 draws: trainings with masks against trainings without, their curves, and what a detector finds."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.study.claims import interval
from lib.study.detector import FACE, Detector
from lib.study.downstream import cases_of
from lib.study.evidence_views import NOTHING
from lib.study.runner import read_result
from lib.study.runs import Study
from lib.study.tool_demo import outline

COLOURS = ("#ffd400", "#2a7fff")  # of boxes told to be a bare face, a masked one


def compare(study: Study, experiment: str, metric: str, against: str = "none", tested: str = "") -> pd.DataFrame:
    """Each variant's measure, and how far it lies from that of another variant, paired by seed.

    metric: as in the results, without the name of the set. tested: a named set; "" for the face world's, "bare" for its
    faces without masks.

    Returns a row per variant: value (mean over seeds), seeds, gain (mean difference to `against`), seeds_low and
    seeds_high (its 95 % t-interval over seeds), people_low and people_high (95 % of bootstrap samples of the people or
    scenes tested with, mean over seeds; the same samples for both).
    """
    values, samples = {}, {}
    for case in cases_of(study):
        folder = study.root / "experiments" / case.experiment / case.folder_name
        kept, found = folder / f"bootstrap-{tested or 'faceworld'}.parquet", read_result(folder)
        if case.experiment == experiment and found.get("status") == "finished" and kept.exists():
            measured = {row["metric"]: row["value"] for row in found["values"]}
            draws = pd.read_parquet(kept)
            if (value := measured.get(f"{tested}_{metric}" if tested else metric)) is not None:
                values.setdefault(case.variant, {})[case.seed] = value
                samples.setdefault(case.variant, {})[case.seed] = draws[metric].to_numpy()
    rows = []
    for variant in values:
        both = sorted(values[variant].keys() & values.get(against, {}).keys())
        gain, low, high = interval(np.array([values[variant][k] - values[against][k] for k in both]))
        drawn = [samples[variant][k] - samples[against][k] for k in both] or [[np.nan]]
        people = np.nanquantile(np.mean(drawn, axis=0), (0.025, 0.975))
        rows.append((variant, np.mean([*values[variant].values()]), len(values[variant]), gain, low, high, *people))
    columns = ["variant", "value", "seeds", "gain", "seeds_low", "seeds_high", "people_low", "people_high"]
    return pd.DataFrame(rows, columns=columns)


def curves(study: Study, experiment: str, tested: str = "faceworld") -> pd.DataFrame:
    """The curves of all finished cases, a column each for variant and seed: far and tar of a recogniser, recall and
    precision of each view of a detector."""
    found = [pd.DataFrame()]
    for case in cases_of(study):
        path = study.root / "experiments" / case.experiment / case.folder_name / f"curve-{tested}.parquet"
        if case.experiment == experiment and path.exists():
            found.append(pd.read_parquet(path).assign(variant=case.variant, seed=case.seed))
    return pd.concat(found, ignore_index=True)


def gains(study: Study, panels: Sequence[tuple[str, str]], against: str, without: Sequence[str] = ()) -> Figure | str:
    """A panel per (experiment, measure): each variant's gain over another one, with both intervals of `compare`.
    without: variants that are left out, which lie so far away that the others could not be told apart."""
    tables = [compare(study, *panel, against) for panel in panels]
    tables = [table[~table["variant"].isin([against, *without])] for table in tables]
    if not any(len(table) for table in tables):
        return NOTHING
    fig, axes = plt.subplots(1, len(panels), figsize=(4.3 * len(panels), 2.6), squeeze=False, layout="constrained")
    for ax, (experiment, metric), table in zip(axes.flat, panels, tables):
        places = np.arange(len(table))
        for kind, colour, shift in (("seeds", "C0", -0.12), ("people", "C1", 0.12)):
            ends = table[[f"{kind}_low", f"{kind}_high"]].to_numpy(float).T
            ax.hlines(places + shift, *ends, color=colour, lw=2, label=f"95 % over {kind}")
        ax.plot(table["gain"], places, "ko", ms=5)
        ax.axvline(0, color="0.4", lw=0.9)
        ax.set_yticks(places, table["variant"])
        ax.set(title=f"{experiment}: {metric}", xlabel=f"gain over {against}", ylim=(len(table) - 0.5, -0.5))
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
                    outline(ax, (x0, y0, x1 - x0, y1 - y0), COLOURS[int(label != FACE)])
    plt.close(fig)  # as above
    return fig
