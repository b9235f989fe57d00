"""What the comparison page shows of a run, as plain values: its checkpoints, its faces, and each picture together with
its caption, so that no picture can come to stand under another's words."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from lib.study.checkpoint_views import (
    ALL,
    KEPT,
    Choice,
    Comparison,
    Result,
    Wish,
    attention_map,
    difference,
    label,
    png_url,
)
from lib.study.config import StudyError
from lib.study.curves import curves, kept_numbers, numbers, position
from lib.study.pick_faces import data_url
from lib.study.selection import PICKED_STAGE, present_picks
from lib.study.votes import Voting

REFERENCES = {"rule": "rule-based input", "full": "full face", "truth": "truth"}
_THUMB_PX = 72
_SOURCES = 160  # encoded pictures that are kept: some 0.1 MB each at 256²


class Tiles:
    """Pictures of a run with their captions; what was encoded lately is kept. May be asked from several threads."""

    def __init__(self, comparison: Comparison):
        self.comparison = comparison
        self._sources: OrderedDict[tuple, str] = OrderedDict()
        self._lock = threading.Lock()

    def compute(self, wish: Wish) -> None:
        """Compute a picture and encode it; seconds. Raises what `Comparison.result` raises."""
        self._output(wish, self.comparison.result(wish))
        self.reference("rule", wish.face)

    def choices(self) -> list[dict]:
        """The checkpoints, oldest first: label, stage, epoch, x (on the curves' axis), noise (trained with it)."""
        return [
            {"label": label(choice), "stage": choice[0], "epoch": choice[1], "x": position(*choice),
             "noise": any(self.comparison.sigma(choice[0]))} for choice in self.comparison.choices
        ]  # fmt: skip

    def faces(self) -> list[dict]:
        """The held-out faces: name, src (a thumbnail)."""
        test = self.comparison.test
        return [{"name": name, "src": data_url(rule, _THUMB_PX)} for name, rule in zip(test.names, test.rule)]

    def picks(self) -> list[dict]:
        """`lib.study.selection.present_picks` (raises what it raises), and "kept": whether this run has that one."""
        picks = present_picks(self.comparison.study)
        return [pick | {"kept": (PICKED_STAGE, pick["epoch"]) in self.comparison.choices} for pick in picks]

    def curves(self) -> dict:
        """`lib.study.curves.curves`, and "fault": why there are none."""
        try:
            return curves(self.comparison.study) | {"fault": ""}
        except (StudyError, ValueError, OSError, KeyError) as error:
            return {"stages": [], "panels": [], "fault": str(error)}

    def uncounted(self) -> list[Choice]:
        """The checkpoints whose numbers (diversity, distances) the curves lack; the pretraining has none."""
        have = kept_numbers(self.comparison.study)
        known = set(zip(have["stage"], have["epoch"])) if len(have) else set()
        return [choice for choice in self.comparison.choices if choice[0] != "pretraining" and choice not in known]

    def count(self, choice: Choice) -> None:
        """Compute and keep the numbers of a checkpoint; seconds to minutes."""
        numbers(self.comparison.study, self.comparison.test, [choice])

    def reference(self, kind: str, face: int) -> dict | None:
        """A picture of `REFERENCES`: name, src, caption. None where it is not known."""
        pictures = getattr(self.comparison.test, kind)
        if pictures is None:
            return None
        src = self._source((kind, face), lambda: pictures[face])
        return {"name": REFERENCES[kind], "src": src, "caption": f"face {face + 1}"}

    def ballot(self, voting: Voting, sides: Sequence[Wish]) -> dict:
        """What is asked now: both pictures or none, and nothing that tells them apart."""
        found = [self.comparison.cached(wish) for wish in sides]
        left, right = [self._output(*each) for each in zip(sides, found)] if all(found) else ("", "")
        return {
            "number": voting.now.number, "by": voting.by, "cast": voting.cast, "result": voting.result, "fault": "",
            "pair": [label(choice) for choice in voting.pair], "left": left, "right": right,
            "input": self.reference("rule", voting.now.face)["src"],
        }  # fmt: skip

    def _output(self, wish: Wish, result: Result) -> str:
        return self._source((wish, "output"), lambda: result.image)

    def pane(
        self, wish: Wish, show: str = "pictures", other: tuple[str, Wish] | None = None, brightest: float = 0.5,
        attention: str = KEPT, attention_at: float = 1.0,
    ) -> dict | None:  # fmt: skip
        """A checkpoint's pane; None while something it needs has not been computed.

        show: "pictures", "difference" (to `other`, a name and a wish; None: the input) or "attention" (a map of
        `lib.study.checkpoint_views.MAPS`). brightest, attention_at: the change, the attention that is drawn
        brightest, of the full range.
        """
        result = self.comparison.cached(wish)
        beside = self.comparison.cached(other[1]) if other else None
        if result is None or (show == "difference" and other and beside is None):
            return None
        if show == "difference":
            before = beside.image if other else self.comparison.test.rule[wish.face]
            what = f"difference to {other[0] if other else 'the input'}, brightest at {brightest:g}"
            src = self._source((wish, show, other, brightest), lambda: difference(before, result.image, brightest))
        elif show == "attention":
            what = _ATTENTION.get(attention, f"attention map {attention}")
            what += f", brightest at {attention_at:g}" if attention_at != 1 else ""
            key = (wish, show, attention, attention_at)
            src = self._source(key, lambda: attention_map(result.attention, attention, attention_at))
        else:
            what, src = "", self._output(wish, result)
        sigma = "" if wish.sigma is None else "\u00a0and\u00a0".join(f"{value:g}" for value in wish.sigma[1:])
        noise = "trained without noise" if wish.sigma is None else f"noise seed {wish.seed}, σ\u00a0{sigma}"
        return {
            "label": label(wish.choice), "src": src, "what": what, "face": wish.face,
            "caption": f"{result.outside:.3f} changed outside the mask",
            "noise": f"face {wish.face + 1} · {noise if wish.seed is not None or wish.sigma is None else 'noise off'}",
        }  # fmt: skip

    def _source(self, key: tuple, draw: Callable[[], np.ndarray]) -> str:
        with self._lock:
            if key in self._sources:
                self._sources.move_to_end(key)
                return self._sources[key]
        source = png_url(draw())
        with self._lock:
            self._sources[key] = source
            while len(self._sources) > _SOURCES:
                self._sources.popitem(last=False)
        return source


_ATTENTION = {
    KEPT: "tenth attention map: white keeps the input",
    "others": "sum of the nine other maps: white is drawn anew",
    ALL: "attention maps 1 to 9, row by row; below, the tenth, which keeps the input",
}
