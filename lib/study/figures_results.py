"""Figures 6 to 9 of the paper: the two picks, what went wrong, other ways; and the study in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.data.files import read_json
from lib.gan.released import default_released
from lib.study import metrics
from lib.study.artefacts import Place, crop, far_changes, mask_patterns
from lib.study.beyond_views import GENERATORS, painted, weights
from lib.study.comparison import Way, by_rule, other_generator, scores
from lib.study.datasets import TestSet, load_test_set
from lib.study.display import heat
from lib.study.figure_parts import SPREAD, colour_row, held_out, round_limit, translate
from lib.study.printed import Made, checkpoint_record, save_figure, told
from lib.study.runs import Study
from lib.study.selection import PICKED_STAGE, read_picks
from lib.study.sheet import Panel, Row, Scale, fitting, sheet

NOISE_OFF = (0.0, 0.0, 0.0)


def _results(study: Study, name: str, which_pick: int) -> Made:
    """Rule-based images above, a row of outputs for each of three draws of the noise below."""
    epoch = read_picks(study)[which_pick]
    run = checkpoint_record(study, PICKED_STAGE, epoch)
    test, which = held_out(study)
    inside = ~test.non_mask
    draws = [translate(study, PICKED_STAGE, epoch, test.rule, seed=1000 * k) for k in range(3)]
    made = [colour_row(f"noise {k + 1}", images, inside) for k, images in enumerate(draws)]
    rule = colour_row("rule-based", test.rule, inside)
    diversity = metrics.noise_diversity(np.stack(draws), inside)
    caption = (
        f"Results of {told(run)}: three draws of the noise. {SPREAD} Over the draws of one face ΔE is {diversity:.1f} "
        f"on average. {which}"
    )
    facts = {
        "colour_spread_rule_based": round(rule[1], 3),
        "colour_spread_output": [round(value, 3) for _, value in made],
        "noise_diversity": round(diversity, 3),
    }
    fig = sheet(Panel([rule[0], *(row for row, _ in made)]), fitting(len(test.names)))
    return save_figure(study, fig, name, caption, [run], pictures=test.names, **facts)


def figure_6(study: Study) -> Made:
    """Results at the first picked checkpoint, in the paper 313 (paper Fig. 6)."""
    return _results(study, "figure_6", 0)


def figure_7(study: Study) -> Made:
    """Results at the second picked checkpoint, in the paper 476 (paper Fig. 7)."""
    return _results(study, "figure_7", 1)


def figure_8(study: Study, count: int = 4) -> Made:
    """Artefacts at the second pick: (a) changes away from the mask, (b) patterns on it, enlarged (paper Fig. 8)."""
    run, test = checkpoint_record(study, PICKED_STAGE, read_picks(study)[1]), load_test_set(study)
    outputs = translate(study, PICKED_STAGE, run["epoch"], test.rule)
    far = far_changes(test.rule, outputs, test.non_mask, count)
    pattern = mask_patterns(test.rule, outputs, test.non_mask, count)
    maps = [metrics.change_map(test.rule[p.face], outputs[p.face]) * test.non_mask[p.face] for p in far]
    limit = round_limit(np.stack(maps))

    def row(place: Place, unit: str, extra: list[np.ndarray]) -> Row:
        before, after = test.rule[place.face], outputs[place.face]
        pictures = [before, after, *extra, crop(before, place.box), crop(after, place.box)]
        return Row(unit, pictures, boxes=[place.box] * (2 + len(extra)) + [None, None])

    titles = ["input", "output", "input,\nenlarged", "output,\nenlarged"]
    fig = sheet(
        [
            Panel([row(p, f"{p.value:.3f}", [heat(m, limit)]) for p, m in zip(far, maps)],
                  [*titles[:2], "change\noutside", *titles[2:]], "(a) changed away from the mask"),
            Panel([row(p, f"{p.value:.1f}", []) for p in pattern], titles, "(b) patterns on the mask"),
        ],
        scale=Scale("change outside the mask, share of the full range", limit),
    )  # fmt: skip
    caption = (
        f"The worst of {len(test.names)} held-out faces under {told(run)}. (a) The {len(far)} faces with the square "
        "changed most away from the mask; left: the mean change in it. (b) Those with the square of the mask that "
        "gained most fine pattern; left: the gain in local contrast, ΔL*."
    )
    facts = {
        part: [{"picture": test.names[p.face], "box": p.box, "value": round(p.value, 4)} for p in places]
        for part, places in (("away_from_the_mask", far), ("patterns_on_the_mask", pattern))
    }
    return save_figure(study, fig, "figure_8", caption, [run], **facts)


def figure_9(
    study: Study, others: Sequence[str | Path] | None = None, count: int = 4, generators: Study | None = None
) -> Made:
    """Comparison with other generators (paper Fig. 9): rule-based presets, each step of the method, other weights; and
    other methods, where the experiment "generators" was run.

    others: released models by name or checkpoint folders (`runs/first/stage5/checkpoints/epoch_0476`); None: the
        released model that is the default, if there is one.
    count: of faces; one less beside other methods.
    generators: the study whose experiments are shown; None: this one.
    """
    elsewhere = generators or study
    others_there = _others_trained(elsewhere)
    picks = read_picks(study)
    runs = [checkpoint_record(study, stage, epoch) for stage, epoch in
            (("stage3", None), ("stage4", None), *((PICKED_STAGE, pick) for pick in picks))]  # fmt: skip
    test, which = held_out(study, count - others_there)
    steps = ["AttentionGAN", "+ NMC", *(f"+ noise,\nepoch {pick}" for pick in picks)]
    learned = {"input": Way.of(test.rule)}
    for label, run in zip(steps, runs):
        sigma = None if run["stage"] == PICKED_STAGE else NOISE_OFF
        learned[label] = Way.of(translate(study, run["stage"], run["epoch"], test.rule, sigma=sigma))
    if others is None:
        others = [name] if (name := default_released()) else []
    for which_one in others:
        label, outputs, record = other_generator(which_one, test.rule, range(len(test.rule)))
        learned[label.replace(", ", ",\nepoch ")] = Way.of(outputs)
        runs.append(record)
    if test.truth is not None:
        learned["truth"] = Way.of(test.truth)
    rules = by_rule(study, test)
    left = [Row("full face", test.full), *(Row(name, way.pictures) for name, way in rules.items())]
    right = [Row(label, way.pictures) for label, way in learned.items()]
    panels = [Panel(left, heading="(a) by rule alone"), Panel(right, heading="(b) learned, from the input")]
    methods, short = _methods(elsewhere, test) if others_there else ({}, [])
    if methods:
        rows = [Row(label.replace(", ", ",\n"), way.pictures) for label, way in methods.items()]
        panels.append(Panel(rows, heading="(c) other generators"))
    fig = sheet(panels)
    caption = (
        "The same faces (a) under the rule-based presets of lib.warp, with set A's blue mask, and (b) under each step "
        "of the method. "
        f"AttentionGAN, without NMC and noise: {told(runs[0])}; + NMC: {told(runs[1])}; + noise: "
        f"{'; '.join(told(run) for run in runs[2:4])}"
        + (f"; other weights: {', '.join(run['generator'] for run in runs[4:])}" if runs[4:] else "")
        + f"; input: {_input(study)}"
        + ("; truth: the same heads rendered with a worn mask." if test.truth is not None else ".")
        + (f" {_told_methods(short)}" if short else "")
        + f" {which}"
        + (" An empty place: that rule refuses the face." if any(way.reasons for way in rules.values()) else "")
    )
    every = {label.replace("\n", " "): way for label, way in learned.items()}
    numbers = scores(test, {**rules, **every, **methods})
    facts = {
        "scores": numbers.round(4).to_dict("index"),
        "refused": {k: w.reasons for k, w in rules.items() if w.reasons},
    }
    return save_figure(study, fig, "figure_9", caption, runs + short, pictures=test.names, **facts)


def _others_trained(study: Study) -> bool:
    others = [side for side in GENERATORS.values() if side.experiment == "generators"]
    begun = (study.root / "experiments" / "generators").is_dir()  # not every profile has a plan of experiments
    return begun and any(weights(study, side) for side in others)


def _methods(study: Study, test: TestSet) -> tuple[dict[str, Way], list[dict]]:
    """Other generators of a study's experiments, seed 0, and the method itself trained as short, with their records."""
    ways = {label: Way.of(made.images) for label, made in painted(study, GENERATORS, test).items()}
    records = []
    for label in ways:
        folder = weights(study, GENERATORS[label])
        meta = read_json(folder / "meta.json")
        record = {"generator": label, "study": study.name, "path": folder.relative_to(study.root).as_posix()}
        record |= {"size_px": study.profile.size, "steps_in_all": meta["step"]}
        records.append(record | {"sha256": meta["files"]["net_G_AB.safetensors"]})
    return ways, records


def _told_methods(records: list[dict]) -> str:
    """Those records in a caption's words."""
    steps = " or ".join(f"{count:,}" for count in sorted({record["steps_in_all"] for record in records}))
    return (
        "(c) Other generators, given bare faces (direct) or rule-based masks, and the two steps, all trained for "
        f"{steps} steps from random weights at {records[0]['size_px']} px (study {records[0]['study']})."
    )


def _input(study: Study) -> str:
    """Where the masks of the rule-based images come from."""
    if study.data == "paper":
        return "CMFD's own masks"
    preset = read_json(study.data_dir / "A" / "rule" / "done.json").get("preset", "study")
    return f"this study's rule-based masks, preset {preset}"


def composited(test: TestSet, outputs: np.ndarray) -> np.ndarray:
    """The network's pixels inside the mask region, the full face's own outside: uint8 [N, S, S, 3].

    What `lib.augment` hands out, without its soft border.
    """
    return np.where(test.non_mask[..., None], test.full, outputs)


def overview(study: Study) -> Made:
    """The study in one picture: full face, step one, step two (its mask region returned to the face), the truth."""
    run = checkpoint_record(study, PICKED_STAGE, read_picks(study)[-1])
    test, which = held_out(study)
    outputs = translate(study, PICKED_STAGE, run["epoch"], test.rule)
    rows = {"full face": test.full, "step one:\nrule": test.rule, "step two:\nlearned": composited(test, outputs)}
    if test.truth is not None:
        rows["truth"] = test.truth
    caption = (
        f"Both steps on faces never trained on. Step two: {told(run)}; only its mask region returns to the face, every "
        f"other pixel is the original's{'; truth: the same head rendered with a worn mask' if len(rows) > 3 else ''}. "
        f"{which}"
    )
    fig = sheet(Panel([Row(label, images) for label, images in rows.items()]), fitting(len(test.names)))
    return save_figure(study, fig, "overview", caption, [run], pictures=test.names)
