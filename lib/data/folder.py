"""A plain folder of pictures as a face table: one row per picture, the whole picture being the face."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib.data.images import list_images
from lib.data.table import make_table


def read_folder(root: Path | str, identity_from: str | None = None) -> pd.DataFrame:
    """The pictures under `root`, any depth, as a face table without boxes.

    Args:
        identity_from: "parent" takes the name of the picture's folder as identity (none for pictures directly in
            `root`); None leaves it empty.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ValueError: no picture in it, or an unknown `identity_from`.
    """
    if identity_from not in (None, "parent"):
        raise ValueError(f"identity_from: expected None or 'parent', got {identity_from!r}")
    root = Path(root)
    paths = list_images(root)
    if not paths:
        raise ValueError(f"{root}: no pictures in it (.jpg, .jpeg, .png, .webp, .bmp, .gif, .tif, .tiff, at any depth)")
    rows = []
    for path in paths:
        image = path.relative_to(root)
        rows.append({"image": image.as_posix(), "identity": image.parent.name if identity_from else ""})
    return make_table(rows)
