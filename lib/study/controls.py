"""What one chooses on the comparison page, and what it shows, as traits of a widget: `lib.study.widgets` moves them."""

from __future__ import annotations

import anywidget
from traitlets import Bool, Dict, Enum, Float, Int, List, TraitError, Unicode, validate

from lib.study.checkpoint_views import BRIGHTEST, KEPT, MAPS, Choice
from lib.study.config import PAPER_NOISE_SIGMA
from lib.study.tiles import REFERENCES

PANES = 4
SHOWS = ("pictures", "difference", "attention")
VIEWS = ("side by side", "swipe", "blink", "zoom")
CONTROLS = ("chosen", "face", "seed", "sigma", "same_noise", "show", "view", "against", "brightest", "attention",
            "attention_at", "beside")  # fmt: skip


class Controls(anywidget.AnyWidget):
    """The traits. Setting one of `CONTROLS` to what cannot be raises TraitError that says what can."""

    run = Unicode().tag(sync=True)  # what is chosen
    chosen = List(Unicode()).tag(sync=True)  # a label per pane
    face, seed = Int(0).tag(sync=True), Int(0, min=0, max=2**31).tag(sync=True)
    sigma = List(Float(), list(PAPER_NOISE_SIGMA[1:])).tag(sync=True)  # at content layers 2 and 3
    same_noise = Bool(True).tag(sync=True)
    show, view = Enum(SHOWS, SHOWS[0]).tag(sync=True), Enum(VIEWS, VIEWS[0]).tag(sync=True)
    against = Int(-1).tag(sync=True)  # of differences: −1 the input, else a pane
    brightest = Float(BRIGHTEST, min=0.01, max=1).tag(sync=True)
    attention = Enum(MAPS, KEPT).tag(sync=True)
    attention_at = Float(1.0, min=0.01, max=1).tag(sync=True)  # the attention that is drawn white
    beside = List(Enum(tuple(REFERENCES)), ["rule"]).tag(sync=True)
    runs, choices, faces = List().tag(sync=True), List().tag(sync=True), List().tag(sync=True)  # of what one may choose
    curves, facts, picks = Dict().tag(sync=True), Dict().tag(sync=True), List().tag(sync=True)
    references = List().tag(sync=True)  # what is shown: each picture together with its caption
    pane_1, pane_2, pane_3, pane_4 = (Dict().tag(sync=True) for _ in range(PANES))
    coming = List().tag(sync=True)  # per pane, the checkpoint that is being computed for it
    ballot, state = Dict().tag(sync=True), Dict().tag(sync=True)

    @validate("chosen")
    def _valid_chosen(self, proposal) -> list[str]:
        chosen = proposal["value"]
        if not 2 <= len(chosen) <= PANES:
            raise TraitError(f"chosen: expected 2 to {PANES} checkpoints, got {len(chosen)}")
        for text in chosen:
            self._choice(text)
        return chosen

    @validate("face")
    def _valid_face(self, proposal) -> int:
        if not 0 <= proposal["value"] < len(self.faces):
            raise TraitError(f"face: expected 0 to {len(self.faces) - 1}, got {proposal['value']}")
        return proposal["value"]

    @validate("sigma")
    def _valid_sigma(self, proposal) -> list[float]:
        sigma = proposal["value"]
        if len(sigma) != 2 or not all(0 <= value <= 100 for value in sigma):
            raise TraitError(f"sigma: expected two from 0 to 100, at the content layers 2 and 3, got {sigma}")
        return sigma

    def _choice(self, text: str) -> Choice:
        stage, _, epoch = text.partition(" · ")
        choice = (stage, int(epoch) if epoch.isdecimal() else -1)
        if choice not in self.comparison.choices:
            raise TraitError(f"{text}: no checkpoint that {self.run} kept")
        return choice
