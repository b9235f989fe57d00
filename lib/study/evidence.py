"""Every measure of one set of weights, of the rule-based input, of the truth, and of real masks, on held-out faces.

`measure_run` gives rows {metric, value, n}; n counts the faces (or pictures, or epochs) behind a value. What all
measurements share (test faces, true masks, feature network, critics, landmarks) is loaded or made once per process by
`bench`, and kept on disk where it took time. `METRICS` says what each measure is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from lib.gan import Translator
from lib.study import critic, feature_net, identity, metrics, realism
from lib.study.comparison import find_landmarks
from lib.study.config import StudyError
from lib.study.critic import Critic, LearningSet
from lib.study.datasets import TestSet, load_test_set
from lib.study.runs import Study
from lib.study.truths import Truths, load_truths, outlines

VERSION = 1  # raise it whenever a change here or in what is measured with changes a value
DRAWS = 4  # of the noise, of each face; its seeds are 1000·k + face
CRITICS = 3  # of each kind; the same for all seeds: judges do not change with what is judged
IDENTITIES = 12  # faces whose identity is measured: dlib takes 0.1 s a face
SOURCES = ("rule-based", "truth", "bare", "real B")

# What is measured against step one's own mask: nothing to a generator that was given bare faces.
OF_STEP_ONE = ("inside_l1", "outside_l1_composited", "attention_ratio", "attention_iou", "seam_error")

METRICS = {
    "outside_l1_any": "mean change against the bare face where neither the rule-based nor any true mask of it is",
    "outside_l1": "mean change where nothing may change, share of the full range",
    "outside_psnr": "the same as a signal-to-noise ratio, dB; 100: no change",
    "outside_ssim": "structural similarity there (windows that touch no mask); 1: no change",
    "outside_l1_composited": "what is left of the change once the mask region alone was taken, with its soft border",
    "inside_l1": "mean change of the rule-based mask itself",
    "attention_ratio": "attention inside the mask over attention outside",
    "attention_iou": "overlap of where the attention is above ½ with the rule-based mask, its shadow left out",
    "attention_iou_true": "the same with where most of the face's true masks are",
    "identity_cosine": "likeness of the upper face to the bare one (dlib's embedding)",
    "identity_others": "the same of different people's bare faces: the scale for identity_cosine",
    "noise_delta_e": "spread of a mask's mean colour over noise draws, ΔE",
    "noise_pixel_std": "standard deviation of a mask's pixels over noise draws, share of the full range",
    "colour_spread": "spread of the masks' mean colours over faces, ΔE",
    "colour_wasserstein": "distance of the masks' mean colours to those of held-out B, ΔE summed over L*, a*, b*",
    "blotches": "spread of a* and b* within a mask, ΔE: tints and spots",
    "grain": "mean |Laplacian| of L* within a mask",
    "lightness_error": "|ΔL*| to the true mask that is nearest in it",
    "seam_error": "|log| of the border's strength over that of true masks",
    "truth_l1": "mean |difference| to true masks on the same face, share of the full range",
    "truth_nearest_l1": "the same to the nearest of them",
    "truth_ssim": "structural similarity with them",
    "truth_perceptual": "distance to them in the maps of the network trained here",
    "lpips": "distance to them in AlexNet's (LPIPS), where its weights are had",
    "feature_fd": "Fréchet distance to held-out B in the features of the network trained here",
    "feature_kid": "kernel distance there",
    "fid": "Fréchet distance to held-out B in Inception's features, where its weights are had",
    "kid": "kernel distance there",
    "random_fd": "Fréchet distance to held-out B in fixed random features",
    "critic_pass": "share that critics call real, mean over critics that see colour",
    "critic_grey_pass": "the same of critics that see shape and shading alone",
    "critic_real_error": "share of held-out real ones that they call fake",
    "critic_grey_real_error": "the same of those that see no colour",
    "redrawn_share": f"share of epochs whose samples changed outside by more than {metrics.REDRAWN_ABOVE}",
    "redrawn_worst": "largest change outside of any epoch's samples",
}


@dataclass(frozen=True, eq=False)
class Bench:
    """What measuring a study's runs needs, loaded when it is first asked for."""

    study: Study

    @cached_property
    def test(self) -> TestSet:
        return load_test_set(self.study)

    @cached_property
    def truths(self) -> Truths | None:
        return load_truths(self.study, self.test)

    @cached_property
    def net(self) -> feature_net.FeatureNet:
        return feature_net.load(self.study, progress=False)

    @cached_property
    def learning(self) -> LearningSet:
        return critic.learning_set(self.study)

    @cached_property
    def critics(self) -> dict[str, list[Critic]]:
        load = critic.load_critic
        return {kind: [load(self.study, k, kind, self.learning) for k in range(CRITICS)] for kind in critic.KINDS}

    @cached_property
    def landmarks(self) -> list[np.ndarray | None]:
        return find_landmarks(self.study, self.test)[:IDENTITIES]

    @cached_property
    def bare_vectors(self) -> np.ndarray:
        return identity.embed(self.test.full[:IDENTITIES], self.landmarks)

    @cached_property
    def outline(self) -> np.ndarray:
        """The rule-based masks without shadow: bool [N, S, S]."""
        return outlines(self.test) if self.truths is None else self.truths.rule_region

    @cached_property
    def core(self) -> np.ndarray:
        """Pixels that nearly every mask covers, on both sides of `colour_wasserstein`: bool [S, S]."""
        return metrics.core_region(self.outline)

    def core_colours(self, images: np.ndarray) -> np.ndarray:
        return metrics.mask_colour_lab(images, np.broadcast_to(self.core, images.shape[:3]))

    @cached_property
    def colours_B(self) -> np.ndarray:
        return self.core_colours(self.test.B)


_BENCHES: dict[tuple[Path, int], Bench] = {}  # one at a time: a study's pictures and networks take some 100 MB


def bench(study: Study) -> Bench:
    """What measuring this study needs; the same object as long as its set A is the same.

    Raises StudyError when step one has not run yet.
    """
    done = study.data_dir / "A" / "rule" / "done.json"
    if not done.is_file():
        raise StudyError(f"{done.parent}: set A has no rule-based images yet; run notebook 02_rule_based_warping first")
    key = (study.root, done.stat().st_mtime_ns)
    if key not in _BENCHES:
        _BENCHES.clear()
        _BENCHES[key] = Bench(study)
    return _BENCHES[key]


def prepare(study: Study) -> None:
    """Make what takes time (true masks, feature network, critics) before several processes measure at once."""
    shared = bench(study)
    for name in ("truths", "net", "critics"):
        getattr(shared, name)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Pictures to be measured, uint8 [N, S, S, 3], the region of their masks, and what only a generator has."""

    images: np.ndarray
    mask: np.ndarray  # bool [N, S, S]
    attention: np.ndarray | None = None  # float32 [N, S, S]
    draws: np.ndarray | None = None  # uint8 [K, N, S, S, 3]; None: without noise


def _look(shared: Bench, source: Path | str, bare: bool = False) -> _Seen:
    test = shared.test
    if source == "rule-based":
        return _Seen(test.rule, shared.outline)
    if source == "bare":
        return _Seen(test.full, shared.outline)
    if source == "truth":
        if shared.truths is None:
            raise StudyError(
                f"{shared.study.name}: the truth is known in the face world only, not with its data source"
            )
        return _Seen(shared.truths.images[:, 0], shared.truths.region[:, 0])
    translator, count, given = Translator(Path(source)), len(test.rule), test.full if bare else test.rule
    draws = DRAWS if translator.noise.active else 1
    made = [translator.translate(given, range(1000 * k, 1000 * k + count)) for k in range(draws)]
    images = np.stack([one.images for one in made])
    return _Seen(images[0], shared.outline, made[0].attention, images if draws > 1 else None)


def measure_run(
    study: Study, source: Path | str, seed: int, net: feature_net.FeatureNet | None = None, bare: bool = False
) -> list[dict]:
    """The measures of one source as rows {"metric", "value", "n"}; names and meanings in `METRICS`.

    source: a checkpoint's folder; "rule-based", the input as it is; "truth", a truly worn mask on each face; "bare", no
        mask at all; "real B", what other real pictures score: the reserved ones against the held-out ones, and the
        held-out ones before critics.
    seed: of the training. It changes nothing here, since all are judged alike.
    net: instead of the study's feature network.
    bare: the generator is given the bare faces. Outside its mask a rule-based picture is the bare face, bit for bit,
        so that `outside_*` mean the same; what is measured against the rule-based mask itself, its region or its border
        (`OF_STEP_ONE`) has no row.

    A measure that makes no sense for a source, or whose weights are not had, has no row. Raises StudyError for a study
    without rule-based images, and for the truth where it is not known; CheckpointError for damaged weights.
    """
    shared, net = bench(study), net or bench(study).net
    found: dict[str, object] = {}
    if source == "real B":
        real = shared.learning.real
        found |= {"colour_spread": metrics.colour_diversity(shared.core_colours(real)), **_to_B(shared, real, net)}
        found |= _critics(shared, shared.test.B) | _critics_wrong(shared)
        return _rows(found, len(shared.test.B))
    seen, test = _look(shared, source, bare), shared.test
    outside = test.non_mask & ~seen.mask  # of a true mask, which covers other places
    found |= {
        "outside_l1": metrics.outside_change(test.rule, seen.images, outside),
        "outside_psnr": metrics.outside_psnr(test.rule, seen.images, outside),
        "outside_ssim": metrics.ssim_inside(test.rule, seen.images, metrics.well_inside(outside, 3)),
        "outside_l1_composited": metrics.outside_change(
            test.rule, metrics.composited(test.full, seen.images, test.non_mask), outside
        ),
        "inside_l1": metrics.outside_change(test.rule, seen.images, shared.outline),
        **_identity(shared, seen.images),
        **_colours(shared, seen),
        **_to_B(shared, seen.images, net),
        **_critics(shared, seen.images),
    }
    if seen.attention is not None:
        if np.ptp(seen.attention):  # a generator without attention draws everything anew
            found |= _attention(shared, seen.attention)
        draws, none = seen.draws, seen.draws is None
        found["noise_delta_e"] = 0.0 if none else metrics.noise_diversity(draws, seen.mask)
        found["noise_pixel_std"] = 0.0 if none else metrics.noise_pixel_std(draws, seen.mask)
    else:
        found |= _critics_wrong(shared)
    if shared.truths is not None:
        found |= _truth(shared.truths, seen, net)
        found["outside_l1_any"] = metrics.outside_change(test.full, seen.images, ~shared.truths.area & ~seen.mask)
    if bare:
        found = {name: value for name, value in found.items() if name not in OF_STEP_ONE}
    return _rows(found, len(test.rule))


def _rows(found: dict[str, object], count: int) -> list[dict]:
    """Means of what is told per face, with the number of faces that have it; without one there is no row."""
    rows = []
    for metric, value in found.items():
        known = np.asarray(value, float)
        known = known[np.isfinite(known)]
        if known.size:
            n = count if np.ndim(value) == 0 else known.size
            rows.append({"metric": metric, "value": float(known.mean()), "n": int(n)})
    return rows


def _identity(shared: Bench, images: np.ndarray) -> dict:
    vectors = identity.embed(images[:IDENTITIES], shared.landmarks)
    same = (vectors * shared.bare_vectors).sum(1)
    return {"identity_cosine": same, "identity_others": identity.others(shared.bare_vectors)}


def _colours(shared: Bench, seen: _Seen) -> dict:
    within = metrics.well_inside(metrics.cloth(seen.mask), max(1, seen.mask.shape[1] // 64))
    return {
        "colour_spread": metrics.colour_diversity(metrics.mask_colour_lab(seen.images, seen.mask)),
        "blotches": metrics.blotches(seen.images, within),
        "grain": metrics.grain(seen.images, within),
    }


def _to_B(shared: Bench, images: np.ndarray, net: feature_net.FeatureNet) -> dict:
    """Distances to held-out B, as many pictures on both sides."""
    target = shared.test.B
    count = min(len(images), len(target))
    if count < 2:
        return {}
    images, target = images[:count], target[:count]
    return {
        "colour_wasserstein": metrics.colour_wasserstein(shared.core_colours(images), shared.colours_B[:count]),
        "random_fd": metrics.random_feature_distance(images, target),
        **realism.distances(images, target, net),
    }


def _critics(shared: Bench, images: np.ndarray) -> dict:
    passed = {kind: np.mean([c.calls_real(images).mean() for c in each]) for kind, each in shared.critics.items()}
    return {"critic_pass": passed["colour"], "critic_grey_pass": passed["grey"]}


def _critics_wrong(shared: Bench) -> dict:
    return {name.replace("_pass", "_real_error"): 1 - share for name, share in _critics(shared, shared.test.B).items()}


def _attention(shared: Bench, attention: np.ndarray) -> dict:
    found = {
        "attention_ratio": metrics.attention_ratio(attention, shared.test.non_mask),
        "attention_iou": metrics.region_iou(attention, shared.outline),
    }
    if shared.truths is not None:
        found["attention_iou_true"] = metrics.region_iou(attention, shared.truths.region[:, 1:].mean(1) >= 0.5)
    return found


def _truth(truths: Truths, seen: _Seen, net: feature_net.FeatureNet) -> dict:
    apart = truths.distances(seen.images, seen.mask)
    names = {"lightness": "lightness_error", "seam": "seam_error"}
    found = {names.get(name, f"truth_{name}"): values for name, values in apart.items()}
    found["truth_perceptual"] = truths.perceptual(seen.images, net.perceptual)
    if not realism.available()["lpips"]:
        found["lpips"] = truths.perceptual(seen.images, lambda a, b, mask: realism.lpips(a, b))
    return found


def redrawn(samples_csv: Path | str) -> list[dict]:
    """How steady a training was, by its samples.csv: rows `redrawn_share` and `redrawn_worst`, n epochs.

    Raises FileNotFoundError where there is none.
    """
    samples = pd.read_csv(samples_csv)
    share, worst = metrics.redrawn_share(samples), samples["outside_change"].max()
    return _rows({"redrawn_share": share, "redrawn_worst": worst}, len(samples))
