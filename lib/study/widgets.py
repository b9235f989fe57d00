"""Compare checkpoints: ipywidgets in a live notebook, a static grid of the same pictures headlessly."""

from __future__ import annotations

import io
from functools import lru_cache

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from lib.gan import Translator
from lib.study import metrics
from lib.study.config import PAPER_NOISE_SIGMA
from lib.study.datasets import TestSet
from lib.study.display import as_pixels, grid, heat
from lib.study.runs import Study
from lib.study.selection import PICKED_STAGE, read_picks
from lib.study.timeline import all_checkpoints

VIEWS = ("output", "difference", "attention")


class Comparison:
    """Outputs of any kept checkpoint on the held-out faces, computed when first asked for and kept in memory.

    A checkpoint is named (stage, epoch label); see `choices`.
    """

    def __init__(self, study: Study, test: TestSet, cached: int = 256):
        self.study, self.test = study, test
        self.choices = all_checkpoints(study)
        if not self.choices:
            raise ValueError(f"{study.root}: no checkpoint to compare; run the stages (notebooks 04 to 09) first")
        self._translator = lru_cache(maxsize=6)(lambda key: Translator(self.choices[key]))
        self.output = lru_cache(maxsize=cached)(self._output)

    def picked(self) -> list[tuple[str, int]]:
        """The checkpoints picked in this study (313 and 476 by default), or the newest where they do not exist yet."""
        picks = [(PICKED_STAGE, epoch) for epoch in read_picks(self.study) if (PICKED_STAGE, epoch) in self.choices]
        return picks or list(self.choices)[-2:]

    def _output(self, key: tuple[str, int], face: int, seed: int, sigma: tuple[float, float, float] | None):
        result = self._translator(key).translate(self.test.rule[face : face + 1], [seed], sigma)
        return result.images[0], result.attention[0]

    def view(self, key, face: int, seed: int = 0, sigma=None, kind: str = "output") -> np.ndarray:
        """One picture, uint8 [S, S, 3]: the output, a heat map of the change, or where the attention lets it change."""
        image, attention = self.output(key, face, seed, sigma)
        if kind == "difference":
            return heat(metrics.change_map(self.test.rule[face], image), 0.5)
        return np.repeat(as_pixels(attention)[..., None], 3, axis=-1) if kind == "attention" else image

    def static(self, keys=None, faces=range(6), seed: int = 0, kind: str = "output") -> Figure:
        """Rule-based inputs above, one row per checkpoint below: what the widget shows, as a figure."""
        keys, faces = list(keys or self.picked()), [f for f in faces if f < len(self.test.rule)]
        images = [self.test.rule[f] for f in faces] + [
            self.view(key, f, seed + f, None, kind) for key in keys for f in faces
        ]
        return grid(images, columns=len(faces), rows=["rule-based", *(f"{stage}\n{epoch}" for stage, epoch in keys)])

    def widget(self) -> widgets.Widget:
        """Sliders for two checkpoints, the face, the noise seed and both σ; views side by side."""
        labels = {f"{stage} · {epoch}": (stage, epoch) for stage, epoch in self.choices}
        names = {key: label for label, key in labels.items()}
        first, last = self.picked()[0], self.picked()[-1]
        once = {"continuous_update": False, "layout": widgets.Layout(width="340px")}  # drawn when the handle is let go
        pick = [
            widgets.SelectionSlider(options=list(labels), value=names[key], description=text, **once)
            for key, text in ((first, "left"), (last, "right"))
        ]
        face = widgets.IntSlider(0, 0, len(self.test.rule) - 1, description="face", **once)
        seed = widgets.IntSlider(0, 0, 50, description="noise seed", **once)
        sigma = [
            widgets.FloatSlider(value, min=0, max=4, step=0.1, description=text, **once)
            for value, text in zip(PAPER_NOISE_SIGMA[1:], ("σ layer 2", "σ layer 3"))
        ]
        kind = widgets.ToggleButtons(options=VIEWS, description="view")
        panes = [widgets.Image(format="png", width=256, height=256) for _ in range(3)]
        captions = [widgets.HTML() for _ in range(3)]

        def draw(_=None) -> None:
            panes[0].value, captions[0].value = _png(self.test.rule[face.value]), "rule-based"
            for pane, caption, choice in zip(panes[1:], captions[1:], pick):
                key = labels[choice.value]
                noisy = self._translator(key).noise.active  # the σ sliders move what was trained with noise only
                drawn = (0.0, *(slider.value for slider in sigma)) if noisy else None
                pane.value = _png(self.view(key, face.value, seed.value, drawn, kind.value))
                image, _ = self.output(key, face.value, seed.value, drawn)
                at = slice(face.value, face.value + 1)
                change = metrics.outside_change(self.test.rule[at], image[None], self.test.non_mask[at])[0]
                caption.value = f"{choice.value}: {change:.3f} changed outside the mask"

        for control in (*pick, face, seed, *sigma, kind):
            control.observe(draw, "value")
        draw()
        shown = widgets.HBox([widgets.VBox([pane, caption]) for pane, caption in zip(panes, captions)])
        return widgets.VBox([widgets.HBox(pick), widgets.HBox([face, seed]), widgets.HBox(sigma), kind, shown])


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(as_pixels(image)).save(buffer, "png")
    return buffer.getvalue()
