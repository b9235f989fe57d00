"""Picking checkpoints (paper §5): the trend over the whole timeline, numbers per checkpoint, and who picked which.

The paper "carefully watched this trend and visually picked two better-performing checkpoints". Here the trend is drawn,
the picking is written down in `runs/<study>/selection.json`, and the figures read it from there. The page of
`lib.study.widgets` marks picks one by one; several pages may do so at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.data.files import read_json, write_json
from lib.gan import Translator
from lib.study import metrics
from lib.study.config import PICKED_EPOCHS, STAGES, StudyError
from lib.study.datasets import TestSet
from lib.study.runs import Study, now
from lib.study.selection_file import locked
from lib.study.timeline import all_checkpoints, checkpoints_of, load_stage

_WORDS = ("by", "remark", "at")
DRAWS, FACES = 4, 24  # noise draws of each face, and held-out faces, that the numbers per checkpoint are taken from
PICKED_STAGE = "stage5"  # paper §5: both picks are "from the later epochs", with NMC and noise


def read_picks(study: Study) -> tuple[int, ...]:
    """The two epochs picked in this study: those of selection.json, the paper's 313 and 476 where there is none."""
    return tuple(pick["epoch"] for pick in present_picks(study))


def present_picks(study: Study) -> list[dict]:
    """The two picks with who made each, when and why: epoch, by, remark, at ("" where it was never written).

    Raises StudyError that names a selection.json which holds no picks.
    """
    return _each(_record(study.root / "selection.json"))


def _record(path: Path) -> dict | None:
    """What selection.json holds, None where there is none; what `_each` and `write_picks` rely on is looked at here."""
    if not path.exists():
        return None
    try:
        record = read_json(path)
    except ValueError as error:
        raise StudyError(str(error)) from error
    fault, each = "", None
    if not isinstance(record, dict):
        fault = f"expected an object, got {type(record).__name__}"
    elif "each" in record:
        each = record["each"]
        if not isinstance(each, list) or not all(isinstance(pick, dict) for pick in each):
            fault = f"each: expected two objects with epoch, by, remark and at, got {each!r}"
    elif isinstance(record.get("picks"), list):
        each = [record | {"epoch": epoch} for epoch in record["picks"]]
    else:
        fault = f"picks: expected two epochs, got {record.get('picks')!r}"
    if each is not None and not fault:
        epochs = [pick.get("epoch") for pick in each]
        words = [pick.get(key, "") for pick in each for key in _WORDS]
        if len(each) != 2 or not all(type(epoch) is int for epoch in epochs):
            fault = f"expected two epochs, got {epochs}"
        elif strange := [word for word in words if not isinstance(word, str)]:
            fault = f"{', '.join(_WORDS)}: expected text, got {strange[0]!r}"
        elif not isinstance(record.get("earlier", []), list):
            fault = f"earlier: expected a list, got {record['earlier']!r}"
    if fault:
        raise StudyError(f"{path}: {fault}; mend it, or move it away and pick anew")
    return record


def _each(record: dict | None) -> list[dict]:
    if record is None:
        record = {"picks": PICKED_EPOCHS, "by": "the paper (§5)", "remark": "picked by eye from watching the trend"}
    if "each" in record:
        return [dict.fromkeys(_WORDS, "") | pick for pick in record["each"]]
    facts = {key: record.get(key, "") for key in _WORDS}  # of both at once, as it used to be written
    return [{"epoch": int(epoch), **facts} for epoch in record["picks"]]


def write_picks(study: Study, picks: Sequence[int], by: str, remark: str = "") -> dict:
    """Write selection.json: two epochs of stage 5, who picked them, when and why. Gives what it holds then.

    0 leaves that pick as it is, with who made it and why; (0, 0) writes nothing. What others wrote meanwhile is taken
    in first, an earlier picking is kept under "earlier", and the same picking again changes nothing.

    Raises StudyError when they are not two rising epochs of which the stage kept the weights, nobody is named, or
    the file there holds no picks.
    """
    path = study.root / "selection.json"
    picks = [int(epoch) for epoch in picks]
    if picks == [0, 0]:
        each = present_picks(study)
        whole = {"stage": PICKED_STAGE, "picks": [pick["epoch"] for pick in each], "each": each}
        return (_record(path) or {}) | whole  # an older file has no `each`
    if not by.strip():
        raise StudyError("a picking needs a name in `by`: who looked at the pictures?")
    with locked(path):
        before = _record(path)
        each, kept = _each(before), checkpoints_of(study, PICKED_STAGE)
        epochs = [epoch or pick["epoch"] for epoch, pick in zip(picks, each)]
        if len(picks) != 2 or epochs[0] >= epochs[1] or not set(picks) - {0} <= set(kept):
            raise StudyError(
                f"picks {epochs if len(picks) == 2 else picks}: expected two rising epochs out of those that "
                f"{PICKED_STAGE} of {study.name} kept: "
                f"{', '.join(map(str, kept)) or 'none yet, run notebook ' + STAGES[PICKED_STAGE].notebook}"
                f"{'; to move both picks beyond one of them, mark the farther one first' if 0 in picks else ''}"
            )
        at = now()
        given = [{"epoch": epoch, "by": by, "remark": remark, "at": at if epoch else ""} for epoch in picks]
        new = [pick if not mine["epoch"] or _same(mine, pick) else mine for mine, pick in zip(given, each)]
        if before and new == each:
            return before | {"each": each}
        earlier = [*before.pop("earlier", []), before] if before else []
        record = {"stage": PICKED_STAGE, "picks": epochs, "by": by, "remark": remark, "at": at, "each": new}
        write_json(path, record | {"earlier": earlier})
        return record | {"earlier": earlier}


def _same(one: dict, other: dict) -> bool:
    return all(one[key] == other[key] for key in ("epoch", "by", "remark"))


def mark_pick(study: Study, place: int, stage: str, epoch: int, by: str, remark: str = "") -> dict:
    """Make a checkpoint the first pick (place 1, shown by Figure 6) or the second (place 2, Figure 7); see
    `write_picks`. The other pick stays as it is, whoever made it.

    Raises StudyError for a checkpoint that cannot be that pick, or where nobody is named.
    """
    if stage != PICKED_STAGE:
        raise StudyError(
            f"{stage} · {epoch} cannot be a pick: the paper picks from the later epochs, with NMC and noise (§5); "
            f"choose one of {PICKED_STAGE}"
        )
    other = read_picks(study)[2 - place]
    if (epoch >= other) if place == 1 else (epoch <= other):
        raise StudyError(
            f"{epoch} cannot be the {'first' if place == 1 else 'second'} pick: the picks rise, and the "
            f"{'second' if place == 1 else 'first'} is {other} now; to move both, mark that one first"
        )
    return write_picks(study, (epoch, 0) if place == 1 else (0, epoch), by, remark)


def whole_timeline(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics and sample changes of every trained stage on one axis: the paper's epochs.

    Both tables get the columns `stage` and `position`. The pretraining counts its epochs from 1 as stage 1 does, so it
    is moved to end at 0. A tick within a pass lies between the labels of the pass before and its own.

    Raises StudyError when nothing has been trained.
    """
    ticks, samples = [], []
    for name, stage in STAGES.items():
        if not (study.stage_dir(name) / "manifest.json").exists():
            continue
        run = load_stage(study, name)
        labels = np.array([stage.first_epoch - 1, *run.manifest["config"]["epochs"]], float)
        shift = -stage.last_epoch if stage.parent is None else 0
        steps = run.metrics.loc[run.metrics["epoch"] == run.metrics["epoch"].iloc[0], "step"].max()  # of one pass
        position = np.interp(run.metrics["step"] / steps, np.arange(len(labels)), labels)
        ticks.append(run.metrics.assign(stage=name, position=position + shift))
        samples.append(run.samples.assign(stage=name, position=run.samples["epoch"] + shift))
    if not ticks:
        raise StudyError(f"{study.root}: nothing has been trained yet; run the notebooks 04 to 09 first")
    return pd.concat(ticks, ignore_index=True), pd.concat(samples, ignore_index=True)


def timeline_curves(
    ticks: pd.DataFrame, samples: pd.DataFrame, picks: Sequence[int], losses: Sequence[str], title: str = ""
) -> Figure:
    """Losses above, change of the fixed samples below, all stages on one axis of the paper's epochs, picks marked.

    Args:
        ticks, samples: from `whole_timeline`. losses: columns of `ticks`; a loss that is off or NaN leaves a gap.
    """
    fig, (above, below) = plt.subplots(2, 1, figsize=(10, 5.2), sharex=True, layout="constrained")
    for k, (name, rows) in enumerate(ticks.groupby("stage", sort=False)):
        stage = STAGES[name]
        first = -stage.last_epoch if stage.parent is None else stage.first_epoch - 1
        last = 0 if stage.parent is None else stage.last_epoch
        for ax in (above, below):
            ax.axvspan(first, last, color="0.5", alpha=0.10 if k % 2 else 0.0, lw=0)
        above.text((first + last) / 2, 1.02, name.replace("pretraining", "pre-\ntraining").replace("stage", "stage\n"),
                   transform=above.get_xaxis_transform(), ha="center", va="bottom", fontsize=9)  # fmt: skip
        for j, loss in enumerate(losses):
            shown = rows[rows[loss].notna() & (rows[loss] != 0)]
            marker = "o" if len(shown) < 40 else None
            above.plot(shown["position"], shown[loss], color=f"C{j}", lw=1.3, marker=marker, ms=3)
        mine = samples[samples["stage"] == name]
        for j, where in enumerate(("outside", "inside")):
            below.plot(mine["position"], mine[f"{where}_change"], color=f"C{j}", lw=1.3, marker="o", ms=3)
    for ax, names in ((above, losses), (below, ("outside the mask", "inside the mask"))):  # once, not once per stage
        for j, label in enumerate(names):
            ax.plot([], [], color=f"C{j}", label=label)
    for ax in (above, below):
        for pick in picks:
            ax.axvline(pick, color="0.2", lw=1.1, ls="--")
        ax.set_ylim(0, None)
        ax.margins(x=0.01)
    for pick in picks:
        below.text(pick, 1.02, pick, transform=below.get_xaxis_transform(), ha="center", va="bottom", fontsize=9)
    below.axhline(metrics.REDRAWN_ABOVE, color="C3", lw=1.2, ls=":", label="redrawn above")
    above.set(ylabel="loss before its λ", title=title)
    below.set(ylabel="mean |output − input|", xlabel="epoch in the paper's numbering (the pretraining ends at 0)")
    for ax in (above, below):
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        sns.despine(ax=ax)
    plt.close(fig)  # shown by the notebook as a cell's value, not a second time by pyplot
    return fig


def spread(items: Sequence, count: int) -> list:
    """At most `count` of the items, evenly spread, the first and the last among them."""
    items = list(items)
    if len(items) <= count:
        return items
    return [items[round(k * (len(items) - 1) / (count - 1))] for k in range(count)]


def candidates(study: Study, count: int = 10) -> list[tuple[str, int]]:
    """What is worth comparing: the last weights of stages 3 and 4, the picks, and up to `count` epochs of stage 5."""
    every = all_checkpoints(study)
    ends = [max(key for key in every if key[0] == name) for name in ("stage3", "stage4") if checkpoints_of(study, name)]
    late = [key for key in every if key[0] == PICKED_STAGE]
    picks = [(PICKED_STAGE, epoch) for epoch in read_picks(study) if (PICKED_STAGE, epoch) in every]
    return [*ends, *sorted({*spread(late, count), *picks})]


def compare(
    study: Study, test: TestSet, keys: Sequence[tuple[str, int]], seeds: int = DRAWS, faces: int = FACES
) -> pd.DataFrame:
    """Numbers per checkpoint on the first held-out faces; the first row is the rule-based image itself.

    Columns: stage, epoch; outside_change, inside_change (mean over faces, [0, 1]); colour_spread (Lab colour of the
    mask over faces, ΔE units); noise_diversity (the same over noise seeds of a face, its mean over faces; NaN without
    noise); frechet_B, the distance to held-out B in fixed random features (a stand-in for FID, `lib.study.metrics`; NaN
    where a set has one picture); and, if the truth is known, truth_distance ([0, 1]) and truth_ssim over the true and
    the rule-based mask together.
    """
    test = test.take(range(min(faces, len(test.rule))))
    mask = ~test.non_mask
    area = mask | test.region if test.region is not None else None
    enough = min(len(test.rule), len(test.B)) > 1

    def row(stage: str, epoch: int | None, images: np.ndarray, draws: np.ndarray | None) -> dict:
        values = {
            "stage": stage,
            "epoch": epoch,
            "outside_change": float(np.nanmean(metrics.outside_change(test.rule, images, test.non_mask))),
            "inside_change": float(np.nanmean(metrics.outside_change(test.rule, images, mask))),
            "colour_spread": metrics.colour_diversity(metrics.mask_colour_lab(images, mask)),
            "noise_diversity": float("nan") if draws is None else metrics.noise_diversity(draws, mask),
            "frechet_B": metrics.random_feature_distance(images, test.B) if enough else float("nan"),
        }
        if test.truth is not None:
            values["truth_distance"] = float(np.nanmean(metrics.outside_change(test.truth, images, area)))
            values["truth_ssim"] = float(np.nanmean(metrics.ssim_inside(test.truth, images, area)))
        return values

    rows, found = [row("rule-based", None, test.rule, None)], all_checkpoints(study)
    for stage, epoch in keys:
        translator = Translator(found[stage, epoch])
        count = seeds if translator.noise.active else 1
        starts = [range(1000 * k, 1000 * k + len(test.rule)) for k in range(count)]
        draws = np.stack([translator.translate(test.rule, list(start)).images for start in starts])
        rows.append(row(stage, epoch, draws[0], draws if count > 1 else None))
    return pd.DataFrame(rows).astype({"epoch": "Int64"})


def tradeoff(table: pd.DataFrame, picks: Sequence[int]) -> Figure:
    """Change outside the mask against the spread of mask colours, a point per checkpoint; the picks carry their epoch.

    table: from `compare`.
    """
    trained = table[table["stage"] != "rule-based"]
    fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    sns.scatterplot(trained, x="colour_spread", y="outside_change", hue="stage", style="stage", s=70, ax=ax)
    picked = trained[(trained["stage"] == PICKED_STAGE) & trained["epoch"].isin(list(picks))]
    for row in picked.itertuples():
        at = (row.colour_spread, row.outside_change)
        ax.annotate(f"{row.epoch}", at, (7, 3), textcoords="offset points", fontsize=10)
    ax.set(xlabel="spread of mask colours over faces (ΔE)", ylabel="change outside the mask")
    ax.set_ylim(0, 1.15 * trained["outside_change"].max())
    ax.margins(x=0.12)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    plt.close(fig)  # as above
    return fig
