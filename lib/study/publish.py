"""`python -m lib.study.publish --name NAME`: copy a study's figures to figures/, where git keeps them."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from lib.study.config import StudyError
from lib.study.runs import REPOSITORY, Study, find_study

LARGEST = 1_000_000  # bytes: a figure in git stays below


def publish(study: Study, target: Path = REPOSITORY / "figures") -> list[Path]:
    """Copy every figure (PNG, PDF, JSON, Table 1) and return the copies.

    Raises StudyError when there is none, when one is too large, or when the study's pictures are somebody's: only the
    face world may be shown.
    """
    if study.data != "faceworld":
        raise StudyError(
            f"{study.name} shows photographs ({study.data}); figures/ holds only pictures that may be shown, "
            "those of the face world"
        )
    files = sorted(p for p in study.figures_dir.glob("*") if p.suffix in {".png", ".pdf", ".json", ".csv"})
    if not files:
        raise StudyError(f"{study.figures_dir}: no figures; run notebook 11_figures first")
    if large := [p for p in files if p.stat().st_size > LARGEST]:
        raise StudyError(f"{large[0]}: {large[0].stat().st_size:,} bytes, more than {LARGEST:,}; draw fewer pictures")
    target.mkdir(parents=True, exist_ok=True)
    copies = []
    for path in files:
        partial = target / f".{path.name}.tmp"
        shutil.copyfile(path, partial)
        os.replace(partial, target / path.name)
        copies.append(target / path.name)
    return copies


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
