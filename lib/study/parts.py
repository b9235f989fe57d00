"""Differences of one measure between two kinds of runs, over seeds, and what their intervals say.

A part is the difference of one measure between two kinds of runs, paired by seed (or their ratio, or one kind's value
alone), with a 95 % t-interval over seeds. It

    holds          where the interval lies wholly on the claimed side of its bar (0 unless said),
    does not hold  where it lies wholly on the other side,
    is undecided   otherwise, with a single seed, and where a run of the claim's own kind diverged: to leave a run out
                   because it failed would speak for the method.

The interval tells how far another seed of the training moves the number; data and held-out faces are the same in all
runs. `lib.study.claims` has the paper's claims, `lib.study.answers` the questions beyond it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from lib.study.downstream_sets import PLANS as DOWNSTREAM
from lib.study.plans import PLANS, REFERENCE

HOLDS, FAILS, UNDECIDED, UNMEASURED = "holds", "does not hold", "undecided", "not measured"
DIVERGED = "diverged"  # how the status of such a run begins
BESIDE = "stands beside"  # the note of a row that decides nothing
_FLOOR = 1e-4  # of noise_pixel_std, a fortieth of a grey level: below it a ratio says nothing
_NOISE = re.compile(r"^layer(\d) σ(\S+)$")


@dataclass(frozen=True)
class Side:
    """One kind of runs, at one epoch (None: the last)."""

    variant: str
    experiment: str = "corners"
    epoch: int | None = None


@dataclass(frozen=True)
class Part:
    """`of` − `against` (or `of` alone) is claimed to lie above (1) or below (−1) `bar`.

    layers: of the noise; the ratio of the first to the second is claimed so instead, at equal σ.
    slack: share of `against` by which `of` may lie on the wrong side: "no worse than" instead of "better".
    """

    claim: str
    name: str
    metric: str
    claimed: int
    of: Side
    against: Side | None = None
    bar: float = 0.0
    layers: tuple[int, int] | None = None
    slack: float = 0.0
    decides: bool = True
    caveat: str = ""  # why these runs cannot decide it, whatever they measure

    @property
    def ratio(self) -> bool:
        """Whether it is about a ratio."""
        return self.layers is not None


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % t-interval of some values; the interval is NaN for fewer than two, all three are for none."""
    n = len(values)
    mean = np.mean(values) if n else np.nan
    half = stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return float(mean), float(mean - half), float(mean + half)


def judge(part: Part, low: float, high: float) -> str:
    """What an interval says of a part; NaN says nothing."""
    if low > part.bar or high < part.bar:
        return HOLDS if (low > part.bar) == (part.claimed > 0) else FAILS
    return UNDECIDED


def together(verdicts: Iterable[str]) -> str:
    """The verdict of what needs all of its parts."""
    each = set(verdicts)
    told = HOLDS if each == {HOLDS} else UNMEASURED if each <= {UNMEASURED} else UNDECIDED
    return FAILS if FAILS in each else told


def diverged(results: pd.DataFrame) -> pd.Series:
    """Which rows belong to a run whose training diverged."""
    return results["status"].astype(str).str.startswith(DIVERGED)


def values_of(results: pd.DataFrame, side: Side, metric: str) -> pd.Series:
    """A measure of each run of a kind, indexed by seed (NA: needs none); NaN for a run that diverged."""
    mine = (results["metric"] == metric) & (results["variant"] == side.variant)
    mine &= results["experiment"] == side.experiment
    if side.epoch is not None:
        mine &= (results["epoch"] == side.epoch).fillna(False)
    rows = results[mine].sort_values("epoch", na_position="first").drop_duplicates("seed", keep="last")
    return rows["value"].mask(diverged(rows)).set_axis(pd.Index(rows["seed"], dtype="Int64")).sort_index()


def noise_rows(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A measure of noise at one layer, at the last epoch, with columns `layer` and `sigma`: of the runs trained so, or
    ("forced_pixel_std", "forced_delta_e") of the corner "nmc", whose weights it was forced on."""
    if metric.startswith("forced"):
        rows = results[(results["experiment"] == "corners") & (results["variant"] == "nmc")]
        named = rows["metric"].astype(str).str.extract(rf"^{metric}_l(\d)_s(\S+)$").astype(float)
    else:
        rows = results[(results["experiment"] == "noise") & (results["metric"] == metric)]
        named = rows["variant"].astype(str).str.extract(_NOISE).astype(float)
    rows = rows.assign(layer=named[0], sigma=named[1])[~diverged(rows)].dropna(subset=["layer", "value"])
    rows = rows.astype({"layer": int}).sort_values("epoch")
    return rows.drop_duplicates(["layer", "sigma", "seed"], keep="last")


def rows_of(results: pd.DataFrame, parts: Iterable[Part]) -> list[dict]:
    """What one profile's results say of each part: claim, part, metric; against, of (means of both sides over the seeds
    that have both); value (of − against, or their ratio), low, high (95 %); p (two-sided, of the paired t-test that
    the verdict rests on); n (seeds), verdict, note."""
    runs = set(zip(*(results[name] for name in ("experiment", "variant", "seed", "status"))))
    return [_row(results, runs, part) for part in parts]


def _row(results: pd.DataFrame, runs: set[tuple], part: Part) -> dict:
    pairs = (_log_ratios if part.ratio else _differences)(results, part)
    value, low, high = interval(pairs["value"].to_numpy(float))
    judged = value, low, high
    if part.ratio:
        value, low, high = judged = np.exp([value, low, high]).tolist()
    elif part.slack:
        judged = interval((pairs["value"] + part.claimed * part.slack * pairs["against"]).to_numpy(float))
    n, lost = len(pairs), _lost(runs, part.of)
    missing = _missing(runs, part, str(results["profile"].iloc[0]), set(pairs.index)) if n else 0
    verdict = judge(part, *judged[1:]) if n else UNMEASURED
    if n and (part.caveat or missing or (verdict == HOLDS and lost)):
        verdict = UNDECIDED
    notes = [
        part.caveat * (n > 0),
        f"seeds missing: {missing}" * (missing > 0),
        lost,
        part.against and part.against != part.of and _lost(runs, part.against),
        "one seed" * (n == 1),
        BESIDE * (not part.decides),
    ]
    if n > 1 and np.ptp(pairs["value"]) == 0:
        notes.append("the same in every seed")
    means = {side: float(pairs[side].mean()) if n else np.nan for side in ("against", "of")}
    row = {"claim": part.claim, "part": part.name, "metric": part.metric, **means, "value": value, "low": low}
    row |= {"high": high, "p": _p(part, judged, n), "n": n, "verdict": verdict}
    return row | {"note": "; ".join(filter(None, notes))}


def _p(part: Part, judged: tuple[float, float, float], n: int) -> float:
    """Of an interval's distance from the bar: below 0.05 exactly where the bar lies outside of it."""
    value, low, high = np.log(judged) if part.ratio else judged
    away, half = abs(value - (np.log(part.bar) if part.ratio else part.bar)), (high - low) / 2
    if not half > 0:  # the same in every seed, or NaN
        return np.nan if np.isnan(half) else float(away == 0)
    return float(2 * stats.t.sf(away / half * stats.t.ppf(0.975, n - 1), n - 1))


def _differences(results: pd.DataFrame, part: Part) -> pd.DataFrame:
    """A row per seed that has both sides: of, against, value. A reference without seeds stands beside every seed."""
    of = values_of(results, part.of, part.metric)
    if part.against is None:
        return pd.DataFrame({"of": of, "against": np.nan, "value": of}).dropna(subset="value")
    against = values_of(results, part.against, part.metric)
    if len(against) and against.index.isna().all():
        against = pd.Series(against.iloc[0], of.index)
    rows = pd.concat({"of": of, "against": against}, axis=1, join="inner").dropna()
    return rows.assign(value=rows["of"] - rows["against"])


def _log_ratios(results: pd.DataFrame, part: Part) -> pd.DataFrame:
    """A row per seed: of, against (geometric means over the σ that both layers have); value, the log of their ratio."""
    values = noise_rows(results, part.metric).pivot(index=["seed", "sigma"], columns="layer", values="value")
    logs = np.log(values.astype(float).clip(lower=_FLOOR)).reindex(columns=list(part.layers))
    means = logs.dropna().groupby("seed").mean().set_axis(["of", "against"], axis=1)
    return np.exp(means).assign(value=means["of"] - means["against"])


def _of_kind(runs: set[tuple], side: Side) -> set[tuple]:
    """Those of a kind; "layer1 σ4" is of the kind "layer1", too."""
    kind = f"{side.variant} σ"
    return {r for r in runs if r[0] == side.experiment and (r[1] == side.variant or str(r[1]).startswith(kind))}


def _lost(runs: set[tuple], side: Side) -> str:
    """In words, how many runs of a kind diverged; "" for none."""
    count = sum(str(status).startswith(DIVERGED) for *_, status in _of_kind(runs, side))
    return f"{count} of {side.variant} diverged" if count else ""


def _missing(runs: set[tuple], part: Part, profile: str, seen: set) -> int:
    """Seeds that the profile plans and that one side of a part lacks, has failed for, or has no value of the measure
    for: to leave a run out must not speak for the method. Diverged runs are there. seen: seeds that have both values.
    """
    if profile not in PLANS:
        return 0
    sides = [side for side in (part.of, part.against) if side and side.experiment != REFERENCE]
    lost = {seed for side in sides for *_, seed, status in _of_kind(runs, side) if str(status).startswith(DIVERGED)}
    seeds = PLANS[profile].seeds
    planned = min(seeds.get(side.experiment, DOWNSTREAM[profile].seeds) for side in sides)
    return max(0, planned - len(seen | lost))


def number(value: float) -> str:
    """Three significant digits without an exponent; "–" for NaN."""
    if not np.isfinite(value):
        return "–"
    digits = 2 - int(np.floor(np.log10(abs(value)))) if value else 0
    return f"{value:.{min(max(digits, 0), 6)}f}".replace("-", "−")
