"""The paper's claims held against the results of `lib.study.experiments`: a rule and a verdict for each.

Rules were fixed before the runs; LOG.md names those that changed once first numbers were known.

A claim has parts (`lib.study.parts`: what makes one hold, fail or stay undecided). It holds where all its deciding
parts do, and does not hold where one does not. What is beyond the paper stands below: `lib.study.answers`.

`python -m lib.study.claims --name NAME` prints the verdicts; --write puts them into figures/evidence and the README.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.files import write_json, write_table, write_text
from lib.study import answers
from lib.study.config import PAPER_NOISE_SIGMA, PICKED_EPOCHS, StudyError
from lib.study.experiments import collect, folder_of, overview, study_name
from lib.study.parts import (
    BESIDE,
    FAILS,
    HOLDS,
    UNDECIDED,
    UNMEASURED,
    Part,
    Side,
    diverged,
    interval,
    noise_rows,
    number,
    rows_of,
    together,
    values_of,
)
from lib.study.plans import BEYOND, REFERENCE, cases_of
from lib.study.plans import EVIDENCE as EXPERIMENTS
from lib.study.runner import RESULT
from lib.study.runs import REPOSITORY, RUNS, Study, find_study

__all__ = ["CLAIMS", "FAILS", "HOLDS", "PARTS", "UNDECIDED", "UNMEASURED", "Part", "Side", "diverged", "interval",
           "markdown", "noise_rows", "number", "table", "values_of", "verdicts", "write"]  # fmt: skip

EVIDENCE = REPOSITORY / "figures" / "evidence"
WORTH = ("recogniser", "detector")  # the experiments of `lib.study.downstream`
START, END = "<!-- claims -->\n", "<!-- /claims -->"  # around the README's block

# Bars that the paper does not give, chosen before any of these runs:
SEEN = 1.0  # ΔE: the least difference of colour that a person sees side by side, as CIE Lab was scaled
NOTHING = 0.1  # layer 1 "does nothing" where it does less than a tenth of what a later layer does at the same σ
# The same difference in pixels, added after them: L* runs from 0 to 100 while a grey runs through the full range.
SEEN_PIXELS = SEEN / 100

FIRST, SECOND = PICKED_EPOCHS
CLAIMS = {
    "C1": "two steps look more real than the rule alone",
    "C2": "the non-mask change loss cuts changes outside the mask and steadies training",
    "C3": "noise raises the diversity of mask colours",
    "C4": "noise at the first content layer does nothing, at the second and third it does",
    "C5": f"{SECOND} is richer than {FIRST}, and noisier",
    "C6": "filtering set B helps the attention",
    "C7": "a detector or recogniser gets better with the data",
}

_FULL, _RULE = Side("nmc+noise"), Side("rule-based", REFERENCE)
_NMC = (("NMC − plain", Side("nmc"), Side("plain")), ("full − noise only", _FULL, Side("noise")))
_PICKS = (Side("nmc+noise", epoch=SECOND), Side("nmc+noise", epoch=FIRST))
# In the paper 298 epochs and a pretraining lie before 313; here it is among the first passes from random weights, under
# every profile: C5 cannot be decided by these experiments, only shown.
_EARLY = f"{FIRST} comes early here: not yet learnt, rather than less fitted"


def _noise_parts() -> tuple[Part, ...]:
    """C4, twice. Forced is the paper's own way to look (§4.2: "parameters trained without noise"). Trained is what its
    last stage does; those ratios were the first rule, and a rule that failed is not dropped for another. All decide.

    Pixels and not the mask's mean colour: "random noise pixels", which the paper saw, move no mean, but what moves the
    mean moves the pixels. "Does something" is asked at the σ that the paper then took.
    """
    forced = {k: f"forced_pixel_std_l{k}_s{PAPER_NOISE_SIGMA[k - 1]:g}" for k in (2, 3)}
    trained = {k: Side(f"layer{k} σ{PAPER_NOISE_SIGMA[k - 1]:g}", "noise") for k in (2, 3)}
    of_layer = {k: Side(f"layer{k}", "noise") for k in (1, 2, 3)}
    less, nmc = f"below {NOTHING:g}", Side("nmc")
    seen = {k: f"layer {k}, σ {PAPER_NOISE_SIGMA[k - 1]:g}, above {SEEN_PIXELS:g}" for k in (2, 3)}
    return (
        *(Part("C4", f"forced: layer 1 ÷ layer {k}, {less}", "forced_pixel_std", -1, nmc, nmc, NOTHING, (1, k))
          for k in (2, 3)),
        *(Part("C4", f"forced: {seen[k]}", forced[k], 1, nmc, bar=SEEN_PIXELS) for k in (2, 3)),
        *(Part("C4", f"trained: layer 1 ÷ layer {k}, {less}", "noise_pixel_std", -1, of_layer[1], of_layer[k], NOTHING,
               (1, k)) for k in (2, 3)),
        *(Part("C4", f"trained: {seen[k]}", "noise_pixel_std", 1, trained[k], bar=SEEN_PIXELS) for k in (2, 3)),
    )  # fmt: skip


def _worth(experiment: str, against: str, metric: str, decides: bool = True) -> Part:
    sides = Side("two-step", experiment), Side(against, experiment)
    return Part("C7", f"{experiment}: two-step − {against}", metric, 1, *sides, decides=decides)


PARTS = (
    *(Part("C1", "full − rule-based", f"critic{kind}_pass", 1, _FULL, _RULE) for kind in ("", "_grey")),
    # A flat patch of the masks' mean colour comes nearer to the truth than the rule in L1 and in SSIM; in the maps of a
    # network it does not, and critics that know such patches do not pass it (LOG.md).
    Part("C1", "full − rule-based", "truth_nearest_l1", -1, _FULL, _RULE),
    Part("C1", "full − rule-based", "truth_ssim", 1, _FULL, _RULE),
    Part("C1", "full − rule-based", "truth_perceptual", -1, _FULL, _RULE),
    Part("C1", "full − rule-based", "feature_fd", -1, _FULL, _RULE, decides=False),
    *(Part("C2", name, "outside_l1", -1, *sides) for name, *sides in _NMC),
    *(Part("C2", name, "redrawn_share", -1, *sides) for name, *sides in _NMC),
    *(Part("C2", name, "redrawn_worst", -1, *sides, decides=False) for name, *sides in _NMC),
    Part("C3", f"full, above {SEEN:g} ΔE", "noise_delta_e", 1, _FULL, bar=SEEN),
    Part("C3", "full − NMC only", "colour_spread", 1, _FULL, Side("nmc")),
    Part("C3", "full − NMC only", "colour_wasserstein", -1, _FULL, Side("nmc")),
    *_noise_parts(),
    *(
        Part("C5", f"{SECOND} − {FIRST}", metric, 1, *_PICKS, caveat=_EARLY)
        for metric in ("colour_spread", "blotches", "outside_l1")
    ),
    Part("C6", "all filters − the first", "attention_iou", 1, Side("plain"), Side("stage1", "filters")),
    # Recognition without masked faces is what there was before; a detector without them cannot tell a mask at all (its
    # AP is 0 by construction), so there the rule's masks are what two steps have to beat.
    _worth("recogniser", "none", "auc"),
    _worth("detector", "rule", "ap_face_mask"),
    # More than colours? Of no claim of the paper's, so it decides nothing.
    _worth("recogniser", "rule, many colours", "auc", decides=False),
    _worth("detector", "rule, many colours", "ap_face_mask", decides=False),
)  # fmt: skip


def table(results: pd.DataFrame) -> pd.DataFrame:
    """A row per part of a claim, for each profile of a tidy table; without results every part is "not measured".

    Columns: those of `lib.study.parts.rows_of`, device, profile.
    """
    rows = []
    for profile in results["profile"].unique() if len(results) else [""]:
        mine = results[results["profile"] == profile]
        facts = {"device": "; ".join(sorted(mine["device"].dropna().unique())), "profile": profile}
        rows += [row | facts for row in rows_of(mine, PARTS)]
    return pd.DataFrame(rows)


def verdicts(parts: pd.DataFrame) -> pd.DataFrame:
    """The claims' verdicts from `table`: claim, says, verdict, parts (in words, how the deciding ones came out),
    profile."""
    deciding = parts[~parts["note"].str.contains(BESIDE)]
    rows = []
    for profile, mine in deciding.groupby("profile", sort=False):
        for claim, says in CLAIMS.items():
            each = mine.loc[mine["claim"] == claim, "verdict"]
            counts = [f"{n} × {verdict}" for verdict, n in each.value_counts(sort=False).items()]
            rows.append((claim, says, together(each), ", ".join(counts), profile))
    return pd.DataFrame(rows, columns=["claim", "says", "verdict", "parts", "profile"])


def markdown(results: pd.DataFrame) -> str:
    """The claims as Markdown: for each profile a sentence on its runs, the verdicts, the parts behind them (folded) and
    what is beyond the paper."""
    lines, rows = [], table(results)
    for profile, parts in rows.groupby("profile", sort=False):
        mine = results[results["profile"] == profile]
        lines += [_about(mine), "", "| | claim | verdict | its deciding parts |", "|---|---|---|---|"]
        bold = "" if profile == "smoke" else "**"  # its runs prove the code: no verdict to shout
        lines += [
            f"| {c.claim} | {c.says} | {bold}{c.verdict}{bold} | {c.parts} |" for c in verdicts(parts).itertuples()
        ]
        if parts["n"].any():
            lines += ["", f"<details><summary>The {len(parts)} parts and their numbers</summary>", ""]
            lines += ["| | what | measure | from → to | value [95 %] | n | says |", "|---|---|---|---|---|---|---|"]
            lines += [_line(row) for row in parts.itertuples()] + ["", "</details>"]
        if beyond := answers.markdown(mine):
            lines += ["", beyond.rstrip()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _about(results: pd.DataFrame) -> str:
    runs = results[results["experiment"] != REFERENCE].drop_duplicates(["experiment", "variant", "seed"])
    if not len(runs):
        return "Nothing has been measured yet: `python -m lib.study.experiments`, then `python -m lib.study.claims`."
    profile, devices = results["profile"].iloc[0], "; ".join(sorted(runs["device"].dropna().unique()))
    gan, worth = (runs[runs["experiment"].isin(names)] for names in (EXPERIMENTS, WORTH))
    told = [f"Profile `{profile}`, on {devices}:"]
    if len(gan):
        steps, size = (" and ".join(f"{int(v):,}" for v in sorted(gan[c].dropna().unique())) for c in ("steps", "size"))
        told.append(
            f"{len(gan)} trainings from random weights, {steps} steps each, pictures of {size} px; "
            f"{diverged(gan).sum() or 'none'} diverged."
        )
    if len(worth):
        told.append(f"{len(worth)} detectors and recognisers (C7).")
    told.append("n counts seeds; no interval is widened for the number of rows.")
    return " ".join(told) + " These runs prove the code, not the method." * (profile == "smoke")


def _line(row) -> str:
    change = f"{number(row.against)} → {number(row.of)}" if np.isfinite(row.against) else number(row.of)
    between = f" [{number(row.low)}, {number(row.high)}]" if np.isfinite(row.low) else ""
    says = f"{row.verdict} ({row.note})" if row.note else row.verdict
    head = f"| {row.claim} | {row.part} | `{row.metric}` | {change}"
    return f"{head} | {number(row.value)}{between} | {row.n} | {says} |"


def write(study: Study, out: Path = EVIDENCE) -> pd.DataFrame:
    """Write results.csv (all that a study's experiments have finished), claims.json (`verdicts`, `table`, and the
    answers beyond the paper) and claims.md; gives `table`."""
    rows = table(results := collect(study))
    frames = {"claims": verdicts(rows), "parts": rows, "answers": answers.table(results)}
    plain = {name: f.astype(object).where(f.notna(), None).to_dict("records") for name, f in frames.items()}
    write_table(out / "results.csv", results)
    write_json(out / "claims.json", plain)
    write_text(out / "claims.md", markdown(results))
    return rows


def put_into(readme: Path, block: str) -> None:
    """Put `block` between the two marks of a Markdown file. Raises StudyError where they are missing."""
    text = readme.read_text(encoding="utf-8")
    if not 0 <= text.find(START) < text.find(END):
        raise StudyError(f"{readme}: expected the lines {START.strip()} and {END} around the claims' table")
    write_text(readme, text[: text.index(START)] + START + block + text[text.index(END) :])


def _stale(study: Study) -> str:
    """In words, results that `python -m lib.study.experiments` would make or measure anew; "" for none."""
    cases = [case for case in cases_of(study, (*EXPERIMENTS, *BEYOND)) if (folder_of(study, case) / RESULT).is_file()]
    if not cases:
        return ""
    states = overview(study, cases)
    states = states[~states["finished"] & ~states["state"].str.startswith("failed")]
    kinds = states["state"].value_counts(sort=False).items()
    return ", ".join(f"{count} of the results below {'is' if count == 1 else 'are'} {kind}" for kind, count in kinds)


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 with one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.claims", description="The claims, measured.")
    parser.add_argument(
        "--name", type=study_name, default="smoke", help="the study whose experiments are judged (default: smoke)"
    )
    parser.add_argument("--write", action="store_true", help="also into figures/evidence and the README")
    parser.add_argument("--runs-dir", default=RUNS, help="folder of all studies (default: runs/ of the repository)")
    args = parser.parse_args(argv)
    try:
        study = find_study(args.name, args.runs_dir)
        print(told := markdown(results := collect(study)), end="")
        if stale := _stale(study):
            told_stale = f"{study.root}: {stale}; run `python -m lib.study.experiments --name {study.name}`"
            if args.write:
                raise StudyError(f"{told_stale}; what was published before stays")
            print(f"warning: {told_stale}", file=sys.stderr)
        if args.write and results.empty:
            raise StudyError(f"{study.root}: no experiment has finished; what was published before stays")
        if args.write and study.profile.name == "smoke":
            raise StudyError(f"{study.root}: profile smoke proves the code alone; what was published before stays")
        if args.write:
            write(study)
            put_into(REPOSITORY / "README.md", told)
    except (StudyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
