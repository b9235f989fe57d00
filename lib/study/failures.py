"""Where a generator fails: the worst outputs by each measure, what they have in common, and rates by kind of face.

A face *fails* by a measure when it is as bad as the worst fifth of the faces looked at, and bad enough to be seen
(`MEASURES`). The fifth is relative: under any generator somebody is in it. How many failed tells little; whether they
are more of one kind of face than of the others tells something (`lib.study.kinds`). Kinds are known as far as
`lib.study.traits` goes.

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
from lib.gan.released import MODEL, find_weights, read_model
from lib.study import artefacts, identity, metrics
from lib.study.card import digits
from lib.study.config import StudyError
from lib.study.datasets import TestSet
from lib.study.display import grid
from lib.study.kinds import ALPHA, HINT, LEAST, MEASURES, WORST, failing, groups, in_words, place_needed, rates
from lib.study.manifest import read_manifest
from lib.study.runs import RUNS, Study, find_study
from lib.study.traits import held_out, traits
from lib.study.truths import Truths, load_truths, outlines

AT_ONCE = 32  # faces: their true masks in CIE Lab take memory
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
        """A row per measure: what it is, faces, the value past which it is seen, how many failed, from which value on,
        median, the worst; against the truth also the input's median and how many faces are worse than their input, with
        the share's interval; and the kind that most plainly fails more often than the others, found or not, in words.
        """
        rows, fails = [], failing(self.scores)
        for metric, values in self.scores.items():
            (what, sign, unseen), known, failed = MEASURES[metric], values.dropna(), values[fails[metric]]
            row = {"measure": metric, "what": what, "faces": len(known), "seen past": unseen, "failed": len(failed)}
            row |= {"failed from": (failed * sign).min() * sign, "median": known.median()}
            row |= {"worst": (known * sign).max() * sign}
            if metric in self.before:
                worse = int((sign * (values - self.before[metric]) > 0).sum())
                low, high = metrics.share_interval(worse, len(known))
                row |= {"input": self.before[metric].median(), "worse than input": worse, "low": low, "high": high}
            mine = self.rates[(self.rates["metric"] == metric) & self.rates["p"].notna()]
            worse = mine[(mine["rate"] > mine["rest"]) & (mine["p"] < HINT)]
            none = "nothing" if len(mine) else "not tested: nothing seen, or too few faces"
            rows.append(row | {"most like": in_words(worse.iloc[0]) if len(worse) else none})
        return pd.DataFrame(rows)

    def gallery(self, measures: Sequence[str] | None = None, count: int = 6, cell: float = 1.15) -> Figure | str:
        """The worst of the faces that failed by each measure, worst first: rule-based input, above it the value, and
        output, above it who it is. Measures by which none failed stand in the title; text where that is all of them."""
        pictures, titles, labels, failed = [], [], [], failing(self.scores).sum().clip(upper=count)
        asked = [m for m in measures or MEASURES if m in self.scores]
        columns = max((failed[metric] for metric in asked), default=0)
        for metric in [m for m in asked if failed[m]]:
            worst = self.worst(metric, failed[metric])
            places, gap = self.scores.index.get_indexer(worst.index), [""] * (columns - len(worst))
            for images in (self.test.rule, self.images):
                pictures += [*images[places], *[None] * len(gap)]
            titles += [*(f"{value:.4g}" for value in worst[metric]), *gap]
            titles += [*(_caption(Path(name).stem, face) for name, face in worst.iterrows()), *gap]
            labels += [f"{metric}\ninput", "output"]
        none = ", ".join(metric for metric in asked if not failed[metric])
        told = f"No face failed by {none}." if none else None
        return grid(pictures, columns, titles, labels, cell, told) if pictures else told or "Nothing was measured."

    def facts(self) -> dict:
        """What a model card tells (`lib.study.card`), as plain JSON values: model.json's "failures"."""
        tested = self.rates["p"].notna()
        summary = self.summary().drop(columns="most like").astype(object)
        found = self.rates[self.rates["found"]].drop(columns=["z", "found"])
        kinds = self.rates.groupby(["trait", "kind"], as_index=False).max()
        small = kinds[kinds["faces"] < LEAST]
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


def _caption(name: str, face: pd.Series) -> str:
    """Skin and |yaw| of a face where they are known, else its picture's name, as far as it fits above a picture."""
    skin, yaw = face.get("skin"), face.get("|yaw|")
    told = [*([skin] if pd.notna(skin) else []), *([f"{yaw:.0f}°"] if pd.notna(yaw) else [])]
    return ", ".join(told) or name[:16]


def examine(study: Study, source: Path | str, count: int | None = None, known: pd.DataFrame | None = None) -> Failures:
    """Where a generator fails on a study's held-out faces.

    Args:
        source: a checkpoint's folder or a released model's name; or "rule-based", the input as it is.
        count: of faces; more than were held out are drawn where the face world is the data source (`traits.held_out`).
        known: more traits, index: names of the pictures (as in the held-out set); columns: glasses, beard, …

    Raises StudyError without rule-based images, and where nothing of `known` is of these faces; CheckpointError for
    weights that are not there or damaged.
    """
    test, landmarks = held_out(study, count)
    if known is not None and not known.index.isin(test.names).any():
        named = f"it names {known.index[0]!r}" if len(known) else "it names nothing"
        raise StudyError(
            f"known traits: none of the {len(known):,} rows is of a held-out picture: {named}, expected names like "
            f"{test.names[0]!r}"
        )
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
    p.add_argument("--count", type=int, metavar="N", help="at least so many faces, where the face world can draw more")
    p.add_argument("--known", type=Path, metavar="CSV", help="more traits: a column image, and glasses, beard, …")
    p.add_argument("--runs-dir", type=Path, default=RUNS, help="folder of all studies")
    args = p.parse_args(argv)
    try:
        known = read_manifest(args.known).set_index("image") if args.known else None
        study = find_study(args.name, args.runs_dir)
        if told := _other_size(study, args.weights):
            print(told, file=sys.stderr)
        found = examine(study, args.weights, args.count, known)
        args.out.mkdir(parents=True, exist_ok=True)
        scores = found.scores.join(found.traits).reset_index()
        for name, table in (("summary", found.summary()), ("rates", found.rates), ("scores", scores)):
            write_table(args.out / f"{name}.csv", table)
        picture, shown = args.out / "gallery.png", found.gallery()
        picture.unlink(missing_ok=True)  # of an earlier call: where none failed now there is none
        if not isinstance(shown, str):
            shown.savefig(picture, bbox_inches="tight")
        write_json(args.out / "failures.json", found.facts())
    except (StudyError, CheckpointError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(found.summary().to_string(index=False, float_format=digits))
    return 0


def _other_size(study: Study, source: str) -> str | None:
    """A line where a released model is used at another size than these pictures have."""
    folder = find_weights(source) if source != "rule-based" else Path()
    if not (folder / MODEL).is_file():
        return None
    use, size = (model := read_model(folder)).get("use_px", model["size_px"]), study.profile.size
    return f"note: {source} is used at {use} px, these pictures have {size} px" if use != size else None


if __name__ == "__main__":
    sys.exit(main())
