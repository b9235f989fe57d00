"""What goes into a stage, and its fixed sample faces: after every pass, and inside the generator."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.data.images import to_pixels, to_tensor
from lib.gan import TrainConfig, TrainData, load_generator, pick_device
from lib.gan.records import translate_samples
from lib.study.datasets import train_data
from lib.study.display import as_pixels, grid, heat
from lib.study.runs import Study
from lib.study.timeline import StageRun

STRIP_ROWS = 3  # input, output, kept input: see lib.gan.records.snapshot


def what_goes_in(data: TrainData, first: int = 64) -> pd.DataFrame:
    """The arrays a stage is trained on: one row each with count, shape, type, and the range of the `first` pictures."""
    arrays = {"set A": data.A, "set B": data.B, "non-mask tensors of A": data.non_mask, "sample faces": data.samples}
    rows = {
        name: {
            "count": len(array),
            "each": " × ".join(map(str, array.shape[1:])),
            "type": str(array.dtype),
            "lowest": int(np.min(array[:first])),
            "highest": int(np.max(array[:first])),
        }
        for name, array in arrays.items()
        if array is not None
    }
    return pd.DataFrame(rows.values(), index=list(rows))


def strip_tiles(path: Path, size: int) -> np.ndarray:
    """The tiles of a sample strip as the trainer wrote it: uint8 [3, K, size, size, 3]."""
    pixels = as_pixels(path)
    pitch = size + (pixels.shape[0] - STRIP_ROWS * size) // (STRIP_ROWS - 1)
    starts = range(0, pixels.shape[1], pitch)
    return np.array([[pixels[r * pitch :, c:][:size, :size] for c in starts] for r in range(STRIP_ROWS)])


def every_pass(run: StageRun, faces: int = 3, per_row: int = 16, most: int = 96, width: float = 10.5) -> Figure:
    """The first sample faces after every pass: a column per pass behind the input, `per_row` passes side by side.

    most: of a longer stage so many passes are drawn, evenly spread, the first and the last among them.
    width: of the widest row, inches; short rows have larger pictures.
    """
    labels = [int(epoch) for epoch in run.samples["epoch"]]
    if len(labels) > most:
        labels = [labels[k] for k in np.linspace(0, len(labels) - 1, most).round().astype(int)]
    tiles = {label: strip_tiles(run.sample_image(label), run.manifest["config"]["size"])[:, :faces] for label in labels}
    blocks = [labels[k : k + per_row] for k in range(0, len(labels), per_row)]
    faces, size = tiles[labels[0]].shape[1:3]
    wide = 1 + max(map(len, blocks))
    cell = min(1.1, width / wide)
    shape = (wide * cell + 0.2, len(blocks) * (faces * cell + 0.3))
    fig, axes = plt.subplots(len(blocks), 1, figsize=shape, squeeze=False, layout="compressed")
    for ax, block in zip(axes.flat, blocks):
        columns = [tiles[block[0]][0], *(tiles[label][1] for label in block)]
        columns += [np.full_like(columns[0], 255)] * (wide - len(columns))
        ax.imshow(np.concatenate([np.concatenate(list(column)) for column in columns], axis=1), interpolation="auto")
        ax.set_xticks([size * (k + 0.5) for k in range(1 + len(block))], ["input", *map(str, block)], fontsize=7)
        ax.tick_params(length=0, labeltop=True, labelbottom=False, pad=1)
        ax.set_yticks([])
        ax.grid(False)
        sns.despine(ax=ax, left=True, bottom=True)
    plt.close(fig)
    return fig


def look_inside(checkpoint: Path, faces: np.ndarray, config: TrainConfig, device: str = "auto") -> dict[str, list]:
    """What a checkpoint's generator A → B makes of some faces, uint8 [K, S, S, 3], with the noise of the sample strips.

    Returns lists of K arrays: "output" uint8 [S, S, 3]; "kept" float [S, S] in [0, 1], the attention of the input;
    "content" uint8 [S, S, 3] and "taken" float [S, S]: of the nine contents the one with the highest mean attention,
    and that attention.
    """
    place = pick_device(device)
    parts = translate_samples(load_generator(checkpoint, place), to_tensor(faces).to(place), config)
    attention = parts.attention.cpu().numpy()
    strongest = attention[:, :-1].mean((2, 3)).argmax(1)
    each = range(len(faces))
    return {
        "output": list(to_pixels(parts.output)),
        "kept": list(attention[:, -1]),
        "content": list(to_pixels(parts.contents[each, strongest])),
        "taken": list(attention[each, strongest]),
    }


def attention_maps(study: Study, run: StageRun, device: str = "auto", faces: int = 6) -> Figure:
    """The stage's fixed samples: output and kept input ($A_{10}$, white = kept) at the first and the last kept
    checkpoint, and at the last the strongest content with its attention. Even maps are told by their mean alone."""
    config = TrainConfig.from_dict(run.manifest["config"])
    data, _ = train_data(study, run.stage, config.sample_count)
    pictures = np.moveaxis(np.array(data.samples[:faces]), 1, -1)
    rows = {"input": list(pictures)}
    for label in sorted({min(run.checkpoints), max(run.checkpoints)}):
        inside = look_inside(run.checkpoints[label], pictures, config, device)
        rows[f"output, {label}"], rows[f"kept, {label}\n{_mean(inside['kept'])}"] = inside["output"], inside["kept"]
    rows["strongest\ncontent"] = inside["content"]
    rows[f"its attention\n{_mean(inside['taken'])}"] = [heat(a, 1.0) for a in inside["taken"]]
    return grid([image for row in rows.values() for image in row], columns=len(pictures), rows=list(rows), cell=1.0)


def _mean(maps: list[np.ndarray]) -> str:
    return f"(mean {np.mean(maps):.2f})"
