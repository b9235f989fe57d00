"""The timeline as curves over the paper's epochs, for the comparison page: losses, changes, numbers per checkpoint.

The numbers of `lib.study.selection.compare` cost a translation of the held-out faces for each checkpoint. They are kept
in `runs/<study>/checkpoints.csv`, row by row, and made anew where weights or faces have changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.files import write_table
from lib.gan.checkpoints import read_meta
from lib.study import selection
from lib.study.config import STAGES, StudyError
from lib.study.datasets import TestSet
from lib.study.runs import Study
from lib.study.timeline import all_checkpoints

LOSSES = {
    "loss_G_adv_AB": "adversarial A → B",
    "loss_cycle_A": "cycle A",
    "loss_cycle_B": "cycle B",
    "loss_nmc": "non-mask change",
    "loss_D_B": "discriminator of B",
}
MOST_POINTS = 400  # of a line: more than a page has pixels for
_KEPT = "made_from"


def position(stage: str, epoch: int) -> int:
    """Place of an epoch on the axis of the whole timeline: the pretraining, which also counts from 1, ends at 0."""
    row = STAGES[stage]
    return epoch - row.last_epoch if row.parent is None else epoch


def numbers(
    study: Study,
    test: TestSet,
    keys: Iterable[tuple[str, int]] | None = None,
    told: Callable[[int, int], bool | None] = lambda done, total: None,
) -> pd.DataFrame:
    """`selection.compare` for checkpoints (all of stages 1 to 5 by default), computed once and kept.

    told: called with (done, total) after each checkpoint, and with (0, total) first; True stops there.

    Returns the rows there are, the rule-based image's first, then by stage and epoch.
    """
    found = all_checkpoints(study)
    wanted = [key for key in found if key[0] != "pretraining"] if keys is None else list(keys)
    if unknown := [f"{stage} {epoch}" for stage, epoch in wanted if (stage, epoch) not in found]:
        raise StudyError(f"{study.root}: no checkpoint {', '.join(unknown)} is kept")
    path, faces = study.root / "checkpoints.csv", _digest_of(test)
    kept = _read(path)
    missing = [key for key in wanted if kept.get(key, {}).get(_KEPT) != _made_from(found[key], faces)]
    if (told(0, len(missing)) is True) or not missing:
        return _table(kept, [("rule-based", None), *wanted])
    for done, key in enumerate(missing, 1):
        rows = selection.compare(study, test, [key]).to_dict("records")
        for row, made_from in zip(rows, (faces, _made_from(found[key], faces)), strict=True):
            label = None if pd.isna(row["epoch"]) else int(row["epoch"])
            kept[row["stage"], label] = row | {_KEPT: made_from}
        write_table(path, _table(kept, list(kept), drop=False))
        if told(done, len(missing)) is True:
            break
    return _table(kept, [("rule-based", None), *wanted])


def kept_numbers(study: Study) -> pd.DataFrame:
    """What `numbers` has kept so far, possibly nothing."""
    kept = _read(study.root / "checkpoints.csv")
    return _table(kept, list(kept))


def curves(study: Study) -> dict:
    """Everything that has a value per epoch, as plain lists: {"stages": […], "panels": […]}.

    stages: name, first, last (on the axis of `position`). panels: title, unit, and lines of a name and points [x, y]:
    losses (before their λ), change of the fixed samples outside and inside the mask, and, as far as `numbers` has
    computed them, diversity (ΔE), distance to B, and distance to the truth in the face world.

    Raises StudyError when nothing has been trained.
    """
    ticks, samples = selection.whole_timeline(study)
    stages = [
        {"name": name, "first": position(name, row.first_epoch) - 1, "last": position(name, row.last_epoch)}
        for name, row in STAGES.items()
        if (ticks["stage"] == name).any()
    ]
    changes = {f"{where}_change": f"{where} the mask" for where in ("outside", "inside")}
    panels = [
        _panel("losses", "before its λ", ticks, LOSSES),
        _panel("change of the fixed samples", "mean |output − input|", samples, changes),
    ]
    table = kept_numbers(study)
    if len(table):
        table = table[table["epoch"].notna()]
        table = table.assign(position=[position(s, int(e)) for s, e in zip(table["stage"], table["epoch"])])
        spread = {"colour_spread": "mask colours over faces", "noise_diversity": "over noise draws of one face"}
        panels += [
            _panel("diversity", "ΔE", table, spread),
            _panel("distance to held-out B, random features (no FID)", "no unit", table, {"frechet_B": "to B"}),
            _panel("distance to the truth", "mean |output − truth|", table, {"truth_distance": "to the truth"}),
        ]
    return {"stages": stages, "panels": [panel for panel in panels if panel["lines"]]}


def _panel(title: str, unit: str, table: pd.DataFrame, columns: dict[str, str]) -> dict:
    lines = []
    for column, name in columns.items():
        if column not in table:
            continue
        rows = table.loc[table[column].notna() & ((table[column] != 0) | ~table[column].name.startswith("loss"))]
        rows = rows.sort_values("position", kind="stable")
        if len(rows) > MOST_POINTS:
            rows = rows.iloc[np.linspace(0, len(rows) - 1, MOST_POINTS).round().astype(int)]
        points = [[round(float(x), 3), float(f"{y:.5g}")] for x, y in zip(rows["position"], rows[column])]
        if points:
            lines.append({"name": name, "points": points})
    return {"title": title, "unit": unit, "lines": lines}


def _digest_of(test: TestSet) -> str:
    digest = hashlib.sha256()
    for pixels in (test.rule, test.non_mask, test.B):
        digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()[:16]


def _made_from(checkpoint: Path, faces: str) -> str:
    weights = read_meta(checkpoint)["files"]["net_G_AB.safetensors"]
    return f"{weights[:16]} {faces}"


def _read(path: Path) -> dict[tuple[str, int | None], dict]:
    """Rows by (stage, epoch); a file of another version (other columns) counts as none."""
    try:
        table = pd.read_csv(path)
        rows = table.astype({"epoch": "Int64"}).to_dict("records")
        return {(row["stage"], None if pd.isna(row["epoch"]) else int(row["epoch"])): row | {_KEPT: str(row[_KEPT])}
                for row in rows}  # fmt: skip
    except (OSError, ValueError, KeyError):
        return {}


def _table(kept: dict, keys: list[tuple[str, int | None]], drop: bool = True) -> pd.DataFrame:
    order = list(STAGES)
    rank = lambda key: (order.index(key[0]) if key[0] in order else -1, key[1] or 0)  # noqa: E731
    rows = [kept[key] for key in sorted(set(keys) & set(kept), key=rank)]
    table = pd.DataFrame(rows)
    if len(table):
        table["epoch"] = table["epoch"].astype("Int64")
    return table.drop(columns=_KEPT) if drop and len(table) else table
