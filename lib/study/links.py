"""`python -m lib.study.links`: write the last cell of every notebook, the way to the one before and the one after.

The links are relative names, so they lead on in the notebooks, in their executed copies and (as pages) in the site.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat

from lib.data.files import write_text
from lib.study.config import StudyError
from lib.study.driver import NOTEBOOKS, list_notebooks


def links(notebooks: list[Path], at: int) -> str:
    """Markdown of the navigation cell of the notebook at that place of the list."""
    parts = []
    if at:
        before = notebooks[at - 1]
        parts.append(f"← previous: [{before.stem}]({before.name})")
    if at + 1 < len(notebooks):
        after = notebooks[at + 1]
        parts.append(f"next: [{after.stem}]({after.name}) →")
    return "---\n" + " · ".join(parts)


def write_links(folder: Path = NOTEBOOKS) -> list[Path]:
    """Rewrite the last cell of each numbered notebook of the folder, add it where there is none; give what changed.

    It is known by its id, `NN-links`. No other cell is touched. Raises StudyError for a file that is no notebook.
    """
    notebooks, changed = list_notebooks(folder), []
    for at, path in enumerate(notebooks):
        cell = nbformat.v4.new_markdown_cell(links(notebooks, at), id=f"{path.stem[:2]}-links")
        try:
            source = path.read_text(encoding="utf-8")
            notebook = nbformat.reads(source, nbformat.NO_CONVERT)
            last = notebook.cells[-1].get("id") if notebook.cells else None
        except (ValueError, AttributeError) as error:  # a moved notebook keeps the id of its old number
            raise StudyError(f"{path}: not a notebook ({error}); restore it from git") from error
        notebook.cells[len(notebook.cells) - (last or "").endswith("-links") :] = [cell]
        written = nbformat.writes(notebook) + "\n"
        if written != source:
            write_text(path, written)
            changed.append(path)
    return changed


def main() -> int:
    """Run the command. Returns 0, or 2 with one line that says what is wrong."""
    try:
        for path in write_links():
            print(f"links of {path.name} written anew")
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
