"""`python -m lib.study.publish --name NAME`: copy a study's figures to figures/, where git keeps them."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from lib.data.files import read_json, write_text
from lib.study.config import StudyError
from lib.study.printed import LARGEST, ON_SCREEN, markdown_text
from lib.study.runs import REPOSITORY, Study, find_study

COPIED = {".png", ".pdf", ".tex", ".json", ".csv", ".md"}
PAGE = "README.md"


def publish(study: Study, target: Path = REPOSITORY / "figures") -> list[Path]:
    """Copy every figure and Table 1 in all their forms, write README.md, which shows them with their captions, and
    return what was written.

    Raises StudyError when there is none, when one is too large, or when the study's pictures are somebody's: only the
    face world may be shown.
    """
    if study.data != "faceworld":
        raise StudyError(
            f"{study.name} shows photographs ({study.data}); figures/ holds only pictures that may be shown, "
            "those of the face world"
        )
    files = sorted(p for p in study.figures_dir.glob("*") if p.suffix in COPIED and p.name != PAGE)
    if not files:
        raise StudyError(f"{study.figures_dir}: no figures; run notebook 11_figures first")
    if large := [p for p in files if p.stat().st_size > LARGEST]:
        raise StudyError(f"{large[0]}: {large[0].stat().st_size:,} bytes, more than {LARGEST:,}; draw fewer pictures")
    page = gallery(files)
    target.mkdir(parents=True, exist_ok=True)
    copies = []
    for path in files:
        partial = target / f".{path.name}.tmp"
        shutil.copyfile(path, partial)
        os.replace(partial, target / path.name)
        copies.append(target / path.name)
    copies.append(write_text(target / PAGE, page))
    return copies


def gallery(files: list[Path]) -> str:
    """A Markdown page that shows each figure as wide as it is printed, with its caption and its other forms.

    Raises StudyError for one that an older version of this package made.
    """
    parts = ["# The figures\n\nCopied from a finished study by `make figures`; each JSON names the runs.\n"]
    for path in files:
        if path.suffix != ".json":
            continue
        record, name = read_json(path), path.stem
        forms = [f"[{p.suffix[1:]}]({p.name})" for p in files if p.stem == name and p.suffix != ".png"]
        if "width_inches" not in record:
            raise StudyError(f"{path}: made by an older version; run notebook 11_figures again")
        width = round(record["width_inches"] * ON_SCREEN)
        parts.append(
            f'## {name.replace("_", " ").capitalize()}\n\n<img src="{name}.png" width="{width}" alt="{name}">\n\n'
            f"{markdown_text(record['caption'])} ({', '.join(forms)})\n"
        )
    return "\n".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 with one line that says what is missing."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.publish", description=__doc__)
    parser.add_argument("--name", default="smoke", help="the study whose figures are copied")
    args = parser.parse_args(argv)
    try:
        copies = publish(find_study(args.name))
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(copies)} files → {copies[0].parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
