"""Notebooks 01 and 10 in a real JupyterLab, driven by a real Chromium: what is decided there outlives the page.

The folder that the environment variable SCREENSHOTS names keeps pictures of what was seen.
"""

import json
import shutil

import nbformat
import pytest

from lib.data import curation
from lib.study.driver import NOTEBOOKS, list_notebooks, parameters_of
from tests.study import live

pytest.importorskip("playwright", reason="needs playwright")
SETTINGS = {  # JupyterLab's own, so that it asks nobody for news; its windowing, which keys depend on, as delivered
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="module")
def study(trained, tmp_path_factory):
    """A finished study of its own, with the rendered pictures beside it."""
    from lib.study.runs import find_study

    runs = tmp_path_factory.mktemp("lab") / "runs"
    shutil.copytree(trained.root, runs / trained.name)
    shutil.copytree(trained.root.parent / "cache", runs / "cache")
    return find_study(trained.name, runs)


@pytest.fixture(scope="module")
def lab(study):
    """Address of a JupyterLab on copies of the notebooks whose parameters name the study."""
    folder = study.root.parents[1]
    (folder / "notebooks").mkdir()
    for source in list_notebooks(NOTEBOOKS):
        notebook = nbformat.read(source, as_version=4)
        own = {"name": study.name, "profile": study.profile.name, "runs_dir": str(study.root.parent)}
        cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
        cell.source = "\n".join(f"{key} = {value!r}" for key, value in (parameters_of(source) | own).items())
        nbformat.write(notebook, folder / "notebooks" / source.name)
    for name, content in SETTINGS.items():
        path = folder / "settings" / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    port = live.free_port()
    options = {
        "ServerApp.ip": "127.0.0.1", "ServerApp.port": port, "ServerApp.port_retries": 0,
        "ServerApp.open_browser": False, "ServerApp.root_dir": folder / "notebooks", "ServerApp.allow_root": True,
        "IdentityProvider.token": "",
        "LabApp.user_settings_dir": folder / "settings", "LabApp.workspaces_dir": folder / "workspaces",
        "LabApp.extension_manager": "readonly",
    }  # fmt: skip
    arguments = ["-m", "jupyterlab", *(f"--{key}={value}" for key, value in options.items())]
    with live.served(arguments, port, folder, live.environment(folder, study.profile)) as address:
        yield address


def open_and_run(page, address, name):
    """Open a notebook and run all its cells, by the menu, as a person does."""
    page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb")  # a workspace has its own open notebooks
    run_all(page)


def run_all(page):
    page.locator(".jp-Notebook").wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def ran(page):
    """Wait until every cell has run; none has failed or written to stderr."""
    every = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].every(at => /\\d/.test(at.textContent))"
    page.wait_for_function(every)
    for kind in ("stderr", "error"):
        assert page.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']").all_inner_texts() == []


def test_three_pictures_are_judged_by_keyboard_and_after_a_reload_it_goes_on(browser, lab, study, tmp_path):
    path = study.data_dir / "B" / "practice.csv"
    with live.opened(browser, "lab_01", tmp_path) as (page, look):
        open_and_run(page, lab, "01_data_filtering")
        grid = page.locator(".cu-grid")
        grid.wait_for()
        names = [name.split(",")[0] for name in grid.locator(".cu-tile").evaluate_all("t => t.map(x => x.ariaLabel)")]
        grid.scroll_into_view_if_needed()
        grid.focus()
        for count, key in enumerate("arr", 1):
            page.keyboard.press(key)
            live.until(lambda n=count: path.exists() and len(curation.read_selection(path)) == n, f"{key} on disk")
        look("picked")
        page.reload()
        run_all(page)
        page.locator(f".cu-cursor[aria-label^='{names[3]},']").wait_for()
        rows = curation.read_selection(path)
        judged = [f"{row.image}: {row.decision}" for row in rows.itertuples()]
        assert judged == [f"{names[0]}: accept", f"{names[1]}: reject", f"{names[2]}: reject"]
        grid.scroll_into_view_if_needed()
        look("going_on")


def test_a_checkpoint_is_marked_as_pick_and_after_a_reload_it_still_is(browser, lab, study, tmp_path):
    with live.opened(browser, "lab_10", tmp_path, 1500) as (page, look):
        open_and_run(page, lab, "10_checkpoint_comparison")
        ran(page)
        live.arrows_move_the_slider(page, look)
        live.pick(page, look, study)
        page.reload()
        run_all(page)
        ran(page)
        live.is_picked(page, look, "reloaded")
    live.is_written(study)
