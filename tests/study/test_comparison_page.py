"""The comparison page in a real browser, from the key press to the file and back."""

import pytest

from lib.study.selection import read_picks
from lib.study.votes import read_votes
from lib.study.widgets import ComparisonPage


@pytest.fixture
def study(trained, copy_of):
    return copy_of(trained)


@pytest.fixture
def opened(study, open_page):
    """opened(width=…) → the page, its pictures there."""
    made = []

    def opened(**size):
        page = open_page(ComparisonPage(study, settle_s=0, idle_s=0), **size)
        page.until(lambda: not any(page.widget.coming))
        made.append(page)
        return page

    yield opened
    for page in made:
        page.page.close()
        page.widget.close()


def idle(page):
    page.page.wait_for_timeout(70)  # what moves on is sent every 60 ms: before that, nothing is coming yet
    page.until(lambda: not any(page.widget.coming))


def role(page, kind, name):
    return page.page.get_by_role(kind, name=name, exact=True)


def sources(page, where=".cp-tile img"):
    return page.page.locator(where).evaluate_all("all => all.map(img => img.getAttribute('src'))")


def test_sliders_presets_faces_and_noise_move_what_is_shown(opened, tmp_path):
    page = opened()
    widget = page.widget
    slider = role(page, "slider", "checkpoint A")
    assert slider.get_attribute("aria-valuetext") == "stage5 · 313"
    slider.focus()
    page.keys("ArrowRight", "ArrowRight")
    idle(page)
    assert widget.chosen[0] == "stage5 · 510"
    assert role(page, "figure", "pane A: stage5 · 510").get_attribute("aria-busy") == "false"
    role(page, "button", "set A to 313").click()
    idle(page)
    assert widget.chosen == ["stage5 · 313", "stage5 · 476"]
    page.page.get_by_role("listbox", name="faces").focus()
    page.keys("ArrowRight")
    idle(page)
    assert widget.face == 1
    assert page.page.locator(".cp-face[aria-selected=true]").count() == 1
    assert sources(page) == [widget.references[0]["src"], widget.pane_1["src"], widget.pane_2["src"]]
    role(page, "slider", "noise seed").focus()
    page.keys("ArrowRight")
    role(page, "slider", "σ layer 3").focus()
    page.keys("ArrowRight")
    role(page, "checkbox", "same noise for all").uncheck()
    idle(page)
    assert (widget.seed, widget.sigma, widget.same_noise) == (1, [1.0, 0.3], False)
    assert "noise seed 1001" in page.page.locator(".cp-tile").nth(2).inner_text()
    role(page, "button", "add a checkpoint").click()
    role(page, "checkbox", "full face").check()
    role(page, "checkbox", "truth").check()
    idle(page)
    assert page.page.locator(".cp-tile").count() == 6
    page.screenshot("comparison_side_by_side", tmp_path)
    role(page, "button", "remove checkpoint A").click()
    idle(page)
    assert widget.chosen == ["stage5 · 476", "stage5 · 510"]


def test_a_click_on_a_curve_moves_the_active_pane_and_hovering_reads(opened):
    page = opened()
    role(page, "slider", "checkpoint B").focus()
    curve = page.page.locator(".cp-curve").first
    curve.scroll_into_view_if_needed()
    box = curve.bounding_box()
    page.page.mouse.move(box["x"] + 0.98 * box["width"], box["y"] + box["height"] / 2)
    assert page.page.locator(".cp-legend b").first.inner_text()
    assert "at epoch 5" in page.page.locator(".cp-where").first.inner_text()
    page.page.mouse.down()
    page.page.mouse.up()
    idle(page)
    assert page.widget.chosen == ["stage5 · 313", "stage5 · 510"]
    assert page.page.locator(".cp-cursor.cp-pane-1").first.get_attribute("aria-label") == "cursor B at stage5 · 510"
    page.page.mouse.move(1, 1)
    assert not page.page.locator(".cp-where").first.inner_text()
    curve.focus()
    page.keys("ArrowRight", "Enter")
    idle(page)
    assert page.widget.chosen[1] == "pretraining · 60"


def test_swipe_blink_and_zoom_ask_python_nothing(opened, tmp_path):
    page = opened()
    role(page, "radio", "swipe").check()
    page.settle()
    heard = []
    page.widget.handle = heard.append
    divider = role(page, "slider", "divider")
    divider.focus()
    page.keys("ArrowLeft", "Shift+ArrowLeft", "End", "Home", "ArrowRight")
    assert divider.get_attribute("aria-valuenow") == "2"
    box = page.page.locator(".cp-big").bounding_box()
    page.page.mouse.move(box["x"] + 10, box["y"] + 40)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 40)
    page.page.mouse.up()
    assert divider.get_attribute("aria-valuenow") == "70"
    assert sources(page, ".cp-big img") == [page.widget.pane_2["src"], page.widget.pane_1["src"]]
    page.screenshot("comparison_swipe", tmp_path)
    assert heard == []
    del page.widget.handle

    role(page, "radio", "blink").check()
    page.settle()
    seen = set()
    for _ in range(12):
        seen.add(sources(page, ".cp-big img")[0])
        page.page.wait_for_timeout(120)
    assert seen == {page.widget.pane_1["src"], page.widget.pane_2["src"]}
    page.page.locator(".cp-stage").focus()
    page.keys(" ")
    held = sources(page, ".cp-big img")
    page.page.wait_for_timeout(1200)
    assert sources(page, ".cp-big img") == held
    page.keys("ArrowRight")
    assert sources(page, ".cp-big img") != held

    role(page, "radio", "zoom").check()
    page.settle()
    page.page.locator(".cp-box").nth(1).hover()
    page.page.mouse.wheel(0, -100)
    page.settle()
    told = "all => all.map(x => [x.style.left, x.style.backgroundSize, x.style.display])"
    places = page.page.locator(".cp-lens").evaluate_all(told)
    assert len(places) == 3
    assert places[0] == places[1] == places[2]
    assert places[0][2] == "block"
    assert role(page, "slider", "magnification").input_value() == "5"
    page.screenshot("comparison_zoom", tmp_path)


def test_who_asks_for_less_motion_gets_a_blink_that_stands_still(opened):
    page = opened()
    page.page.emulate_media(reduced_motion="reduce")
    page.render()
    role(page, "radio", "blink").check()
    page.settle()
    held = sources(page, ".cp-big img")
    page.page.wait_for_timeout(1200)
    assert sources(page, ".cp-big img") == held
    assert role(page, "button", "play space").count() == 1


def test_differences_and_attention_maps_are_chosen_by_name(opened, tmp_path):
    page = opened()
    role(page, "radio", "difference").check()
    page.page.get_by_role("combobox", name="difference to").select_option("0")
    idle(page)
    assert page.widget.against == 0
    assert "difference to A" in page.page.locator(".cp-tile").nth(2).inner_text()
    role(page, "radio", "attention").check()
    page.until(lambda: page.widget.show == "attention")  # until then "brightest at" is that of the difference
    page.page.get_by_role("combobox", name="brightest at").select_option("0.2")
    page.until(lambda: page.widget.attention_at == 0.2)
    for which in ("others", "3", "all"):
        page.page.get_by_role("combobox", name="attention map").select_option(which)
        page.until(lambda: page.widget.attention == which)  # noqa: B023  (what moves on is sent every 60 ms)
        idle(page)
    assert (page.widget.attention_at, page.widget.brightest) == (0.2, 0.5)
    assert "brightest at 0.2" in page.page.locator(".cp-tile").nth(2).inner_text()
    page.screenshot("comparison_attention", tmp_path)


def test_a_dimmed_picture_keeps_its_name_until_the_new_one_is_there(opened, monkeypatch):
    page = opened()
    monkeypatch.setattr(page.widget._work, "wish", lambda *_: None)  # nothing is computed
    old = page.widget.pane_1["src"]
    role(page, "slider", "noise seed").focus()
    page.keys("ArrowRight")
    pane = role(page, "figure", "pane A: stage5 · 313")
    assert pane.get_attribute("aria-busy") == "true"
    assert pane.locator("img").get_attribute("src") == old
    assert "noise seed 0" in pane.inner_text()
    assert "computing stage5 · 313" in pane.inner_text()
    bar = page.page.get_by_role("progressbar", name="pictures computed")
    assert (bar.get_attribute("aria-valuenow"), bar.get_attribute("aria-valuemax")) == ("0", "2")


def test_a_pick_is_marked_refused_in_words_and_there_after_a_reload(opened, study, tmp_path):
    page = opened()
    role(page, "button", "mark stage5 · 476 as pick").click()
    page.page.get_by_role("radio", name="first pick").check()
    role(page, "button", "save the pick").click()
    page.settle()
    form, name = page.page.get_by_role("group", name="mark as pick"), role(page, "textbox", "your name")
    assert "not done: say who you are: your name" in form.inner_text()
    assert name.evaluate("x => x === document.activeElement")
    page.page.keyboard.type("ann")
    role(page, "button", "save the pick").click()
    page.settle()
    assert "not done: 476 cannot be the first pick" in form.inner_text()
    assert "not done: 476 cannot be the first pick" in page.page.locator(".cp-note").inner_text()
    page.screenshot("comparison_refused", tmp_path)
    role(page, "button", "cancel").click()
    role(page, "slider", "checkpoint B").focus()
    page.keys("End")
    idle(page)
    role(page, "button", "mark stage5 · 510 as pick").click()
    assert "cannot be" not in form.inner_text()
    page.page.get_by_role("textbox", name="remark").fill("richer, calm hair")
    page.screenshot("comparison_mark", tmp_path)
    page.keys("Enter")
    assert read_picks(study) == (313, 510)
    assert page.page.get_by_role("group", name="mark as pick").count() == 0
    assert "--only 11" in page.page.locator(".cp-decisions").inner_text()

    again = opened()
    assert "by ann" in again.page.get_by_role("listitem", name="second pick").inner_text()
    assert "richer, calm hair" in again.page.locator(".cp-pick").nth(1).inner_text()
    assert role(again, "slider", "checkpoint B").get_attribute("aria-valuetext") == "stage5 · 510"


def test_blind_votes_by_keyboard_hide_names_and_tell_the_result_when_asked(opened, study, tmp_path):
    page = opened()
    role(page, "button", "vote blind").click()
    page.settle()
    assert "not done: say who you are: your name" in page.page.locator(".cp-decisions").inner_text()
    assert role(page, "textbox", "your name").evaluate("x => x === document.activeElement")
    page.page.keyboard.type("ann")
    role(page, "button", "vote blind").click()
    for key in ("ArrowLeft", "ArrowDown"):
        page.until(lambda: page.widget.ballot.get("left"))
        page.keys(key)
    page.until(lambda: page.widget.ballot["left"])
    page.screenshot("comparison_blind", tmp_path)
    role(page, "button", "right is better →").click()
    page.until(lambda: page.widget.ballot["left"])
    assert read_votes(study.root / "votes.csv")["vote"].tolist() == ["left", "tie", "right"]
    booth = page.page.locator(".cp-booth")
    shown = booth.evaluate("x => x.outerHTML.replace(/data:[^\"]*/g, '')")
    assert shown.count("stage5 · ") == 2  # the pair that is voted on, in its own order
    assert page.page.locator(".cp-tile:visible").count() == 0
    assert sources(page) == []
    role(page, "button", "reveal").click()
    page.settle()
    told = page.page.locator(".cp-verdict").inner_text()
    assert "undecided at 95 %" in told
    assert "cannot tell: 1" in told
    assert "Wilson" in told
    role(page, "button", "leave").click()
    idle(page)
    assert page.page.locator(".cp-tile:visible").count() == 3


def test_a_first_step_far_above_does_not_press_a_curve_to_the_floor(opened, tmp_path):
    page = opened()
    stages = [{"name": "stage1", "first": 0, "last": 100}]
    points = [[x, 0.4 + 0.001 * x] for x in range(100)]
    lines = {"far": [[-0.5, 40.0], *points], "near": [[-0.5, 0.6], *points]}
    panels = [{"title": name, "unit": "", "lines": [{"name": name, "points": each}]} for name, each in lines.items()]
    page.widget.curves = {"stages": stages, "panels": panels, "fault": ""}
    page.page.evaluate("window.poll()")
    page.settle()
    far, near = page.page.locator(".cp-panel").all()
    for panel in (far, near):
        box = panel.locator(".cp-line").first.evaluate("x => { const b = x.getBBox(); return [b.y, b.y + b.height]; }")
        assert box[0] >= 34  # nothing leaves the panel
        assert panel.locator(".cp-curve text").all_text_contents()[3] in ("0.6", "0.8")  # the axis' end
    assert "▲ 1 above, up to 40" in far.inner_text()
    assert (far.locator(".cp-above").count(), near.locator(".cp-above").count()) == (1, 0)


@pytest.mark.parametrize("width", [1368, 1400, 1560])
def test_what_stands_beside_wraps_together(opened, width):
    page = opened(width=width)
    role(page, "radio", "difference").check()
    idle(page)
    names = ("rule-based input", "full face", "truth")
    assert len({round(role(page, "checkbox", name).bounding_box()["y"]) for name in names}) == 1
    assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_keys_of_a_widget_reach_no_notebook_and_the_browsers_own_do(open_page, opened):
    page = opened()
    page.page.evaluate("document.addEventListener('keydown', event => (window.heard ??= []).push(event.key))")
    for kind, name in (("slider", "checkpoint B"), ("button", "set A to 313"), ("combobox", "run")):
        role(page, kind, name).focus()
        page.keys("a", "b", "x", "d", "ArrowUp")
    assert page.page.evaluate("window.heard ?? []") == []
    page.keys("Control+b")
    assert page.page.evaluate("window.heard") == ["Control", "b"] or page.page.evaluate("window.heard") == ["b"]


@pytest.mark.parametrize(("width", "name"), [(700, "narrow"), (1560, "wide")])
def test_nothing_sticks_out_of_narrow_and_wide_pages(opened, tmp_path, width, name):
    page = opened(width=width)
    assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(f"comparison_{name}", tmp_path)
