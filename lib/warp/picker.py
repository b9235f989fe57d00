"""Click a template's key points on its picture, in JupyterLab, VS Code or Voilà:

    from lib.warp.picker import pick_points
    pick_points("mask.png", "mask.json")

Click the places in the order in which they are asked for; drag a point to move it, or select it and nudge it with the
arrow keys (Shift: ten pixels); z takes the last one back. Once all are set, the mask is shown on faces, and Save writes
the JSON file of `lib.warp.own`.
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

from lib.warp import own, templates
from lib.warp.sheet import KEY_POINTS, SIX_POINTS
from lib.warp.templates import template

_PLACES = {
    "top_left": "upper left corner of the mask, where it lies on the cheek before the ear",
    "top_left_quarter": "on the upper edge, halfway from that corner to the nose",
    "nose_bridge": "middle of the upper edge, on the bridge of the nose",
    "top_right_quarter": "on the upper edge, halfway from the nose to the right corner",
    "top_right": "upper right corner",
    "right_side": "right side, at the height of the mouth's corner",
    "lower_right": "right side, where the jaw turns towards the chin",
    "bottom_right": "on the lower edge, halfway from there to the chin",
    "chin": "middle of the lower edge, under the chin",
    "bottom_left": "on the lower edge, left of the chin",
    "lower_left": "left side, where the jaw turns towards the chin",
    "left_side": "left side, at the height of the mouth's corner",
    "nose_line_left": "left edge, level with the tip of the nose",
    "bridge": "middle of the upper edge, on the bridge of the nose",
    "nose_line_right": "right edge, level with the tip of the nose",
    "lip_line_left": "left edge, level with the lower lip",
    "lip_line_right": "right edge, level with the lower lip",
}


class PointPicker(anywidget.AnyWidget):
    """The widget of `pick_points`. points: [[x, y], …] px of the picture, in the order of names; count: 12 or 6."""

    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")
    picture = traitlets.Unicode().tag(sync=True)
    size = traitlets.List().tag(sync=True)
    names = traitlets.List().tag(sync=True)
    hints = traitlets.List().tag(sync=True)
    points = traitlets.List().tag(sync=True)
    count = traitlets.Int(12).tag(sync=True)
    save_clicks = traitlets.Int(0).tag(sync=True)
    message = traitlets.Unicode("").tag(sync=True)
    preview = traitlets.Unicode("").tag(sync=True)

    def __init__(self, source: Path, target: Path, count: int, fields: dict):
        self.source, self.target, self.fields = source, target, fields
        rgba = own._picture(source, fields.get("background"))
        super().__init__(picture=_data_url(rgba), size=[rgba.shape[1], rgba.shape[0]], count=count)
        self._renamed()
        self.observe(self._renamed, "count")
        self.observe(self._show, "points")
        self.observe(lambda change: self.save(), "save_clicks")

    def _renamed(self, change=None) -> None:
        names = KEY_POINTS if self.count == 12 else SIX_POINTS
        with self.hold_sync():
            self.points, self.preview, self.message = [], "", ""
            self.names, self.hints = list(names), [_PLACES[name] for name in names]

    def named(self) -> dict[str, list[float]]:
        """{name: [x, y]} of the points that are set."""
        return dict(zip(self.names, self.points))

    def _show(self, change=None) -> None:
        """Put the mask on faces, once all points are there."""
        if len(self.points) < len(self.names):
            self.preview = ""
            return
        with tempfile.TemporaryDirectory() as folder:
            try:
                file = own.save_template(Path(folder) / "try.json", self.source.resolve(), self.named(), **self.fields)
                mask = template(str(file))
                self.preview, self.message = _data_url(templates.preview(mask, str(file), 192)), ""
            except own.TemplateError as error:
                self.preview, self.message = "", _told(error)

    def save(self) -> None:
        """Write the JSON file; what went wrong, or where it is, appears under the picture."""
        try:
            self.message = f"saved: {own.save_template(self.target, self.source, self.named(), **self.fields)}"
        except (own.TemplateError, OSError) as error:
            self.message = f"not saved: {_told(error)}"


def pick_points(picture: str | Path, json_path: str | Path, count: int = 12, **fields) -> PointPicker:
    """Show a template's picture and ask for its key points by clicks.

    picture: PNG with transparency (or give `background="#ffffff"`). json_path: where Save writes. count: 12 points
    (better), or MaskTheFace's 6. fields: others of the JSON format, e.g. surface="cup". Raises own.TemplateError for a
    picture that cannot be used, ValueError for another count.
    """
    if count not in (6, 12):
        raise ValueError(f"count: expected 12 or 6 points, got {count!r}")
    return PointPicker(Path(picture), Path(json_path), count, fields)


def _told(error: Exception) -> str:
    """The message without the temporary file's name."""
    text = str(error)
    return text.split(".json: ", 1)[1] if ".json: " in text else text


def _data_url(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
