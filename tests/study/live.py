"""What the tests in a real browser share: pages, and servers that are gone when a test ends, however it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from lib.data.files import read_json

PATIENCE_S = 60  # for what takes seconds on a machine that does nothing else


@contextmanager
def opened(browser, name, tmp_path, width=1400, height=1000):
    """A page, and `look(what)`, which keeps a picture of it in the folder that SCREENSHOTS names; so does a failure.

    No request leaves this machine: what would is stopped, and fails the test in the end, as an error of the page does.
    """
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    folder, elsewhere, faults = Path(os.environ.get("SCREENSHOTS") or tmp_path), [], []
    folder.mkdir(parents=True, exist_ok=True)

    def local(route):
        address = route.request.url
        if address.startswith(("http://127.0.0.1:", "data:", "blob:", "file:")):
            route.continue_()
        else:
            elsewhere.append(address)
            route.abort()

    def look(what):
        page.screenshot(path=folder / f"{name}_{what}.png")

    page.route("**/*", local)
    page.on("pageerror", lambda error: faults.append(str(error)))
    try:
        yield page, look
        assert not elsewhere
        assert not faults
    except BaseException:
        look("failed")
        raise
    finally:
        page.context.close()


def until(true, what):
    """Wait until `true()` holds; fail saying what was waited for."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"waited {PATIENCE_S} s in vain for: {what}"
        time.sleep(0.1)


def introduce(profile):
    """Python that makes a test's profile known to another process."""
    return (
        f"from lib.study.config import PROFILES, Profile; PROFILES[{profile.name!r}] = Profile(**{asdict(profile)!r})"
    )


def environment(folder, profile):
    """Variables for a server whose kernels know the profile, and which leaves all it writes in the folder."""
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-profile.py").write_text(introduce(profile))
    own = {f"JUPYTER_{what}_DIR": str(folder / what.lower()) for what in ("CONFIG", "DATA", "RUNTIME")}
    return os.environ | own | {"IPYTHONDIR": str(folder / "ipython"), "OMP_NUM_THREADS": "1"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(arguments, port, folder, variables):
    """Python with these arguments serves on the port; its address. It and its kernels end with the block."""
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=variables, stdout=out, stderr=out,
                                   start_new_session=True)  # fmt: skip
    address = f"http://127.0.0.1:{port}"

    def answers():
        assert process.poll() is None, f"the server ended: {log.read_text()[-2000:]}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, f"an answer of {address}")
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # a kernel ends by itself when its server is gone
            process.wait()


def arrows_move_the_slider(page, look):
    """A click on slider B, then ← and → move it by one checkpoint each; the notebook's own cell stays where it was."""
    slider = page.get_by_role("slider", name="checkpoint B")
    slider.wait_for()
    slider.scroll_into_view_if_needed()
    slider.click()
    active = page.locator(".jp-Cell.jp-mod-active")
    value, cell = int(slider.input_value()), active.evaluate("x => [...x.parentNode.children].indexOf(x)")
    for key, step in (("ArrowLeft", -1), ("ArrowRight", 0)):
        page.keyboard.press(key)
        until(lambda: int(slider.input_value()) == value + step, f"{key} moves the slider")  # noqa: B023
        assert active.evaluate("x => [...x.parentNode.children].indexOf(x)") == cell
    look("slider")


REMARK = "folds at the nose"


def pick(page, look, study):
    """On the comparison's page: move checkpoint B to the last epoch, swipe, mark it as second pick with a remark."""
    region = page.get_by_role("region", name="checkpoint comparison")
    region.wait_for()
    region.get_by_role("slider", name="checkpoint B").press("End")
    region.get_by_role("figure", name="pane B: stage5 · 510").wait_for()
    region.scroll_into_view_if_needed()
    look("side_by_side")
    region.get_by_role("radio", name="swipe").check()
    divider = region.get_by_role("slider", name="divider")
    before, box = divider.get_attribute("aria-valuenow"), divider.bounding_box()
    at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*at)
    page.mouse.down()
    page.mouse.move(at[0] + 70, at[1], steps=4)
    page.mouse.up()
    until(lambda: divider.get_attribute("aria-valuenow") != before, "the divider moves")
    look("swiped")
    region.get_by_role("radio", name="side by side").check()
    region.get_by_role("textbox", name="your name").fill("ann")
    region.get_by_role("button", name="mark stage5 · 510 as pick").click()
    region.get_by_role("textbox", name="remark").fill(REMARK)
    region.get_by_role("button", name="save the pick").click()
    is_picked(page, look, "picked")
    is_written(study)


def is_written(study):
    """The pick is in the study's file, where the figures read it."""
    written = read_json(study.root / "selection.json")
    assert written["picks"] == [313, 510]
    assert REMARK in str(written)


def is_picked(page, look, what):
    """The page names the pick, its remark and who made it."""
    row = page.get_by_role("listitem", name="second pick").filter(has_text="510").filter(has_text="ann")
    row.get_by_text(REMARK).wait_for()
    page.get_by_role("list", name="present picks").scroll_into_view_if_needed()
    look(what)
