"""Which of two checkpoints is better, asked blindly: ballots, the file of votes, and what the votes say.

    runs/<study>/votes.csv    a row per vote, appended at once: by, time, face, the noise of either side, the checkpoint
                              that stood left and the one that stood right, and the vote: left, right or tie

A ballot draws a face, a noise seed and the sides anew. Who votes sees two pictures and no name.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.study.checkpoint_views import Choice, label
from lib.study.metrics import share_interval
from lib.study.runs import now
from lib.study.selection_file import locked

COLUMNS = ("by", "time", "face", "seed_left", "seed_right", "sigma_2", "sigma_3", "left", "right", "vote")
VOTES = ("left", "right", "tie")
SEEDS = 1000  # ballots draw their noise seed below this; see `lib.study.widgets.SEED_STEP` for the other side's


@dataclass(frozen=True)
class Ballot:
    """One question: a face, a noise seed, and which of the pair (0, 1) stands left and which right."""

    number: int
    face: int
    seed: int
    left: int
    right: int


class Voting:
    """A voter's ballots on a pair of checkpoints: `now` is asked, `coming` is the next one.

    Faces come in a shuffled order, all of them before one comes again; sides by a coin each time.

    Raises ValueError where nobody is named, for two equal checkpoints, and what `read_votes` raises: no vote is cast
    into a file that is none of votes.
    """

    def __init__(self, pair: Sequence[Choice], faces: int, path: Path, by: str, rng: np.random.Generator):
        if not by.strip():
            raise ValueError("a vote needs a name: who looks at the pictures?")
        if len(set(pair)) < 2:
            raise ValueError(f"A and B are both {label(pair[0])}: choose two checkpoints to vote on")
        self.pair, self.path, self.by, self.cast = tuple(pair), path, by.strip(), 0
        read_votes(path)
        self.result: dict = {}  # of `reveal`, until the next vote
        self._faces, self._rng, self._order, self._number = faces, rng, [], 0
        self.now, self.coming = self._draw(), self._draw()

    def vote(self, vote: str, face: str, seeds: Sequence[int | None], sigma: Sequence[float]) -> None:
        """Append a vote on `now` to the file, then go on to the next ballot. face: its name. seeds: left, right.

        Raises what `append_vote` raises; the ballot then stays.
        """
        row = {"by": self.by, "face": face, "seed_left": seeds[0], "seed_right": seeds[1], "sigma_2": sigma[0]}
        left, right = (label(self.pair[side]) for side in (self.now.left, self.now.right))
        append_vote(self.path, row | {"sigma_3": sigma[1], "left": left, "right": right, "vote": vote})
        self.now, self.coming, self.result, self.cast = self.coming, self._draw(), {}, self.cast + 1

    def reveal(self) -> None:
        """Have `result` say what all votes on this pair say, see `tally`."""
        self.result = tally(read_votes(self.path), [label(choice) for choice in self.pair])

    def _draw(self) -> Ballot:
        if not self._order:
            self._order = self._rng.permutation(self._faces).tolist()
        left = int(self._rng.integers(2))
        self._number += 1
        return Ballot(self._number, self._order.pop(), int(self._rng.integers(SEEDS)), left, 1 - left)


def append_vote(path: Path, row: dict) -> None:
    """Append a vote, flushed to disk; `time` is added. Several pages may write to one file.

    row: `COLUMNS` but time. Raises ValueError for a vote that is none, OSError where it cannot be written; the file
    then is as it was.
    """
    if row["vote"] not in VOTES:
        raise ValueError(f"vote {row['vote']!r}: expected one of {', '.join(VOTES)}")
    row = {key: " ".join(value.split()) if isinstance(value, str) else value for key, value in row.items()}
    with locked(path):
        size = path.stat().st_size if path.exists() else 0
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if not size:
            writer.writeheader()
        writer.writerow(row | {"time": now()})
        with path.open("ab+") as file:
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":  # cut short by a crash: that line is spoiled, this one shall not be
                    file.write(b"\n")
            try:
                file.write(text.getvalue().encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(path, size)
                raise


def read_votes(path: Path) -> pd.DataFrame:
    """The votes, columns `COLUMNS`; no rows where nobody has voted. Raises ValueError that names file and line."""
    path = Path(path)
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a table of votes ({' '.join(str(error).split())}); mend or move it") from error
    if (names := [" ".join(name.split()) for name in table]) != list(COLUMNS):  # votes are appended in that order
        raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(names)}; mend or move it")
    if wrong := [k for k, vote in enumerate(table["vote"]) if vote not in VOTES]:
        line = f"{path}, line {wrong[0] + 2}: vote {table['vote'].iloc[wrong[0]]!r}"
        raise ValueError(f"{line} is none of {', '.join(VOTES)}; mend or remove the line")
    return table


def in_words(result: dict) -> str:
    """What a `tally` says, as a sentence."""
    pair = " against ".join(result["pair"])
    if not result["votes"]:
        return f"{pair}: nobody has voted yet, so the interval is everything, from 0 to 1."
    people = f"{result['people']} {'person' if result['people'] == 1 else 'people'}"
    wins = ", ".join(f"{count} for {name}" for name, count in zip(result["pair"], result["wins"]))
    return f"{pair}: votes by {people}: {wins}, {result['ties']} could not tell; {result['verdict']}."


def tally(votes: pd.DataFrame, pair: Sequence[str]) -> dict:
    """What the votes on a pair of checkpoints say, whoever gave them and whichever stood left.

    pair: the two as the columns left and right name them ("stage5 · 313").

    Returns votes (all), ties, people; wins: votes for either; share, low, high: of the first among the votes that are
    no ties, with Wilson's 95 % interval; and verdict: "decided for …" where the interval leaves one half out, else
    "undecided at 95 %". Votes are taken as independent; looking and going on voting makes a chance decision likelier.
    """
    one, two = pair
    asked = votes[(votes["left"] != votes["right"]) & votes["left"].isin(pair) & votes["right"].isin(pair)]
    chosen = np.where(asked["vote"] == "left", asked["left"], np.where(asked["vote"] == "right", asked["right"], ""))
    wins = [int((chosen == name).sum()) for name in pair]
    low, high = share_interval(wins[0], sum(wins))
    verdict = f"decided for {one if low > 0.5 else two} at 95 %" if low > 0.5 or high < 0.5 else "undecided at 95 %"
    return {
        "pair": list(pair),
        "votes": len(asked),
        "ties": len(asked) - sum(wins),
        "people": int(asked["by"].nunique()),
        "wins": wins,
        "share": wins[0] / sum(wins) if sum(wins) else None,
        "low": low,
        "high": high,
        "interval": "Wilson",
        "verdict": verdict,
    }
