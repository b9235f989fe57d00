"""Where a generator fails: the worst outputs by each measure, what they have in common, and rates by kind of face.

A face *fails* by a measure when it is among the worst fifth of the faces looked at, and bad enough to be seen
(`MEASURES`): the question is who they are, not how many. Kinds of face are known as far as `lib.study.traits` goes.

Each kind is tested against all other faces by its mean rank, one-sided: is it worse? The faces are permuted, all
measures and kinds of face together, and each value is compared with the largest of all in every permutation (Westfall
& Young 1993, max-T): when no kind differs, any at all is called worse in at most `ALPHA` of such studies.

    python -m lib.study.failures --name evening --weights evening-128 --out FOLDER
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.data.files import write_json, write_table
from lib.gan import CheckpointError, Translator
from lib.study import artefacts, identity, metrics
from lib.study.config import StudyError
from lib.study.datasets import TestSet
from lib.study.display import grid
from lib.study.manifest import read_manifest
from lib.study.runs import RUNS, Study, find_study
from lib.study.traits import held_out, traits
from lib.study.truths import Truths, load_truths, outlines

WORST, ALPHA, LEAST, PERMUTATIONS = 0.2, 0.05, 5, 4000  # LEAST: faces of a kind; with fewer it is not tested
AT_ONCE = 32  # faces: their true masks in CIE Lab take memory
# Name → what it is; 1: large is bad, −1: small is; up to where nobody would see it (a grey level, a ΔE of 1).
MEASURES = {
    "outside_l1": ("mean change where nothing may change", 1, 1 / 255),
    "far_change": ("largest change of a square away from the mask (hair, forehead, background)", 1, 1 / 255),
    "identity_cosine": ("likeness of the upper face to the bare one", -1, 0.99),
    "attention_iou": ("overlap of what is drawn anew with the mask", -1, 1.0),
    "pattern": ("fine pattern added to the mask, ΔL*", 1, 0.0),
    "blotches": ("tints within the mask, ΔE", 1, 1.0),
    "truth_nearest_l1": ("distance to the nearest true mask", 1, 0.0),
    "lightness_error": ("error of lightness, ΔL*", 1, 1.0),
    "seam_error": ("error of the mask's border, as a logarithm", 1, 0.0),
}
TRUTH = ("truth_nearest_l1", "lightness_error", "seam_error")  # known in the face world only


def score(
    test: TestSet,
    images: np.ndarray,
    attention: np.ndarray | None = None,
    landmarks: Sequence[np.ndarray | None] | None = None,
    truths: Truths | None = None,
) -> pd.DataFrame:
    """`MEASURES` of each output, uint8 [N, S, S, 3], a row per face; a column for what can be measured with what is
    given: attention float [N, S, S] (1: drawn anew), landmarks, true masks."""
    outline, size, count = outlines(test), images.shape[1], len(images)
    within = metrics.well_inside(metrics.cloth(outline), max(1, size // 64))
    found = {
        "outside_l1": metrics.outside_change(test.rule, images, test.non_mask & ~outline),
        "far_change": _by_face(artefacts.far_changes(test.rule, images, test.non_mask, count)),
        "pattern": _by_face(artefacts.mask_patterns(test.rule, images, test.non_mask, count)),
        "blotches": metrics.blotches(images, within),
    }
    if attention is not None:
        found["attention_iou"] = metrics.region_iou(attention, outline)
    if landmarks is not None:
        found["identity_cosine"] = (identity.embed(images, landmarks) * identity.embed(test.full, landmarks)).sum(1)
    if truths is not None:
        found |= zip(TRUTH, map(truths.distances(images).get, ("nearest_l1", "lightness", "seam")))
    return pd.DataFrame({name: found[name] for name in MEASURES if name in found}, index=test.names).rename_axis(
        "image"
    )


def _by_face(places: list[artefacts.Place]) -> np.ndarray:
    return np.array([place.value for place in sorted(places, key=lambda place: place.face)])


def groups(table: pd.DataFrame) -> pd.DataFrame:
    """Kinds of face, bool [faces, kinds], with columns (trait, kind): a word of a column of words, a third of numbers.

    Where values are equal thirds may be unequal or empty (left out); a trait that does not vary has no kinds.
    """
    kinds = {}
    for trait, values in table.items():
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 2:
            low, high = np.nanquantile(values, (1 / 3, 2 / 3))
            names = (f"below {low:.3g}", f"{low:.3g} to {high:.3g}", f"above {high:.3g}")
            sides = (values < low, values.between(low, high), values > high)
            kinds |= {(trait, name): side for name, side in zip(names, sides) if side.any()}
        elif values.nunique() > 1:
            kinds |= {(trait, str(value)): values == value for value in sorted(values.dropna().unique(), key=str)}
    found = pd.DataFrame(kinds, index=table.index)
    found.columns = pd.MultiIndex.from_tuples(found.columns, names=["trait", "kind"])
    return found


def rates(
    scores: pd.DataFrame, kinds: pd.DataFrame, seed: int = 0, permutations: int = PERMUTATIONS
) -> tuple[pd.DataFrame, float]:
    """How often each kind of face is among the worst, and whether that is more than chance; see the module.

    Args:
        scores: of `score`, a row per face. kinds: of `groups`, the same rows.

    Returns:
        A row per measure and kind, the most suspicious first: faces, failed, rate with Wilson's 95 % interval (of this
        kind alone, not corrected), rest (rate of all others), place (mean rank, 0 best to 1 worst; ½: like all), z, p
        (one-sided, corrected for all rows), found (p ≤ `ALPHA`). Without `LEAST` faces on either side there is no p.
        And the z that a row must pass.
    """
    bad = _badness(scores)
    known, ranks = bad.notna().to_numpy(float), bad.rank()
    centred = (ranks - ranks.mean()).fillna(0).to_numpy()
    member, count = kinds.to_numpy(float).T, known.sum(0)
    second, third = (centred**2).sum(0), (centred**3).sum(0)

    def standard(member: np.ndarray) -> np.ndarray:
        """[kinds, measures]: the summed ranks in units of their spread over permutations, made as good as normal by
        their skewness (Wilson & Hilferty 1931): where few faces differ, it is large. −∞ where faces are too few."""
        inside = member @ known
        outside = count - inside
        variance = inside * outside / np.maximum(count * (count - 1), 1) * second
        few = (np.minimum(inside, outside) < LEAST) | (variance <= 0)
        variance = np.where(few, 1, variance)
        skew = inside * outside * (outside - inside) / np.maximum(count * (count - 1) * (count - 2), 1) * third
        skew, z = skew / variance**1.5, member @ centred / np.sqrt(variance)
        bent = np.where(np.abs(skew) < 1e-4, 1e-4, skew)
        return np.where(few, -np.inf, 6 / bent * (np.cbrt(np.maximum(1 + bent * z / 2, 0)) - 1) + bent / 6)

    draw, z = np.random.default_rng(seed), standard(member)
    orders = (draw.permutation(len(bad)) for _ in range(permutations))
    largest = np.array([standard(member[:, order]).max(initial=-np.inf) for order in orders])
    p = (1 + (largest >= z[..., None] - 1e-9).sum(-1)) / (1 + permutations)
    inside, shift = member @ known, member @ centred / np.maximum(member @ known * count, 1)
    failing = (ranks > (1 - WORST) * count).to_numpy(float)
    failed, rows = (member @ failing).astype(int), []
    for k, m in np.ndindex(z.shape):
        n, hit, tested = int(inside[k, m]), int(failed[k, m]), bool(np.isfinite(z[k, m]))
        rest = (failing[:, m].sum() - hit) / max(count[m] - n, 1)
        row = (scores.columns[m], *kinds.columns[k], n, hit, hit / max(n, 1), *metrics.share_interval(hit, n), rest)
        chance = (z[k, m], p[k, m], bool(p[k, m] <= ALPHA)) if tested else (np.nan, np.nan, False)
        rows.append((*row, 0.5 + shift[k, m], *chance))
    names = ["metric", "trait", "kind", "faces", "failed", "rate", "low", "high", "rest", "place", "z", "p", "found"]
    table = pd.DataFrame(rows, columns=names).sort_values("z", ascending=False, ignore_index=True)
    return table, float(np.quantile(largest, 1 - ALPHA, method="higher"))


def _badness(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores as numbers that are large where they are bad; what nobody would see is all the same."""
    sign, unseen = (np.array([MEASURES[metric][part] for metric in scores]) for part in (1, 2))
    return (scores * sign).clip(lower=sign * unseen, axis=1)


@dataclass(frozen=True, eq=False)
class Failures:
    """A generator's outputs on held-out faces, uint8 [N, S, S, 3], with what was found; see `examine`."""

    test: TestSet
    images: np.ndarray
    scores: pd.DataFrame  # a row per face, in the order of the pictures: `score`
    before: pd.DataFrame  # the same of the rule-based input, as far as it has them
    traits: pd.DataFrame
    rates: pd.DataFrame
    z_needed: float
    about: dict

    def worst(self, metric: str, count: int = 6) -> pd.DataFrame:
        """The worst faces by a measure, worst first: image, that measure, and their traits."""
        bad = self.scores[metric].dropna() * MEASURES[metric][1]
        order = bad.sort_values(ascending=False, kind="stable").index
        return self.traits.assign(**{metric: self.scores[metric]}).loc[order[:count], [metric, *self.traits]]

    def summary(self) -> pd.DataFrame:
        """A row per measure: what it is, faces, how many failed, median, the value from which on they failed, the
        worst; against the truth also the input's median and how many faces are worse than their input, with the
        share's interval; and the kind of face with the largest z, in words."""
        rows, failing = [], _badness(self.scores).rank(pct=True) > 1 - WORST
        for metric, values in self.scores.items():
            (what, sign, _), known, failed = MEASURES[metric], values.dropna(), values[failing[metric]]
            row = {"measure": metric, "what": what, "faces": len(known), "failed": len(failed)}
            row |= {"median": known.median(), "failed from": (failed * sign).min() * sign}
            row |= {"worst": (known * sign).max() * sign}
            if metric in self.before:
                worse = int((sign * (values - self.before[metric]) > 0).sum())
                low, high = metrics.share_interval(worse, len(known))
                row |= {"input": self.before[metric].median(), "worse than input": worse, "low": low, "high": high}
            mine = self.rates[(self.rates["metric"] == metric) & self.rates["p"].notna()]
            rows.append(row | {"most like": in_words(mine.iloc[0]) if len(mine) else "nothing seen, or too few"})
        return pd.DataFrame(rows)

    def gallery(self, measures: Sequence[str] | None = None, count: int = 6, cell: float = 1.15) -> Figure:
        """The worst faces by each measure, worst first, above each its value: rule-based input, and output."""
        pictures, titles, labels = [], [], []
        for metric in [m for m in measures or MEASURES if m in self.scores]:
            worst = self.worst(metric, count)
            places, gap = self.scores.index.get_indexer(worst.index), [None] * (count - len(worst))
            pictures += [*self.test.rule[places], *gap, *self.images[places], *gap]
            titles += [*(f"{value:.4g}" for value in worst[metric]), *[""] * (2 * count - len(worst))]
            labels += [f"{metric}\ninput", "output"]
        return grid(pictures, count, titles, labels, cell)

    def facts(self) -> dict:
        """What a model card tells (`lib.study.card`), as plain JSON values: model.json's "failures"."""
        tested = self.rates["p"].notna()
        summary = self.summary().drop(columns="most like").astype(object)
        found = self.rates[self.rates["found"]].drop(columns=["z", "found"])
        small = self.rates.groupby(["trait", "kind"], as_index=False).max().query("faces < @LEAST")
        return {
            **self.about,
            "share": WORST,
            "alpha": ALPHA,
            "tests": int(tested.sum()),
            "place_needed": place_needed(self.z_needed, len(self.scores)),
            "measures": summary.where(summary.notna(), None).to_dict("records"),
            "kinds": list(dict.fromkeys(self.rates["trait"])),
            "untested": [f"{row.trait} {row.kind} ({row.faces})" for row in small.itertuples()],
            "found": [row | {"what": MEASURES[row["metric"]][0]} for row in found.to_dict("records")],
        }


def in_words(row: pd.Series) -> str:
    """A row of `rates`: "|yaw| above 17: 7 of 16 failed (44 %), of the others 9 %; p 0.03"."""
    return (
        f"{row['trait']} {row['kind']}: {row['failed']} of {row['faces']} failed ({row['rate']:.0%}), of the others "
        f"{row['rest']:.0%}; p {row['p']:.2g}"
    )


def place_needed(z: float, count: int) -> float:
    """Mean place (½: like all) that a third of `count` faces must have to be found at this z."""
    return float(0.5 + z * np.sqrt(1 / (6 * count)))  # the variance of a mean of a third of 1 … n without repetition


def examine(study: Study, source: Path | str, count: int | None = None, known: pd.DataFrame | None = None) -> Failures:
    """Where a generator fails on a study's held-out faces.

    Args:
        source: a checkpoint's folder or a released model's name; or "rule-based", the input as it is.
        count: of faces; more than were held out are drawn where the face world is the data source (`traits.held_out`).
        known: more traits, index: names of the pictures (as in the held-out set); columns: glasses, beard, …

    Raises StudyError without rule-based images; CheckpointError for weights that are not there or damaged.
    """
    test, landmarks = held_out(study, count)
    attention, images, scores, before = None, test.rule, [], []
    if source != "rule-based":
        made = Translator(source).translate(test.rule, range(len(test.rule)))
        images, attention = made.images, made.attention
    for start in range(0, len(images), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        few = test.take(range(start, min(start + AT_ONCE, len(images))))
        truths, marked = load_truths(study, few), None if attention is None else attention[part]
        scores.append(score(few, images[part], marked, landmarks[part], truths))
        before.append(score(few, few.rule, truths=truths).filter(TRUTH))  # the others of a plain blue mask say nothing
    scores, before = pd.concat(scores), pd.concat(before)
    table = traits(study, test, landmarks)
    table = table if known is None else table.join(known.reindex(table.index))
    found, z = rates(scores, groups(table))
    about = {"source": Path(source).name, "study": study.name, "data": study.data, "size_px": images.shape[1]}
    return Failures(test, images, scores, before, table, found, z, about | {"faces": len(images)})


def main(argv: list[str] | None = None) -> int:
    """Write failures.json (for the model card), summary.csv, rates.csv, scores.csv and gallery.png. Returns 0, or 2
    with one line that says what is wrong."""
    p = argparse.ArgumentParser(prog="python -m lib.study.failures", description="Where a generator fails.")
    p.add_argument("--name", required=True, metavar="STUDY", help="the study whose held-out faces are used")
    p.add_argument("--weights", required=True, metavar="WHICH", help="checkpoint folder or released model; rule-based")
    p.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    p.add_argument("--count", type=int, metavar="N", help="faces; the face world draws more than were held out")
    p.add_argument("--known", type=Path, metavar="CSV", help="more traits: a column image, and glasses, beard, …")
    p.add_argument("--runs-dir", type=Path, default=RUNS, help="folder of all studies")
    args = p.parse_args(argv)
    try:
        known = read_manifest(args.known).set_index("image") if args.known else None
        found = examine(find_study(args.name, args.runs_dir), args.weights, args.count, known)
        args.out.mkdir(parents=True, exist_ok=True)
        scores = found.scores.join(found.traits).reset_index()
        for name, table in (("summary", found.summary()), ("rates", found.rates), ("scores", scores)):
            write_table(args.out / f"{name}.csv", table)
        found.gallery().savefig(args.out / "gallery.png", bbox_inches="tight")
        write_json(args.out / "failures.json", found.facts())
    except (StudyError, CheckpointError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(found.summary().to_string(index=False, float_format="{:.3g}".format))
    return 0


if __name__ == "__main__":
    sys.exit(main())
