"""What a study's checkpoints make of its held-out faces: computed when first asked for, kept in bounded memory.

The pictures of `lib.study.widgets` and the static grids of notebook 10 come from here. Views of one result (output,
difference, attention maps) are drawn from the kept output without the network.
"""

from __future__ import annotations

import base64
import io
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from lib.data.files import read_json
from lib.data.images import to_pixels, to_tensor
from lib.gan import load_generator, pick_device
from lib.study import metrics
from lib.study.config import STAGES, StudyError
from lib.study.datasets import TestSet, is_done, load_test_set
from lib.study.display import as_pixels, grid, heat
from lib.study.runs import Study, find_study
from lib.study.selection import PICKED_STAGE, read_picks
from lib.study.timeline import all_checkpoints

Choice = tuple[str, int]  # stage, epoch label
KEPT, DRAWN, ALL = "tenth", "others", "all"  # attention maps by name, beside "1" … "10"
MAPS = (KEPT, DRAWN, *map(str, range(1, 11)), ALL)
BRIGHTEST = 0.5  # of the full range: the change that a heat map draws brightest unless told otherwise


@dataclass(frozen=True)
class Wish:
    """One picture: which weights, which face, which noise. Equal wishes have equal pictures.

    seed: None where no noise is drawn. sigma: None where the checkpoint was trained without noise. stamp: time of the
    checkpoint's meta.json, so that weights trained anew are not taken for the old ones.
    """

    choice: Choice
    face: int
    seed: int | None
    sigma: tuple[float, float, float] | None
    stamp: int


@dataclass(frozen=True)
class Result:
    """image: uint8 [S, S, 3]. attention: uint8 [10, S, S], 255 = 1; the tenth map keeps the input. outside: mean change
    outside the mask, [0, 1]."""

    image: np.ndarray
    attention: np.ndarray
    outside: float


class Comparison:
    """Outputs of any kept checkpoint on the held-out faces. May be asked from several threads.

    memory: bytes of results to keep; the least recently used go first.
    """

    def __init__(self, study: Study, test: TestSet | None = None, memory: int = 256 * 2**20):
        self.study, self.choices = study, all_checkpoints(study)
        if not self.choices:
            raise StudyError(f"{study.root}: no checkpoint to compare; run the stages (notebooks 04 to 09) first")
        self.test, self.memory = test or load_test_set(study), memory
        self._kept: OrderedDict[Wish, Result] = OrderedDict()
        self._lock, self._network = threading.Lock(), threading.Lock()
        self._generator = lru_cache(maxsize=6)(lambda path, stamp: load_generator(path, pick_device("auto")))
        self._sigma: dict[str, tuple[float, ...]] = {}

    def picked(self) -> list[Choice]:
        """The checkpoints picked in this study (313 and 476 by default), or the newest where they do not exist yet."""
        picks = [(PICKED_STAGE, epoch) for epoch in read_picks(self.study) if (PICKED_STAGE, epoch) in self.choices]
        return picks if len(picks) == 2 else list(self.choices)[-2:]

    def sigma(self, stage: str) -> tuple[float, float, float]:
        """The standard deviations of the noise that a stage was trained with; all 0 where it was none."""
        if stage not in self._sigma:
            manifest = read_json(self.study.stage_dir(stage) / "manifest.json")
            self._sigma[stage] = tuple(manifest["config"]["noise"]["sigma"])
        return self._sigma[stage]

    def wish(self, choice: Choice, face: int, seed: int = 0, sigma: Sequence[float] | None = None) -> Wish:
        """What to ask `result` for. sigma: at the content layers 1, 2, 3, as trained by default; a checkpoint trained
        without noise takes none, whatever is given."""
        trained = self.sigma(choice[0])
        used = tuple(map(float, trained if sigma is None else sigma)) if any(trained) else None
        meta = self.choices[choice] / "meta.json"
        return Wish(choice, face, seed if used and any(used) else None, used, _changed(meta))

    def cached(self, wish: Wish) -> Result | None:
        """The result where it is there already."""
        with self._lock:
            if wish in self._kept:
                self._kept.move_to_end(wish)
            return self._kept.get(wish)

    def result(self, wish: Wish) -> Result:
        """The result, computed where it is not there. Raises lib.gan.CheckpointError for damaged weights."""
        if found := self.cached(wish):
            return found
        with self._network:  # one at a time: a generator's noise setting is its own state
            if found := self.cached(wish):
                return found
            result = self._compute(wish)
        with self._lock:
            self._kept[wish] = result
            size = result.image.nbytes + result.attention.nbytes
            while len(self._kept) > max(1, self.memory // size):
                self._kept.popitem(last=False)
        return result

    def _compute(self, wish: Wish) -> Result:
        generator = self._generator(self.choices[wish.choice], wish.stamp)
        if wish.sigma is not None:
            generator.noise = replace(generator.noise, sigma=wish.sigma)
        rule = self.test.rule[wish.face : wish.face + 1]
        stream = None if wish.seed is None else [torch.Generator().manual_seed(wish.seed)]
        with torch.inference_mode():
            parts = generator(to_tensor(rule).to(next(generator.parameters()).device), stream, return_parts=True)
        image = to_pixels(parts.output.cpu())
        attention = (parts.attention[0].float().cpu().clamp(0, 1) * 255).round().byte().numpy()
        outside = metrics.outside_change(rule, image, self.test.non_mask[wish.face : wish.face + 1])
        return Result(image[0], attention, float(outside[0]))

    def view(
        self, choice: Choice, face: int, seed: int = 0, sigma: Sequence[float] | None = None, kind: str = "output"
    ) -> np.ndarray:
        """One picture, uint8: the output [S, S, 3], a heat map of the change ("difference"), or where the attention
        lets it change ("attention", grey [S, S]: the sum of all maps but that of the input)."""
        result = self.result(self.wish(choice, face, seed, sigma))
        if kind == "difference":
            return difference(self.test.rule[face], result.image)
        return attention_map(result.attention, DRAWN) if kind == "attention" else result.image

    def static(
        self, choices: Iterable[Choice] | None = None, faces: Iterable[int] = range(6), seed: int = 0,
        kind: str = "output",
    ) -> Figure:  # fmt: skip
        """Rule-based inputs above, one row per checkpoint below: what the page shows, as a figure. kind: see `view`."""
        choices, faces = list(choices or self.picked()), [f for f in faces if f < len(self.test.rule)]
        images = [self.test.rule[f] for f in faces]
        images += [self.view(choice, f, seed + f, None, kind) for choice in choices for f in faces]
        rows = ["rule-based", *(f"{stage}\n{epoch}" for stage, epoch in choices)]
        return grid(images, columns=len(faces), rows=rows)


def label(choice: Choice) -> str:
    """("stage5", 313) → "stage5 · 313", the name of a checkpoint on the page and in the file of votes."""
    return f"{choice[0]} · {choice[1]}"


def difference(before: np.ndarray, after: np.ndarray, brightest: float = BRIGHTEST) -> np.ndarray:
    """Mean absolute difference of two pictures as colours, uint8 [S, S, 3], up to `brightest` of the range."""
    change = np.abs(before.astype(np.int16) - after).sum(-1)
    return heat(np.arange(3 * 255 + 1) / (3 * 255), brightest)[
        change
    ]  # all values there are, coloured once: it is fast


def attention_map(attention: np.ndarray, which: str, brightest: float = 1.0) -> np.ndarray:
    """Attention maps uint8 [10, S, S] as a grey picture, uint8 [S, S], or [4 S, 3 S] for all of them.

    which: "tenth" keeps the input; "others" is the sum of the nine others, 1 − the tenth, since the ten add up to 1;
    "1" … "10"; "all": three in a row, the tenth alone below. brightest: the attention that is drawn white, in (0, 1].
    """
    if which == ALL:
        empty = np.full((2, *attention.shape[1:]), 128, np.uint8)
        rows = np.concatenate([_scaled(attention, brightest), empty]).reshape(4, 3, *attention.shape[1:])
        return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    one = 255 - attention[-1] if which == DRAWN else attention[-1 if which == KEPT else int(which) - 1]
    return _scaled(one, brightest)


def _scaled(attention: np.ndarray, brightest: float) -> np.ndarray:
    return np.minimum(np.rint(attention / brightest), 255).astype(np.uint8)


def runs_beside(root: Path) -> dict[str, str]:
    """Every study in a folder of runs: name → why it cannot be compared, "" where it can."""
    return {path.parent.name: _why_not(path.parent) for path in sorted(root.glob("*/study.json"))}


def _why_not(folder: Path) -> str:
    try:
        study = find_study(folder.name, folder.parent)
        read_picks(study)
    except (StudyError, ValueError, KeyError, OSError) as error:
        return str(error)
    if not any(next((study.stage_dir(stage) / "checkpoints").glob("epoch_*"), None) for stage in STAGES):
        return "no checkpoint yet; run the notebooks 04 to 09"
    if not is_done(study.data_dir / "A" / "rule"):
        return "no held-out faces; run the notebooks 01 and 02"
    return ""


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # gone or being replaced: reading it will say so
        return 0


def png_url(pixels: np.ndarray) -> str:
    """A picture as a PNG data URL: what is to be judged is sent without loss."""
    buffer = io.BytesIO()
    Image.fromarray(as_pixels(pixels)).save(buffer, "png", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
