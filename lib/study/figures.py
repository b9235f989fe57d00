"""Figures 1 to 9 and Table 1 of the paper, one function each, from the runs of a study.

Every figure is saved as a vector PDF and a PNG, with a JSON beside it that names the runs it was made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lib.data.files import write_json, write_table
from lib.data.images import to_pixels, to_tensor
from lib.gan import Translator, load_generator
from lib.study import metrics
from lib.study.config import PAPER_NOISE_SIGMA, STAGES, StudyError, table_1_rows
from lib.study.datasets import TestSet, load_test_set
from lib.study.diagram import Tensors, generator_diagram
from lib.study.display import grid, heat, strips
from lib.study.runs import Study, git_state, now
from lib.study.selection import PICKED_STAGE, read_picks
from lib.study.timeline import checkpoints_of, compressed, load_stage

FACES = 6  # pictures per row of a figure
NOISE_OFF = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Made:
    """A finished figure: what to show, what it says, where it lies."""

    figure: Figure
    caption: str
    path: Path


def save_figure(study: Study, fig: Figure, name: str, caption: str, runs: list[str], **facts) -> Made:
    """Write `<name>.pdf`, `.png` and `.json` to the study's figures. `runs` are checkpoint paths under the study."""
    plt.close(fig)  # shown by the notebook as a cell's value, not a second time by pyplot
    folder = study.figures_dir
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("pdf", "png"):
        partial = folder / f".{name}.{suffix}.tmp"
        # no creation date inside: the same runs give the same bytes
        fig.savefig(
            partial, format=suffix, bbox_inches="tight", metadata={"CreationDate": None} if suffix == "pdf" else None
        )
        partial.replace(folder / f"{name}.{suffix}")
    record = {
        "figure": name,
        "caption": caption,
        "study": study.to_dict(),
        "runs": runs,
        "git": git_state(),
        "made": now(),
    }
    write_json(folder / f"{name}.json", record | facts)
    return Made(fig, caption, folder / f"{name}.png")


def checkpoint(study: Study, stage: str, epoch: int | None = None) -> Path:
    """Folder of a kept checkpoint (the stage's last where `epoch` is None). StudyError lists what there is."""
    found = load_stage(study, stage).checkpoints
    label = max(found) if epoch is None else epoch
    if label not in found:
        raise StudyError(f"{stage} of {study.name} kept no checkpoint {label}; it has {', '.join(map(str, found))}")
    return found[label]


def translate(study: Study, stage: str, epoch: int | None, images: np.ndarray, seed: int = 0, sigma=None) -> np.ndarray:
    """Outputs of a checkpoint on uint8 [N, S, S, 3]; image n gets noise seed `seed + n`."""
    seeds = [seed + n for n in range(len(images))]
    return Translator(checkpoint(study, stage, epoch)).translate(images, seeds, sigma).images


def _name(study: Study, stage: str, epoch: int | None = None) -> str:
    return f"{stage}/checkpoints/{checkpoint(study, stage, epoch).name}"


def _take(test: TestSet, count: int = FACES) -> TestSet:
    return test.take(range(min(count, len(test.rule))))


def figure_1(study: Study) -> Made:
    """Example images of set B, as stages 3 to 5 train on them (paper Fig. 1)."""
    folder = study.data_dir / "B"
    if not (folder / "done.json").exists():
        raise StudyError(f"{folder}: set B is not prepared yet; run notebook 01_data_filtering first")
    table = pd.read_csv(folder / "faces.csv").query("stage3")
    chosen = table.sample(min(2 * FACES, len(table)), random_state=study.seed).sort_index()
    fig = grid([folder / "images" / name for name in chosen["image"]], columns=FACES)
    caption = f"{len(chosen)} of the {len(table)} images of set B after filters and hand-picking (data: {study.data})."
    return save_figure(study, fig, "figure_1", caption, [], images=chosen["image"].tolist())


def figure_2(study: Study) -> Made:
    """The generator and its noise inputs, with this profile's sizes and, once trained, real tensors (paper Fig. 2)."""
    first, runs, tensors = read_picks(study)[0], [], None
    if first in checkpoints_of(study, PICKED_STAGE):
        tensors, runs = generator_tensors(study, first), [_name(study, PICKED_STAGE, first)]
    fig = generator_diagram(study.profile.ngf, study.profile.size, PAPER_NOISE_SIGMA, tensors)
    caption = (
        "The generator (AttentionGAN-v2) and the places where noise is added: to what content layers 2 and 3 receive. "
        "Sizes are channels × pixels of this profile; TC: transposed convolution."
        + (f" Tensors of checkpoint {first}; attention: white = 1." if tensors else "")
    )
    return save_figure(study, fig, "figure_2", caption, runs)


def generator_tensors(study: Study, epoch: int, face: int = 0, seed: int = 0) -> Tensors:
    """Contents and attentions of one held-out face inside the generator of a kept checkpoint of stage 5."""
    image = load_test_set(study).rule[face]
    generator = load_generator(checkpoint(study, PICKED_STAGE, epoch))
    with torch.inference_mode():
        parts = generator(to_tensor(image[None]), torch.Generator().manual_seed(seed), return_parts=True)
    return Tensors(image, to_pixels(parts.contents[0]), parts.attention[0].numpy(), to_pixels(parts.output)[0])


def noise_by_layer(study: Study, image: np.ndarray, sigmas=(0.0, 1.0, 4.0, 16.0), seed: int = 0) -> np.ndarray:
    """One face with noise into one content layer at a time, in weights trained without noise (paper §4.2).

    Returns uint8 [3 layers, len(sigmas), S, S, 3].
    """
    translator = Translator(checkpoint(study, "stage4"))
    rows = []
    for layer in range(3):
        row = []
        for sigma in sigmas:
            vector = tuple(sigma if k == layer else 0.0 for k in range(3))
            row.append(translator.translate(image[None], [seed], vector).images[0])
        rows.append(row)
    return np.array(rows)


def figure_3(study: Study) -> Made:
    """Noise at each content layer of weights trained without it (paper Fig. 3)."""
    sigmas = (0.0, 0.2, 1.0, 4.0, 16.0)
    test = _take(load_test_set(study), 1)
    outputs = noise_by_layer(study, test.rule[0], sigmas)
    inside = ~test.non_mask[0]
    change = metrics.change_map(np.broadcast_to(outputs[:, :1], outputs.shape), outputs)[..., inside].mean(-1)
    fig = grid(list(outputs.reshape(-1, *outputs.shape[2:])), columns=len(sigmas),
               titles=[f"σ = {s:g}" for s in sigmas], rows=[f"layer {k}" for k in (1, 2, 3)])  # fmt: skip
    caption = "Noise into one content layer at a time, weights of stage 4 (trained without noise)."
    facts = {"mean_change_inside_mask": change.round(4).tolist(), "sigmas": sigmas}
    return save_figure(study, fig, "figure_3", caption, [_name(study, "stage4")], **facts)


def _results(study: Study, name: str, stage: str, epoch: int | None, caption: str, seeds: int = 1) -> Made:
    """Rule-based images above, outputs below: one row per draw of the noise; the mask colours' spread as a fact."""
    test = _take(load_test_set(study))
    draws = [translate(study, stage, epoch, test.rule, seed=1000 * k) for k in range(seeds)]
    labels = ["output"] if seeds == 1 else [f"noise {k + 1}" for k in range(seeds)]
    fig = grid([*test.rule, *np.concatenate(draws)], columns=len(test.rule), rows=["rule-based", *labels])
    inside = ~test.non_mask
    before, after = (metrics.colour_diversity(metrics.mask_colour_lab(x, inside)) for x in (test.rule, draws[0]))
    facts = {"colour_spread_rule_based": round(before, 3), "colour_spread_output": round(after, 3)}
    caption += f" Spread of the mask colours over these faces: ΔE {before:.1f} rule-based, {after:.1f} in the row below"
    if seeds > 1:
        facts["noise_diversity"] = round(metrics.noise_diversity(np.stack(draws), inside), 3)
        caption += f"; over the draws of one face: ΔE {facts['noise_diversity']:.1f}"
    return save_figure(study, fig, name, caption + ".", [_name(study, stage, epoch)], **facts)


def figure_4(study: Study) -> Made:
    """Before the noise input: the colour of the masks (paper Fig. 4, "uniform color for any single checkpoint")."""
    return _results(study, "figure_4", "stage4", None, "Last checkpoint of stage 4, before the noise input.")


def figure_5(study: Study) -> Made:
    """Before NMC and noise: the epoch of stages 1 to 3 whose samples changed most outside the mask (paper Fig. 5)."""
    worst = None
    for stage in ("stage1", "stage2", "stage3"):
        run = load_stage(study, stage)
        row = run.samples.loc[run.samples["outside_change"].idxmax()]
        if worst is None or row["outside_change"] > worst[2]:
            worst = (run, int(row["epoch"]), float(row["outside_change"]))
    run, epoch, change = worst
    fig = strips({f"{run.stage.name}, epoch {epoch}": run.sample_image(epoch)}, cell=1.25)
    caption = (
        f"Samples of {run.stage.name} after epoch {epoch}, the worst of stages 1 to 3: input, output, and where the "
        f"input is kept (white). Mean change outside the mask: {change:.3f}."
    )
    facts = {"outside_change": round(change, 4)}
    return save_figure(study, fig, "figure_5", caption, [f"{run.stage.name}/samples/epoch_{epoch:04d}.png"], **facts)


def figure_6(study: Study) -> Made:
    """Results at the first picked checkpoint, in the paper 313 (paper Fig. 6)."""
    pick = read_picks(study)[0]
    return _results(study, "figure_6", PICKED_STAGE, pick, f"Checkpoint {pick}, three draws of the noise.", 3)


def figure_7(study: Study) -> Made:
    """Results at the second picked checkpoint, in the paper 476 (paper Fig. 7)."""
    pick = read_picks(study)[1]
    return _results(study, "figure_7", PICKED_STAGE, pick, f"Checkpoint {pick}, three draws of the noise.", 3)


def figure_8(study: Study) -> Made:
    """Artefacts at the second pick: the held-out faces that changed most outside the mask (paper Fig. 8)."""
    pick = read_picks(study)[1]
    test = load_test_set(study)
    outputs = translate(study, PICKED_STAGE, pick, test.rule)
    change = metrics.outside_change(test.rule, outputs, test.non_mask)
    worst = np.argsort(-np.nan_to_num(change))[:FACES]
    maps = [heat(metrics.change_map(test.rule[n], outputs[n]) * test.non_mask[n], 0.5) for n in worst]
    titles = [f"change {change[n]:.3f}" for n in worst]
    rows = ["rule-based", "output", "change outside"]
    fig = grid([*test.rule[worst], *outputs[worst], *maps], columns=len(worst), rows=rows, titles=titles)
    caption = (
        f"The {len(worst)} of {len(test.rule)} held-out faces that checkpoint {pick} changed most outside the mask "
        "(mean change above each; brightest = 0.5)."
    )
    return save_figure(study, fig, "figure_8", caption, [_name(study, PICKED_STAGE, pick)])


def figure_9(study: Study) -> Made:
    """Comparison with other generators (paper Fig. 9): ours, AttentionGAN without NMC and noise, rule-based alone."""
    test, picks = _take(load_test_set(study)), read_picks(study)
    variants = {
        "rule-based": test.rule,
        "AttentionGAN": translate(study, "stage3", None, test.rule, sigma=NOISE_OFF),
        "+ NMC": translate(study, "stage4", None, test.rule, sigma=NOISE_OFF),
        **{f"+ noise, {pick}": translate(study, PICKED_STAGE, pick, test.rule) for pick in picks},
    }
    if test.truth is not None:
        variants["truth"] = test.truth
    fig = grid([image for images in variants.values() for image in images], columns=len(test.rule), rows=list(variants))
    caption = "Rule-based alone, the AttentionGAN before the two additions, with NMC, with NMC and noise" + (
        "; last row: the same face truly wearing a mask." if test.truth is not None else "."
    )
    runs = [_name(study, "stage3"), _name(study, "stage4"), *(_name(study, PICKED_STAGE, pick) for pick in picks)]
    return save_figure(study, fig, "figure_9", caption, runs)


def composited(test: TestSet, outputs: np.ndarray) -> np.ndarray:
    """The network's pixels inside the mask region, the full face's own outside: uint8 [N, S, S, 3].

    What `lib.augment` hands out, without its soft border.
    """
    return np.where(test.non_mask[..., None], test.full, outputs)


def overview(study: Study) -> Made:
    """The study in one picture: full face, step one, step two (its mask region returned to the face), the truth."""
    test, epoch = _take(load_test_set(study)), read_picks(study)[-1]
    outputs = translate(study, PICKED_STAGE, epoch, test.rule)
    rows = {"full face": test.full, "step one:\nrule": test.rule, "step two:\nlearned": composited(test, outputs)}
    if test.truth is not None:
        rows["truth"] = test.truth
    fig = grid([image for images in rows.values() for image in images], columns=len(test.rule), rows=list(rows))
    caption = (
        f"Faces never trained on. Step two is checkpoint {epoch}: only its mask region returns to the face, every "
        "other pixel is the original's"
        + ("; the truth is the same face rendered with a worn mask." if len(rows) > 3 else ".")
    )
    return save_figure(study, fig, "overview", caption, [_name(study, PICKED_STAGE, epoch)])


def table_1(study: Study) -> pd.DataFrame:
    """Table 1 of the paper with this study's counts beside it; also written as table_1.csv."""
    ours = compressed(study).set_index("stage")
    rows = []
    for stage, row in zip([s for s in STAGES.values() if s.name != "pretraining"], table_1_rows()):
        manifest = load_stage(study, stage.name).manifest
        here = {
            "Passes here": ours.loc[stage.name, "passes here"],
            "Images here (A/B)": "{A}/{B}".format(**manifest["data"]),
        }
        rows.append(row | here | {"Steps here": manifest.get("steps")})
    table = pd.DataFrame(rows)
    write_table(study.figures_dir / "table_1.csv", table)
    record = {"figure": "table_1", "study": study.to_dict(), "runs": [s.name for s in STAGES.values()], "made": now()}
    write_json(study.figures_dir / "table_1.json", record)
    return table


FIGURES = {k: globals()[f"figure_{k}"] for k in range(1, 10)}
