"""Cut faces out of stock photographs, as the paper did for 98 of its pictures of set B (§3), in the browser:

    from lib.study.crop_stock import crop_stock, export_crops
    crop_stock("photos", "crops.csv", by="ann", out="stock")

Draw a square on each face, or take the detector's proposals; name author, source and licence; export. Each change is
written to the CSV at once (`lib.study.crops` says what is in it), so that closing the page loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import anywidget
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.data.files import sha256, write_table
from lib.data.images import ImageError, list_images, read_image
from lib.study.crops import BOX, COLUMNS, CREDIT, CREDITS, export_crops, lacking_credit, read_crops
from lib.study.pick_faces import data_url
from lib.study.selection_file import locked
from lib.warp.sources import LandmarkSource, open_source

SMALLEST_PX = 16
_SHOWN_PX = 1400
# MAFA's boxes are squares from forehead to chin; the detector's reach from the brows to the chin. Factors not given;
# chosen by eye.
_WIDER, _HIGHER = 1.3, 0.1
_HERE = Path(__file__)


def propose(pixels: np.ndarray, source: LandmarkSource, key: str = "") -> list[list[int]]:
    """Squares [x, y, side] around the faces that a detector finds, inside the picture, largest first."""
    squares = []
    for face in source.find(key, pixels):
        x, y, w, h = face.box
        side = _WIDER * max(w, h)
        squares.append(fit([x + (w - side) / 2, y + (h - side) / 2 - _HIGHER * h, side], pixels.shape))
    return squares


def fit(square: Sequence[float], shape: Sequence[int]) -> list[int]:
    """The whole-numbered square [x, y, side] nearest to one that may leave the picture [H, W, …]."""
    height, width = shape[:2]
    side = int(min(max(round(square[2]), SMALLEST_PX), height, width))
    return [int(min(max(round(square[0]), 0), width - side)), int(min(max(round(square[1]), 0), height - side)), side]


class StockCropper(anywidget.AnyWidget):
    """The widget of `crop_stock`. Python holds the state, the page sends what was done (`handle`)."""

    _esm = _HERE.with_suffix(".js")
    _css = _HERE.with_name("pick_faces.css").read_text("utf-8") + _HERE.with_suffix(".css").read_text("utf-8")
    picture = traitlets.Dict().tag(sync=True)  # src, size [w, h], name, fault
    squares = traitlets.List().tag(sync=True)  # [crop, x, y, side] of the picture shown
    proposals = traitlets.List().tag(sync=True)  # [x, y, side]
    fields = traitlets.Dict().tag(sync=True)  # credit, source, licence of the picture shown
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, root: Path, csv: Path, by: str, out: Path, source: LandmarkSource | str):
        self.root, self.csv, self.by, self.out = root, csv, by.strip(), out
        self.names = [path.relative_to(root).as_posix() for path in list_images(root)]
        if not self.names:
            raise ValueError(f"{root}: no pictures in it")
        self.source = source
        self.table = self._read()
        self._steps: list[tuple[str, pd.DataFrame]] = []
        self._typed: dict[str, dict[str, str]] = {}  # credits of pictures that have no crop yet
        super().__init__()
        self.on_msg(lambda _, content, buffers: self.handle(content))
        done = set(self.table["image"])
        self.go(next((k for k, name in enumerate(self.names) if name not in done), 0))
        if strange := sorted(done - set(self.names)):
            self._say(f"{len(strange)} pictures of {csv.name} are not in {root.name}, like {strange[0]}")

    def handle(self, content: dict) -> None:
        """Do what the page asks for: `do` names the method, the other fields are its arguments. What goes wrong is told
        on the page."""
        arguments = dict(content)
        if (what := arguments.pop("do")) in ("go", "put", "note", "copy_note", "propose", "undo", "export"):
            try:
                getattr(self, what)(**arguments)
            except (OSError, ValueError) as error:
                self._say(f"not done: {error}")

    def go(self, index: int) -> None:
        """Show a picture."""
        self.index = min(max(int(index), 0), len(self.names) - 1)
        try:
            self.pixels = read_image(self.root / self.name).pixels
            shown = {"src": data_url(self.pixels, _SHOWN_PX), "size": [*self.pixels.shape[1::-1]], "fault": ""}
        except ImageError as error:
            self.pixels, shown = None, {"src": "", "size": [1, 1], "fault": error.reason}
        with self.hold_sync():
            self.picture, self.proposals = shown | {"name": self.name}, []
            self._say("")

    def put(self, squares: Sequence[Sequence[float]]) -> None:
        """The squares of the picture shown from now on: [crop, x, y, side]; crop −1 is a new one."""
        if self.pixels is None:
            return
        mine = self._mine()
        used = [*mine["crop"], *(int(s[0]) for s in squares)]
        rows, now = [], datetime.now(UTC).isoformat(timespec="milliseconds")
        known = {row["crop"]: row for row in mine.to_dict("records")}
        for crop, *square in squares:
            if crop < 0:
                crop = max(used, default=-1) + 1
                used.append(crop)
            x, y, side = fit(square, self.pixels.shape)
            old = known.get(int(crop))
            if old and (old["x"], old["y"], old["w"]) == (x, y, side):
                rows.append(old)
                continue
            box = {"crop": int(crop), "x": x, "y": y, "w": side, "h": side}
            rows.append({"image": self.name, **box, **self._credit(), "by": self.by, "time": now})
        self._store(rows, mine)

    def note(self, **fields: str) -> None:
        """Author (`credit`), `source` and `licence` of the picture shown."""
        mine = self._mine()
        new = self._credit() | {name: " ".join(str(fields[name]).split()) for name in CREDIT if name in fields}
        self._typed[self.name] = new
        if mine.empty:
            self._say("kept with the first square you draw")
        else:
            self._store(mine.assign(**new).to_dict("records"), mine)

    def copy_note(self) -> None:
        """Take author, source and licence from the picture that was credited last."""
        rows = self.table[(self.table["image"] != self.name) & (self.table[list(CREDIT)] != "").any(axis=1)]
        if rows.empty:
            self._say("no other picture has a credit yet")
        else:
            self.note(**rows.loc[rows["time"].idxmax(), list(CREDIT)])

    def propose(self) -> None:
        """Ask the detector where the faces are; squares that are there already are not proposed."""
        if self.pixels is None:
            return
        self.source = open_source(self.source, self.root)
        found = propose(self.pixels, self.source, self.name)
        self.proposals = [square for square in found if not any(_same(square, s[1:]) for s in self.squares)]
        count = len(self.proposals)
        self._say(
            f"{count} proposed: click one, or press its number" if count else "the detector finds no further face"
        )

    def undo(self) -> None:
        """Take back the last change of this window, on whichever picture it was."""
        if not self._steps:
            self._say("nothing to undo in this session")
            return
        name, rows = self._steps.pop()
        if name != self.name:
            self.go(self.names.index(name))
        self._typed.pop(name, None)
        self._store(rows.to_dict("records"), None)

    def export(self) -> None:
        """Write the crops to the folder `out`. Raises what `export_crops` raises."""
        count = len(export_crops(self.csv, self.root, self.out))
        self._say(f"{count} crop{'s' * (count > 1)} written to {self.out}, with {CREDITS}")

    def __repr__(self) -> str:  # what a run without a browser leaves in its place
        return "a page to crop photographs: open this notebook in JupyterLab and run the cell"

    def static(self, width: float = 4.5) -> Figure:
        """The picture shown with its squares, and dashed what the detector proposes, for runs without a browser."""
        pixels = np.zeros((8, 8, 3), np.uint8) if self.pixels is None else self.pixels
        fig, ax = plt.subplots(figsize=(width, width * pixels.shape[0] / pixels.shape[1]), layout="constrained")
        ax.imshow(pixels, interpolation="auto")
        boxes = [(square[1:], "-") for square in self.squares] + [(square, "--") for square in self.proposals]
        for (x, y, side), line in boxes:
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), side, side, fill=False, ls=line, lw=2.2, ec="#ffd400"))
        ax.set_axis_off()
        ax.set_title(f"{self.name}: {len(self.squares)} drawn, {len(self.proposals)} proposed", fontsize=9)
        plt.close(fig)  # as the last value of a cell it is drawn once, not twice
        return fig

    @property
    def name(self) -> str:
        """The picture shown."""
        return self.names[self.index]

    def _read(self) -> pd.DataFrame:
        return read_crops(self.csv) if self.csv.exists() else pd.DataFrame(columns=list(COLUMNS))

    def _mine(self) -> pd.DataFrame:
        return self.table[self.table["image"] == self.name]

    def _credit(self) -> dict[str, str]:
        if (mine := self._mine()).empty:
            return dict.fromkeys(CREDIT, "") | self._typed.get(self.name, {})
        return mine.iloc[0][list(CREDIT)].to_dict()

    def _store(self, rows: list[dict], before: pd.DataFrame | None) -> None:
        """Write the rows of the picture shown; those of the others stay as they are in the file by now."""
        digest = sha256(self.root / self.name) if rows else ""
        with locked(self.csv):
            others = self._read()
            mine = pd.DataFrame([row | {"sha256": digest} for row in rows], columns=list(COLUMNS))
            table = pd.concat([others[others["image"] != self.name], mine], ignore_index=True)
            table = table.astype(dict.fromkeys(("crop", *BOX), int))
            table = table.sort_values(["image", "crop"], ignore_index=True)
            write_table(self.csv, table)
        if before is not None:
            self._steps.append((self.name, before))
        self.table = table
        with self.hold_sync():
            self.proposals = [p for p in self.proposals if not any(_same(p, (r["x"], r["y"], r["w"])) for r in rows)]
            self._say("" if before is not None else "taken back")

    def _say(self, message: str) -> None:
        with self.hold_sync():
            self.squares = [[int(r.crop), int(r.x), int(r.y), int(r.w)] for r in self._mine().itertuples()]
            self.fields = self._credit()
            done = set(self.table["image"])
            self.state = {
                "index": self.index, "count": len(self.names), "done": len(done & set(self.names)),
                "crops": len(self.table), "lacking": sum(bool(lacking_credit(row)) for row in self.table.itertuples()),
                "steps": len(self._steps), "smallest": SMALLEST_PX, "by": self.by, "file": self.csv.name,
                "message": message, "tick": self.state.get("tick", 0) + 1,
            }  # fmt: skip


def crop_stock(
    root: Path | str,
    csv: Path | str,
    by: str = "",
    out: Path | str | None = None,
    landmarks: str | LandmarkSource = "dlib",
) -> StockCropper:
    """Show the pictures of a folder one after the other, to draw squares on faces and note where they come from.

    csv: crops.csv to write, or to go on with. by: your name. out: folder of the export; None: `crops` beside the CSV.
    landmarks: whose faces are proposed (`lib.warp.sources`).

    Raises ValueError for a folder without pictures or a CSV that holds no crops (`read_crops`), FileNotFoundError or
    NotADirectoryError for no folder.
    """
    csv = Path(csv)
    return StockCropper(Path(root), csv, by, Path(out) if out else csv.parent / "crops", landmarks)


def _same(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two squares [x, y, side] share over half of the smaller one."""
    width, height = (min(a[k] + a[2], b[k] + b[2]) - max(a[k], b[k]) for k in (0, 1))
    return width > 0 and height > 0 and width * height > 0.5 * min(a[2], b[2]) ** 2
