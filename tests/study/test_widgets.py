"""The comparison page without a browser: what it shows is what was asked for, soon, and under its own name."""

import base64
import io
import json
import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from traitlets import TraitError

from lib.study import widgets
from lib.study.checkpoint_views import Comparison
from lib.study.config import StudyError
from lib.study.datasets import load_test_set
from lib.study.runs import open_study
from lib.study.selection import read_picks
from lib.study.votes import read_votes
from lib.study.widgets import ComparisonPage, compare

A, B, QUIET = "stage5 · 313", "stage5 · 476", "stage3 · 140"


@pytest.fixture
def page(trained):
    made = ComparisonPage(trained, settle_s=0, idle_s=0)
    yield settled(made)
    made.close()


@pytest.fixture
def own(trained, copy_of):
    """The page of a study that may be written to, and the study."""
    study = copy_of(trained)
    made = ComparisonPage(study, settle_s=0, idle_s=0)
    yield settled(made), study
    made.close()


def settled(page, seconds=10):
    for _ in range(int(seconds * 200)):
        if not any(page.coming) and (not page.ballot or page.ballot["left"]):
            return page
        time.sleep(0.005)
    raise AssertionError(f"waited in vain for {page.coming}")


def panes(page):
    return [getattr(page, f"pane_{k + 1}") for k in range(len(page.chosen))]


def pixels(src):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(src.split(",", 1)[1]))))


def shown(page):
    return [pixels(tile["src"]) for tile in (*page.references, *panes(page))]


def test_it_begins_with_the_input_and_both_picks(page):
    assert page.chosen == [A, B]
    one, two, three = shown(page)
    assert np.array_equal(one, page.comparison.test.rule[0])
    assert np.array_equal(two, page.comparison.view(("stage5", 313), 0))
    assert np.array_equal(three, page.comparison.view(("stage5", 476), 0))


@pytest.mark.parametrize(
    ("control", "value", "changed"),
    [
        ("face", 1, [True, True, True]),
        ("seed", 7, [False, True, True]),
        ("sigma", [1.0, 4.0], [False, True, True]),
        ("sigma", [3.0, 0.2], [False, True, True]),
        ("same_noise", False, [False, False, True]),
        ("show", "difference", [False, True, True]),
        ("show", "attention", [False, True, True]),
        ("chosen", [A, QUIET], [False, False, True]),
        ("view", "blink", [False, False, False]),
    ],
)
def test_a_control_changes_its_pictures_and_no_other(page, control, value, changed):
    before = shown(page)
    setattr(page, control, value)
    assert [not np.array_equal(a, b) for a, b in zip(before, shown(settled(page)))] == changed


def test_noise_does_not_move_what_was_trained_without_it(page):
    page.chosen = [A, QUIET]
    before = shown(settled(page))[2]
    page.choose(seed=9, sigma=[4.0, 4.0], same_noise=False)
    assert np.array_equal(shown(settled(page))[2], before)
    assert panes(page)[1]["noise"].endswith("trained without noise")
    assert {choice["label"]: choice["noise"] for choice in page.choices}[QUIET] is False


def test_up_to_four_panes_differences_between_them_and_references(page):
    page.choose(chosen=[A, B, QUIET, A], show="difference", against=2, beside=["rule", "full", "truth"])
    settled(page)
    assert len(page.references) == 3
    assert pixels(panes(page)[2]["src"]).max() < 10  # to itself: black
    assert "difference to C, stage3 · 140" in panes(page)[0]["what"]
    page.chosen = [A, B]
    assert (page.pane_3, page.pane_4) == ({}, {})
    assert "difference to the input" in panes(page)[0]["what"]  # C is there no more


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": [A]}, "2 to 4 checkpoints, got 1"),
        ({"chosen": [A, "stage5 · 314"]}, "no checkpoint that tiny kept"),
        ({"face": 99}, "expected 0 to"),
        ({"sigma": [1.0]}, "expected two"),
        ({"sigma": [1.0, -1.0]}, "from 0 to 100"),
        ({"show": "everything"}, "any of"),
        ({"colour": 1}, "colour: expected some of"),
        ({"run": "nowhere"}, "no such run"),
    ],
)
def test_what_cannot_be_is_refused_in_words_and_changes_nothing(page, change, message):
    before = page.get_state()
    with pytest.raises(TraitError, match=message):
        page.choose(**change)
    assert page.get_state() == before
    page.handle({"do": "choose", **change})  # from the page: told there
    assert page.state["message"].startswith("not done: ")
    assert (page.chosen, page.face) == ([A, B], 0)


class Slow:
    """Results that wait until they are let through, one by one."""

    def __init__(self, page, monkeypatch):
        self.gate, self.asked, compute = threading.Semaphore(0), [], page.comparison._compute
        monkeypatch.setattr(page.comparison, "_compute", lambda wish: self._wait(compute, wish))

    def _wait(self, compute, wish):
        self.asked.append(wish)
        assert self.gate.acquire(timeout=10)
        return compute(wish)


def test_no_picture_ever_stands_under_anothers_words(page, monkeypatch):
    """Choices change while pictures are computed; every pane that was ever sent is held against the truth."""
    sent, slow = [], Slow(page, monkeypatch)
    for k in (1, 2):
        page.observe(lambda change: sent.append(change["new"]), f"pane_{k}")
    rng = np.random.default_rng(0)
    labels = [choice["label"] for choice in page.choices]
    for _ in range(25):
        page.choose(face=int(rng.integers(len(page.faces))), seed=int(rng.integers(3)),
                    chosen=[str(rng.choice(labels)) for _ in range(2)])  # fmt: skip
        slow.gate.release()
        time.sleep(float(rng.choice([0, 0.01, 0.03])))
    for _ in range(400):
        slow.gate.release()
    settled(page)
    truth = Comparison(page.comparison.study, page.comparison.test)
    checked = [tile for tile in sent if tile]
    assert len(checked) > 10
    for tile in checked:
        stage, epoch = tile["label"].split(" · ")
        seed = int(tile["noise"].split("seed ")[1].split(",")[0]) if "seed" in tile["noise"] else 0
        expected = truth.view((stage, int(epoch)), tile["face"], seed)
        assert np.array_equal(pixels(tile["src"]), expected), tile
    assert [tile["label"] for tile in panes(page)] == page.chosen
    assert {tile["face"] for tile in panes(page)} == {page.face}


def test_until_a_picture_is_there_the_old_one_stays_under_its_own_name(page, monkeypatch):
    slow, before = Slow(page, monkeypatch), panes(page)
    page.chosen = [A, "stage5 · 510"]
    assert page.coming == ["", "stage5 · 510"]
    assert panes(page) == before
    slow.gate.release()
    assert panes(settled(page))[1]["label"] == "stage5 · 510"


def test_the_newest_choice_is_computed_first(page, monkeypatch):
    slow = Slow(page, monkeypatch)
    for label in (QUIET, "stage4 · 298", "stage5 · 510"):
        page.chosen = [A, label]
        if label == QUIET:
            while not slow.asked:
                time.sleep(0.005)
    for _ in range(20):
        slow.gate.release()
    settled(page)
    assert [wish.choice[1] for wish in slow.asked[:2]] == [140, 510]


def test_neighbours_are_computed_ahead_once_a_page_is_open(page):
    assert page.comparison.cached(page._wish(("stage5", 476), 1, 1, 0)) is None
    page.handle({"do": "refresh"})
    for _ in range(1000):
        if not page._work.running:
            break
        time.sleep(0.005)
    assert page.comparison.cached(page._wish(("stage5", 476), 1, 1, 0)) is not None
    assert page.comparison.cached(page._wish(("stage5", 510), 0, 1, 0)) is not None


def test_cached_pictures_are_answered_soon_at_256(trained, monkeypatch):
    """Four panes and all references at the paper's size, encoded anew for every answer; 200 ms are promised, twice that
    fails here. The best of three counts, since a neighbour's work is not ours."""
    test, rng = load_test_set(trained).take(range(3)), np.random.default_rng(0)
    grown = {name: getattr(test, name).repeat(8, axis=1).repeat(8, axis=2) for name in ("rule", "full", "truth")}
    grain = {name: np.clip(x + rng.normal(0, 4, x.shape), 0, 255).astype(np.uint8) for name, x in grown.items()}
    large = replace(test, **grain, non_mask=np.ones((3, 256, 256), bool))
    monkeypatch.setattr(widgets, "Comparison", lambda study: Comparison(study, large))
    page = ComparisonPage(trained, settle_s=0, idle_s=0)
    page.choose(chosen=[A, B, QUIET, "stage5 · 510"], beside=["rule", "full", "truth"])
    for face in range(3):
        page.face = face
        settled(page, 60)
    changes = [{"face": 0}, {"face": 1}, {"show": "difference"}, {"against": 1}, {"face": 2}, {"show": "attention"},
               {"attention": "all"}, {"face": 0}, {"show": "pictures"}]  # fmt: skip
    took = np.full((3, len(changes)), np.nan)
    for again in range(3):
        for k, change in enumerate(changes):
            page._tiles._sources.clear()
            began = time.perf_counter()
            page.handle({"do": "choose", **change})
            took[again, k] = time.perf_counter() - began
            assert not any(page.coming)
    page.close()
    print("ms:", (1000 * took.min(0)).round())
    assert np.median(took.min(0)) < 0.4


def test_damaged_weights_are_told_in_their_pane_and_the_others_are_shown(own):
    page, _ = own
    path = page.comparison.choices["stage5", 510] / "net_G_AB.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    page.chosen = ["stage5 · 510", QUIET]
    settled(page)
    assert "epoch_0510" in panes(page)[0]["fault"]
    assert panes(page)[1]["label"] == QUIET
    page.choose(show="difference", against=0)
    assert "epoch_0510" in panes(settled(page))[1]["fault"]  # there is nothing to hold it against
    page.choose(show="pictures")
    page.chosen = [A, QUIET]
    assert "fault" not in panes(settled(page))[0]


def test_another_run_is_shown_and_one_that_cannot_be_says_why(own):
    page, study = own
    root = study.root.parent
    open_study("fresh", "tiny", runs_dir=root)
    shutil.copytree(study.root, root / "other")
    text = (root / "other" / "study.json").read_text()
    (root / "other" / "study.json").write_text(text.replace('"name": "tiny"', '"name": "other"', 1))
    shutil.rmtree(root / "other" / "stage5" / "checkpoints" / "epoch_0476")
    page.handle({"do": "refresh"})
    assert {run["name"]: bool(run["why"]) for run in page.runs} == {"fresh": True, "other": False, "tiny": False}
    page.handle({"do": "choose", "run": "fresh"})
    assert "notebooks 04 to 09" in page.state["message"]
    assert page.run == "tiny"
    page.choose(face=1, chosen=[A, "stage5 · 476"])
    page.handle({"do": "choose", "run": "other"})
    settled(page)
    assert page.run == "other"
    assert page.face == 1
    assert "stage5 · 476" not in page.chosen
    assert page.comparison.study.root == root / "other"


def test_a_run_that_is_not_there_or_has_nothing_is_refused(trained, empty):
    with pytest.raises(StudyError, match=f"no study there; found: .*{trained.name}"):
        compare("nobody", runs_dir=trained.root.parent)
    with pytest.raises(StudyError, match="notebooks 04 to 09"):
        compare(empty)


def test_picks_are_marked_refused_in_words_and_there_after_a_reload(own):
    page, study = own
    assert [pick["by"] for pick in page.picks] == ["the paper (§5)"] * 2
    page.handle({"do": "mark", "label": "stage5 · 510", "place": 2, "by": "ann", "remark": "richer"})
    assert page.state["message"] == (
        "marked: stage5 · 510 is the second pick; Figure 7 follows with "
        f"python -m lib.study --name tiny --runs-dir {study.root.parent} --only 11"
    )
    assert read_picks(study) == (313, 510)
    page.handle({"do": "mark", "label": "stage4 · 298", "place": 1, "by": "ann"})
    assert "stage4 · 298 cannot be a pick" in page.state["message"]
    page.handle({"do": "mark", "label": A, "place": 2, "by": "ann"})
    assert "the picks rise" in page.state["message"]
    page.handle({"do": "mark", "label": B, "place": 1, "by": ""})
    assert page.state["message"] == "not done: say who you are: your name, at the top right"
    assert read_picks(study) == (313, 510)
    again = compare(study)
    assert [(pick["epoch"], pick["by"], pick["remark"]) for pick in again.picks][1] == (510, "ann", "richer")
    assert again.chosen == [A, "stage5 · 510"]
    again.close()


def test_a_pick_of_another_page_is_seen_when_one_looks_again(own):
    page, study = own
    other = compare(study)
    other.mark("stage5 · 510", 2, "ben")
    other.close()
    page.handle({"do": "refresh"})
    assert page.picks[1]["by"] == "ben"


def test_a_damaged_selection_is_told_and_the_run_before_stays(own):
    page, study = own
    twin = study.root.parent / "twin"
    shutil.copytree(study.root, twin)
    text = (twin / "study.json").read_text()
    (twin / "study.json").write_text(text.replace('"name": "tiny"', '"name": "twin"', 1))
    page.choose(run="twin")
    page.choose(run="tiny")
    for name in ("twin", "tiny"):  # one that was open before, and the one that is shown
        (study.root.parent / name / "selection.json").write_text('{"picks": 5}')
    page.handle({"do": "choose", "run": "twin"})
    assert f"{twin / 'selection.json'}: picks: expected two epochs, got 5; mend it" in page.state["message"]
    assert (page.run, page.comparison.study.name) == ("tiny", "tiny")
    page.handle({"do": "refresh"})
    assert all("selection.json: picks: expected" in run["why"] for run in page.runs)
    assert f"{study.root / 'selection.json'}: picks" in page.state["message"]
    with pytest.raises(StudyError, match="expected two epochs, got 5"):
        compare(study)


def test_nobody_votes_into_a_table_that_is_none_of_votes(own):
    page, study = own
    (study.root / "votes.csv").write_text("a,b\n1,2\n")
    page.handle({"do": "blind", "on": True, "by": "ann"})
    assert "votes.csv: expected the columns by, time" in page.state["message"]
    assert page.ballot == {}


def test_missing_numbers_are_computed_and_drawn(own):
    page, _ = own
    page.comparison.choices = dict(list(page.comparison.choices.items())[-2:])
    page.handle({"do": "refresh"})
    assert page.facts["kept"] == 0
    panels = {panel["title"] for panel in page.curves["panels"]}
    page.handle({"do": "count"})
    for _ in range(2000):
        if page.facts["kept"] == 2 and not page.facts["busy"]:
            break
        time.sleep(0.005)
    assert page.facts["kept"] == 2
    assert {panel["title"] for panel in page.curves["panels"]} > panels


# ------------------------------------------------------------------------------------------ voting blindly
def started(page):
    page.handle({"do": "blind", "on": True, "by": "ann"})
    return settled(page)


def test_a_blind_vote_needs_two_checkpoints_and_a_name(own):
    page, _ = own
    page.handle({"do": "blind", "on": True, "by": " "})
    assert page.state["message"] == "not done: say who you are: your name, at the top right"
    page.chosen = [A, A]
    page.handle({"do": "blind", "on": True, "by": "ann"})
    assert "are both stage5 · 313" in page.state["message"]
    assert page.ballot == {}


def test_votes_are_on_disk_at_once_and_the_sides_are_those_that_were_shown(own):
    page, study = own
    started(page)
    for vote in ("left", "right", "tie", "left"):
        number, sides = page.ballot["number"], [pixels(page.ballot[side]) for side in ("left", "right")]
        page.handle({"do": "vote", "number": number, "vote": vote})
        row = read_votes(study.root / "votes.csv").iloc[-1]
        assert row["vote"] == vote
        face = page.comparison.test.names.index(row["face"])
        for side, picture in zip(("left", "right"), sides):
            stage, epoch = row[side].split(" · ")
            expected = page.comparison.view((stage, int(epoch)), face, int(row[f"seed_{side}"]))
            assert np.array_equal(picture, expected)
        settled(page)
    assert page.ballot["cast"] == 4
    assert page.ballot["result"] == {}
    page.handle({"do": "reveal"})
    assert page.ballot["result"]["votes"] == 4
    assert page.ballot["result"]["ties"] == 1


def test_nothing_of_the_state_tells_the_sides_before_the_reveal(own):
    """Two ballots that differ in nothing but the sides give states that differ in nothing but the swapped pictures."""
    page, _ = own
    started(page)
    states = []
    for left in (0, 1):
        page._voting.now = replace(page._voting.now, left=left, right=1 - left)
        page._update()
        settled(page)
        names = [name for name in page.keys if not name.startswith("_") and name != "layout"]
        states.append(json.loads(json.dumps({name: getattr(page, name) for name in names})))
    one, two = (state.pop("ballot") for state in states)
    for state in states:
        state["state"].pop("seconds", None)
    assert states[0] == states[1]
    assert (one.pop("left"), one.pop("right")) == (two.pop("right"), two.pop("left"))
    assert one == two
    assert panes(page) == [{}, {}]
    assert page.references == []


def test_a_second_press_does_not_vote_on_what_nobody_saw(own):
    page, study = own
    started(page)
    number = page.ballot["number"]
    for _ in range(3):
        page.handle({"do": "vote", "number": number, "vote": "left"})
    assert len(read_votes(study.root / "votes.csv")) == 1


def test_a_vote_that_cannot_be_written_is_told_and_asked_again(own, monkeypatch):
    page, _ = own
    started(page)
    number = page.ballot["number"]

    def full(path, row):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib.study.votes.append_vote", full)
    page.handle({"do": "vote", "number": number, "vote": "left"})
    assert "No space left" in page.state["message"]
    assert page.ballot["number"] == number
    assert page.ballot["cast"] == 0


def test_leaving_the_vote_shows_the_panes_again(own):
    page, _ = own
    before = panes(page)
    started(page)
    page.handle({"do": "blind", "on": False})
    assert page.ballot == {}
    assert panes(settled(page)) == before


# ------------------------------------------------------------------------------------------ threads
def test_closing_ends_the_threads(own, monkeypatch):
    page, _ = own
    slow = Slow(page, monkeypatch)
    page.choose(chosen=[QUIET, "stage5 · 510"], face=1)
    while not slow.asked:
        time.sleep(0.005)
    page.close()
    slow.gate.release()
    page._work.close(5)
    assert not page._work.running
    assert not page._count.running
    assert len(slow.asked) == 1


def test_the_pages_code_is_one_module_that_exports_once():
    code = ComparisonPage._esm
    assert code.count("export default") == 1
