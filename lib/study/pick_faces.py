"""Hand-pick masked faces in the browser, in JupyterLab, VS Code or Voilà:

    from lib.study.pick_faces import pick_faces
    pick_faces(candidates, "MAFA", "selection.csv", by="ann")

Crops in a grid, page by page; arrows move, a accepts, r rejects, u is unsure, 1 to 9 reject for a reason, z undoes, n
and p turn the page; the mouse selects, also several. Each decision is on disk before its mark turns solid, so that
nothing is lost by closing the page; the next call goes on there. `static` draws the same without a browser.

The CSV is a selection of `lib.data.curation`, one row per decision (`lib.study.selection_file`). People may share the
work on one file: each sees what the others decided when the page is turned. To judge independently, give everybody a
file of their own and name the others' as `others`: these are shown where one has decided oneself, and the filter
"disagreeing" finds the differences. The file names faces as the table does; with the pictures of the same release it
is enough to rebuild the set.
"""

from __future__ import annotations

import base64
import io
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anywidget
import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure
from PIL import Image

from lib.data import curation
from lib.study.display import grid
from lib.study.ranking import FEATURES, Pictures, reader
from lib.study.selection_file import Key, SelectionFile

REASONS = ("pitch", "roll", "yaw", "dark mask", "another kind", "printed", "blurred", "occluded", "drawing")
FILTERS = ("all", "undecided", *curation.DECISIONS, "disagreeing")
MARKS = {"accept": ("✓", "#0072b2"), "reject": ("✗", "#c24e00"), "unsure": ("?", "#8a6d00")}  # symbol beside colour
_ANGLES, _FINE = ("yaw", "pitch", "roll"), ("score", "symmetry", "sharpness")
_THUMB_PX, _ZOOM_PX = 176, 560
_TITLE = 14  # letters above a picture of `static`
_PAUSE_S = 30.0  # a longer gap between two decisions is a pause and does not slow the rate down


class FacePicker(anywidget.AnyWidget):
    """The widget of `pick_faces`. Python holds the state, the page sends what was done (`handle`)."""

    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")
    tiles = traitlets.List().tag(sync=True)  # of the page shown: row, src, name, facts
    marks = traitlets.List().tag(sync=True)  # beside them: decision, reason, by, others, differ
    state = traitlets.Dict().tag(sync=True)
    zoom = traitlets.Dict().tag(sync=True)  # row, src: one crop, large

    def __init__(self, table: pd.DataFrame, read, file: SelectionFile, reasons: Sequence[str], size: int, order: str):
        self.table, self.read, self.file = table, read, file
        self._rows = list(table.itertuples())
        faces = table["face"] if "face" in table else [0] * len(table)
        self.faces: list[Key] = [(str(image), int(face)) for image, face in zip(table["image"], faces)]
        if doubled := [key for key, count in Counter(self.faces).items() if count > 1]:
            raise ValueError(f"face {doubled[0][1]} of {doubled[0][0]} is listed twice among the candidates")
        self.columns = [c for c in dict.fromkeys((order, "score", *FEATURES)) if c in table and table[c].notna().any()]
        self.page_size, self.reasons = size, list(reasons)
        self._steps: list[tuple[list, int]] = []  # what was written, first row decided on
        self._pace: deque[tuple[float, int]] = deque(maxlen=200)
        self._pool, self._thumbs = ThreadPoolExecutor(4), {}
        super().__init__()
        self.on_msg(lambda _, content, buffers: self.handle(content))
        left = any(key not in file.latest for key in self.faces)
        self.choose("undecided" if left else "all", order, order not in _ANGLES)
        if file.latest:
            known = set(self.faces)
            strange = sum(key not in known for key in file.latest)
            more = f"; {strange:,} of its faces are not among these" if strange else ""
            self._say(f"going on in {file.path.name}{more}")

    def handle(self, content: dict) -> None:
        """Do what the page asks for: `do` names the method, the other fields are its arguments. What goes wrong is told
        on the page."""
        arguments = dict(content)
        if (what := arguments.pop("do")) in ("decide", "undo", "choose", "turn", "resize", "enlarge"):
            try:
                getattr(self, what)(**arguments)
            except (OSError, ValueError) as error:
                self._say(f"not done: {error}")

    def decide(self, rows: Sequence[int], decision: str = "", reason: str = "") -> None:
        """Decide on some rows of the table. Without a decision the reason is noted: an unsure face stays unsure, any
        other is rejected. What is so already is not written again."""
        changes = []
        for row in rows:
            before = self.file.latest.get(self.faces[row], {})
            new = decision or ("unsure" if before.get("decision") == "unsure" else "reject")
            if new != before.get("decision") or (reason and reason != before.get("reason")):
                changes.append((row, (self.faces[row], new, reason)))
        if changes:
            written = self.file.add([change for _, change in changes])
            self._steps.append((written, changes[0][0]))
            self._pace.append((time.monotonic(), len(changes)))
        self._say("" if len(changes) < 2 else f"{len(changes)} faces: {changes[0][1][1]}")

    def undo(self) -> None:
        """Take back the last step of this window; again: the one before."""
        if not self._steps:
            self._say("nothing to undo in this session; decide anew on the face instead")
        elif self.file.undo(self._steps[-1][0]):
            written, row = self._steps.pop()
            what = f"{len(written)} decisions" if len(written) > 1 else f"the decision on {_name(self.faces[row])}"
            self._say(f"taken back: {what}", back_to=row)
        else:
            self._say(f"nothing taken back: {self.file.path.name} was rewritten by another program")

    def choose(self, filter: str, sort: str, descending: bool) -> None:
        """Choose what is shown and in which order. The list then stays as it is, so that nothing jumps away under
        one's hands while one decides."""
        self.file.refresh()
        rows = [row for row, key in enumerate(self.faces) if self._passes(filter, key)]
        if sort:
            values = self.table[sort].to_numpy(float)
            values = np.abs(values) if sort in _ANGLES else values
            rank = -values if descending else values
            rows.sort(key=lambda row: (np.isnan(rank[row]), rank[row]))
        self.listed, self.filter, self.sort, self.descending = rows, filter, sort, descending
        self.turn(0)

    def turn(self, page: int) -> None:
        """Show a page. Past the last one the list is made anew: what still passes the filter comes again."""
        if 0 < self._pages() <= page:
            self.choose(self.filter, self.sort, self.descending)
            return
        self.file.refresh()
        self.page = max(page, 0)
        shown, coming = self._on(self.page), self._on(self.page + 1)
        for row in (*shown, *coming):  # what comes next is read while one looks
            if row not in self._thumbs:
                self._thumbs[row] = self._pool.submit(self._thumb, row)
        tiles = [{"row": row, "name": _name(self.faces[row]), "facts": self._facts(row)} for row in shown]
        pictures = [self._thumbs[row].result() for row in shown]
        with self.hold_sync():
            self.tiles = [tile | picture for tile, picture in zip(tiles, pictures)]
            self._say("")

    def resize(self, size: int) -> None:
        """Another number of faces on a page; the first one shown stays on it."""
        first = self.page * self.page_size
        self.page_size = max(1, min(int(size), 400))
        self.turn(first // self.page_size)

    def enlarge(self, row: int) -> None:
        """Send one crop large."""
        self.zoom = {"row": row, **self._picture(row, _ZOOM_PX)}

    def __repr__(self) -> str:  # what a run without a browser leaves in its place
        return "a page to pick faces: open this notebook in JupyterLab and run the cell"

    def static(self, count: int = 32, columns: int = 8) -> Figure:
        """The beginning of the list as a figure, see `static`."""
        return static(self.table.iloc[self.listed], self.read, self.file.path, count, columns)

    def _say(self, message: str, back_to: int = -1) -> None:
        """Send all that changes with a decision."""
        decided = Counter(self.file.latest[key]["decision"] for key in self.faces if key in self.file.latest)
        left = len(self.faces) - sum(decided.values())
        gaps = [b[0] - a[0] for a, b in zip(self._pace, list(self._pace)[1:])]
        busy = sum(min(gap, _PAUSE_S) for gap in gaps)
        rate = 60 * sum(n for _, n in list(self._pace)[1:]) / busy if busy > 0 and len(gaps) > 4 else 0.0
        with self.hold_sync():
            self.marks = [self._mark(row) for row in self._on(self.page)]
            self.state = {
                "page": self.page, "pages": self._pages(), "listed": len(self.listed), "size": self.page_size,
                "filter": self.filter, "filters": list(FILTERS), "sort": self.sort, "columns": self.columns,
                "descending": self.descending, "reasons": self.reasons, "by": self.file.by, "file": self.file.path.name,
                "counts": {**{d: decided[d] for d in curation.DECISIONS}, "undecided": left,
                           "disagreeing": sum(map(self._differ, self.faces)), "all": len(self.faces)},
                "rate": round(rate, 1), "minutes_left": round(left / rate) if rate else -1,
                "steps": len(self._steps), "message": message, "back_to": back_to,
                "tick": self.state.get("tick", 0) + 1,  # a change even where all else is as before
            }  # fmt: skip

    def _pages(self) -> int:
        return max(1, -(-len(self.listed) // self.page_size))

    def _on(self, page: int) -> Sequence[int]:
        return self.listed[page * self.page_size : (page + 1) * self.page_size]

    def _passes(self, filter: str, key: Key) -> bool:
        if filter == "disagreeing":
            return self._differ(key)
        return filter == "all" or self.file.latest.get(key, {}).get("decision", "undecided") == filter

    def _differ(self, key: Key) -> bool:
        opinions = self.file.opinions.get(key, ())
        return len(opinions) > 1 and len({row["decision"] for row in opinions.values()}) > 1

    def _mark(self, row: int) -> dict:
        key = self.faces[row]
        if (mine := self.file.latest.get(key)) is None:
            return {"decision": "", "reason": "", "by": "", "others": [], "differ": False}  # no hint before one decides
        others = [
            f"{who or 'nobody named'}: {other['decision']}{f' ({r})' if (r := other['reason']) else ''}"
            for who, other in self.file.opinions.get(key, {}).items()
            if who != mine["by"]
        ]
        return {k: mine[k] for k in ("decision", "reason", "by")} | {"others": others, "differ": self._differ(key)}

    def _facts(self, row: int) -> list[list[str]]:
        values = {column: self.table[column].iloc[row] for column in self.columns}
        shown = {name: f"{v:.2f}" if name in _FINE else f"{v:.0f}" for name, v in values.items() if pd.notna(v)}
        return [[name, text.replace("-", "−") + "°" * (name in _ANGLES)] for name, text in shown.items()]

    def _thumb(self, row: int) -> dict:
        return self._picture(row, _THUMB_PX)

    def _picture(self, row: int, longest: int) -> dict:
        try:
            pixels = self.read(self._rows[row])
            return {"src": data_url(pixels, longest), "size": [pixels.shape[1], pixels.shape[0]], "fault": ""}
        except (ValueError, OSError) as error:
            return {"src": "", "size": [0, 0], "fault": str(getattr(error, "reason", error))}


def pick_faces(
    table: pd.DataFrame,
    pictures: Pictures,
    selection: Path | str,
    by: str = "",
    order: str = "",
    others: Iterable[Path | str] = (),
    reasons: Sequence[str] = REASONS,
    page_size: int = 40,
) -> FacePicker:
    """Show candidates and have a person decide on each of them.

    Args:
        table: a row per face: `image`, `face` (0 where it lacks), and what `pictures` needs. Columns of
            `lib.study.ranking.ranked` become orders to sort by and facts beside the picture.
        pictures: the folder that `image` is relative to, or a function from a row to its crop; it is called from
            several threads.
        selection: CSV to write, made with the first decision. by: your name.
        order: the column to sort by first; "" takes `score` where there is one, else the table's order.
        others: selections of other people, only read.
        reasons: what the number keys 1 to 9 stand for, and further ones for the mouse.

    Raises ValueError for candidates without `image` or with one twice, an unknown order, a file that is no selection.
    """
    if "image" not in table or not len(table):
        raise ValueError(f"no candidates: expected rows with a column image, got {len(table)} with {', '.join(table)}")
    if order and order not in (numbers := list(table.select_dtypes("number"))):
        raise ValueError(f"order {order!r}: expected a column of numbers, one of {', '.join(numbers) or 'none'}")
    order = order or ("score" if "score" in table else "")
    return FacePicker(table, reader(pictures), SelectionFile(selection, by, others), reasons, page_size, order)


def static(
    table: pd.DataFrame, pictures: Pictures, selection: Path | str | pd.DataFrame, count: int = 32, columns: int = 8
) -> Figure:
    """A contact sheet of a table's first `count` faces with what was decided on each, for runs without a browser."""
    rows = selection if isinstance(selection, pd.DataFrame) else None
    if rows is None:
        rows = curation.read_selection(selection) if Path(selection).exists() else curation.make_selection([])
    latest = {(row.image, row.face): row for row in curation.merge([rows])[0].itertuples()}
    read, images, titles, colours = reader(pictures), [], [], []
    for row in table.head(count).itertuples():
        try:
            images.append(np.asarray(_shrunk(read(row), _THUMB_PX)))
        except (ValueError, OSError):
            images.append(None)
        decided = latest.get((str(row.image), int(getattr(row, "face", 0))))
        symbol, colour = MARKS[decided.decision] if decided else ("", "0.85")
        titles.append(_cut(f"{symbol} {decided.reason or decided.decision}" if decided else "undecided"))
        colours.append(colour)
    figure = grid(images, columns=min(columns, len(images)), titles=titles)
    for ax, colour in zip(figure.axes, colours):
        ax.title.set_color(colour if colour != "0.85" else "0.35")
        for spine in ax.spines.values():
            spine.set(visible=True, color=colour, linewidth=2.5)
    return figure


def data_url(pixels: np.ndarray, longest: int) -> str:
    """A picture as a JPEG data URL, its longer side at most `longest` px."""
    buffer = io.BytesIO()
    _shrunk(pixels, longest).save(buffer, "jpeg", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _shrunk(pixels: np.ndarray, longest: int) -> Image.Image:
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=3)
    return image


def _cut(text: str) -> str:
    """What fits above a picture of `static` without running over its neighbour."""
    return text if len(text) <= _TITLE else text[: _TITLE - 1].rstrip() + "…"


def _name(key: Key) -> str:
    return f"{key[0]} · face {key[1]}" if key[1] else key[0]
