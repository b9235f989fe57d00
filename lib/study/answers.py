"""Questions beyond the paper, asked of the experiments "future" and "generators": differences over seeds, an answer.

Each training is held against the corner "nmc" of the same seed (other generators, which know no noise, beside the full
method, too). A question needs all its deciding parts, as a claim does (`lib.study.parts`).

Of so many differences some would look like something by chance. `p_holm` is the p value after Holm's correction for
all differences of the same experiment; what holds without the correction only is told as "taken alone": a hint to
follow, no finding. Questions, measures and bars were fixed before any of their results was looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.study.parts import BESIDE, FAILS, HOLDS, UNDECIDED, UNMEASURED, Part, Side, number, rows_of, together
from lib.study.plans import BEYOND, FUTURE_QUESTIONS

LEVEL = 0.05
SLACK = 0.1  # "can it do without?": yes, where that is worse by less than a tenth
COLUMNS = ["question", "experiment", "variant", "against_variant", "metric", "against", "of", "value", "low", "high",
           "n", "p", "p_holm", "verdict", "says", "note", "profile"]  # fmt: skip


@dataclass(frozen=True)
class Question:
    """What is asked of a variant, its parts, and what is answered where all of them hold, or where one does not."""

    experiment: str
    variant: str
    asks: str
    parts: tuple[Part, ...]
    yes: str = "yes"
    no: str = "no: worse"


_NMC, _FULL = Side("nmc"), Side("nmc+noise")
# Part's fields: metric, claimed, and those that differ.
_BESIDE = {"decides": False}
# A network that does nothing leaves the face alone: the distance to the truth stands beside.
_LEFT_ALONE = (("outside_l1", -1, {}), ("truth_nearest_l1", -1, _BESIDE))
_WITHOUT = (("truth_nearest_l1", -1, {"slack": SLACK}), ("outside_l1", -1, {"slack": SLACK}))
_FUTURE = {
    "linear": _LEFT_ALONE,
    "exponential": _LEFT_ALONE,
    "attention l1": (("attention_iou", 1, {}), *_LEFT_ALONE),
    "attention bce": (
        ("attention_iou", 1, {"against": Side("attention l1", "future")}),
        ("attention_iou", 1, _BESIDE),
        ("outside_l1", -1, _BESIDE),
    ),
    # It keeps apart what is apart, so colours may spread; what it adds has to be nearer to the truth, though.
    "distance": (("truth_nearest_l1", -1, {}), ("colour_spread", 1, _BESIDE), ("outside_l1", -1, _BESIDE)),
    "one-sided": _WITHOUT,
    "one-sided distance": (
        *_WITHOUT,
        ("truth_nearest_l1", -1, {"against": Side("one-sided", "future"), "decides": False}),
    ),
}
_LESS, _MORE = f"not worse by {SLACK:.0%}", f"worse by more than {SLACK:.0%}"
_WORDS = {
    "one-sided": (f"no: without it {_LESS}", f"yes: without it {_MORE}"),
    "one-sided distance": (f"yes: {_LESS}", f"no: {_MORE}"),
}
_GENERATORS = {
    "cyclegan direct": "Is a CycleGAN from bare faces to masked ones, without step one, better?",
    "attentiongan direct": "Is an AttentionGAN from bare faces, without step one, better?",
    "iamgan direct": "Is an IAMGAN-style generator from bare faces, without step one, better?",
    "cut+nmc": "Is CUT on rule-based masks, with the non-mask change loss, better?",
}
# As in C1, structure has to follow. Outside of any mask, because a bare face has no rule-based one to spare.
_BETTER = (("truth_nearest_l1", -1), ("truth_ssim", 1), ("outside_l1_any", -1))


def _parts(experiment: str, variant: str, fields: tuple) -> tuple[Part, ...]:
    made = []
    for metric, claimed, more in fields:
        against = more.get("against", _NMC)
        name = f"{variant} − {against.variant}"
        made.append(Part(variant, name, metric, claimed, Side(variant, experiment), **{"against": against} | more))
    return tuple(made)


def _questions() -> tuple[Question, ...]:
    beside = [(*measure, {"against": _FULL, "decides": False}) for measure in _BETTER]
    measures = (*((*measure, {}) for measure in _BETTER), *beside)
    return (
        *(
            Question("future", name, FUTURE_QUESTIONS[name], _parts("future", name, fields), *_WORDS.get(name, ()))
            for name, fields in _FUTURE.items()
        ),
        *(
            Question("generators", name, asks, _parts("generators", name, measures))
            for name, asks in _GENERATORS.items()
        ),
    )


QUESTIONS = _questions()


def table(results: pd.DataFrame) -> pd.DataFrame:
    """A row per difference that a question rests on, for each profile of a tidy table.

    `COLUMNS`: question, experiment, variant, against_variant, metric; against, of, value, low, high, n, p, verdict and
    note as in `lib.study.parts.rows_of`; p_holm; says (the verdict in words), profile.
    """
    made, asked = [], [(question, part) for question in QUESTIONS for part in question.parts]
    for profile in results["profile"].unique():
        rows = pd.DataFrame(rows_of(results[results["profile"] == profile], [part for _, part in asked]))
        rows["question"] = [question.asks for question, _ in asked]
        rows["experiment"], rows["variant"] = zip(*((part.of.experiment, part.of.variant) for _, part in asked))
        rows["against_variant"], rows["profile"] = [part.against.variant for _, part in asked], profile
        rows["p_holm"] = rows.groupby("experiment")["p"].transform(holm)
        rows["says"] = [_says(part, row) for (_, part), row in zip(asked, rows.itertuples())]
        made.append(rows[COLUMNS])
    return pd.concat(made, ignore_index=True) if made else pd.DataFrame(columns=COLUMNS)


def told(results: pd.DataFrame) -> pd.DataFrame:
    """A row per question and profile: experiment, variant, question, answer (in words), profile."""
    rows = []
    for profile, mine in table(results).groupby("profile", sort=False):
        for question in QUESTIONS:
            each = mine[(mine["experiment"] == question.experiment) & (mine["variant"] == question.variant)]
            each = each[~each["note"].str.contains(BESIDE)]
            answer = _answer(question, each)
            rows.append((question.experiment, question.variant, question.asks, answer, profile))
    return pd.DataFrame(rows, columns=["experiment", "variant", "question", "answer", "profile"])


def markdown(results: pd.DataFrame) -> str:
    """Questions, answers and (folded) the differences behind them; "" where nothing of these experiments was done."""
    if not results["experiment"].isin(BEYOND).any():
        return ""
    rows = table(results)
    counts = " and ".join(f"{n} of `{name}`" for name in BEYOND if (n := _tested(rows, name)))
    lines = [
        f"Beyond the paper, to explore: {counts or 'none'} of the differences below could be tested (it takes two "
        "seeds), each corrected for the others of its experiment (Holm); *taken alone* is what does not outlast that.",
        "", "| | question | answer |", "|---|---|---|",
    ]  # fmt: skip
    lines += [f"| {row.variant} | {row.question} | **{row.answer}** |" for row in told(results).itertuples()]
    lines += ["", f"<details><summary>The {len(rows)} differences</summary>", ""]
    lines += [
        "| what | measure | from → to | value [95 %] | n | p, corrected | says |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_line(row) for row in rows.itertuples()), "", "</details>"]) + "\n"


def holm(p: pd.Series) -> pd.Series:
    """Holm's step-down correction of p values; NaN stays and is not counted."""
    known = p.dropna().sort_values()
    steps = known * np.arange(len(known), 0, -1)
    return steps.cummax().clip(upper=1.0).reindex(p.index)


def _tested(rows: pd.DataFrame, experiment: str) -> int:
    return int(rows.loc[rows["experiment"] == experiment, "p"].notna().sum())


def _alone(p_holm: float) -> str:
    return "" if p_holm < LEVEL else ", taken alone"


def _says(part: Part, row) -> str:
    if row.verdict in (UNDECIDED, UNMEASURED):
        return row.verdict
    holds = row.verdict == HOLDS
    words = (_LESS if holds else _MORE) if part.slack else "better" if holds else "worse"
    return words + _alone(row.p_holm)


def _answer(question: Question, rows: pd.DataFrame) -> str:
    verdict = together(rows["verdict"])
    if verdict == HOLDS:
        return question.yes + _alone(rows["p_holm"].max())
    if verdict == FAILS:
        wrong = rows[rows["verdict"] == FAILS]
        return f"{question.no} ({', '.join(wrong['metric'])})" + _alone(wrong["p_holm"].min())
    return verdict


def _line(row) -> str:
    between = f" [{number(row.low)}, {number(row.high)}]" if np.isfinite(row.low) else ""
    says = f"{row.says} ({row.note})" if row.note else row.says
    head = f"| {row.variant} − {row.against_variant} | `{row.metric}` | {number(row.against)} → {number(row.of)}"
    return f"{head} | {number(row.value)}{between} | {row.n} | {number(row.p_holm)} | {says} |"
