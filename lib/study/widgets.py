"""Compare a run's checkpoints in the browser, in JupyterLab, VS Code or as a Voilà page:

    from lib.study.widgets import compare
    compare("smoke")

Two to four checkpoints on any held-out face with any noise: pictures, heat maps of the change, attention maps; side by
side, swiped, blinking, under a linked lens; the run's curves below. A checkpoint is marked as one of the two picks with
a remark (`lib.study.selection`); two are judged blindly (`lib.study.votes`). `static` draws a grid without a browser.

What is chosen are traits: set them from Python (`page.face = 3`), or on the page, which asks by messages (`handle`).
Pictures not there yet are computed in a thread; until then a pane keeps its old one, dimmed, under its own caption.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from traitlets import TraitError, observe, validate

from lib.gan import CheckpointError
from lib.study.background import Background
from lib.study.checkpoint_views import Choice, Comparison, Wish, label, runs_beside
from lib.study.config import PICKED_EPOCHS, StudyError
from lib.study.controls import CONTROLS, PANES, Controls
from lib.study.runs import RUNS, Study, find_study
from lib.study.selection import mark_pick
from lib.study.tiles import REFERENCES, Tiles
from lib.study.votes import Ballot, Voting

SEED_STEP = 1000  # between the panes' seeds where they do not share their noise
_AHEAD, _OPENED = 8, 3  # pictures computed ahead, runs kept open
_PARTS = [Path(__file__).with_name(f"{name}.js") for name in ("widgets_views", "widgets_curves", "widgets")]
_TOLD = (StudyError, CheckpointError, TraitError, ValueError, OSError)  # what a person can do something about


class ComparisonPage(Controls):
    """The widget of `compare`."""

    _esm = "\n".join(part.read_text(encoding="utf-8") for part in _PARTS)
    _css = Path(__file__).with_suffix(".css")

    def __init__(self, study: Study, by: str = "", rng: np.random.Generator | None = None, **timing: float):
        self._work = Background(lambda job: job[0].compute(job[1]), self._worked, **timing)
        self._count = Background(lambda job: job[0].count(job[1]), self._counted)
        self._root, self.by, self._rng = study.root.parent, by, rng or np.random.default_rng()
        self._lock = threading.RLock()  # the page's messages and the thread take turns
        self._opened = {study.name: Tiles(Comparison(study))}
        self._tiles = self._opened[study.name]  # of the run that is shown
        self._faults: dict[Wish, str] = {}
        self._voting: Voting | None = None
        self._began, self._live = 0.0, False
        self._tiles.picks()  # raises where selection.json cannot be read, before anything is shown
        super().__init__(run=study.name)
        self.on_msg(lambda _, content, buffers: self.handle(content))

    @property
    def comparison(self) -> Comparison:
        """The shown run's pictures."""
        return self._tiles.comparison

    def handle(self, content: dict) -> None:
        """Do what the page asks for: `do` names the method, the other fields are its arguments. What goes wrong is told
        on the page."""
        self._live, arguments = True, dict(content)
        if (what := arguments.pop("do", "")) in ("refresh", "choose", "mark", "count", "blind", "vote", "reveal"):
            try:
                getattr(self, what)(**arguments)
            except _TOLD as error:
                self._say(f"not done: {error}")

    def refresh(self) -> None:
        """A page has opened: look again at what others may have written meanwhile."""
        with self._lock:
            self.runs = [{"name": name, "why": why} for name, why in runs_beside(self._root).items()]
            self._tell_curves()
            self._update()
            self.picks = self._tiles.picks()  # last: it raises where selection.json has been damaged

    def choose(self, **changes) -> None:
        """Set some of what is chosen at once. Raises TraitError for what cannot be, and nothing is changed."""
        with self._lock:
            if unknown := set(changes) - {"run", *CONTROLS}:
                raise TraitError(f"{', '.join(unknown)}: expected some of run, {', '.join(CONTROLS)}")
            self.run = changes.pop("run", self.run)
            with self.hold_trait_notifications():
                for name, value in changes.items():
                    self.set_trait(name, value)
            self._say("")

    def mark(self, label: str, place: int, by: str, remark: str = "") -> None:
        """Make a checkpoint the first (1) or second (2) pick; see `lib.study.selection.mark_pick`."""
        study, self.by = self.comparison.study, _named(by)
        mark_pick(study, place, *self._choice(label), self.by, remark)
        self.picks = self._tiles.picks()
        runs = "" if study.root.parent == RUNS else f" --runs-dir {shlex.quote(str(study.root.parent))}"
        self._say(
            f"marked: {label} is the {('first', 'second')[place - 1]} pick; Figure {5 + place} follows with "
            f"python -m lib.study --name {study.name}{runs} --only 11"
        )

    def count(self) -> None:
        """Compute the numbers per checkpoint that the curves lack, in the background."""
        self._count.wish([(self._tiles, choice) for choice in self._tiles.uncounted()])
        self._tell_curves()

    def blind(self, on: bool, by: str = "") -> None:
        """Begin to vote blindly on the first two checkpoints, or end it. Raises StudyError where nobody is named,
        ValueError for two equal ones and for a damaged file of votes."""
        with self._lock:
            if on:
                by = _named(by)
                pair, path = [self._choice(text) for text in self.chosen[:2]], self.comparison.study.root / "votes.csv"
                self._voting = Voting(pair, len(self.faces), path, by, self._rng)
                self.by = self._voting.by
            else:
                self._voting = None
            self._say("")
            self._update()

    def vote(self, number: int, vote: str) -> None:
        """Vote left, right or tie on the ballot of that number; an answer to an earlier one counts for nothing."""
        with self._lock:
            if self._voting and self._voting.now.number == number and self.ballot.get("left"):
                face, seeds = self._voting.now.face, [wish.seed for wish in self._sides(self._voting.now)]
                self._voting.vote(vote, self.comparison.test.names[face], seeds, self.sigma)
                self._say("")
                self._update()

    def reveal(self) -> None:
        """Tell what all votes on this pair say so far."""
        with self._lock:
            if self._voting:
                self._voting.reveal()
                self._draw()

    def __repr__(self) -> str:  # what a run without a browser leaves in its place
        return "a page to compare checkpoints: open this notebook in JupyterLab and run the cell, or `make compare`"

    def static(self, *args, **options) -> Figure:
        """A grid of the same pictures, for runs without a browser; see `Comparison.static`."""
        return self.comparison.static(*args, **options)

    def close(self) -> None:
        """End the page and its threads."""
        for thread in (self._work, self._count):
            thread.close()
        super().close()

    # ------------------------------------------------------------------------------------------ what may be chosen
    @validate("run")
    def _valid_run(self, proposal) -> str:
        name = proposal["value"]
        if name not in self._opened:
            if why := runs_beside(self._root).get(name, "no such run"):
                raise TraitError(f"run {name!r}: {why}")
            try:
                self._opened[name] = Tiles(Comparison(find_study(name, self._root)))
            except _TOLD as error:
                raise TraitError(f"run {name!r}: {error}") from error
            while len(self._opened) > _OPENED:
                del self._opened[next(other for other in self._opened if other not in (self.run, name))]
        try:
            self._opened[name].picks()  # what follows reads them, when the run can no longer be refused
        except _TOLD as error:
            raise TraitError(f"run {name!r}: {error}") from error
        return name

    @observe("run")
    def _run_chosen(self, _) -> None:
        with self._lock:
            self._tiles, self._voting, self._faults, stays = self._opened[self.run], None, {}, self.chosen
            names, picked = ([*map(label, group)] for group in (self.comparison.choices, self.comparison.picked()))
            with self.hold_sync():
                self._empty_panes(0)
                self.choices, self.faces = self._tiles.choices(), self._tiles.faces()
                with self.hold_trait_notifications():
                    self.face = min(self.face, len(self.faces) - 1)
                    self.chosen = stays if stays and set(stays) <= set(names) else (picked * 2)[:2]
                self.picks = self._tiles.picks()
                self._tell_curves()
                self._say("")
            self._update()

    @observe(*CONTROLS)
    def _control_moved(self, change) -> None:
        with self._lock:
            if change["name"] in ("chosen", "face") and self._voting:
                self._voting = None  # what is voted on is no longer what is chosen
            if change["name"] != "view" and self.choices:
                self._update()

    # ------------------------------------------------------------------------------------------ pictures
    def _update(self) -> None:
        """Wish for what is chosen now, and show what is there."""
        wishes = self._wishes()
        for wish in wishes:
            self._faults.pop(wish, None)  # asked for again
        ahead = self._missing(self._neighbours())[:_AHEAD] if self._live else ()
        self._work.wish(*([(self._tiles, wish) for wish in group] for group in (self._missing(wishes), ahead)))
        self._draw()

    def _wishes(self) -> list[Wish]:
        if self._voting:
            return self._sides(self._voting.now)
        return [self._wish(self._choice(text), self.face, k, self.seed) for k, text in enumerate(self.chosen)]

    def _wish(self, choice: Choice, face: int, pane: int, seed: int) -> Wish:
        sigma = (self.comparison.sigma(choice[0])[0], *self.sigma)
        return self.comparison.wish(choice, face, seed + (0 if self.same_noise else SEED_STEP * pane), sigma)

    def _sides(self, ballot: Ballot) -> list[Wish]:
        pair = self._voting.pair
        return [self._wish(pair[side], ballot.face, side, ballot.seed) for side in (ballot.left, ballot.right)]

    def _missing(self, wishes: Sequence[Wish]) -> list[Wish]:
        return [wish for wish in wishes if self.comparison.cached(wish) is None]

    def _neighbours(self) -> list[Wish]:
        if self._voting:
            return self._sides(self._voting.coming)
        order, found = list(self.comparison.choices), []
        for step in (1, -1):
            for k, text in enumerate(self.chosen):
                at = order.index(self._choice(text))
                if 0 <= self.face + step < len(self.faces):
                    found.append(self._wish(order[at], self.face + step, k, self.seed))
                if 0 <= at + step < len(order):
                    found.append(self._wish(order[at + step], self.face, k, self.seed))
        return found

    def _worked(self, job: tuple[Tiles, Wish], error: str | None) -> None:
        """The thread begins a wish (error None) or is done with it."""
        tiles, wish = job
        with self._lock:
            if tiles is not self._tiles:
                return
            if error is None:
                self._began = time.monotonic()
            elif error:
                self._faults[wish] = error
            else:
                self.state = self.state | {"seconds": round(time.monotonic() - self._began, 2)}
            self._draw()

    def _counted(self, _, error: str | None) -> None:
        self._tell_curves()
        if error:
            self._say(f"not done: {error}")

    def _draw(self) -> None:
        """Show what has been computed of what is chosen now; what has not leaves its pane as it is."""
        wishes = self._wishes()
        with self.hold_sync():
            if self._voting:
                self._empty_panes(0)
                self.references, self.coming = [], []
                self.ballot = self._tiles.ballot(self._voting, wishes)
                if any(wish in self._faults for wish in wishes):
                    self.ballot |= {"fault": "one of the two cannot be computed: leave, and look at both panes"}
                return
            self.ballot = {}
            beside = [self._tiles.reference(kind, self.face) for kind in REFERENCES if kind in self.beside]
            self.references = [tile for tile in beside if tile]
            k, other, coming = self.against, None, []
            if 0 <= k < len(wishes):
                other = (f"{'ABCD'[k]}, {self.chosen[k]}", wishes[k])
            for k, wish in enumerate(wishes):
                tile = self._tiles.pane(wish, self.show, other, self.brightest, self.attention, self.attention_at)
                needs = [wish, other[1]] if other and self.show == "difference" else [wish]
                if faults := [self._faults[each] for each in needs if each in self._faults]:
                    tile = {"label": self.chosen[k], "fault": faults[0]}
                coming.append("" if tile else self.chosen[k])
                if tile:
                    setattr(self, f"pane_{k + 1}", tile)
            self._empty_panes(len(wishes))
            self.coming = coming

    def _empty_panes(self, first: int) -> None:
        for k in range(first, PANES):
            setattr(self, f"pane_{k + 1}", {})

    def _tell_curves(self) -> None:
        tiles = self._tiles
        curves, lacking = tiles.curves(), len(tiles.uncounted())  # outside the lock: it reads long tables
        of, test = sum(choice[0] != "pretraining" for choice in tiles.comparison.choices), tiles.comparison.test
        with self._lock:
            if tiles is self._tiles:
                self.curves = curves
                self.facts = {"of": of, "kept": of - lacking, "busy": self._count.busy, "size": test.rule.shape[1],
                              "truth": test.truth is not None}  # fmt: skip

    def _say(self, message: str) -> None:
        with self._lock:
            self.state = self.state | {"message": message, "by": self.by, "presets": list(PICKED_EPOCHS),
                                       "tick": self.state.get("tick", 0) + 1}  # fmt: skip


def _named(by: str) -> str:
    if not by.strip():
        raise StudyError("say who you are: your name, at the top right")
    return by.strip()


def compare(study: Study | str, by: str = "", runs_dir: Path | str | None = None) -> ComparisonPage:
    """The page on which a run's checkpoints are compared.

    Args:
        study: the run to begin with, or its name; the page offers all others beside it.
        by: your name, for picks and votes; the page asks for it, too.
        runs_dir: where a run of that name lies; `runs/` of the repository by default.

    Raises StudyError for a run that is not there, or has no checkpoint or no held-out faces yet, or whose
    selection.json holds no picks.
    """
    return ComparisonPage(find_study(study, runs_dir) if isinstance(study, str) else study, by)
