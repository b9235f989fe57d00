"""Every measure of one set of weights, of real masks, and of pictures whose answer is known, on held-out faces.

`measure_run` gives rows {metric, value, n}; n counts the faces (or pictures, or epochs) behind a value. `redrawn` and
`forced_noise` measure what only a training has. `METRICS` says what each measure is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.gan import Translator
from lib.study import feature_net, identity, metrics, realism
from lib.study.bench import IDENTITIES, Bench, bench, prepare
from lib.study.config import StudyError
from lib.study.critic import blurred_masks
from lib.study.runs import Study
from lib.study.samples import strip_tiles
from lib.study.truths import Truths

__all__ = ["METRICS", "SOURCES", "VERSION", "bench", "forced_noise", "measure_run", "prepare", "redrawn"]

VERSION = 2  # raise it whenever a change here or in what is measured with changes a value
DRAWS = 4  # of the noise, of each face; its seeds are 1000·k + face
FORCED_SIGMAS = (0.2, 1.0, 4.0)
FORCED_FACES = 8  # on which noise is forced: nine settings of it take nine times as long as a measurement's own draws
SOURCES = ("rule-based", "truth", "real B", "bare", "flat", "blurred", "other")  # what no network made

# What is measured against step one's own mask: nothing to a generator that was given bare faces.
OF_STEP_ONE = ("inside_l1", "outside_l1_composited", "composited_psnr", "composited_ssim", "attention_ratio",
               "attention_iou", "seam_error")  # fmt: skip

METRICS = {
    "outside_l1_any": "mean change against the bare face where neither the rule-based nor any true mask of it is",
    "outside_l1": "mean change where nothing may change, share of the full range",
    "outside_psnr": "the same as a signal-to-noise ratio, dB; 100 stands for no change, and for infinity",
    "outside_ssim": "structural similarity there (windows that touch no mask); 1: no change",
    "outside_l1_composited": "what is left of the change once the mask region alone was taken, with its soft border",
    "composited_psnr": "the same as a signal-to-noise ratio, dB; 100: no change",
    "composited_ssim": "structural similarity there",
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
    "redrawn_share": "share of epochs whose samples lost more structure outside the mask than by a blur of σ S/64 px",
    "redrawn_worst": "the most that any epoch's samples lost, in units of that blur's loss",
}
for _k in (1, 2, 3):
    for _s in FORCED_SIGMAS:
        _where = f"with noise of σ {_s:g} forced at content layer {_k} of weights trained without"
        METRICS[f"forced_delta_e_l{_k}_s{_s:g}"] = f"noise_delta_e {_where}"
        METRICS[f"forced_pixel_std_l{_k}_s{_s:g}"] = f"noise_pixel_std {_where}"


@dataclass(frozen=True, eq=False)
class _Seen:
    """Pictures to be measured, uint8 [N, S, S, 3], the region of their masks, and what only a generator has."""

    images: np.ndarray
    mask: np.ndarray  # bool [N, S, S]
    attention: np.ndarray | None = None  # float32 [N, S, S]
    draws: np.ndarray | None = None  # uint8 [K, N, S, S, 3]; None: all alike
    common: np.ndarray | None = None  # bool [N, S, S]: what is mask in all draws; None: `mask`


def _look(shared: Bench, source: Path | str, bare: bool = False) -> _Seen:
    test, truths = shared.test, shared.truths
    if source == "truth":
        if truths is None:
            raise StudyError(f"{shared.study.name}: the truth is known in the face world only, not with its data")
        worn, region = truths.images[:, :DRAWS], truths.region[:, :DRAWS]
        return _Seen(worn[:, 0], region[:, 0], None, worn.swapaxes(0, 1), region.all(1))
    if source == "blurred" and truths is not None:
        return _Seen(blurred_masks(truths.images[:, 0], truths.region[:, 0]), truths.region[:, 0])
    if source in SOURCES:
        return _Seen(_made(shared, source), shared.outline)
    translator, count, given = Translator(Path(source)), len(test.rule), test.full if bare else test.rule
    draws = DRAWS if translator.noise.active else 1
    made = [translator.translate(given, range(1000 * k, 1000 * k + count)) for k in range(draws)]
    images = np.stack([one.images for one in made])
    return _Seen(images[0], shared.outline, made[0].attention, images if draws > 1 else None)


def _made(shared: Bench, source: str) -> np.ndarray:
    """Pictures of the test faces that no network made, uint8 [N, S, S, 3]; see `measure_run`."""
    test, outline = shared.test, shared.outline
    if source == "flat":
        colour = test.B[:, shared.core].mean((0, 1))
        return metrics.composited(test.full, np.broadcast_to(colour, test.full.shape), ~outline)
    if source == "blurred":
        return blurred_masks(test.rule, outline)
    return {"rule-based": test.rule, "bare": test.full, "other": np.roll(test.rule, 1, axis=0)}[source]


def measure_run(
    study: Study, source: Path | str, seed: int, net: feature_net.FeatureNet | None = None, bare: bool = False
) -> list[dict]:
    """The measures of one source as rows {"metric", "value", "n"}; names and meanings in `METRICS`.

    source: a checkpoint's folder; "rule-based", the input as it is; "truth", a truly worn mask on each face, others on
        the same face as its draws; "bare", no mask at all; "flat", the mask's place painted in the mean colour of B's
        masks; "blurred", the truth (not known: the input) with its mask blurred; "other", the input of another face;
        "real B", what other real pictures score: the reserved ones against the held-out ones, and the held-out ones
        before critics.
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
    far, pasted = metrics.well_inside(outside, 3), metrics.composited(test.full, seen.images, test.non_mask)
    found |= {
        "outside_l1": metrics.outside_change(test.rule, seen.images, outside),
        "outside_psnr": metrics.outside_psnr(test.rule, seen.images, outside),
        "outside_ssim": metrics.ssim_inside(test.rule, seen.images, far),
        "outside_l1_composited": metrics.outside_change(test.rule, pasted, outside),
        "composited_psnr": metrics.outside_psnr(test.rule, pasted, outside),
        "composited_ssim": metrics.ssim_inside(test.rule, pasted, far),
        "inside_l1": metrics.outside_change(test.rule, seen.images, shared.outline),
        **_identity(shared, seen.images),
        **_colours(shared, seen),
        **_to_B(shared, seen.images, net),
        **_critics(shared, seen.images),
        **_draws(seen.draws, seen.mask if seen.common is None else seen.common),
    }
    if seen.attention is not None:
        if np.ptp(seen.attention):  # a generator without attention draws everything anew
            found |= _attention(shared, seen.attention)
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


def _draws(draws: np.ndarray | None, mask: np.ndarray) -> dict:
    """How much draws differ, uint8 [K, N, S, S, 3], in a mask that all share, bool [N, S, S]; None: not at all."""
    if draws is None:
        return {"noise_delta_e": 0.0, "noise_pixel_std": 0.0}
    return {
        "noise_delta_e": metrics.noise_diversity(draws, mask),
        "noise_pixel_std": metrics.noise_pixel_std(draws, mask),
    }


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
    found = {names.get(name, f"truth_{name}"): values for name, values in apart.items() if name != "nearest"}
    found["truth_perceptual"] = truths.perceptual(seen.images, net.perceptual)
    if not realism.available()["lpips"]:
        found["lpips"] = truths.perceptual(seen.images, lambda a, b, mask: realism.lpips(a, b))
    return found


def structure_by_epoch(study: Study, folder: Path) -> pd.Series:
    """`metrics.structure_lost` of a training's sample faces after each epoch, their mean, by the strips it left.

    Raises FileNotFoundError where samples.csv or a strip of one of its epochs is missing.
    """
    lost = {}
    for epoch in pd.read_csv(folder / "samples.csv")["epoch"]:
        given, made, _ = strip_tiles(folder / "samples" / f"epoch_{epoch:04d}.png", study.profile.size)
        lost[epoch] = metrics.structure_lost(given, made, bench(study).test.non_mask[: len(given)]).mean()
    return pd.Series(lost, name="structure_lost").rename_axis("epoch")


def redrawn(study: Study, folder: Path) -> list[dict]:
    """How steady a training was (paper §4.2, Figure 5): rows `redrawn_share` and `redrawn_worst`, n epochs.

    An epoch counts as redrawn where `structure_by_epoch` is above `metrics.REDRAWN_BLUR`. Raises as that does.
    """
    lost = structure_by_epoch(study, folder)
    share = (lost > metrics.REDRAWN_BLUR).mean()
    return _rows({"redrawn_share": share, "redrawn_worst": lost.max()}, len(lost))


def forced_noise(study: Study, checkpoint: Path) -> list[dict]:
    """What noise does that is forced on weights trained without it (paper §4.2): at one content layer at a time, with
    `FORCED_SIGMAS`, `DRAWS` draws of the first `FORCED_FACES` test faces.

    Rows `forced_delta_e_l<layer>_s<σ>` and `forced_pixel_std_l<layer>_s<σ>`; none for weights trained with noise.
    """
    translator, shared, rows = Translator(checkpoint), bench(study), []
    if translator.noise.active:
        return []
    given = shared.test.rule[:FORCED_FACES]
    for layer in (1, 2, 3):
        for sigma in FORCED_SIGMAS:
            at = [sigma * (layer == k) for k in (1, 2, 3)]
            seeds = [range(1000 * k, 1000 * k + len(given)) for k in range(DRAWS)]
            draws = np.stack([translator.translate(given, each, at).images for each in seeds])
            found = _draws(draws, shared.outline[: len(given)])
            rows += _rows(
                {f"{k.replace('noise', 'forced')}_l{layer}_s{sigma:g}": v for k, v in found.items()}, len(given)
            )
    return rows
