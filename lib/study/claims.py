"""The paper's claims held against the results of `lib.study.experiments`: rules fixed beforehand, a verdict each.

A claim has parts. A part is the difference of one measure between two kinds of runs, paired by seed (or their ratio, or
one kind's value alone), with a 95 % t-interval over seeds. It

    holds          where the interval lies wholly on the claimed side of its bar (0 unless said),
    does not hold  where it lies wholly on the other side,
    is undecided   otherwise, with a single seed, and where a run of the claim's own kind diverged: to leave a run out
                   because it failed would speak for the method.

A claim holds where all its deciding parts do, and does not hold where one does not. The interval tells how far another
seed of the training moves the number; data and held-out faces are the same in all runs.

`python -m lib.study.claims --name NAME` prints the verdicts; --write puts them into figures/evidence and the README.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from lib.data.files import write_json, write_table, write_text
from lib.study.config import PICKED_EPOCHS, StudyError
from lib.study.experiments import collect
from lib.study.plans import PLANS, REFERENCE
from lib.study.runs import REPOSITORY, RUNS, Study, find_study

EVIDENCE = REPOSITORY / "figures" / "evidence"
START, END = "<!-- claims -->\n", "<!-- /claims -->"  # around the README's block
HOLDS, FAILS, UNDECIDED, UNMEASURED = "holds", "does not hold", "undecided", "not measured"
BESIDE = "stands beside"  # the note of a row that decides nothing

# Bars that the paper does not give, chosen before any of these runs:
SEEN = 1.0  # ΔE: the least difference of colour that a person sees side by side, as CIE Lab was scaled
NOTHING = 0.1  # layer 1 "does nothing" where it does less than a tenth of what a later layer does at the same σ
_FLOOR = 1e-4  # of noise_pixel_std, a fortieth of a grey level: below it a ratio says nothing
_NOISE = re.compile(r"layer(\d) σ(\S+)")

FIRST, SECOND = PICKED_EPOCHS
CLAIMS = {
    "C1": "two steps look more real than the rule alone",
    "C2": "the non-mask change loss cuts changes outside the mask and steadies training",
    "C3": "noise raises the diversity of mask colours",
    "C4": "noise at the first content layer does nothing, at the second and third it does",
    "C5": f"{SECOND} is richer than {FIRST}, and noisier",
    "C6": "filtering set B helps the attention",
    "C7": "a detector or recogniser gets better with the data",  # no run of these experiments measures it
}


@dataclass(frozen=True)
class Side:
    """One kind of runs, at one epoch (None: the last)."""

    variant: str
    experiment: str = "corners"
    epoch: int | None = None


@dataclass(frozen=True)
class Part:
    """`of` − `against` (or their ratio; or `of` alone) is claimed to lie above (1) or below (−1) `bar`."""

    claim: str
    name: str
    metric: str
    claimed: int
    of: Side
    against: Side | None = None
    bar: float = 0.0
    ratio: bool = False
    decides: bool = True
    caveat: str = ""  # why these runs cannot decide it, whatever they measure


_FULL, _RULE = Side("nmc+noise"), Side("rule-based", "reference")
_NMC = (("NMC − plain", Side("nmc"), Side("plain")), ("full − noise only", _FULL, Side("noise")))
_PICKS = (Side("nmc+noise", epoch=SECOND), Side("nmc+noise", epoch=FIRST))
# In the paper 298 epochs and a pretraining lie before 313; here it is among the first passes from random weights.
_EARLY = f"{FIRST} comes early here: not yet learnt, rather than less fitted"
PARTS = (
    *(Part("C1", "full − rule-based", f"critic{kind}_pass", 1, _FULL, _RULE) for kind in ("", "_grey")),
    # A flat patch of the masks' mean colour comes nearer to the truth in L1, too (LOG.md): structure has to follow.
    Part("C1", "full − rule-based", "truth_nearest_l1", -1, _FULL, _RULE),
    Part("C1", "full − rule-based", "truth_ssim", 1, _FULL, _RULE),
    Part("C1", "full − rule-based", "feature_fd", -1, _FULL, _RULE, decides=False),
    *(Part("C2", name, "outside_l1", -1, *sides) for name, *sides in _NMC),
    *(Part("C2", name, "redrawn_share", -1, *sides) for name, *sides in _NMC),
    *(Part("C2", name, "redrawn_worst", -1, *sides, decides=False) for name, *sides in _NMC),
    Part("C3", f"full, above {SEEN:g} ΔE", "noise_delta_e", 1, _FULL, bar=SEEN),
    Part("C3", "full − NMC only", "colour_spread", 1, _FULL, Side("nmc")),
    Part("C3", "full − NMC only", "colour_wasserstein", -1, _FULL, Side("nmc")),
    *(
        Part("C4", f"layer 1 ÷ layer {k}, below {NOTHING:g}", "noise_pixel_std", -1, Side("layer1", "noise"),
             Side(f"layer{k}", "noise"), NOTHING, ratio=True)
        for k in (2, 3)
    ),
    *(
        Part("C5", f"{SECOND} − {FIRST}", metric, 1, *_PICKS, caveat=_EARLY)
        for metric in ("colour_spread", "blotches", "outside_l1")
    ),
    Part("C6", "all filters − the first", "attention_iou", 1, Side("plain"), Side("stage1", "filters")),
)  # fmt: skip


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


def diverged(results: pd.DataFrame) -> pd.Series:
    """Which rows belong to a run whose training diverged."""
    return results["status"].astype(str).str.startswith("diverged")


def values_of(results: pd.DataFrame, side: Side, metric: str) -> pd.Series:
    """A measure of each run of a kind, indexed by seed (NA: needs none); NaN for a run that diverged."""
    rows = results[(results["experiment"] == side.experiment) & (results["variant"] == side.variant)]
    rows = rows[rows["metric"] == metric].sort_values("epoch", na_position="first")
    if side.epoch is not None:
        rows = rows[rows["epoch"] == side.epoch]
    rows = rows.drop_duplicates("seed", keep="last")
    return rows["value"].mask(diverged(rows)).set_axis(pd.Index(rows["seed"], dtype="Int64")).sort_index()


def noise_rows(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A measure of the runs with noise at one layer, at their last epoch, with columns `layer` and `sigma`."""
    rows = results[(results["experiment"] == "noise") & (results["metric"] == metric) & ~diverged(results)]
    rows = rows.dropna(subset="value").sort_values("epoch").drop_duplicates(["variant", "seed"], keep="last")
    named = rows["variant"].astype(str).str.extract(_NOISE).astype(float)
    return rows.assign(layer=named[0], sigma=named[1]).dropna(subset="layer").astype({"layer": int})


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
    logs = np.log(values.astype(float).clip(lower=_FLOOR))
    layers = [int(side.variant.removeprefix("layer")) for side in (part.of, part.against)]
    means = logs.reindex(columns=layers).dropna().groupby("seed").mean().set_axis(["of", "against"], axis=1)
    return np.exp(means).assign(value=means["of"] - means["against"])


def _of_kind(results: pd.DataFrame, side: Side) -> pd.DataFrame:
    """The rows of a kind of runs; "layer1 σ4" is of the kind "layer1"."""
    names = results["variant"].astype(str).str.split(" ").str[0]
    return results[(results["experiment"] == side.experiment) & (names == side.variant)]


def _lost(results: pd.DataFrame, side: Side) -> str:
    """In words, how many runs of a kind diverged; "" for none."""
    count = len(_of_kind(results[diverged(results)], side).drop_duplicates(["variant", "seed"]))
    return f"{count} of {side.variant} diverged" if count else ""


def _missing(results: pd.DataFrame, part: Part) -> int:
    """Seeds that the profile plans and that one side of a part lacks, or has failed for: to leave a run out must not
    speak for the method. Diverged runs are there."""
    plan = PLANS.get(str(results["profile"].iloc[0])) if len(results) else None
    if plan is None:
        return 0
    sides = [side for side in (part.of, part.against) if side and side.experiment != REFERENCE]
    done = results[(results["status"] == "finished") | diverged(results)]
    there = set.intersection(*(set(_of_kind(done, side)["seed"].dropna()) for side in sides))
    return max(0, min(plan.seeds[side.experiment] for side in sides) - len(there))


def _row(results: pd.DataFrame, part: Part) -> dict:
    """One part's row of `table`."""
    pairs = (_log_ratios if part.ratio else _differences)(results, part)
    value, low, high = interval(pairs["value"].to_numpy(float))
    if part.ratio:
        value, low, high = np.exp([value, low, high]).tolist()
    n, lost = len(pairs), _lost(results, part.of)
    missing = _missing(results, part) if n else 0
    verdict = judge(part, low, high) if n else UNMEASURED
    if n and (part.caveat or missing or (verdict == HOLDS and lost)):
        verdict = UNDECIDED
    notes = [
        part.caveat * (n > 0),
        f"seeds missing: {missing}" * (missing > 0),
        lost,
        part.against and _lost(results, part.against),
        "one seed" * (n == 1),
        BESIDE * (not part.decides),
    ]
    if n > 1 and np.ptp(pairs["value"]) == 0:
        notes.append("the same in every seed")
    means = {side: float(pairs[side].mean()) if n else np.nan for side in ("against", "of")}
    row = {"claim": part.claim, "part": part.name, "metric": part.metric, **means, "value": value, "low": low}
    return row | {"high": high, "n": n, "verdict": verdict, "note": "; ".join(filter(None, notes))}


def table(results: pd.DataFrame) -> pd.DataFrame:
    """A row per part of a claim, for each profile of a tidy table; without results every part is "not measured".

    Columns: claim, part, metric; against, of (means of both sides over the seeds that have both); value (of − against,
    or their ratio), low, high (95 %); n (seeds), verdict, note, device, profile.
    """
    rows = []
    for profile in results["profile"].unique() if len(results) else [""]:
        mine = results[results["profile"] == profile]
        facts = {"device": "; ".join(sorted(mine["device"].dropna().unique())), "profile": profile}
        rows += [_row(mine, part) | facts for part in PARTS]
    return pd.DataFrame(rows)


def verdicts(parts: pd.DataFrame) -> pd.DataFrame:
    """The claims' verdicts from `table`: claim, says, verdict, profile."""
    deciding = parts[~parts["note"].str.contains(BESIDE)]

    def verdict(each: set[str]) -> str:
        told = HOLDS if each == {HOLDS} else UNMEASURED if each <= {UNMEASURED} else UNDECIDED
        return FAILS if FAILS in each else told

    rows = [
        (claim, says, verdict(set(mine.loc[mine["claim"] == claim, "verdict"])), profile)
        for profile, mine in deciding.groupby("profile", sort=False)
        for claim, says in CLAIMS.items()
    ]
    return pd.DataFrame(rows, columns=["claim", "says", "verdict", "profile"])


def markdown(results: pd.DataFrame) -> str:
    """The claims as Markdown: for each profile a sentence on its runs, the verdicts, and the parts behind them."""
    lines, rows = [], table(results)
    for profile, parts in rows.groupby("profile", sort=False):
        lines += [_about(results[results["profile"] == profile]), "", "| | claim | verdict |", "|---|---|---|"]
        lines += [f"| {c.claim} | {c.says} | **{c.verdict}** |" for c in verdicts(parts).itertuples()]
        if parts["n"].any():
            lines += ["", "| | what | measure | from → to | value [95 %] | n | says |", "|---|---|---|---|---|---|---|"]
            lines += [_line(row) for row in parts.itertuples()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _about(results: pd.DataFrame) -> str:
    runs = results[results["experiment"] != "reference"].drop_duplicates(["experiment", "variant", "seed"])
    if not len(runs):
        return "Nothing has been measured yet: `python -m lib.study.experiments`, then `python -m lib.study.claims`."
    steps, size = (" and ".join(f"{int(v):,}" for v in sorted(runs[c].dropna().unique())) for c in ("steps", "size"))
    profile, devices = results["profile"].iloc[0], "; ".join(sorted(runs["device"].dropna().unique()))
    return (
        f"Profile `{profile}`: {len(runs)} trainings from random weights, {steps} steps each, pictures of {size} px, "
        f"on {devices}; {diverged(runs).sum() or 'none'} diverged. n counts seeds; no interval is widened for the "
        "number of rows." + " These runs prove the code, not the method." * (profile == "smoke")
    )


def number(value: float) -> str:
    """Three significant digits without an exponent; "–" for NaN."""
    if not np.isfinite(value):
        return "–"
    digits = 2 - int(np.floor(np.log10(abs(value)))) if value else 0
    return f"{value:.{min(max(digits, 0), 6)}f}".replace("-", "−")


def _line(row) -> str:
    change = f"{number(row.against)} → {number(row.of)}" if np.isfinite(row.against) else number(row.of)
    between = f" [{number(row.low)}, {number(row.high)}]" if np.isfinite(row.low) else ""
    says = f"{row.verdict} ({row.note})" if row.note else row.verdict
    head = f"| {row.claim} | {row.part} | `{row.metric}` | {change}"
    return f"{head} | {number(row.value)}{between} | {row.n} | {says} |"


def write(study: Study, out: Path = EVIDENCE) -> pd.DataFrame:
    """Write results.csv (all that a study's experiments have finished), claims.json (`verdicts` and `table`) and
    claims.md; gives `table`."""
    rows = table(results := collect(study))
    plain = [frame.astype(object).where(frame.notna(), None).to_dict("records") for frame in (verdicts(rows), rows)]
    write_table(out / "results.csv", results)
    write_json(out / "claims.json", dict(zip(("claims", "parts"), plain)))
    write_text(out / "claims.md", markdown(results))
    return rows


def put_into(readme: Path, block: str) -> None:
    """Put `block` between the two marks of a Markdown file. Raises StudyError where they are missing."""
    text = readme.read_text(encoding="utf-8")
    if not 0 <= text.find(START) < text.find(END):
        raise StudyError(f"{readme}: expected the lines {START.strip()} and {END} around the claims' table")
    write_text(readme, text[: text.index(START)] + START + block + text[text.index(END) :])


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 with one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.claims", description="The claims, measured.")
    parser.add_argument("--name", default="smoke", help="the study whose experiments are judged (default: smoke)")
    parser.add_argument("--write", action="store_true", help="also into figures/evidence and the README")
    parser.add_argument("--runs-dir", default=RUNS, help="folder of all studies (default: runs/ of the repository)")
    args = parser.parse_args(argv)
    try:
        study = find_study(args.name, args.runs_dir)
        print(told := markdown(collect(study)), end="")
        if args.write:
            write(study)
            put_into(REPOSITORY / "README.md", told)
    except (StudyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
