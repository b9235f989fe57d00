"""The comparison as a page of its own (`make compare`) in a real Chromium: slider, swipe, a pick that lasts.

The folder that the environment variable SCREENSHOTS names keeps pictures of what was seen.
"""

import pytest

from tests.study import live

pytest.importorskip("playwright", reason="needs playwright")


@pytest.fixture
def page_address(trained, copy_of, tmp_path):
    """(address of the served comparison, its study)."""
    study, port = copy_of(trained), live.free_port()
    program = f"{live.introduce(study.profile)}; import sys; from lib.study.serve import main; sys.exit(main())"
    options = {"name": study.name, "runs-dir": study.root.parent, "port": port}
    arguments = ["-c", program, "--no-browser", *(f"--{key}={value}" for key, value in options.items())]
    with live.served(arguments, port, tmp_path, live.environment(tmp_path, study.profile)) as address:
        yield address, study


def test_the_page_compares_swipes_and_keeps_a_pick(browser, page_address, tmp_path):
    address, study = page_address
    with live.opened(browser, "voila", tmp_path) as (page, look):
        page.goto(address)
        live.pick(page, look, study)
        page.reload()
        live.is_picked(page, look, "reloaded")
        assert page.get_by_role("textbox", name="your name").input_value() == "ann"  # the browser keeps it
    live.is_written(study)
