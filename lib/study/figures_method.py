"""Figures 1 to 5 of the paper: what is imitated, the network, its noise, and what it did before the additions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from lib.data.images import to_pixels, to_tensor
from lib.gan import Translator, load_generator
from lib.study import metrics
from lib.study.artefacts import crop
from lib.study.config import PAPER_NOISE_SIGMA, StudyError
from lib.study.datasets import load_test_set
from lib.study.diagram import Tensors, generator_diagram
from lib.study.display import heat
from lib.study.figure_parts import FACES, SPREAD, colour_row, held_out, round_limit, translate
from lib.study.printed import Made, checkpoint, checkpoint_record, file_record, save_figure, told
from lib.study.runs import Study
from lib.study.samples import strip_tiles
from lib.study.selection import PICKED_STAGE, read_picks, spread
from lib.study.sheet import COLUMN, Panel, Row, Scale, fitting, sheet
from lib.study.timeline import checkpoints_of, load_stage

NOISE_SIGMAS = (0.0, 0.2, 1.0, 4.0, 16.0)


def figure_1(study: Study) -> Made:
    """Example images of set B, as stages 3 to 5 train on them (paper Fig. 1)."""
    folder = study.data_dir / "B"
    if not (folder / "done.json").exists():
        raise StudyError(f"{folder}: set B is not prepared yet; run notebook 01_data_filtering first")
    table = pd.read_csv(folder / "faces.csv").query("stage3")
    chosen = table.sample(min(12, len(table)), random_state=study.seed).sort_index()["image"].tolist()
    rows = [Row("", [folder / "images" / name for name in chosen[k : k + 4]]) for k in range(0, len(chosen), 4)]
    caption = f"{len(chosen)} of the {len(table)} images of set B after filters and hand-picking, drawn by lot."
    return save_figure(study, sheet(Panel(rows), COLUMN), "figure_1", caption, pictures=chosen)


def figure_2(study: Study) -> Made:
    """The generator and its noise inputs, with this profile's sizes and, once trained, real tensors (paper Fig. 2)."""
    first, runs, tensors, facts = read_picks(study)[0], [], None, {}
    if first in checkpoints_of(study, PICKED_STAGE):
        tensors, runs = generator_tensors(study, first), [checkpoint_record(study, PICKED_STAGE, first)]
        facts["pictures"] = load_test_set(study).names[:1]
    p = study.profile
    fig = generator_diagram(p.ngf, p.size, PAPER_NOISE_SIGMA, tensors, p.upsampling)
    caption = (
        "The generator (AttentionGAN-v2) and where noise is added: to what content layers 2 and 3 receive. Sizes are "
        "channels × pixels. Output = sum over i of content i × attention i, plus input × attention 10."
        + (f" The pictures are a held-out face inside {told(runs[0])}; attention: white is 1." if runs else "")
    )
    return save_figure(study, fig, "figure_2", caption, runs, **facts)


def generator_tensors(study: Study, epoch: int, face: int = 0, seed: int = 0) -> Tensors:
    """Contents and attentions of one held-out face inside the generator of a kept checkpoint of stage 5."""
    image = load_test_set(study).rule[face]
    generator = load_generator(checkpoint(study, PICKED_STAGE, epoch))
    with torch.inference_mode():
        parts = generator(to_tensor(image[None]), torch.Generator().manual_seed(seed), return_parts=True)
    return Tensors(image, to_pixels(parts.contents[0]), parts.attention[0].numpy(), to_pixels(parts.output)[0])


def noise_by_layer(
    study: Study, images: np.ndarray, sigmas: Sequence[float] = NOISE_SIGMAS, seed: int = 0
) -> np.ndarray:
    """Noise into one content layer at a time, in weights trained without noise (paper §4.2).

    images: uint8 [N, S, S, 3]. Returns uint8 [N, 3 layers, len(sigmas), S, S, 3].
    """
    translator, seeds = Translator(checkpoint(study, "stage4")), range(seed, seed + len(images))

    def outputs(layer: int, sigma: float) -> np.ndarray:
        vector = tuple(sigma if k == layer else 0.0 for k in range(3))
        return translator.translate(images, seeds, vector).images

    layers = [np.stack([outputs(layer, sigma) for sigma in sigmas], axis=1) for layer in range(3)]
    return np.stack(layers, axis=1)


def figure_3(study: Study) -> Made:
    """Noise at each content layer of weights trained without it (paper Fig. 3)."""
    test, which = held_out(study, 2)
    outputs = noise_by_layer(study, test.rule)
    quiet = np.broadcast_to(outputs[:, :1, :1], outputs.shape)
    change = metrics.change_map(quiet, outputs)  # [N, 3, sigmas, S, S]
    whole, close, means = [], [], []
    for n, inside in enumerate(~test.non_mask):
        means.append(change[n][..., inside].mean(-1))
        box = _at_the_rim(inside)
        for k, pictures in enumerate(outputs[n]):
            boxes = [box if k == 0 else None, *[None] * (len(pictures) - 1)]
            notes = [f"{value:.3f}" for value in means[n][k]]
            whole.append(Row(f"face {n + 1},\nlayer {k + 1}", pictures, notes, boxes=boxes))
            close.append(Row("", [crop(picture, box) for picture in pictures], [""] * len(pictures)))
    titles = [f"σ = {sigma:g}" for sigma in NOISE_SIGMAS]
    fig = sheet([Panel(whole, titles, "output"), Panel(close, titles, "the square in it, enlarged")])
    run = checkpoint_record(study, "stage4")
    caption = (
        f"Noise N(0, σ²) into one content layer at a time of weights trained without noise, {told(run)}. Under each "
        f"output its mean change inside the mask against σ = 0, as a share of the full range. {which}"
    )
    facts = {"mean_change_inside_mask": np.mean(means, axis=0).round(4).tolist(), "sigmas": NOISE_SIGMAS}
    return save_figure(study, fig, "figure_3", caption, [run], pictures=test.names, **facts)


def _at_the_rim(inside: np.ndarray) -> tuple[int, int, int]:
    """A square of a quarter of the picture, half on the mask: around the middle of its upper rim."""
    size, edge = len(inside), len(inside) // 4
    ys, xs = np.nonzero(inside)
    x, y = (xs.min() + xs.max()) // 2, ys[np.abs(xs - (xs.min() + xs.max()) // 2) <= 1].min()
    return int(np.clip(x - edge // 2, 0, size - edge)), int(np.clip(y - edge // 3, 0, size - edge)), edge


def figure_4(study: Study) -> Made:
    """Before the noise input: the colour of the masks (paper Fig. 4, "uniform color for any single checkpoint")."""
    test, which = held_out(study)
    checkpoint(study, "stage4")  # at least one, or a message that says what to run
    inside, epochs = ~test.non_mask, spread(checkpoints_of(study, "stage4"), 3)
    made = {f"epoch {e}": colour_row(f"epoch {e}", translate(study, "stage4", e, test.rule), inside) for e in epochs}
    rule = colour_row("rule-based", test.rule, inside)
    fig = sheet(Panel([rule[0], *(row for row, _ in made.values())]), fitting(len(test.names)))
    runs = [checkpoint_record(study, "stage4", epoch) for epoch in epochs]
    caption = (
        f"Before the noise input: {len(runs)} checkpoints of stage 4, the last of them {told(runs[-1])}. "
        f"{SPREAD} {which}"
    )
    facts = {
        "colour_spread_rule_based": round(rule[1], 3),
        "colour_spread": {epoch: round(value, 3) for epoch, (_, value) in zip(epochs, made.values())},
    }
    return save_figure(study, fig, "figure_4", caption, runs, pictures=test.names, **facts)


def figure_5(study: Study) -> Made:
    """Before NMC and noise: the pass of stages 1 to 3 whose samples changed most outside the mask (paper Fig. 5)."""
    stages = {name: load_stage(study, name) for name in ("stage1", "stage2", "stage3")}
    samples = pd.concat([run.samples.assign(stage=name) for name, run in stages.items()], ignore_index=True)
    worst = samples.loc[samples["outside_change"].idxmax()]
    run, epoch = stages[worst["stage"]], int(worst["epoch"])
    calm = int(run.samples.loc[run.samples["outside_change"].idxmin(), "epoch"])
    size, count = study.profile.size, min(FACES, run.manifest["config"]["sample_count"])
    bad, good = (strip_tiles(run.sample_image(e), size)[:, :count] for e in (epoch, calm))
    test = load_test_set(study).take(range(count))
    change = metrics.change_map(bad[0], bad[1]) * test.non_mask
    limit, per_face = round_limit(change), metrics.outside_change(bad[0], bad[1], test.non_mask)
    stage = run.stage.name.replace("stage", "stage ")
    rows = [
        Row("input", bad[0]),
        Row(f"{stage},\nepoch {epoch}", bad[1], [f"{value:.3f}" for value in per_face]),
        Row("change\noutside", [heat(face, limit) for face in change]),
        Row("input kept", bad[2]),
    ]
    if calm != epoch:
        calmer = metrics.outside_change(good[0], good[1], test.non_mask)
        rows.append(Row(f"{stage},\nepoch {calm}", good[1], [f"{value:.3f}" for value in calmer]))
    fig = sheet(Panel(rows), fitting(count), Scale("change outside the mask, share of the full range", limit))
    redrawn = int((samples["outside_change"] > metrics.REDRAWN_ABOVE).sum())
    caption = (
        f"Before NMC and noise: the fixed sample faces after epoch {epoch} ({stage}), of"
        f" the {len(samples)} passes of stages 1 to 3 the one with the largest change outside the mask"
        + (f"; last row: the pass of the same stage with the smallest, epoch {calm}" if calm != epoch else "")
        + f". Under the outputs the mean change outside, over all samples {worst['outside_change']:.3f}; input kept: "
        f"white where the attention keeps the input. {redrawn} of the passes changed more than "
        f"{metrics.REDRAWN_ABOVE:g}. Held-out faces, not chosen."
    )
    runs = [file_record(study, run.sample_image(e)) for e in dict.fromkeys((epoch, calm))]
    facts = {"outside_change": round(float(worst["outside_change"]), 4), "passes_redrawn": redrawn}
    return save_figure(study, fig, "figure_5", caption, runs, pictures=test.names, **facts)
