"""Which kinds of face do worse than all others: who failed by which measure, rates by kind, and what chance makes.

Each kind is tested against all other faces by its mean rank, one-sided: is it worse? The faces are permuted, all
measures and kinds of face together, and each value is compared with the largest of all in every permutation (Westfall
& Young 1993, max-T): when no kind differs, any at all is called worse in at most `ALPHA` of such studies.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.study import metrics

WORST, ALPHA, LEAST, PERMUTATIONS = 0.2, 0.05, 5, 4000  # LEAST: faces of a kind; with fewer it is not tested
HINT = 0.5  # p from which on a kind is not even named: any of the others may well be as bad by chance
# Name → what it is; 1: large is bad, −1: small is; up to where nobody would see it: a grey level, a ΔE or ΔL* of 1, an
# outline off by ¾ px at 64 px, 3 at 256 (an overlap of 0.9 where the mask is a fifth of the picture), a border a tenth
# too strong or too weak. A likeness of 0.99 is a distance of 0.14 between dlib's vectors, which calls two faces one
# person up to 0.6.
MEASURES = {
    "outside_l1": ("mean change where nothing may change", 1, 1 / 255),
    "far_change": ("largest change of a square away from the mask (hair, forehead, background)", 1, 1 / 255),
    "identity_cosine": ("likeness of the upper face to the bare one", -1, 0.99),
    "attention_iou": ("overlap of what is drawn anew with the mask", -1, 0.9),
    "pattern": ("fine pattern added to the mask, ΔL*", 1, 1.0),
    "blotches": ("tints within the mask, ΔE", 1, 1.0),
    "truth_nearest_l1": ("distance to the nearest true mask", 1, 1 / 255),
    "lightness_error": ("error of lightness, ΔL*", 1, 1.0),
    "seam_error": ("error of the mask's border, as a logarithm", 1, 0.1),
}


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
    fails = failing(scores).to_numpy(float)
    failed, rows = (member @ fails).astype(int), []
    for k, m in np.ndindex(z.shape):
        n, hit, tested = int(inside[k, m]), int(failed[k, m]), bool(np.isfinite(z[k, m]))
        rest = (fails[:, m].sum() - hit) / max(count[m] - n, 1)
        row = (scores.columns[m], *kinds.columns[k], n, hit, hit / max(n, 1), *metrics.share_interval(hit, n), rest)
        chance = (z[k, m], p[k, m], bool(p[k, m] <= ALPHA)) if tested else (np.nan, np.nan, False)
        rows.append((*row, 0.5 + shift[k, m], *chance))
    names = ["metric", "trait", "kind", "faces", "failed", "rate", "low", "high", "rest", "place", "z", "p", "found"]
    table = pd.DataFrame(rows, columns=names).sort_values("z", ascending=False, ignore_index=True)
    return table, float(np.quantile(largest, 1 - ALPHA, method="higher"))


def _badness(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores as numbers that are large where they are bad; what nobody would see is all the same: 0."""
    sign, unseen = (np.array([MEASURES[metric][part] for metric in scores]) for part in (1, 2))
    return ((scores - unseen) * sign).clip(lower=0)


def failing(scores: pd.DataFrame) -> pd.DataFrame:
    """Which faces fail by which measure: scores (of `failures.score`) → bool, alike for those that are alike."""
    bad = _badness(scores)
    return (bad.rank(pct=True, method="max") > 1 - WORST) & (bad > 0)


def in_words(row: pd.Series) -> str:
    """A row of `rates`: "|yaw| above 17: 7 of 16 failed (44 %), of the others 9 %; p 0.03"."""
    return (
        f"{row['trait']} {row['kind']}: {row['failed']} of {row['faces']} failed ({row['rate']:.0%}), of the others "
        f"{row['rest']:.0%}; p {row['p']:.2g}"
    )


def place_needed(z: float, count: int) -> float:
    """Mean place (½: like all) that a third of `count` faces must have to be found at this z."""
    return float(0.5 + z * np.sqrt(1 / (6 * count)))  # the variance of a mean of a third of 1 … n without repetition
