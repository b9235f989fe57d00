"""What a kernel prints on stderr: bars for whoever watches, none of them in the executed copy, warnings named."""

from __future__ import annotations

import ast
import re
import time
from typing import TextIO

from nbformat import NotebookNode

# What tqdm draws over the line it is in: a bar with its clock (and what pads it), or spaces that wipe it out.
_BAR = re.compile(r"\r(?:[^\r\n]*?\[\d+:\d\d[^\]\r\n]*\] *\n?| *)")
_WARNING = re.compile(r"\b\w*Warning: ")
_DRAWS = ("plt.show", "grid")  # calls that leave a picture where a cell ends with one


class Progress:
    """A file for a kernel's stderr (papermill's `stderr_file`), so that one sees a stage's progress while it runs.

    On a terminal bars are drawn as they come. Elsewhere (nohup, Slurm) one line a minute is written, so that the log of
    a night stays short. What is no bar, a warning for one, is passed on at once.
    """

    def __init__(self, out: TextIO, every_s: float = 60.0):
        self.out, self.every_s, self.last = out, every_s, time.monotonic()

    def write(self, text: str) -> None:
        """Take one piece of what the kernel prints."""
        if not self.out.isatty():
            bars, rest = [bar.strip() for bar in _BAR.findall(text)], _BAR.sub("", text)
            text = rest if rest.strip() else ""
            if any(bars) and time.monotonic() - self.last >= self.every_s:
                self.last = time.monotonic()
                text += f"    {[bar for bar in bars if bar][-1]}\n"
        self.out.write(text)

    def flush(self) -> None:
        """Show it."""
        self.out.flush()


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Drop what progress bars left on stderr, in place, as they are gone from a terminal; all else there stays.

    A kernel's streams come in pieces; those that follow one another in a cell become one output.
    """
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        joined: list[NotebookNode] = []
        for output in cell.outputs:
            if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
                joined[-1].text += output.text
            else:
                joined.append(output)
        for output in joined:
            if output.get("name") == "stderr":
                output.text = _BAR.sub("", output.text)
        cell.outputs = [output for output in joined if output.get("name") != "stderr" or output.text.strip()]
    return notebook


def warnings_of(notebook: NotebookNode) -> tuple[str, ...]:
    """A line for each cell that left something on stderr, or a warning on stdout: its number, what it says first.

    Progress bars do not count, nor does the traceback of a notebook that failed.
    """
    found = []
    for cell in tidy(notebook).cells:
        for output in cell.get("outputs", []):
            lines = [line.strip() for line in output.get("text", "").splitlines() if line.strip()]
            told = [line for line in lines if _WARNING.search(line)]
            if told or (lines and output.get("name") == "stderr"):
                found.append(f"cell [{cell.execution_count}]: {(told or lines)[0]}")
    return tuple(found)


def undrawn(notebook: NotebookNode) -> tuple[str, ...]:
    """A line for each cell that ran, ends with `plt.show()` or `grid(…)`, and shows no picture."""
    found = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        if not cell.get("execution_count") or any(output.output_type == "error" for output in outputs):
            continue
        try:
            last = ast.parse(cell.source).body[-1]
        except (SyntaxError, IndexError):  # a magic, or only comments
            continue
        name = ast.unparse(last.value.func) if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call) else ""
        if name in _DRAWS and not any(kind.startswith("image/") for out in outputs for kind in out.get("data", {})):
            found.append(f"cell [{cell.execution_count}]: ends with {name}(), which drew no picture")
    return tuple(found)
