"""Bars are seen while they run and are gone from the executed copy; warnings stay and are named."""

import io
import sys
import warnings

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from tqdm import tqdm

from lib.study.outputs import Progress, tidy, undrawn, warnings_of


def notebook(*pieces, **more):
    """One executed cell, its outputs in the pieces a kernel sends."""
    streams = [new_output("stream", name=name, text=text) for name, text in pieces]
    cell = new_code_cell("1", outputs=[*streams, *more.get("outputs", [])], execution_count=7)
    return new_notebook(cells=[new_markdown_cell("text"), cell])


def drawn(monkeypatch, **settings):
    """What tqdm itself writes to stderr for twelve steps."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    for _ in tqdm(range(12), mininterval=0, miniters=1, **settings):
        pass
    return out.getvalue()


@pytest.mark.parametrize(
    "settings", [{}, {"leave": False}, {"ascii": True, "desc": "stage4 epoch 298"}, {"postfix": {"G": 4.1}}],
    ids=["plain", "wiped", "ascii", "postfix"],
)  # fmt: skip
@pytest.mark.parametrize("piece", [1000, 17], ids=["whole", "pieces"])
def test_no_trace_of_a_bar_stays(monkeypatch, settings, piece):
    text = drawn(monkeypatch, **settings)
    assert "%" in text
    made = tidy(notebook(*(("stderr", text[k : k + piece]) for k in range(0, len(text), piece))))
    assert made.cells[1].outputs == []
    assert warnings_of(made) == ()


def test_a_warning_in_the_middle_of_a_bar_stays_whole_and_is_named(monkeypatch):
    bar = drawn(monkeypatch, desc="set A")
    with warnings.catch_warnings():
        told = warnings.formatwarning("too few", UserWarning, "x.py", 3, "f()")
    made = notebook(("stderr", bar.removesuffix("\n") + told), ("stderr", bar), ("stdout", "kept\n"))
    assert warnings_of(made) == ("cell [7]: x.py:3: UserWarning: too few",)
    assert [output.text for output in made.cells[1].outputs] == [told, "kept\n"]


def test_what_counts_as_a_warning():
    assert warnings_of(notebook(("stdout", "fine\n"))) == ()
    assert warnings_of(notebook(("stdout", "a.py:1: FutureWarning: soon\n"))) == (
        "cell [7]: a.py:1: FutureWarning: soon",
    )
    assert warnings_of(notebook(("stderr", "\nsomething\nmore\n"))) == ("cell [7]: something",)
    error = new_output("error", ename="UserWarning", evalue="x", traceback=["UserWarning: x"])
    assert warnings_of(notebook(outputs=[error])) == ()


class Terminal(io.StringIO):
    """A place to write to that is a terminal."""

    def isatty(self):
        return True


def test_a_terminal_gets_bars_as_they_come_a_log_a_line_a_minute(monkeypatch):
    bar = drawn(monkeypatch, desc="stage4")
    screen, log, quiet = Terminal(), io.StringIO(), io.StringIO()
    for out, every in ((screen, 60), (log, 0), (quiet, 60)):
        progress = Progress(out, every)
        progress.write(bar)
        progress.write("x.py:3: UserWarning: too few\n")
        progress.flush()
    assert screen.getvalue().startswith(bar)
    assert log.getvalue().startswith("    stage4: 100%|")
    assert "\r" not in log.getvalue()
    assert log.getvalue().count("\n") == 2
    assert quiet.getvalue() == "x.py:3: UserWarning: too few\n"


@pytest.mark.parametrize(
    ("source", "picture", "expected"),
    [
        ("plot()\nplt.show()", False, ("cell [7]: ends with plt.show(), which drew no picture",)),
        ("grid(faces, 4);", False, ("cell [7]: ends with grid(), which drew no picture",)),
        ("plot()\nplt.show()", True, ()),
        ("if False:\n    plt.show()", False, ()),
        ("def show():\n    plt.show()", False, ()),
        ("%matplotlib inline\nplt.show()", False, ()),
        ("# nothing", False, ()),
    ],
)
def test_a_picture_that_is_missing_is_named(source, picture, expected):
    shown = [new_output("display_data", data={"image/png": "aGk=", "text/plain": "Figure"})] if picture else []
    made = notebook(("stdout", "text\n"), outputs=shown)
    made.cells[1].source = source
    assert undrawn(made) == expected
    made.cells[1].execution_count = None
    assert undrawn(made) == (), "a cell that never ran"
