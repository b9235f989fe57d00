"""One tiny trained study for all tests of this room: 32 px, four channels, one or two steps per pass.

And a real browser that runs a widget's own code on a bare page; its model is wired to the Python widget, as a kernel
would. Pictures of the pages are kept in the folder that the environment variable SCREENSHOTS names.
"""

# ruff: noqa: E501  (a page of HTML)
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from lib.study.config import PROFILES, STAGES, Profile
from lib.study.datasets import prepare_A, prepare_B, prepare_scenes
from lib.study.rule_based import warp_A
from lib.study.runs import Study, open_study
from lib.study.timeline import run_stage

PASSES = {"pretraining": 1, "stage1": 2, "stage2": 1, "stage3": 1, "stage4": 2, "stage5": 4}
TINY = Profile(
    "tiny", size=32, ngf=4, ndf=4, batch_size=2, passes=PASSES, steps_per_epoch=2, wide_B=8, tidy_B=11, count_A=9,
    count_test=3, count_scenes=2, sample_count=2, keep_every=1,
)  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _tiny_profile():
    """The profile "tiny" is known while these tests run; one thread, for bit-exact repetition."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    PROFILES["tiny"] = TINY
    yield
    del PROFILES["tiny"]
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, _tiny_profile) -> Study:
    """A finished study of the face world. Read only: change a `copy_of` it."""
    study = open_study("tiny", "tiny", runs_dir=tmp_path_factory.mktemp("runs"))
    prepare_B(study, progress=False)
    prepare_A(study, progress=False)
    warp_A(study, progress=False)
    prepare_scenes(study, progress=False)
    for stage in STAGES:
        run_stage(study, stage, progress=False)
    return study


@pytest.fixture
def copy_of(tmp_path):
    """copy_of(study) → the same study in another folder (with the rendered pictures), to be changed at will."""

    def copy(study: Study) -> Study:
        shutil.copytree(study.root, tmp_path / "copy" / study.name)
        shutil.copytree(study.root.parent / "cache", tmp_path / "copy" / "cache")
        return open_study(study.name, study.profile.name, study.data, study.seed, study.roots, tmp_path / "copy")

    return copy


@pytest.fixture
def empty(tmp_path) -> Study:
    """A study in which nothing has been done yet."""
    return open_study("empty", "tiny", runs_dir=tmp_path / "runs")


CHROMIUM = shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
PAGE = """<!doctype html><meta charset=utf-8><style>body { margin: 16px; background: #fff }</style><style id=css></style><div id=at></div>"""
MODEL = """async ({ code, css, state }) => {
  document.getElementById("css").textContent = css;
  const { default: app } = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(code));
  const heard = [];
  let changed = {}, queue = Promise.resolve();
  window.waiting = 0;
  const tell = (content, values) => {
    window.waiting += 1;
    queue = queue.then(async () => {
      const next = await window.python(JSON.stringify({ content, values }));
      const fresh = Object.keys(next).filter(k => JSON.stringify(next[k]) !== JSON.stringify(state[k]));
      Object.assign(state, next);
      // As in a notebook: all values are new before anything is told, and it is told value by value, in their order.
      for (const k of fresh.sort()) for (const [event, act] of [...heard]) if (event === `change:${k}`) act();
      for (const [event, act] of [...heard]) if (event === "change" && fresh.length) act();
      window.waiting -= 1;
    });
  };
  const model = {
    get: k => state[k], set: (k, v) => { state[k] = v; changed[k] = v; }, send: content => tell(content, {}),
    save_changes: () => { tell(null, changed); changed = {}; },
    on: (event, act) => heard.push([event, act]), off: (event, act) => heard.splice(heard.findIndex(x => x[1] === act), 1),
  };
  window.poll = () => tell(null, {}); // what Python changed by itself
  app.render({ model, el: document.getElementById("at") });
}"""


class WidgetPage:
    """A widget in a browser. `keys("a", "r")` presses keys, one after the other, and waits until Python has answered."""

    def __init__(self, browser, widget, width=1200, height=900):
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.names = [name for name in widget.keys if not name.startswith("_") and name not in ("layout", "tabbable", "tooltip")]  # fmt: skip
        self.widget = widget
        self.page.expose_function("python", self._python)
        self.page.set_content(PAGE)
        self.render()

    def render(self):
        """Draw the widget on the page, anew where it was drawn before."""
        self.page.evaluate("document.getElementById('at').replaceChildren()")
        code, css = str(self.widget._esm), str(self.widget._css)
        self.page.evaluate(MODEL, {"code": code, "css": css, "state": self._state()})
        self.settle()

    def _state(self):
        return json.loads(json.dumps({name: getattr(self.widget, name) for name in self.names}))

    def _python(self, text):
        told = json.loads(text)
        for name, value in told["values"].items():
            setattr(self.widget, name, value)
        if told["content"]:
            self.widget._handle_custom_msg(told["content"], [])
        return self._state()

    def settle(self):
        self.page.wait_for_timeout(30)
        self.page.wait_for_function("window.waiting === 0")
        assert not self.errors, self.errors

    def until(self, there, seconds=30):
        """Take in what Python changes by itself, until `there()` holds."""
        for _ in range(int(seconds * 20)):
            held = there()
            self.page.evaluate("window.poll()")
            self.settle()
            if held:
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"waited {seconds} s in vain")

    def keys(self, *names):
        for name in names:
            self.page.keyboard.press(name)
            self.settle()

    def screenshot(self, name, tmp_path):
        folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
        folder.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(350)  # the crop beside the grid comes a moment later
        self.settle()
        self.page.screenshot(path=folder / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("needs a Chromium (apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser):
    """open_page(widget, width=…, height=…) → a `WidgetPage`."""
    return lambda widget, **size: WidgetPage(browser, widget, **size)
